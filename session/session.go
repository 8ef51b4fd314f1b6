// Package session says what a session is and what is promised of it: that an
// acknowledged turn is stored once and read by the next call wherever it runs,
// that two calls at once are stored one after the other, and that only its
// owner ever sees it.
//
// A session lives in a [Store], one of whose forms ([Memory]) is here. A store
// only offers single conditional writes; what makes a turn appended exactly
// once out of them is [Commit], the same for every store. The package sessiontest
// holds the test that each store passes.
package session

import (
	"bytes"
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

	"github.com/go-json-experiment/json/jsontext"
)

// An Owner is a hash of who a session belongs to: the verified caller and the
// end user it speaks for. It is safe to show in logs.
type Owner string

// OwnerOf makes the owner of what caller, a verified identity, does for
// endUser ("" when it speaks for itself).
func OwnerOf(caller, endUser string) Owner {
	return Owner(digest(caller, endUser))
}

// A Key finds a session: an id means nothing without its owner.
type Key struct {
	Owner Owner
	ID    string // as [ValidID] has it
}

// Hash is the name the session is stored under: an id of another owner's leads
// nowhere, so isolation needs no check that could be forgotten.
func (k Key) Hash() string { return digest(string(k.Owner), k.ID) }

// digest is an injective hash of its parts in base64url: each part goes in with
// its length before it.
func digest(parts ...string) string {
	h := sha256.New()
	for _, part := range parts {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(part)))
		h.Write(length[:])
		h.Write([]byte(part))
	}
	return name(h.Sum(nil))
}

// NewID makes a session's or a turn's id: 128 random bits in base64url.
func NewID() string {
	var bits [16]byte
	_, _ = rand.Read(bits[:]) // never fails: crypto/rand ends the program first
	return name(bits[:])
}

// name is bits in base64url. Names that begin and end with two underscores are
// reserved in Firestore, for documents and fields: it refuses them, and a caller
// who chooses ids could look for one whose hash is such a name.
func name(bits []byte) string {
	text := base64.RawURLEncoding.EncodeToString(bits)
	if strings.HasPrefix(text, "__") && strings.HasSuffix(text, "__") {
		return "-" + text[1:]
	}
	return text
}

// IDPattern is the form of a session's id.
const IDPattern = `^[A-Za-z0-9_-]{16,64}$`

// idPattern is [IDPattern] but for the length, which would unroll into as many
// states at every start.
var idPattern = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// ValidID reports whether id has the form of a session's id.
func ValidID(id string) bool { return len(id) >= 16 && len(id) <= 64 && idPattern.MatchString(id) }

// Meta is what is known of a session without its turns.
type Meta struct {
	ID                              string
	CreatedAt, UpdatedAt, ExpiresAt time.Time
	Turns                           int   // how many it has, the number of the last
	TotalTokens                     int64 // of all its turns
	Title                           string
}

// A Session is what a store gives for a key: its [Meta] and the newest of its
// turns, as many as lie in one document. It is a value of the moment it was
// read; nothing changes it.
type Session struct {
	Meta
	Key    Key
	Recent []Record // in order; the last one is number Turns

	// Keys are the idempotency keys of about the last day, by their hashes.
	Keys map[string]KeyEntry
	// KeyedAt is when a key gave the session its id; zero for other sessions.
	KeyedAt time.Time
	// Past are turns that were stored and are not among Recent any more, the latest
	// last: archived or replaced. Whoever does not know whether its turn was stored
	// finds it here.
	Past []PastTurn
	// Deleted marks what a session leaves behind, for a day: a turn that ran while
	// it was deleted must not bring it back.
	Deleted bool

	// Revision is the store's own: what a conditional write compares. Nil for a
	// session that does not exist yet.
	Revision any
}

// Exists reports whether there is a session, rather than only a claim to its
// first turn, or the mark that it was deleted.
func (s *Session) Exists() bool { return s.Turns > 0 && !s.Deleted }

// Reusable reports whether s is the mark of a deleted session in whose place
// another may begin: no key that could be retried gave it its id.
func (s *Session) Reusable() bool { return s.Deleted && s.KeyedAt.IsZero() }

