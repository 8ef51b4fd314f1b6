package invoke

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-json-experiment/json/jsontext"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/caller"
	"example.com/gatehouse/internal/files"
	"example.com/gatehouse/session"
)

// The AI SDK sends the whole conversation with each question, files included, and a page can
// put anything into it. So the body is read as a stream of tokens, message by message, and
// nothing is kept but the last user message, the answers in the last message, and the ids of
// the runs that the page shows. The history that the model reads is the session's; what the
// page has is only compared with it (page.go). A message that is passed over may break any
// rule of its parts: its problem is kept beside it and dropped with it.

// A ChatRequest is the body of POST /chat, as the AI SDK's DefaultChatTransport sends
// it. Other members are ignored: the SDK lets pages add fields.
type ChatRequest struct {
	_ struct{} `additionalProperties:"true"`

	ID          string       `json:"id" pattern:"^[A-Za-z0-9_-]{16,64}$" doc:"The session, which is made if you have none of this id."`
	Messages    ChatMessages `json:"messages" doc:"The last message is the question, or an answer to what waits."`
	Trigger     Trigger      `json:"trigger,omitempty" enum:"submit-message,regenerate-message"`
	Model       string       `json:"model,omitempty" nullable:"true"`
	Temperature *float64     `json:"temperature,omitempty" nullable:"true" minimum:"0" maximum:"2"`
	MaxTokens   *int         `json:"max_tokens,omitempty" nullable:"true" minimum:"1"`
	AfterTurn   *int         `json:"after_turn,omitempty" nullable:"true" minimum:"0" maximum:"9007199254740991"`
	MessageID   messageID    `json:"messageId,omitempty" doc:"That the page edits or regenerates."`
}

// A Trigger is the reason for a request.
type Trigger string

const (
	triggerSubmit     Trigger = "submit-message"
	triggerRegenerate Trigger = "regenerate-message"
)

// UnmarshalJSONFrom accepts the two triggers above. Another word is refused instead of taken
// for a question: a page that wants something else must not append a turn.
func (t *Trigger) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	invalid := api.Invalid("trigger", "must be submit-message or regenerate-message")
	if d.PeekKind() != '"' {
		return broken(d, invalid)
	}
	word, err := text(d)
	if err != nil {
		return err
	}
	if *t = Trigger(word); *t != triggerSubmit && *t != triggerRegenerate {
		return invalid
	}
	return nil
}

// A messageID is the id that a page gives a message. Any value is accepted; what cannot be
// an id is ignored.
type messageID string

// UnmarshalJSONFrom reads a text, or skips the value.
func (id *messageID) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() != '"' {
		return d.SkipValue()
	}
	word, err := text(d)
	if api.Printable(word, maxMessageID) {
		*id = messageID(word)
	}
	return err
}

// Schema returns the schema of any value.
func (messageID) Schema(huma.Registry) *huma.Schema { return &huma.Schema{} }

// ChatBytes bounds a body of POST /chat, in bytes: the SDK sends the whole conversation
// each time, files included. What is passed over is not kept; only the last user message
// counts against MAX_BODY_BYTES and MAX_FILE_BYTES. A request to Cloud Run has at most
// 32 MiB.
const ChatBytes = 30 << 20

// passedOver is how large a file may be that is passed over, in bytes: in a service without
// files a page still sends those of its earlier messages. It is the default of
// MAX_FILE_BYTES. Their memory is claimed as that of files that are read.
const passedOver = 7 << 20

// maxURLHead exceeds what a data: URL has before its data, in bytes.
const maxURLHead = 1 << 10

// sentences describes the errors of [api.WriteSentence].
const sentences = "What to show to a person; the envelope with `Accept: application/json`."

