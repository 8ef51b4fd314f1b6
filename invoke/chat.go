package invoke

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-json-experiment/json/jsontext"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/session"
)

// A ChatRequest is the body of POST /chat, as the AI SDK's DefaultChatTransport
// sends it. What else is in it is passed over: the SDK lets pages add fields.
type ChatRequest struct {
	_ struct{} `additionalProperties:"true"`

	ID        string       `json:"id" pattern:"^[A-Za-z0-9_-]{16,64}$" doc:"The session; a new one when you have none of this id."`
	Messages  ChatMessages `json:"messages" doc:"The conversation as the page has it. Only the last message of the user's is read."`
	Trigger   Trigger      `json:"trigger,omitempty" enum:"submit-message,regenerate-message" doc:"Whether to append a turn, or to answer the last one's question anew."`
	MessageID unread       `json:"messageId,omitempty" doc:"The message that the page edits or regenerates. Not read."`
}

// A Trigger says why a page asks.
type Trigger string

const (
	triggerSubmit     Trigger = "submit-message"
	triggerRegenerate Trigger = "regenerate-message"
)

// UnmarshalJSONFrom takes the two that there are.
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

// An unread field may hold anything.
type unread struct{}

// UnmarshalJSONFrom passes over it.
func (unread) UnmarshalJSONFrom(d *jsontext.Decoder) error { return d.SkipValue() }

// Schema is that of anything.
func (unread) Schema(huma.Registry) *huma.Schema { return &huma.Schema{} }

// ChatBodies is how much larger than others' a body of POST /chat may be: the
// SDK sends the whole conversation each time.
const ChatBodies = 8

// chat is POST /chat: a turn as any other, in the protocol of useChat.
func (s *Service) chat(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), s.Timeout)
	defer cancel()
	req, err := s.decodeChat(w, r)
	if err != nil {
		return err
	}
	return s.stream(ctx, r, req, newStream(w, r, &uiMessages{}, cancel))
}

// resumeChat is GET /chat/{id}/stream, by which the SDK asks for a stream to go
// on with. 204 is how it is told that there is none.
func (s *Service) resumeChat(w http.ResponseWriter, _ *http.Request) error {
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// decodeChat reads and checks a request.
func (s *Service) decodeChat(w http.ResponseWriter, r *http.Request) (Request, error) {
	var body ChatRequest
	if err := api.DecodeStream(w, r, ChatBodies*s.MaxBodyBytes, s.Timeout, &body); err != nil {
		return Request{}, err
	}
	switch {
	case body.ID == "":
		return Request{}, api.Invalid("id", "is required")
	case !session.ValidID(body.ID):
		return Request{}, api.Invalid("id", "must be 16 to 64 letters, digits, - or _")
	case !body.Messages.given:
		return Request{}, api.Invalid("messages", "is required")
	case body.Messages.last == nil:
		return Request{}, api.Invalid("messages", "must hold a message whose role is user")
	case body.Messages.last.problem != nil:
		return Request{}, body.Messages.last.problem
	}
	req := Request{
		Query: body.Messages.last.text.String(), SessionID: body.ID,
		create: true, regenerate: body.Trigger == triggerRegenerate,
	}
	if err := req.trim(body.Messages.last.field + ".parts"); err != nil {
		return Request{}, err
	}
	var err error
	req.locale = api.Locale(r)
	req.key, err = idempotencyKey(r)
	return req, err
}

// ChatMessages are the messages of a [ChatRequest], of which only the last of
// the user's is kept.
type ChatMessages struct {
	given bool
	last  *userMessage // nil: there is none
}

// Schema is that of the messages, for a document. It does not say that it is the
// last of the user's messages that must hold nothing but text.
func (ChatMessages) Schema(huma.Registry) *huma.Schema {
	part := map[string]any{
		"type": "object", "required": []string{"type", "text"}, "additionalProperties": true,
		"properties": map[string]any{
			"type": map[string]any{"enum": []string{"text"}},
			"text": map[string]any{"type": "string", "maxLength": MaxQuery, "pattern": queryPattern},
		},
	}
	return &huma.Schema{
		Type: huma.TypeArray,
		Items: &huma.Schema{
			Type: huma.TypeObject, AdditionalProperties: true,
			Properties: map[string]*huma.Schema{
				"role":  {Type: huma.TypeString, Description: "Whose message it is: system, user or assistant."},
				"parts": {Type: huma.TypeArray, Items: &huma.Schema{}, Description: "The user's are of the type text."},
			},
		},
		Extensions: map[string]any{"contains": map[string]any{
			"type": "object", "required": []string{"role", "parts"}, "additionalProperties": true,
			"properties": map[string]any{
				"role":  map[string]any{"enum": []string{"user"}},
				"parts": map[string]any{"type": "array", "minItems": 1, "items": part},
			},
		}},
	}
}

// A userMessage is what is read of a message. A problem counts only where the
// message is the last.
type userMessage struct {
	field   string // where it is in the body
	text    strings.Builder
	problem *api.Error
}

func (m *userMessage) invalid(field, issue string) {
	if m.problem == nil {
		m.problem = api.Invalid(m.field+field, issue)
	}
}

// maxQueryBytes is more than a query of [MaxQuery] characters and as much white
// space around it has.
const maxQueryBytes = 8 * MaxQuery

// add takes in the text of a part; parts are told apart by a line's end.
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

// UnmarshalJSONFrom reads the messages one after the other, and forgets all but
// one.
func (ms *ChatMessages) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	ms.given = true
	if d.PeekKind() != '[' {
		return broken(d, api.Invalid("messages", "must be a list"))
	}
	return eachElement(d, func(i int) error {
		m := &userMessage{field: "messages." + strconv.Itoa(i)}
		if d.PeekKind() != '{' {
			return broken(d, api.Invalid(m.field, "must be an object"))
		}
		role := ""
		err := eachMember(d, func(name string) (err error) {
			switch name {
			case "role":
				if d.PeekKind() != '"' {
					return broken(d, api.Invalid(m.field+".role", "must be a text"))
				}
				role, err = text(d)
				return err
			case "parts":
				return m.parts(d)
			}
			return d.SkipValue()
		})
		if role == "user" {
			if m.text.Len() == 0 {
				m.invalid(".parts", "must hold text")
			}
			ms.last = m
		}
		return err
	})
}

