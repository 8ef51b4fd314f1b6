// Package session defines sessions and what is promised about them. A turn that was
// acknowledged is stored once, and the next call reads it on any instance. Two
// concurrent calls are stored one after the other. Only its owner ever sees a session.
//
// A session lives in a [Store]; [Memory] is one. A store offers only single
// conditional writes, so that it can be any database with compare-and-set. [Commit]
// and [Open] build on them what callers need: a turn appended exactly once, and
// idempotency keys. They are the same for every store. Package sessiontest has the
// tests that every store must pass.
//
// The hard part is a write whose response is lost: it may have happened. Every turn
// has a random id, made once per call. After such a write the session is read again
// and the id is looked for among the turns added since, and among those archived or
// replaced in the meantime ([Session.Past]); only if it is in neither is the write
// repeated, under a precondition that fails if the first write happens late.
package session

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	gojson "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// An Owner is the hash of the verified caller and the end user it acts for. It is safe
// to log.
type Owner string

// OwnerOf returns the owner of sessions of a verified caller and its end user, which
// is "" when the caller acts for itself.
func OwnerOf(caller, endUser string) Owner {
	return Owner(digest(caller, endUser))
}

// A Key identifies a session. An id is meaningless without its owner.
type Key struct {
	Owner Owner
	ID    string // see [ValidID]
}

// Hash returns the name that the session is stored under. It includes the owner:
// another owner's id hashes to another name, so isolation does not depend on a check
// that could be forgotten.
func (k Key) Hash() string { return digest(string(k.Owner), k.ID) }

// digest returns the base64url SHA-256 of parts. Each is preceded by its length, so
// that no two lists of parts hash the same input.
func digest(parts ...string) string {
	input := make([]byte, 0, 256) // more than usual, so that it stays on the stack
	for _, part := range parts {
		input = append(binary.BigEndian.AppendUint64(input, uint64(len(part))), part...)
	}
	sum := sha256.Sum256(input)
	return name(sum[:])
}

// NewID returns a random id for a session or turn: 128 bits in base64url.
func NewID() string {
	var bits [16]byte
	_, _ = rand.Read(bits[:]) // crypto/rand crashes the program rather than fail
	return name(bits[:])
}

// name returns bits in base64url, adjusted so that the result is never of the form
// __…__. Firestore reserves such names for documents and fields, and a caller who
// chooses ids could search for one whose hash has that form.
func name(bits []byte) string {
	text := base64.RawURLEncoding.AppendEncode(make([]byte, 0, 64), bits)
	if bytes.HasPrefix(text, []byte("__")) && bytes.HasSuffix(text, []byte("__")) {
		text[0] = '-'
	}
	return string(text)
}

// IDPattern is the pattern of a session's id.
const IDPattern = `^[A-Za-z0-9_-]{16,64}$`

// idPattern is [IDPattern] without the length: the compiler would unroll {16,64} into
// as many states at every start.
var idPattern = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// ValidID reports whether id matches [IDPattern].
func ValidID(id string) bool { return len(id) >= 16 && len(id) <= 64 && idPattern.MatchString(id) }

// Meta describes a session without its turns.
type Meta struct {
	ID                              string
	CreatedAt, UpdatedAt, ExpiresAt time.Time
	Turns                           int   // also the number of the last turn
	TotalTokens                     int64 // over all turns
	Title                           string
}

// A Session is a snapshot of what is stored under a key: its [Meta] and the most
// recent turns, as many as fit in one document. It is immutable.
type Session struct {
	Meta
	Key    Key
	Recent []Record // oldest first; the last one has number Turns

	// Keys holds the idempotency keys of about the last day, by hash.
	Keys map[string]KeyEntry
	// KeyedAt is when an idempotency key created the session; zero for other sessions.
	KeyedAt time.Time
	// Past holds turns that were stored and are no longer in Recent, because they were
	// archived or replaced; the latest is last. [Commit] looks here for a turn whose
	// write got no response.
	Past []PastTurn
	// State holds what tools keep in the session, after its last turn.
	State map[string]json.RawMessage
	// Deleted marks a tombstone, kept for [KeyLife]: a turn that was running when the
	// session was deleted must not recreate it.
	Deleted bool

	// Revision is set by the store and compared by its conditional writes. It is nil
	// for a session that is not stored yet.
	Revision any
}