// chatRoutes returns the routes of the protocol of useChat.
func (s *Service) chatRoutes() []api.Route {
	return []api.Route{
		{
			// The SDK shows an answer's body as error.message, as it is: so it is a sentence,
			// not JSON.
			Method: http.MethodPost, Path: "/chat", Handler: s.chat, Audit: api.AuditTurn, Fail: api.WriteSentence,
			Summary: "Ask the agent in the protocol of the AI SDK's useChat.",
			Doc: api.Doc{
				ID: "chat", Tag: api.TagAgent, Params: []string{"Idempotency-Key", headerSDK}, Errors: api.TurnErrors(), FailureText: sentences,
				Description: "For `new DefaultChatTransport({ api: URL + \"/chat\" })`. Of the page's history only the `metadata.run_id` of its answers is read: they, or `after_turn` where the last message comes alone, " +
					"must end with the session's last turn; else it is a 409. `messageId` of an earlier message, or of an answer to regenerate, replaces that turn and those after it. " +
					fmt.Sprintf("A last message of the assistant's answers a `tool-approval-request`. A body may have %d bytes, its last message what a body of `POST /invoke` may. The run goes on when its client goes away.", ChatBytes),
				Body: &api.DocBody{Type: ChatRequest{}, Examples: map[string]any{"A question": map[string]any{
					"id": api.ExampleSession, "messages": []any{map[string]any{"role": "user", "parts": []any{map[string]any{"type": "text", "text": s.exampleQuestion()}}}},
				}}},
				Answers: []api.DocAnswer{{
					Status: http.StatusOK, Name: "Chat", Description: "The answer: the `data` of each event is a part, that of the last one `[DONE]`.",
					Headers: []string{"x-vercel-ai-ui-message-stream", "Idempotency-Replayed", "X-Accel-Buffering"},
					Content: map[string]any{"text/event-stream": ChatPart{}},
				}},
			},
		},
		{
			Method: http.MethodGet, Path: "/chat/{id}", Handler: s.getChat, Audit: "session.read",
			Summary: "Read a session as the messages of useChat.",
			Doc: api.Doc{
				ID: "getChat", Tag: api.TagAgent, Params: []string{"chatId", headerSDK},
				Description: fmt.Sprintf("Of the last %d turns, for `useChat({ messages })`.", maxChatTurns),
				Errors:      []api.Code{api.SessionNotFound, api.SessionStoreUnavailable},
				Answers:     []api.DocAnswer{{Status: http.StatusOK, Description: "The messages, in order.", Data: ChatHistory{}}},
			},
		},
		{
			Method: http.MethodGet, Path: "/chat/{id}/stream", Handler: s.resumeChat, Audit: api.AuditRunRead, Fail: api.WriteSentence,
			Summary: "Go on watching the answer that is being written.",
			Doc: api.Doc{
				ID: "resumeChat", Tag: api.TagAgent, Params: []string{"chatId", headerSDK}, Errors: []api.Code{api.SessionStoreUnavailable}, FailureText: sentences,
				Answers: append([]api.DocAnswer{{Status: http.StatusOK, Name: "Chat"}}, api.NoContent("No answer is being written.")...),
			},
		},
		{
			// Whoever has used up the limit must still be able to stop what spends it.
			Method: http.MethodPost, Path: "/chat/{id}/stop", Handler: s.stopChat, Audit: api.AuditRunStop, Unrefused: true,
			Summary: "Stop the answer that is being written.",
			Doc: api.Doc{
				ID: "stopChat", Tag: api.TagAgent, Params: []string{"chatId"}, Errors: []api.Code{api.SessionConflict, api.SessionStoreUnavailable},
				Description: "The SDK's `stop()` only leaves: post this beside it.",
				Answers:     stopped(),
			},
		},
	}
}

// chat handles POST /chat: a turn in the protocol of useChat.
func (s *Service) chat(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), s.Timeout)
	defer cancel()
	dialect, err := newUIMessages(r)
	if err != nil {
		return err
	}
	// The claim is kept until the turn is over: each model call of it sends the files.
	memory := memoryClaim{room: s.room, owner: caller.Owner(ctx)}
	defer memory.leave()
	req, answers, err := s.decodeChat(w, r, memory.take)
	if err != nil {
		return err
	}
	if answers != nil {
		return s.answerChat(ctx, w, r, dialect, req.SessionID, answers.list)
	}
	// Without reset-step a page cannot take text back, so no new attempt may begin after it
	// was shown.
	req.Options.Resets = dialect.sdk >= resetSDK
	return s.Stream(ctx, w, r, req, dialect)
}