// parts reads the parts of a message.
func (m *userMessage) parts(d *jsontext.Decoder) error {
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
		var kind, content string
		err := eachMember(d, func(name string) (err error) {
			switch {
			case d.PeekKind() == '"' && name == "type":
				kind, err = text(d)
			case d.PeekKind() == '"' && name == "text":
				content, err = text(d)
			default:
				err = d.SkipValue()
			}
			return err
		})
		switch kind {
		case "text":
			m.add(content)
		case "file":
			m.invalid(at, "must not be a file: the agent reads text alone")
		default:
			m.invalid(at, "must be of the type text")
		}
		return err
	})
}

// broken is e, unless what is there is not JSON at all.
func broken(d *jsontext.Decoder, e *api.Error) error {
	if err := d.SkipValue(); err != nil {
		return err
	}
	return e
}

// eachElement reads an array whose elements element reads.
func eachElement(d *jsontext.Decoder, element func(i int) error) error {
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for i := 0; d.PeekKind() != ']'; i++ {
		if d.PeekKind() <= 0 {
			return d.SkipValue() // says what is wrong
		}
		if err := element(i); err != nil {
			return err
		}
	}
	_, err := d.ReadToken()
	return err
}

// eachMember reads an object whose members' values member reads.
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

// text reads a string.
func text(d *jsontext.Decoder) (string, error) {
	token, err := d.ReadToken()
	if err != nil {
		return "", err
	}
	return token.String(), nil
}

// replaced gives the session as the turn of req finds it, and the id of the
// turn that it replaces. To regenerate is to want another answer to the last
// question; where the last turn has another question, the one to answer again
// has no turn, because it was stopped or failed. Then nothing is replaced: the
// SDK's pages regenerate to try such a question once more.
func replaced(s *session.Session, req Request) (before *session.Session, id string, err error) {
	if !req.regenerate {
		return s, "", nil
	}
	last, ok, err := s.Last()
	if err != nil || !ok {
		return s, "", err
	}
	if asked, _ := last.Texts(); asked != req.Query {
		return s, "", nil
	}
	before, err = s.WithoutLast()
	return before, last.ID, err
}