// Exists reports whether there is a session with turns, rather than a tombstone or
// only claims of keys to the first turn.
func (s *Session) Exists() bool { return s.Turns > 0 && !s.Deleted }

// Reusable reports whether s is a tombstone in whose place a new session may start. It
// may not while a key that could still be retried had created s: the retry must find
// the deletion.
func (s *Session) Reusable() bool { return s.Deleted && s.KeyedAt.IsZero() }

// A PastTurn identifies a turn whose record is no longer in [Session.Recent].
type PastTurn struct {
	ID     string
	Number int
	Epoch  int // [Turn.Epoch]: a turn that waited has the ID of the one that follows it
}

// maxPast bounds [Session.Past]: far more turns than can be stored in the seconds for
// which a commit is retried.
const maxPast = 64

// Remember returns past with more appended, limited to the latest ones.
func Remember(past []PastTurn, more ...PastTurn) []PastTurn {
	all := slices.Concat(past, more)
	return all[max(0, len(all)-maxPast):]
}

// New returns the session that will exist under key once its first turn is stored.
func New(key Key) *Session {
	return &Session{Key: key, Meta: Meta{ID: key.ID}}
}

// A Record is a stored turn. It is decoded only when asked for.
type Record struct {
	Number int
	Data   []byte // JSON of a [Turn]

	// Feedback is the opinion on the turn, nil without one. Only [Store.Turns] sets it.
	Feedback *Feedback
}

// Turn returns the decoded turn.
func (r Record) Turn() (Turn, error) {
	var t Turn
	if err := json.Unmarshal(r.Data, &t); err != nil {
		return Turn{}, fmt.Errorf("decoding turn %d: %w", r.Number, err)
	}
	t.Number = r.Number
	return t, nil
}

// ID returns the turn's [Turn.ID].
func (r Record) ID() (string, error) {
	raw, err := r.member("id")
	if err != nil {
		return "", err
	}
	var id string
	if err := json.Unmarshal(raw, &id); err != nil {
		return "", fmt.Errorf("decoding turn %d: %w", r.Number, err)
	}
	return id, nil
}

// Past returns what is kept of the turn once its record is no longer in [Session.Recent].
func (r Record) Past() (PastTurn, error) {
	id, err := r.ID()
	past := PastTurn{ID: id, Number: r.Number}
	// Most turns have no epoch, and need not be decoded.
	if err != nil || !bytes.Contains(r.Data, []byte(`"epoch":`)) {
		return past, err
	}
	turn, err := r.Turn()
	past.Epoch = turn.Epoch
	return past, err
}

// QuestionID returns the turn's [Turn.QuestionID], "" for none.
func (r Record) QuestionID() string {
	raw, _ := r.member("question_id") // nil where it has none
	var id string
	_ = json.Unmarshal(raw, &id)
	return id
}

// Contents returns the turn's [Turn.Contents], as stored.
//
// Every later turn of the session reads it, so decoding stops behind it and nothing is
// copied: the result is a slice of r.Data.
func (r Record) Contents() (json.RawMessage, error) {
	if exact, ok := r.Exact(); ok {
		return exact.Contents, nil
	}
	contents, err := r.member("contents")
	return json.RawMessage(contents), err
}

// Loop returns the turn's [Turn.Loop], nil for none, as a slice of r.Data.
func (r Record) Loop() json.RawMessage {
	raw, _ := r.member("loop") // nil where it has none
	return json.RawMessage(raw)
}