// decodeChat decodes and validates a request. It returns the answers of one that answers
// what the session waits for, instead of a question.
func (s *Service) decodeChat(w http.ResponseWriter, r *http.Request, hold func() error) (Request, *chatAnswers, error) {
	body := ChatRequest{Messages: ChatMessages{bytes: s.MaxBodyBytes, hold: hold}}
	if s.Files.accepted() {
		body.Messages.files = s.Files.MaxBytes
	}
	inline := api.EncodedLen(max(body.Messages.files, passedOver))
	if err := api.DecodeStream(w, r, ChatBytes, s.MaxBodyBytes+inline+maxURLHead, s.Timeout, hold, &body); err != nil {
		return Request{}, nil, err
	}
	switch {
	case body.ID == "":
		return Request{}, nil, api.Invalid("id", "is required")
	case !session.ValidID(body.ID):
		return Request{}, nil, api.Invalid("id", "must be 16 to 64 letters, digits, - or _")
	case !body.Messages.given:
		return Request{}, nil, api.Invalid("messages", "is required")
	case body.Messages.answers != nil && body.Trigger != triggerRegenerate:
		return Request{SessionID: body.ID}, body.Messages.answers, body.Messages.answers.problem()
	case body.Messages.last == nil:
		return Request{}, nil, api.Invalid("messages", "must hold a message whose role is user")
	case body.Messages.last.problem != nil:
		return Request{}, nil, body.Messages.last.problem
	case body.Model != "" && !slices.Contains(s.Models(), body.Model):
		return Request{}, nil, api.Invalid("model", "must be one of "+strings.Join(s.Models(), ", "))
	case body.Temperature != nil && (*body.Temperature < 0 || *body.Temperature > 2):
		return Request{}, nil, api.Invalid("temperature", "must be from 0 to 2")
	case body.MaxTokens != nil && (*body.MaxTokens < 1 || *body.MaxTokens > s.MaxOutputTokens):
		return Request{}, nil, api.Invalid("max_tokens", fmt.Sprintf("must be from 1 to %d", s.MaxOutputTokens))
	case body.AfterTurn != nil && *body.AfterTurn < 0:
		return Request{}, nil, api.Invalid("after_turn", "must not be negative")
	}
	req := Request{
		Query: body.Messages.last.text.String(), SessionID: body.ID, Model: body.Model,
		Temperature: body.Temperature, MaxTokens: body.MaxTokens, AfterTurn: body.AfterTurn,
		Options: Options{Create: true, Stay: true, Regenerate: body.Trigger == triggerRegenerate, Page: &Page{
			MessageID: string(body.MessageID), QuestionID: string(body.Messages.last.id), Runs: body.Messages.runs,
			Alone: body.Messages.count == 1 && body.AfterTurn != nil,
		}},
	}
	if err := req.Validate(body.Messages.last.field + ".parts"); err != nil {
		return Request{}, nil, err
	}
	for _, in := range body.Messages.last.files {
		if err := s.attach(&req, chatPlace(in.field), in); err != nil {
			return Request{}, nil, err
		}
	}
	var err error
	req.Options.Locale = api.Locale(r)
	req.Options.Key, err = IdempotencyKey(r)
	return req, nil, err
}

// ChatMessages are the messages of a [ChatRequest]. Only the last user message is
// kept, and which runs the answers name.
type ChatMessages struct {
	bytes int64        // that a message may have beside its files
	files int64        // that the files of a message may have, decoded
	hold  func() error // called for each MiB of memory that files take
	held  int64        // MiB of the message with the largest files
	given bool
	count int
	runs  []string     // that answers name, the latest last
	last  *userMessage // nil: none

	answers *chatAnswers // of the last message, if that is the assistant's
}

