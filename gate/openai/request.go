package openai

import (
	"cmp"
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/openaiwire"
	"example.com/gatehouse/invoke"
	"example.com/gatehouse/session"
)

// The bodies have what is read of them; other fields are ignored, as clients send many.
type (
	// Options are what both APIs have.
	options struct {
		Model       string     `json:"model,omitzero" doc:"The agent's name, or a model of GET /v1/models."`
		Stream      *bool      `json:"stream,omitzero"`
		Temperature *float64   `json:"temperature,omitzero" minimum:"0" maximum:"2"`
		Tools       []struct{} `json:"tools,omitzero" maxItems:"0" doc:"The agent has its own, which run in the service."`
		Store       *bool      `json:"store,omitzero" doc:"false leaves no turn."`
	}
	completionRequest struct {
		_ struct{} `additionalProperties:"true"`
		options
		Messages      []message `json:"messages" minItems:"1" doc:"The last one is the user's."`
		MaxTokens     *int      `json:"max_completion_tokens,omitzero" minimum:"1"`
		OldMaxTokens  *int      `json:"max_tokens,omitzero" minimum:"1"`
		N             *int      `json:"n,omitzero" minimum:"1" maximum:"1"`
		StreamOptions object    `json:"stream_options,omitzero" doc:"With include_usage, a last chunk counts tokens."`
		Format        object    `json:"response_format,omitzero" doc:"Of an agent with a typed answer: its type."`
	}
	responseRequest struct {
		_ struct{} `additionalProperties:"true"`
		options
		Input        input  `json:"input" doc:"A question, or a list of messages that ends with one; or the answers to what the previous response waits for."`
		Instructions string `json:"instructions,omitzero" doc:"Refused unless the service allows them."`
		Previous     string `json:"previous_response_id,omitzero" doc:"The session's last response; another one is a conflict."`
		Conversation any    `json:"conversation,omitzero" doc:"A session's id; a new one where the caller has none of it."`
		Background   bool   `json:"background,omitzero" doc:"The answer is to be retrieved. Where the service has no queue, it is waited for."`
		MaxTokens    *int   `json:"max_output_tokens,omitzero" minimum:"1"`
		Text         object `json:"text,omitzero" doc:"With format, of an agent with a typed answer: its type."`
	}
	// A message is one of a conversation, or the answer to what a response waits for.
	message struct {
		Type       string             `json:"type,omitzero" enum:"message,mcp_approval_response"`
		Role       string             `json:"role,omitzero" enum:"system,developer,user,assistant"`
		Content    openaiwire.Content `json:"content,omitzero"`
		ToolCalls  []struct{}         `json:"tool_calls,omitzero" maxItems:"0"`
		ToolCallID string             `json:"tool_call_id,omitzero" maxLength:"0"`
		Request    string             `json:"approval_request_id,omitzero"`
		Approve    bool               `json:"approve,omitzero"`
		Reason     string             `json:"reason,omitzero" maxLength:"2000"`
	}
	input  []message
	object = openaiwire.Object
)

// UnmarshalJSON implements [json.Unmarshaler]: a text is the user's message.
func (in *input) UnmarshalJSON(raw []byte) error {
	if raw[0] == '"' {
		raw = slices.Concat([]byte(`[{"role":"user","content":`), raw, []byte("}]"))
	}
	if raw[0] != '[' {
		return api.Invalid("input", "must be a text or a list of messages")
	}
	return json.Unmarshal(raw, (*[]message)(in))
}

// Schema implements [huma.SchemaProvider].
func (input) Schema(r huma.Registry) *huma.Schema {
	return api.TextOr("", &huma.Schema{Type: huma.TypeArray, Items: r.Schema(reflect.TypeFor[message](), true, "Message")})
}

const (
	maxMessages = 2_000 // of a conversation, whose tokens are HISTORY_TOKENS's to bound
	// historyBodies is the limit on a body as a multiple of other bodies' limit: clients
	// send the whole conversation each time.
	historyBodies = 8
)

