package openapi

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"example.com/gatehouse/invoke"
)

// chat is POST /chat.
func chat() operation {
	return operation{
		id: "chat", tag: tagAgent, parameters: []string{"Idempotency-Key"}, errors: turnErrors,
		description: `The same turn in the protocol of the AI SDK's ` + "`useChat`" + ` (https://ai-sdk.dev/docs/ai-sdk-ui/stream-protocol), which needs no more than
` + "`new DefaultChatTransport({ api: URL + \"/chat\" })`" + `. The session of this ` + "`id`" + ` is made when there is none; what was said before is the service's to know, not the page's to tell.

The answer is a UI message stream: ` + "`start`" + `; then ` + "`text-start`, `text-delta`, `text-end`, `tool-input-available` and `tool-output-available`" + ` in the order they happen;
one of ` + "`finish` and `error`" + `; and ` + "`[DONE]`" + `. What fails before the first part is an ordinary JSON error. A client that goes away ends the turn, and it is not stored.`,
		body: jsonBody(func(d *document) *huma.Schema { return d.schemas.of(invoke.ChatRequest{}) }, map[string]any{
			"A question":  chatExample("submit-message"),
			"Once more":   chatExample("regenerate-message"),
			"Nothing set": map[string]any{"id": exampleSession, "messages": []any{userMessage(exampleQuery)}},
		}),
		answers: map[int]func(*document) *huma.Response{http.StatusOK: func(d *document) *huma.Response {
			r := content("The agent's answer.", "text/event-stream", d.chatEvents(), "x-vercel-ai-ui-message-stream", "Idempotency-Replayed", "X-Accel-Buffering")(d)
			r.Content["text/event-stream"].Examples = map[string]*huma.Example{"stream": {Summary: "A whole stream", Value: exampleParts()}}
			return r
		}},
	}
}

// chatEvents is what each event of a UI message stream is.
func (d *document) chatEvents() *huma.Schema {
	part := d.chatParts()
	return d.schemas.named("ChatEvent", func() *huma.Schema {
		data := func(description string, extensions map[string]any, values ...any) *huma.Schema {
			return &huma.Schema{
				Type: huma.TypeObject, Description: description, Required: []string{"data"},
				Properties: map[string]*huma.Schema{"data": {Type: huma.TypeString, Enum: values, Extensions: extensions}},
			}
		}
		return &huma.Schema{
			Description: "One event of the stream, which has no name: what is in its line `data:`.",
			AnyOf: []*huma.Schema{
				data("A part of the message.", map[string]any{"contentMediaType": "application/json", "contentSchema": part}),
				data("The end: no part follows.", nil, "[DONE]"),
			},
		}
	})
}

// chatParts are the parts of a UI message stream, told apart by their type.
func (d *document) chatParts() *huma.Schema {
	response := d.schemas.registry.SchemaFromRef(d.schemas.of(invoke.Response{}).Ref).Properties
	start := d.schemas.registry.SchemaFromRef(d.schemas.of(invoke.Start{}).Ref).Properties
	result := d.schemas.registry.SchemaFromRef(d.schemas.of(invoke.Response{}).Ref).Properties["tool_calls"].Items
	word := func(description string) *huma.Schema {
		return &huma.Schema{Type: huma.TypeString, Description: description}
	}
	here := &huma.Schema{Type: huma.TypeBoolean, Enum: []any{true}, Description: "The service calls tools itself: the page has none to run."}
	call := word("The same in the call and in what came of it.")
	id := word("The piece of text, of which a message has one before, between and after calls of tools.")
	return d.schemas.named("ChatPart", func() *huma.Schema {
		return &huma.Schema{
			Description: "A part of a UI message stream.",
			OneOf: []*huma.Schema{
				part("start", "The first: the model has begun to answer.", map[string]*huma.Schema{
					"messageMetadata": object(map[string]*huma.Schema{"request_id": start["request_id"], "session_id": start["session_id"]}),
				}),
				part("text-start", "A piece of text begins.", map[string]*huma.Schema{"id": id}),
				part("text-delta", "It goes on.", map[string]*huma.Schema{"id": id, "delta": word("What comes next of it.")}),
				part("text-end", "It is whole.", map[string]*huma.Schema{"id": id}),
				part("tool-input-available", "The model wants a tool called.", map[string]*huma.Schema{
					"toolCallId": call, "toolName": word(""), "input": {Type: huma.TypeObject, AdditionalProperties: true}, "providerExecuted": here,
				}),
				part("tool-output-available", "A tool is done.", map[string]*huma.Schema{"toolCallId": call, "output": result, "providerExecuted": here}),
				part("finish", "The last: the turn is stored.", map[string]*huma.Schema{
					"finishReason": {Type: huma.TypeString, Enum: []any{"stop", "length", "content-filter", "other"}},
					"messageMetadata": object(map[string]*huma.Schema{
						"usage": response["usage"], "request_id": start["request_id"], "session_id": response["session_id"],
						"turn": response["turn"], "model": response["model"], "warnings": response["warnings"],
					}),
				}),
				part("error", "The last, instead of finish.", map[string]*huma.Schema{"errorText": word("A sentence for the page's user.")}),
			},
		}
	})
}

// part is one of a UI message stream's: its type, and members that are all there.
func part(kind, description string, members map[string]*huma.Schema) *huma.Schema {
	p := object(members)
	p.Description = description
	p.Properties["type"] = &huma.Schema{Type: huma.TypeString, Enum: []any{kind}}
	p.Required = append([]string{"type"}, p.Required...)
	return p
}

// object has members that are all there.
func object(members map[string]*huma.Schema) *huma.Schema {
	return &huma.Schema{Type: huma.TypeObject, Properties: members, Required: slices.Sorted(maps.Keys(members))}
}

// userMessage is what the AI SDK makes of what its user types.
func userMessage(text string) map[string]any {
	return map[string]any{"id": "msg-1", "role": "user", "parts": []any{map[string]any{"type": "text", "text": text}}}
}

func chatExample(trigger string) map[string]any {
	return map[string]any{"id": exampleSession, "trigger": trigger, "messages": []any{userMessage(exampleQuery)}}
}

// exampleParts is a UI message stream as it goes over the wire.
func exampleParts() string {
	var b strings.Builder
	for _, part := range []map[string]any{
		{"type": "start", "messageMetadata": map[string]any{"request_id": exampleRequest, "session_id": exampleSession}},
		{"type": "tool-input-available", "toolCallId": "call_1_1", "toolName": exampleCall.Name, "input": map[string]any{"project_type": "web"}, "providerExecuted": true},
		{"type": "tool-output-available", "toolCallId": "call_1_1", "output": exampleCall, "providerExecuted": true},
		{"type": "text-start", "id": "text-1"},
		{"type": "text-delta", "id": "text-1", "delta": exampleText[:21]},
		{"type": "text-delta", "id": "text-1", "delta": exampleText[21:]},
		{"type": "text-end", "id": "text-1"},
		{"type": "finish", "finishReason": "stop", "messageMetadata": map[string]any{
			"usage": exampleUsage, "request_id": exampleRequest, "session_id": exampleSession, "turn": 1, "model": exampleModel, "warnings": []string{},
		}},
	} {
		encoded, err := json.Marshal(part)
		if err != nil {
			panic(err) // it is all above
		}
		b.WriteString("data: " + string(encoded) + "\n\n")
	}
	return b.String() + "data: [DONE]\n\n"
}