// A Span has what every later turn of the session needs to know of a turn's contents, so
// that it sends them without decoding them. The zero Span is that of a turn of an earlier
// release, whose contents lack what the SDK's types leave out.
type Span struct {
	Bytes  int `json:"bytes"`
	Prompt int `json:"prompt"` // bytes without the structure around each text
}

// An Exact is what [Record.Exact] reads of a turn.
type Exact struct {
	Contents json.RawMessage // [Turn.Contents], a slice of the record's
	Prompt   int             // [Span.Prompt]
	Files    bool            // whether there are [Turn.Files]
}

// Exact returns what later turns need of a turn that has a [Span], and false for one that
// has none. Nothing is decoded: what is read lies before the contents, where quotes in a
// text are escaped and no other member has these names, but those of a [Turn.Loop].
func (r Record) Exact() (Exact, bool) {
	before, rest, found := bytes.Cut(r.Data, []byte(`"contents":`))
	_, span, ok := bytes.Cut(before, []byte(`,"span":{"bytes":`))
	size, span, ok1 := number(span)
	span, ok2 := bytes.CutPrefix(span, []byte(`,"prompt":`))
	prompt, span, ok3 := number(span)
	if !found || !ok || !ok1 || !ok2 || !ok3 || string(span) != "}," || size < 2 || len(rest) <= size || rest[0] != '[' || rest[size-1] != ']' || rest[size] != ',' || bytes.Contains(before, []byte(`,"loop":`)) {
		return Exact{}, false
	}
	return Exact{json.RawMessage(rest[:size:size]), prompt, bytes.Contains(before, []byte(`,"files":[`))}, true
}

// number returns the number that data begins with, and the rest.
func number(data []byte) (n int, rest []byte, ok bool) {
	i := 0
	for i < len(data) && i < 9 && '0' <= data[i] && data[i] <= '9' {
		n = 10*n + int(data[i]-'0')
		i++
	}
	return n, data[i:], i > 0
}

// Prompt returns the turn's [Turn.Prompt], and false if there is none. It is written
// before the contents, so decoding stops there.
func (r Record) Prompt() (p Prompt, ok bool) {
	raw, _ := r.member("prompt") // nil where there is none
	err := json.Unmarshal(raw, &p)
	return p, err == nil
}

// decoders pools decoders: a turn reads one record for each earlier turn.
var decoders = sync.Pool{New: func() any { return new(jsontext.Decoder) }}

var nothing = strings.NewReader("") // of which no decoder reads

// release puts d back without what it has read.
func release(d *jsontext.Decoder) {
	d.Reset(nothing)
	decoders.Put(d)
}

// member returns the value of a member of r's object as a slice of r.Data. It looks at
// the contents and what precedes them.
func (r Record) member(name string) (jsontext.Value, error) {
	value, err := member(r.Data, name)
	if err != nil {
		return nil, fmt.Errorf("decoding turn %d: %w", r.Number, err)
	}
	return value, nil
}