// request returns the run of the question that messages end with, without a session. field
// is their path in the body.
func (d *door) request(r *http.Request, field string, messages []message, o options, instructions string, most *int) (req invoke.Request, err error) {
	if len(messages) == 0 || len(messages) > maxMessages {
		return req, api.Invalid(field, "must hold 1 to 2000 messages")
	}
	var conversation []invoke.Message
	for i, m := range messages {
		at := field + "." + strconv.Itoa(i)
		text, err := m.Content.Join(at+".content", i == len(messages)-1)
		switch {
		case m.Type != "" && m.Type != "message":
			return req, api.Invalid(at+".type", "must be message: tools run in the service")
		case len(m.ToolCalls) > 0 || m.ToolCallID != "":
			return req, api.Invalid(at+".tool_calls", "must be absent: tools run in the service")
		case err != nil:
			return req, err
		case m.Role == "system" || m.Role == "developer":
			instructions = strings.TrimSpace(instructions + "\n\n" + text)
		case m.Role == "user":
			conversation = append(conversation, invoke.Message{User: true, Text: text})
		case m.Role == "assistant" && text != "":
			conversation = append(conversation, invoke.Message{Text: text})
		case m.Role != "assistant":
			return req, api.Invalid(at+".role", "must be system, developer, user or assistant")
		}
	}
	last := len(messages) - 1
	field += "." + strconv.Itoa(last)
	switch {
	case messages[last].Role != "user":
		return req, api.Invalid(field+".role", "must be user in the last message")
	case len(o.Tools) > 0:
		return req, api.Invalid("tools", "must be absent: the agent has its own tools, which run in the service")
	case instructions != "" && !d.Config.AllowInstructions:
		return req, api.Invalid("instructions", "must be absent, as messages of the system are: the agent has its own")
	}
	if req.Options, err = d.Invoke.OptionsOf(r); err != nil {
		return req, err
	}
	req.Model, req.Temperature, req.MaxTokens, req.Options.Instructions, req.Options.Sessionless = o.Model, o.Temperature, most, instructions, true
	if req.Query, req.Options.History, err = invoke.Conversation(conversation); err != nil {
		return req, err
	}
	for i, p := range messages[last].Content {
		if name, url, ok := p.File(); ok && err == nil {
			err = d.Invoke.AttachURL(&req, field+".content."+strconv.Itoa(i), name, url)
		}
	}
	if err == nil {
		err = d.Invoke.Fit(&req, field+".content")
	}
	return req, err
}

// conversation returns the id of the session that b names, alone or as a value's id.
func (b responseRequest) conversation() string {
	return object{"it": b.Conversation}.At("it", "it.id")
}

// checkFormat admits the form of the agent's answers, which clients cannot change.
func (d *door) checkFormat(field, form string, schema any) error {
	switch {
	case form == "" || form == "text":
		return nil
	case d.Agent.Output == nil:
		return api.Invalid(field+".type", "must be text: the agent decides the form of its answers")
	case schema == nil:
		return nil
	}
	same, err := d.Agent.Output.Same(schema)
	if err == nil && !same {
		err = api.Invalid(field+".schema", "must be that of the agent's answers")
	}
	return err
}

// is reports whether a member that may be left out is true.
func is(b *bool) bool { return b != nil && *b }

// completionOf returns the run of a chat completion.
func (d *door) completionOf(r *http.Request, body completionRequest) (req invoke.Request, err error) {
	if body.N != nil && *body.N != 1 {
		return req, api.Invalid("n", "must be 1")
	}
	if err := d.checkFormat("response_format", body.Format.At("type"), body.Format.Value("json_schema.schema")); err != nil {
		return req, err
	}
	id, err := d.Conversation(r)
	if err != nil {
		return req, err
	}
	if id != "" {
		body.Tools = nil // pages bring some with each question, which no answer has to use
	}
	req, err = d.request(r, "messages", body.Messages, body.options, "", cmp.Or(body.MaxTokens, body.OldMaxTokens))
	req.Options.NobodyToAsk = true
	// Pages have titles and searches made before there is a first answer, with the header of
	// the chat, and say that these are no streams.
	if store := body.Store; id != "" && err == nil && (store == nil || *store) {
		err = d.Invoke.Continue(r.Context(), &req, id, body.Stream == nil || is(body.Stream) || is(store))
	}
	return req, err
}

// responseOf returns the run of a response.
func (d *door) responseOf(r *http.Request, body responseRequest) (req invoke.Request, err error) {
	named := body.conversation()
	unstored, goesOn := body.Store != nil && !*body.Store, body.Previous != "" || named != ""
	switch {
	case body.Previous != "" && named != "":
		return req, api.Invalid("previous_response_id", "must be absent beside conversation")
	case unstored && (goesOn || body.Background):
		return req, api.Invalid("store", "must be true for a response that goes on with a session, or in the background")
	case body.Conversation != nil && !session.ValidID(named):
		return req, api.Invalid("conversation", "must be 16 to 64 letters, digits, - or _")
	}
	if err := d.checkFormat("text.format", body.Text.At("format.type"), body.Text.Value("format.schema")); err != nil {
		return req, err
	}
	if req, err = d.request(r, "input", body.Input, body.options, body.Instructions, body.MaxTokens); err != nil {
		return req, err
	}
	switch brings := len(req.Options.History) > 0; {
	case brings && goesOn:
		return req, api.Invalid("input", "must be one message: the service has the ones before it")
	case brings && (body.Background || body.Store != nil && *body.Store):
		return req, api.Invalid("store", "must be false for an input that brings its history")
	case brings || unstored: // it serves this run only
		return req, nil
	}
	req.SessionID, req.Options.Create, req.Options.Sessionless = named, named != "", false
	if body.Previous != "" {
		before, err := d.find(r, body.Previous)
		if err != nil {
			return req, err
		}
		req.SessionID, req.AfterTurn = before.SessionID, &before.Turn
	}
	return req, nil
}