// Schema returns the schema of the messages for OpenAPI. JSON Schema cannot express
// that it is the last user message that must contain only text and files, or the last
// message that answers what waits.
func (ChatMessages) Schema(huma.Registry) *huma.Schema {
	part := map[string]any{"anyOf": []any{
		map[string]any{
			"type": "object", "required": []string{"type", "text"}, "additionalProperties": true,
			"properties": map[string]any{
				"type": map[string]any{"enum": []string{"text"}},
				"text": map[string]any{"type": "string", "maxLength": MaxQuery, "pattern": queryPattern},
			},
		},
		map[string]any{
			"type": "object", "required": []string{"type", "mediaType", "url"}, "additionalProperties": true,
			"properties": map[string]any{
				"type":      map[string]any{"enum": []string{"file"}},
				"mediaType": map[string]any{"type": "string", "maxLength": files.MaxType},
				"filename":  map[string]any{"type": "string", "maxLength": files.MaxName},
				"url":       map[string]any{"type": "string", "pattern": "^data:"},
			},
		},
	}}
	return &huma.Schema{
		Type: huma.TypeArray,
		Items: &huma.Schema{
			Type: huma.TypeObject, AdditionalProperties: true,
			Properties: map[string]*huma.Schema{
				"role":  {Type: huma.TypeString},
				"parts": {Type: huma.TypeArray, Items: &huma.Schema{}},
			},
		},
		Extensions: map[string]any{"contains": map[string]any{"anyOf": []any{
			map[string]any{
				"type": "object", "required": []string{"role", "parts"}, "additionalProperties": true,
				"properties": map[string]any{
					"role":  map[string]any{"enum": []string{"user"}},
					"parts": map[string]any{"type": "array", "minItems": 1, "items": part},
				},
			},
			map[string]any{"type": "object", "required": []string{"role", "parts"}, "properties": map[string]any{"role": map[string]any{"enum": []string{"assistant"}}}},
		}}},
	}
}

// A userMessage is the part of a message that is used. Its problem counts only if it
// is the last one.
type userMessage struct {
	field   string // path in the body
	id      messageID
	text    strings.Builder
	files   []chatInput
	skipped int64 // bytes of the files' URLs
	problem *api.Error
	answers chatAnswers // if it is the assistant's
}

// A chatInput is a file of a message.
type chatInput struct {
	field     string // path in the body
	name      string
	mediaType string
	uri       string // gs:// address, instead of data
	data      []byte
}

func (m *userMessage) invalid(field, issue string) { m.fail(api.Invalid(m.field+field, issue)) }

// fail keeps the message's first problem.
func (m *userMessage) fail(e *api.Error) {
	if m.problem == nil {
		m.problem = e
	}
}

// maxQueryBytes exceeds the size of any query of [MaxQuery] characters with as much
// white space around it.
const maxQueryBytes = 8 * MaxQuery

// add appends the text of a part. Parts are separated by newlines.
func (m *userMessage) add(text string) {
	switch {
	case m.text.Len()+len(text) > maxQueryBytes:
		m.invalid(".parts", "must have at most 10000 characters of text")
	case m.text.Len() > 0:
		m.text.WriteByte('\n')
		fallthrough
	default:
		m.text.WriteString(text)
	}
}