func member(object []byte, wanted string) (jsontext.Value, error) {
	d := decoders.Get().(*jsontext.Decoder)
	defer release(d)
	d.Reset(bytes.NewBuffer(object), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	switch begin, err := d.ReadToken(); {
	case err != nil:
		return nil, err
	case begin.Kind() != '{':
		return nil, errors.New("it is no object")
	}
	for d.PeekKind() != '}' {
		name, err := d.ReadValue() // ReadToken would allocate a string
		if err != nil {
			return nil, err
		}
		if bytes.IndexByte(name, '\\') >= 0 {
			name, _ = jsontext.AppendUnquote(nil, name) // one that is no UTF-8 is not looked for
		} else {
			name = bytes.Trim(name, `"`)
		}
		if string(name) == wanted {
			value, err := d.ReadValue()
			return slices.Clip(value), err
		}
		if string(name) == "contents" {
			break
		}
		_ = d.SkipValue() // where it fails, so does reading on
	}
	return nil, fmt.Errorf("it has no %s", wanted)
}

// A Turn is one exchange: the question and everything the run produced.
type Turn struct {
	ID           string          `json:"id"`                    // made once per call, the same in every retry of its commit
	QuestionID   string          `json:"question_id,omitempty"` // that a page has given the question's message
	Number       int             `json:"-"`                     // from 1
	Prompt       Prompt          `json:"prompt,omitzero"`
	Files        []File          `json:"files,omitempty"` // of the contents
	Loop         json.RawMessage `json:"loop,omitempty"`  // that a framework keeps of its turn, before the contents for [Record.Loop]
	Span         Span            `json:"span,omitzero"`   // of the contents; stored right before them
	Contents     json.RawMessage `json:"contents"`
	ToolCalls    []ToolCall      `json:"tool_calls,omitempty"`
	Usage        Usage           `json:"usage"`
	Model        string          `json:"model"`
	FinishReason string          `json:"finish_reason"`
	Warnings     []string        `json:"warnings,omitempty"`
	RequestID    string          `json:"request_id"`
	CreatedAt    time.Time       `json:"created_at"`
	Timing       Timing          `json:"timing,omitzero"` // without its commit

	// StateBefore holds what the turn changed in the session's state, as it was before;
	// null where there was nothing.
	StateBefore map[string]json.RawMessage `json:"state_before,omitempty"`

	// Parts is what the run has shown, in order, each as [Part.Stored] returns it; see
	// [Turn.Shown]. Resets are the attempts that were begun again. Turns of earlier
	// releases have neither.
	Parts  []Part  `json:"parts,omitempty"`
	Resets []Reset `json:"resets,omitempty"`

	Output  json.RawMessage `json:"output,omitempty"`  // of an agent with a typed answer
	Pending []Pending       `json:"pending,omitempty"` // what a turn that waits is waiting for
	Effects bool            `json:"effects,omitempty"` // a tool that changes the world has begun
	// Epoch is that of the run's record. A turn that waited is replaced by one with the
	// same ID and a higher Epoch.
	Epoch int `json:"epoch,omitempty"`

	// Suggestions is HTML with the searches that Google's terms want shown beside the
	// answer.
	Suggestions string `json:"search_suggestions,omitempty"`
	// AgentDigest identifies the instruction, tools and settings that made the turn.
	AgentDigest string `json:"agent_digest,omitempty"`
}

// Timing is where the time of a turn went, in milliseconds. Turns of earlier releases
// have none.
type Timing struct {
	Load   int64 `json:"load_ms,omitempty"` // of the session
	Model  int64 `json:"model_ms,omitempty"`
	Tools  int64 `json:"tools_ms,omitempty"` // of which some may run at once
	Commit int64 `json:"commit_ms,omitempty" doc:"Only in the answer of the call that stored the turn."`
}

// A Prompt is the size of the last prompt of a turn, including the history, and its
// tokens as the model counted them; zero if it did not.
type Prompt struct {
	Bytes  int64 `json:"bytes"`
	Tokens int64 `json:"tokens"`
}

// Record returns t encoded as turn number. t.Contents must be valid JSON.
func (t Turn) Record(number int) (Record, error) { return t.record(number, t.StateBefore) }

// record is [Turn.Record] with another StateBefore.
func (t *Turn) record(number int, stateBefore map[string]json.RawMessage) (Record, error) {
	e := encoders.Get().(*turnEncoder)
	defer e.release()
	e.turn = *t
	e.turn.StateBefore = stateBefore
	if t.Span.Bytes != len(t.Contents) || t.Loop != nil { // they have changed since, or cannot be found by it
		e.turn.Span = Span{}
	}
	splice := t.Loop == nil && t.Contents != nil
	if splice {
		e.turn.Contents = nil // the encoder would check and copy it byte by byte
	}
	if err := json.NewEncoder(&e.data).Encode(&e.turn); err != nil {
		return Record{}, fmt.Errorf("encoding turn %d: %w", number, err)
	}
	data := bytes.TrimSuffix(e.data.Bytes(), []byte("\n"))
	if !splice {
		return Record{Number: number, Data: bytes.Clone(data)}, nil
	}
	// Quotes in a text are escaped, and no member before it has one of this name.
	before, after, _ := bytes.Cut(data, []byte(`"contents":null`))
	return Record{Number: number, Data: slices.Concat(before, []byte(`"contents":`), t.Contents, after)}, nil
}

// encoders pools what a turn is encoded with: a record is then the one allocation, of its
// exact size.
var encoders = sync.Pool{New: func() any { return new(turnEncoder) }}

type turnEncoder struct {
	turn Turn
	data bytes.Buffer
}

// release puts e back without the turn.
func (e *turnEncoder) release() {
	e.turn = Turn{}
	e.data.Reset()
	encoders.Put(e)
}

// Pending is a tool call that waits for a person's approval.
type Pending struct {
	CallID    string         `json:"call_id"`
	Name      string         `json:"name"`
	Args      map[string]any `json:"args"`
	Question  string         `json:"question"`
	ExpiresAt time.Time      `json:"expires_at"`
}

// RunID returns the id of the run that appends the turn to the session.
func RunID(sessionID, turnID string) string { return sessionID + "." + turnID }

// SplitRunID returns the parts of a run's id, and false if it is not one.
func SplitRunID(id string) (sessionID, turnID string, ok bool) {
	sessionID, turnID, _ = strings.Cut(id, ".")
	return sessionID, turnID, ValidID(sessionID) && ValidID(turnID)
}

// A ToolCall is a call of a tool as clients are shown it.
type ToolCall struct {
	Name       string `json:"name"`
	OK         bool   `json:"ok"`
	DurationMS int64  `json:"duration_ms"`
}

// Usage counts the tokens of a turn over all its model calls.
type Usage struct {
	PromptTokens     int64    `json:"prompt_tokens" minimum:"0"`
	CachedTokens     int64    `json:"cached_tokens" minimum:"0" doc:"Of the prompt's."`
	ThoughtTokens    int64    `json:"thought_tokens" minimum:"0"`
	CompletionTokens int64    `json:"completion_tokens" minimum:"0"`
	TotalTokens      int64    `json:"total_tokens" minimum:"0"`
	SearchQueries    int64    `json:"search_queries,omitempty" minimum:"0" doc:"Each is paid for."`
	Source           string   `json:"source" enum:"model,estimate" doc:"Whether every figure is the model's own count."` // [Counted] or [Estimated]
	EstimatedCostUSD *float64 `json:"estimated_cost_usd" minimum:"0" doc:"Null for a model without a price."`
}

// The sources of a [Usage].
const (
	Counted   = "model"    // every figure is the model's own count
	Estimated = "estimate" // some figure had to be estimated
)

// Add returns the sum of u and v. The zero Usage is neutral. The sum is an estimate if
// either is, and has no cost if either has none.
func (u Usage) Add(v Usage) Usage {
	if u.Source == "" {
		return v
	}
	u.PromptTokens += v.PromptTokens
	u.CachedTokens += v.CachedTokens
	u.ThoughtTokens += v.ThoughtTokens
	u.CompletionTokens += v.CompletionTokens
	u.TotalTokens += v.TotalTokens
	u.SearchQueries += v.SearchQueries
	if v.Source == Estimated {
		u.Source = Estimated
	}
	if u.EstimatedCostUSD != nil && v.EstimatedCostUSD != nil {
		sum := *u.EstimatedCostUSD + *v.EstimatedCostUSD
		u.EstimatedCostUSD = &sum
	} else {
		u.EstimatedCostUSD = nil
	}
	return u
}

// query returns the first result of [Turn.Texts] without reading further.
func (t *Turn) query() (query string) {
	d := decoders.Get().(*jsontext.Decoder)
	defer release(d)
	d.Reset(bytes.NewBuffer(t.Contents), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	_, _ = d.ReadToken() // what is no list has no content behind its first token
	var first storedContent
	if gojson.UnmarshalDecode(d, &first, gojson.MatchCaseInsensitiveNames(true)) != nil {
		return ""
	}
	for _, part := range first.Parts {
		query += part.Text
	}
	return query
}

// A storedContent has the fields of a genai.Content that Texts reads.
type storedContent struct {
	Role  string `json:"role"`
	Parts []struct {
		Text    string `json:"text"`
		Thought bool   `json:"thought"`
	} `json:"parts"`
}

// Texts returns the question and the answer. Turns store only the contents in the form
// that the model's API takes; the question is the user's first text, the answer is all
// text of the model that is not a thought, one paragraph per step.
//
// The answer of a turn with an Output is that.
func (t Turn) Texts() (query, response string) {
	if t.Output != nil {
		return t.query(), string(t.Output)
	}
	var contents []storedContent
	if err := json.Unmarshal(t.Contents, &contents); err != nil {
		return "", ""
	}
	for i, content := range contents {
		var said strings.Builder
		for _, part := range content.Parts {
			if i == 0 || content.Role == "model" && !part.Thought {
				said.WriteString(part.Text)
			}
		}
		switch {
		case i == 0:
			query = said.String()
		case said.Len() > 0:
			response += Paragraph(response) + said.String()
		}
	}
	return query, response
}

// Paragraph returns the separator between before, the text so far, and the text of the
// model's next step, which starts a new paragraph.
func Paragraph(before string) string {
	switch {
	case before == "" || strings.HasSuffix(before, "\n\n"):
		return ""
	case strings.HasSuffix(before, "\n"):
		return "\n"
	}
	return "\n\n"
}

// MaxTitle is the length of a session's title, in code points.
const MaxTitle = 80

// titleOf returns the start of a session's first question, on one line.
func titleOf(query string) string {
	title := make([]byte, 0, 4*MaxTitle)
	for word := range strings.FieldsSeq(query) {
		if len(title) > 0 {
			title = append(title, ' ')
		}
		if title = append(title, word...); len(title) > 4*MaxTitle { // longer, even of the longest characters
			break
		}
	}
	if utf8.RuneCount(title) <= MaxTitle {
		return string(title)
	}
	runes := []rune(string(title))
	return strings.TrimSpace(string(runes[:MaxTitle-1])) + "…"
}

// Last returns the newest turn, and false if there is none.
func (s *Session) Last() (Turn, bool, error) {
	if len(s.Recent) == 0 {
		return Turn{}, false, nil
	}
	t, err := s.Recent[len(s.Recent)-1].Turn()
	return t, err == nil, err
}

// WithoutLast returns s before its last turn, with respect to turns, tokens and state. s
// must have a turn.
func (s *Session) WithoutLast() (*Session, error) {
	last, _, err := s.Last()
	if err != nil {
		return nil, err
	}
	before := *s
	before.Recent = slices.Clip(s.Recent[:len(s.Recent)-1])
	before.undo(last)
	return &before, nil
}

// After returns the session that results from applying c to s at now, and the record
// stored for c's turn, nil without one. ttl is how long a session is kept after its
// last turn. The Revision is still that of s.
func (s *Session) After(c Change, now time.Time, ttl time.Duration) (*Session, *Record, error) {
	after, record, err := s.after(c, now, ttl)
	if err != nil || c.Turn == nil {
		return after, nil, err
	}
	after.Recent = append(slices.Clip(after.Recent), record)
	return after, &record, nil
}

// after is [Session.After] with a Recent that the record is yet to be appended to.
func (s *Session) after(c Change, now time.Time, ttl time.Duration) (_ *Session, record Record, err error) {
	if s.Deleted { // a new session starts in its place
		s = &Session{Key: s.Key, Meta: Meta{ID: s.Key.ID}, Revision: s.Revision}
	}
	before := cmp.Or(c.Before, s)
	after := *before
	after.Meta = before.next(c.Turn, now, ttl)
	if c.Before != nil {
		after.CreatedAt = s.CreatedAt
		// Archived turns were remembered when they left Recent.
		for _, r := range s.Recent {
			if r.Number <= before.Turns {
				continue
			}
			past, err := r.Past()
			if err != nil {
				return nil, Record{}, err
			}
			if past.ID != c.Turn.ID { // else the turn of a run that has waited
				after.Past = Remember(after.Past, past)
			}
		}
	}
	after.Keys = s.keysAfter(c)
	after.Title = cmp.Or(c.Title, after.Title)
	after.ExpiresAt = after.keptFor(c, ttl)
	if c.Turn == nil {
		return &after, Record{}, nil
	}
	var stateBefore map[string]json.RawMessage
	after.State, stateBefore = changeState(before.State, c.State)
	if err := CheckState(after.State); err != nil {
		return nil, Record{}, err
	}
	if record, err = c.Turn.record(after.Turns, stateBefore); err != nil {
		return nil, Record{}, err
	}
	return &after, record, nil
}

// keptFor returns when s expires after c: not before its keys do, not while a call holds
// one, and not before what its last turn waits for.
func (s *Session) keptFor(c Change, ttl time.Duration) time.Time {
	expires := s.ExpiresAt
	if c.Entry != nil && c.Entry.Turn == 0 {
		expires = later(expires, c.Entry.Until)
	}
	if c.Turn == nil {
		return expires
	}
	expires = waitsUntil(expires, c.Turn.Pending)
	if ttl >= KeyLife {
		return expires
	}
	for _, e := range s.Keys {
		if e.Turn > 0 {
			expires = later(expires, e.At.Add(KeyLife))
		}
	}
	return expires
}

// waitsUntil returns when the last of pending expires, but not before t.
func waitsUntil(t time.Time, pending []Pending) time.Time {
	for _, p := range pending {
		t = later(t, p.ExpiresAt)
	}
	return t
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// next returns the Meta after t is appended at now. With a nil t only a key was
// claimed, and the document is kept as long as the key.
func (s *Session) next(t *Turn, now time.Time, ttl time.Duration) Meta {
	m := s.Meta
	if t == nil {
		if m.Turns == 0 {
			m.CreatedAt, m.UpdatedAt, m.ExpiresAt = now, now, now.Add(KeyLife)
		}
		return m
	}
	if m.Turns == 0 {
		m.CreatedAt, m.Title = now, titleOf(t.query())
	}
	m.Turns++
	m.TotalTokens += t.Usage.TotalTokens
	m.UpdatedAt, m.ExpiresAt = now, now.Add(ttl)
	return m
}

// MaxTurnBytes bounds the record of one turn without its StateBefore, in bytes, so that it
// fits a Firestore document of 1 MiB with room for keys and feedback. Callers of Commit must
// stay below it.
const MaxTurnBytes = 512 << 10

// Errors of a [Store] and of [Commit], for use with errors.Is.
var (
	// ErrNotFound: this owner has no such session, or it has expired. The two look the
	// same on purpose.
	ErrNotFound = errors.New("session not found")
	// ErrChanged: the session has changed since it was loaded.
	ErrChanged = errors.New("session has changed since it was loaded")
	// ErrTurnCount: the session has another number of turns than the caller required.
	ErrTurnCount = errors.New("session has another number of turns")
	// ErrReplaced: the turn to replace is no longer the last one.
	ErrReplaced = errors.New("turn is not the last one any more")
	// ErrUnavailable: the store could not be reached or did not respond in time. A
	// write may have happened.
	ErrUnavailable = errors.New("session store unavailable")
	// ErrTooLarge: the turn does not fit in the store.
	ErrTooLarge = errors.New("turn too large to be stored")
	// ErrCursor: the cursor was not issued by this store.
	ErrCursor = errors.New("invalid cursor")
)