// A PastTurn is what is known of a turn without its record.
type PastTurn struct {
	ID     string `firestore:"i"`
	Number int    `firestore:"n"`
}

// maxPast bounds the turns in [Session.Past]: far more than can be stored in the
// seconds for which a commit is tried again.
const maxPast = 64

// Remember returns past with more after it, the latest only.
func Remember(past []PastTurn, more ...PastTurn) []PastTurn {
	all := slices.Concat(past, more)
	return all[max(0, len(all)-maxPast):]
}

// New is the session that will exist under key once its first turn is stored.
func New(key Key) *Session {
	return &Session{Key: key, Meta: Meta{ID: key.ID}}
}

// A Record is a turn as it is stored. Data is not decoded before somebody asks
// for it.
type Record struct {
	Number int
	Data   []byte // JSON of a [Turn]
}

// Turn decodes r.
func (r Record) Turn() (Turn, error) {
	var t Turn
	if err := json.Unmarshal(r.Data, &t); err != nil {
		return Turn{}, fmt.Errorf("decoding turn %d: %w", r.Number, err)
	}
	t.Number = r.Number
	return t, nil
}

// ID is the [Turn.ID].
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

// Contents is what r holds of the conversation, as it is stored: the
// [Turn.Contents].
//
// It is read at every later turn of the session, so that nothing is looked at
// beyond it, nor copied: the result is a part of r.Data.
func (r Record) Contents() (json.RawMessage, error) {
	contents, err := r.member("contents")
	return json.RawMessage(contents), err
}

// Prompt is the [Turn.Prompt]; false where there is none. It is looked for before
// the contents only, where it is written.
func (r Record) Prompt() (p Prompt, ok bool) {
	raw, err := r.member("prompt")
	return p, err == nil && json.Unmarshal(raw, &p) == nil
}

// decoders keeps what decoders allocate: a turn reads a record of each earlier one.
var decoders = sync.Pool{New: func() any { return new(jsontext.Decoder) }}