// UnmarshalJSONFrom reads one message at a time and keeps only the last user message,
// so that memory does not grow with the conversation. JSON has no order of members, so the
// role may come after the parts: parts are read for any role, and what they were is decided at
// the message's end.
func (ms *ChatMessages) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	ms.given = true
	if d.PeekKind() != '[' {
		return broken(d, api.Invalid("messages", "must be a list"))
	}
	return eachElement(d, func(i int) error {
		ms.count++
		m := &userMessage{field: "messages." + strconv.Itoa(i)}
		if d.PeekKind() != '{' {
			return broken(d, api.Invalid(m.field, "must be an object"))
		}
		role, run, begin := "", "", d.InputOffset()
		err := eachMember(d, func(name string) (err error) {
			switch name {
			case "role":
				if d.PeekKind() != '"' {
					return broken(d, api.Invalid(m.field+".role", "must be a text"))
				}
				role, err = text(d)
				return err
			case "id":
				return m.id.UnmarshalJSONFrom(d)
			case "metadata":
				run, err = runOf(d)
				return err
			case "parts":
				return m.parts(d, ms)
			}
			return d.SkipValue()
		})
		// Answers count only in the last message: an earlier one may keep the state
		// approval-responded, and the SDK sends it each time.
		ms.answers = nil
		switch role {
		case "assistant":
			m.answers.field = m.field
			ms.answers = &m.answers
			if run != "" {
				// The latest are kept: the page's position in the session is that of its last
				// answer which left a turn.
				if len(ms.runs) == maxPageRuns {
					ms.runs = slices.Delete(ms.runs, 0, 1)
				}
				ms.runs = append(ms.runs, run)
			}
		case "user":
			if m.text.Len() == 0 {
				m.invalid(".parts", "must hold text")
			}
			// MAX_BODY_BYTES bounds the message as sent, without the base64 of its files,
			// which MAX_FILE_BYTES bounds.
			if d.InputOffset()-begin-m.skipped > ms.bytes {
				m.problem = api.TooLarge(ms.bytes)
			}
			ms.last = m
		}
		return err
	})
}

// runOf reads the metadata of a message and returns the run that it names, "" for none.
// Metadata is the page's own: a value that is no run's id is passed over, as other members
// are.
func runOf(d *jsontext.Decoder) (run string, err error) {
	if d.PeekKind() != '{' {
		return "", d.SkipValue()
	}
	err = eachMember(d, func(name string) error {
		if name != "run_id" || d.PeekKind() != '"' {
			return d.SkipValue()
		}
		id, err := text(d)
		if _, _, ok := session.SplitRunID(id); ok {
			run = id
		}
		return err
	})
	return run, err
}

// parts reads the parts of a message. A part's type may come after its content, so members are
// read by their names first, and the type decides at the part's end what they were. Parts of
// other types are skipped: pages add theirs, and a new version of the SDK must not break them.
func (m *userMessage) parts(d *jsontext.Decoder, ms *ChatMessages) error {
	if d.PeekKind() != '[' {
		m.invalid(".parts", "must be a list")
		return d.SkipValue()
	}
	return eachElement(d, func(i int) error {
		at := ".parts." + strconv.Itoa(i)
		if d.PeekKind() != '{' {
			m.invalid(at, "must be an object")
			return d.SkipValue()
		}
		var kind, content, state string
		var answer chatAnswer
		file := chatInput{field: m.field + at}
		// The bound is on all files of the message together, decoded.
		left := ms.files
		for _, other := range m.files {
			left -= int64(len(other.data))
		}
		var problem *api.Error // of the URL
		err := eachMember(d, func(name string) (err error) {
			switch {
			case d.PeekKind() == '"' && name == "url":
				problem, err = m.url(d, ms, &file, left)
			case d.PeekKind() == '"' && name == "mediaType":
				file.mediaType, err = text(d)
			case d.PeekKind() == '"' && name == "filename":
				file.name, err = text(d)
			case d.PeekKind() == '"' && name == "type":
				kind, err = text(d)
			case d.PeekKind() == '"' && name == "text":
				content, err = text(d)
			case d.PeekKind() == '"' && name == "state":
				state, err = text(d)
			case d.PeekKind() == '"' && name == "toolCallId":
				answer.Call, err = text(d)
			case name == "input":
				answer.Input, err = readBounded(d, ms.bytes-m.answers.bytes)
			case name == "approval":
				err = readApproval(d, &answer)
			default:
				err = d.SkipValue()
			}
			return err
		})
		if state == stateResponded {
			m.answers.add(answer)
		}
		switch kind {
		case "text":
			m.add(content)
		case "file":
			switch {
			case ms.files == 0:
				m.invalid(at, "must not be a file: the agent reads only text")
			case len(m.files) == files.Max:
				m.invalid(".parts", fmt.Sprintf("must hold at most %d files", files.Max))
			case problem != nil:
				m.fail(problem)
			case file.uri == "" && file.data == nil:
				m.invalid(at+".url", files.ErrDataURL.Error())
			case files.CheckName(file.name) != nil:
				m.invalid(at+".filename", files.ErrName.Error())
			default:
				m.files = append(m.files, file)
			}
		}
		return err // other parts are the page's own
	})
}

