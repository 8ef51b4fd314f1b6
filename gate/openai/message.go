package openai

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/genai"

	"example.com/gatehouse/internal/api"
)

// A message is one of a conversation, in either API.
type message struct {
	Type       string           `json:"type"` // of an item of Responses; "" or message
	Role       string           `json:"role"`
	Content    content          `json:"content"`
	ToolCalls  []jsontext.Value `json:"tool_calls"`
	ToolCallID string           `json:"tool_call_id"`
}

// A content is a text, or a list of parts.
type content struct {
	text  string
	parts []part // nil: only text
}

// A part is one of a content.
type part struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

// UnmarshalJSON implements [json.Unmarshaler].
func (c *content) UnmarshalJSON(raw []byte) error {
	switch raw[0] {
	case 'n':
		return nil
	case '"':
		return json.Unmarshal(raw, &c.text)
	case '[':
		return json.Unmarshal(raw, &c.parts)
	}
	return api.Invalid("content", "must be a text or a list of parts")
}

// join returns the text of c. field is its path in the body.
func (c content) join(field string) (string, error) {
	if c.parts == nil {
		return c.text, nil
	}
	var texts []string
	for i, p := range c.parts {
		switch p.Type {
		case "text", "input_text", "output_text", "refusal":
			texts = append(texts, p.Text)
		default:
			return "", api.Invalid(field+"."+strconv.Itoa(i), "must be text")
		}
	}
	return strings.Join(texts, "\n"), nil
}

// maxMessages bounds a conversation. Its length in tokens is HISTORY_TOKENS's to bound.
const maxMessages = 2_000

// historyBodies is the limit on a body as a multiple of other bodies' limit: clients send
// the whole conversation each time.
const historyBodies = 8

// noHold accepts texts of any length: none is longer than a body of POST /invoke.
func noHold() error { return nil }

// A conversation is what the messages of a request come to.
type conversation struct {
	instructions string
	history      []json.RawMessage // turns before the question, each a list of contents
	query        string
	field        string // of the question, in the body
	questions    int    // of the user, the last one included
}

// converse reads messages. The last one must be the user's. field is their path in the
// body.
func converse(field string, messages []message) (conversation, error) {
	var c conversation
	if len(messages) == 0 {
		return c, api.Invalid(field, "must hold a message")
	}
	if len(messages) > maxMessages {
		return c, api.Invalid(field, "must hold at most 2000 messages")
	}
	var turn []*genai.Content
	end := func() error {
		if len(turn) == 0 {
			return nil
		}
		raw, err := json.Marshal(turn)
		c.history, turn = append(c.history, raw), nil
		return err
	}
	last := len(messages) - 1
	for i, m := range messages {
		at := field + "." + strconv.Itoa(i)
		switch {
		case m.Type != "" && m.Type != "message":
			return c, api.Invalid(at+".type", "must be message: tools run in the service")
		case len(m.ToolCalls) > 0 || m.ToolCallID != "":
			return c, api.Invalid(at+".tool_calls", "must be absent: tools run in the service")
		}
		text, err := m.Content.join(at + ".content")
		if err != nil {
			return c, err
		}
		if strings.ContainsRune(text, 0) {
			return c, api.Invalid(at+".content", "must not contain NUL")
		}
		switch m.Role {
		case "system", "developer":
			if c.instructions != "" {
				c.instructions += "\n\n"
			}
			c.instructions += text
		case "user":
			c.questions++
			if i == last {
				c.query, c.field = text, at+".content"
				break
			}
			if n := len(turn); n > 0 && turn[n-1].Role == genai.RoleUser { // two questions in a row
				turn[n-1].Parts = append(turn[n-1].Parts, genai.NewPartFromText(text))
				break
			}
			if err := end(); err != nil {
				return c, err
			}
			turn = append(turn, genai.NewContentFromText(text, genai.RoleUser))
		case "assistant":
			// Gemini wants the user first: a greeting before any question is left out.
			if n := len(turn); n > 0 && text != "" && i != last {
				turn = append(turn, genai.NewContentFromText(text, genai.RoleModel))
			}
		default:
			return c, api.Invalid(at+".role", "must be system, developer, user or assistant")
		}
	}
	if c.field == "" {
		return c, api.Invalid(field+"."+strconv.Itoa(last)+".role", "must be user in the last message")
	}
	if n := len(turn); n > 0 && turn[n-1].Role == genai.RoleUser { // the question goes on with it
		for _, p := range slices.Backward(turn[n-1].Parts) {
			c.query = p.Text + "\n\n" + c.query
		}
		turn = turn[:n-1]
	}
	return c, end()
}