// member is the value of a member of r's object, a part of r.Data. Only the
// contents and what stands before them are looked for.
func (r Record) member(member string) (jsontext.Value, error) {
	d := decoders.Get().(*jsontext.Decoder)
	defer func() {
		d.Reset(bytes.NewReader(nil)) // it holds nothing of r
		decoders.Put(d)
	}()
	d.Reset(bytes.NewBuffer(r.Data), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	switch begin, err := d.ReadToken(); {
	case err != nil:
		return nil, fmt.Errorf("decoding turn %d: %w", r.Number, err)
	case begin.Kind() != '{':
		return nil, fmt.Errorf("decoding turn %d: it is no object", r.Number)
	}
	for d.PeekKind() != '}' {
		name, err := d.ReadValue() // no string of its own, as a token's
		if err != nil {
			return nil, fmt.Errorf("decoding turn %d: %w", r.Number, err)
		}
		if bytes.IndexByte(name, '\\') >= 0 {
			if name, err = jsontext.AppendUnquote(nil, name); err != nil {
				return nil, fmt.Errorf("decoding turn %d: %w", r.Number, err)
			}
		} else {
			name = bytes.Trim(name, `"`)
		}
		if string(name) != member {
			if string(name) == "contents" {
				break
			}
			if err := d.SkipValue(); err != nil {
				return nil, fmt.Errorf("decoding turn %d: %w", r.Number, err)
			}
			continue
		}
		value, err := d.ReadValue()
		if err != nil {
			return nil, fmt.Errorf("decoding turn %d: %w", r.Number, err)
		}
		return slices.Clip(value), nil
	}
	return nil, fmt.Errorf("decoding turn %d: it has no %s", r.Number, member)
}

// A Turn is one question and everything that came of it.
type Turn struct {
	ID           string          `json:"id"` // made once a call, however often its commit is tried
	Number       int             `json:"-"`  // 1 for the first of its session
	Prompt       Prompt          `json:"prompt,omitzero"`
	Contents     json.RawMessage `json:"contents"`
	ToolCalls    []ToolCall      `json:"tool_calls,omitempty"`
	Usage        Usage           `json:"usage"`
	Model        string          `json:"model"`
	FinishReason string          `json:"finish_reason"`
	Warnings     []string        `json:"warnings,omitempty"`
	RequestID    string          `json:"request_id"`
	CreatedAt    time.Time       `json:"created_at"`
}

// A Prompt is the size of what a model was asked last in a turn, history and all,
// and what it counted of that; zero where it did not count.
type Prompt struct {
	Bytes  int64 `json:"bytes"`
	Tokens int64 `json:"tokens"`
}

// Record encodes t. Its Contents must be JSON.
func (t Turn) Record(number int) (Record, error) {
	data, err := json.Marshal(t)
	if err != nil {
		return Record{}, fmt.Errorf("encoding turn %d: %w", number, err)
	}
	return Record{Number: number, Data: data}, nil
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
	Source           string   `json:"source" enum:"model,estimate" doc:"Whether every figure is the model's own count, or some had to be estimated."` // [Counted] or [Estimated]
	EstimatedCostUSD *float64 `json:"estimated_cost_usd" minimum:"0" doc:"Null for a model that is not on the price list."`
}

// The sources of a [Usage].
const (
	Counted   = "model"    // every figure is the model's own count
	Estimated = "estimate" // some figure had to be estimated
)

// Add sums u and v up. The zero Usage is neutral; the sum is an estimate when
// either part is, and has no price when either has none.
func (u Usage) Add(v Usage) Usage {
	if u.Source == "" {
		return v
	}
	u.PromptTokens += v.PromptTokens
	u.CachedTokens += v.CachedTokens
	u.ThoughtTokens += v.ThoughtTokens
	u.CompletionTokens += v.CompletionTokens
	u.TotalTokens += v.TotalTokens
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

// query is the first of [Turn.Texts]; what follows on it is not read.
func (t Turn) query() (query string) {
	d := json.NewDecoder(bytes.NewReader(t.Contents))
	var first storedContent
	if begin, err := d.Token(); err != nil || begin != json.Delim('[') || !d.More() || d.Decode(&first) != nil {
		return ""
	}
	for _, part := range first.Parts {
		query += part.Text
	}
	return query
}

// A storedContent is what Texts reads of a content.
type storedContent struct {
	Role  string `json:"role"`
	Parts []struct {
		Text    string `json:"text"`
		Thought bool   `json:"thought"`
	} `json:"parts"`
}

// Texts reads the question and the answer out of a turn's contents, which are
// stored once, in the form the model's API wants back: the user's first text,
// and all text of the model's that is not a thought, each step's a paragraph.
func (t Turn) Texts() (query, response string) {
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

// Paragraph is what stands between what was said before and what a later step of
// the model's says: it begins on a new paragraph.
func Paragraph(before string) string {
	switch {
	case before == "" || strings.HasSuffix(before, "\n\n"):
		return ""
	case strings.HasSuffix(before, "\n"):
		return "\n"
	}
	return "\n\n"
}

// maxTitle is the length of a session's title in code points.
const maxTitle = 80

// titleOf is the beginning of a session's first question, on one line.
func titleOf(query string) string {
	title := strings.Join(strings.Fields(query), " ")
	if utf8.RuneCountInString(title) <= maxTitle {
		return title
	}
	runes := []rune(title)
	return strings.TrimSpace(string(runes[:maxTitle-1])) + "…"
}

// Last is the newest turn; false for a session without any.
func (s *Session) Last() (Turn, bool, error) {
	if len(s.Recent) == 0 {
		return Turn{}, false, nil
	}
	t, err := s.Recent[len(s.Recent)-1].Turn()
	return t, err == nil, err
}

// WithoutLast is s as it was before its last turn, as far as what follows goes:
// its turns and their tokens. It must have a turn.
func (s *Session) WithoutLast() (*Session, error) {
	last, _, err := s.Last()
	if err != nil {
		return nil, err
	}
	before := *s
	before.Recent = slices.Clip(s.Recent[:len(s.Recent)-1])
	before.Turns--
	before.TotalTokens -= last.Usage.TotalTokens
	return &before, nil
}

// After is what s becomes by c at now, kept for ttl after its last turn, and
// what is stored of c's turn: nil without one. The Revision is still s's.
func (s *Session) After(c Change, now time.Time, ttl time.Duration) (*Session, *Record, error) {
	if s.Deleted { // another begins in its place
		s = &Session{Key: s.Key, Meta: Meta{ID: s.Key.ID}, Revision: s.Revision}
	}
	before := s
	if c.Replace {
		var err error
		if before, err = s.WithoutLast(); err != nil {
			return nil, nil, err
		}
		last := s.Recent[len(s.Recent)-1]
		id, err := last.ID()
		if err != nil {
			return nil, nil, err
		}
		before.Past = Remember(s.Past, PastTurn{ID: id, Number: last.Number})
	}
	after := *before
	after.Meta = before.next(c.Turn, now, ttl)
	if c.Replace {
		after.CreatedAt = s.CreatedAt
	}
	after.Keys = s.keysAfter(c)
	after.ExpiresAt = after.keptFor(c, ttl)
	if c.Turn == nil {
		return &after, nil, nil
	}
	record, err := c.Turn.Record(after.Turns)
	if err != nil {
		return nil, nil, err
	}
	after.Recent = append(slices.Clip(before.Recent), record)
	return &after, &record, nil
}

// keptFor is when s expires after c: not before its keys have lived their time,
// nor while a call holds one.
func (s *Session) keptFor(c Change, ttl time.Duration) time.Time {
	expires := s.ExpiresAt
	if c.Entry != nil && c.Entry.Turn == 0 && c.Entry.Until.After(expires) {
		expires = c.Entry.Until
	}
	if ttl >= KeyLife || c.Turn == nil {
		return expires
	}
	for _, e := range s.Keys {
		if end := e.At.Add(KeyLife); e.Turn > 0 && end.After(expires) {
			expires = end
		}
	}
	return expires
}

// next is the Meta of the session once t is appended to it at now, kept for
// ttl after its last turn. Without a turn (nil) it is that of a mere claim,
// which is kept as long as its key.
func (s *Session) next(t *Turn, now time.Time, ttl time.Duration) Meta {
	m := s.Meta
	if t == nil {
		if m.Turns == 0 {
			m.CreatedAt, m.UpdatedAt, m.ExpiresAt = now, now, now.Add(KeyLife)
		}
		return m
	}
	if m.Turns == 0 {
		query := t.query()
		m.CreatedAt, m.Title = now, titleOf(query)
	}
	m.Turns++
	m.TotalTokens += t.Usage.TotalTokens
	m.UpdatedAt, m.ExpiresAt = now, now.Add(ttl)
	return m
}

// MaxTurnBytes bounds one turn's record, so that it fits into a document of
// Firestore's with room to spare. Whoever makes a turn stays below it.
const MaxTurnBytes = 512 << 10

// The errors of a [Store] and of [Commit], to be found with errors.Is.
var (
	// ErrNotFound: no such session for this owner, or it has expired. The two are
	// not told apart.
	ErrNotFound = errors.New("session not found")
	// ErrChanged: the session is not as it was when it was loaded.
	ErrChanged = errors.New("session changed meanwhile")
	// ErrTurnCount: the session has another number of turns than the caller
	// named as a condition.
	ErrTurnCount = errors.New("session has another number of turns")
	// ErrReplaced: the turn to be replaced is not the session's last one any more.
	ErrReplaced = errors.New("turn is not the last one any more")
	// ErrUnavailable: the store could not be reached or did not answer in time.
	// A write may or may not have happened.
	ErrUnavailable = errors.New("session store unavailable")
	// ErrTooLarge: the turn does not fit the store.
	ErrTooLarge = errors.New("turn too large to be stored")
	// ErrCursor: the cursor is not one of the store's.
	ErrCursor = errors.New("invalid cursor")
)