// url reads the URL of a file part, whose content may have at most left bytes. A problem
// counts only if the part is a file's. The length of the base64 bounds the size before memory
// is claimed and the content is decoded: an instance must not allocate what it then refuses.
func (m *userMessage) url(d *jsontext.Decoder, ms *ChatMessages, file *chatInput, left int64) (*api.Error, error) {
	value, err := d.ReadValue()
	if err != nil {
		return nil, err
	}
	// Also of a file that is refused: its error is that of the file, not of a message that is
	// too large.
	m.skipped += int64(len(value))
	if ms.files == 0 || len(m.files) == files.Max {
		return nil, nil // refused anyway
	}
	// The usual URL has no escapes and is used where it lies, without a copy of some MiB.
	url := value[1 : len(value)-1]
	if bytes.IndexByte(url, '\\') >= 0 {
		if url, err = jsontext.AppendUnquote(nil, value); err != nil {
			return nil, err
		}
	}
	// No object has a longer address: names have at most 1024 bytes, buckets 222.
	if bytes.HasPrefix(url, []byte("gs://")) && len(url) <= 2048 {
		file.uri = string(url)
		return nil, nil
	}
	mediaType, encoded, err := files.ParseDataURL(url)
	if err != nil {
		return api.Invalid(file.field+".url", err.Error()), nil
	}
	// The least that this decodes to: 3 bytes for 4 characters, less two for padding.
	if int64(len(encoded))/4*3-2 > left {
		return api.FilesTooLarge(ms.files), nil
	}
	// Messages are read one after the other, and only the last is kept, so what was claimed
	// for an earlier one serves the next.
	for size := ms.files - left + int64(len(encoded)); ms.held < size>>20; ms.held++ {
		if err := ms.hold(); err != nil {
			return nil, err
		}
	}
	if file.data, err = files.Decode(encoded); err != nil {
		return api.Invalid(file.field+".url", err.Error()), nil
	}
	if int64(len(file.data)) > left {
		return api.FilesTooLarge(ms.files), nil
	}
	if file.mediaType == "" {
		file.mediaType = mediaType
	}
	return nil, nil
}

// attach adds a file to a request.
func (s *Service) attach(req *Request, at place, in chatInput) (err error) {
	var a *attachment
	if in.uri != "" {
		a, err = s.named(at, in.mediaType, in.uri)
	} else {
		a, err = s.inline(at, in.mediaType, in.name, in.data)
	}
	if err != nil {
		return err
	}
	req.attached = append(req.attached, a)
	req.Files = append(req.Files, FileInput{Type: a.Type, Data: a.Digest, URI: in.uri}) // identifies a retry
	return nil
}

// broken skips the value and returns e, or the syntax error if it is not valid JSON. Whichever
// field it breaks in, a body that is not JSON is a 400, and one that only breaks a rule a 422.
func broken(d *jsontext.Decoder, e *api.Error) error {
	if err := d.SkipValue(); err != nil {
		return err
	}
	return e
}

// eachElement reads an array and calls element to read each element.
func eachElement(d *jsontext.Decoder, element func(i int) error) error {
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for i := 0; d.PeekKind() != ']'; i++ {
		if d.PeekKind() <= 0 {
			return d.SkipValue() // returns the syntax error
		}
		if err := element(i); err != nil {
			return err
		}
	}
	_, err := d.ReadToken()
	return err
}

// eachMember reads an object and calls member to read each value.
func eachMember(d *jsontext.Decoder, member func(name string) error) error {
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for d.PeekKind() != '}' {
		name, err := text(d)
		if err != nil {
			return err
		}
		if err := member(name); err != nil {
			return err
		}
	}
	_, err := d.ReadToken()
	return err
}

// text reads a string. Its length is bounded by the longest text that was passed to
// [api.DecodeStream].
func text(d *jsontext.Decoder) (string, error) {
	token, err := d.ReadToken()
	if err != nil {
		return "", err
	}
	return token.String(), nil
}
