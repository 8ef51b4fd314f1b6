package invoke

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/session"
)

// The routes are a table, and their documentation is part of it: the OpenAPI document, GET /
// and the audit read it from here, so that none of them has to be kept in step by hand.

// sentences describes the errors of [api.WriteSentence].
const sentences = "What to show to a person; the envelope with `Accept: application/json`."

// Routes returns the routes of the function "invoke". Those of a nil Service are what it
// will serve once it is ready: their handlers must not be called, and the documentation
// knows no agent.
func (s *Service) Routes() []api.Route {
	if s == nil {
		s = &Service{}
	}
	return []api.Route{
		{
			Method: http.MethodPost, Path: "/invoke", Handler: s.invoke, Audit: api.AuditTurn,
			Summary: "Ask the agent; the answer is JSON, or an event stream with Accept: text/event-stream.",
			Doc: s.describeTurn("invoke", "With `Accept: text/event-stream`, or `\"stream\": true`, it comes as it is written: `start`, then what happens, and exactly one of `done` and `error`. "+
				"What fails before `start` is an ordinary error."),
		},
		{
			Method: http.MethodPost, Path: "/", Handler: s.invoke, Audit: api.AuditTurn,
			Summary: "The same as POST /invoke.",
			Doc:     s.describeTurn("invokeRoot", ""),
		},
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
			Method: http.MethodGet, Path: "/chat/{id}/stream", Handler: s.resumeChat, Fail: api.WriteSentence,
			Summary: "Go on watching the answer that is being written.",
			Doc: api.Doc{
				ID: "resumeChat", Tag: api.TagAgent, Params: []string{"chatId", headerSDK}, Errors: []api.Code{api.SessionStoreUnavailable}, FailureText: sentences,
				Answers: append([]api.DocAnswer{{Status: http.StatusOK, Name: "Chat"}}, api.NoContent("No answer is being written.")...),
			},
		},
		{
			// Whoever has used up the limit must still be able to stop what spends it.
			Method: http.MethodPost, Path: "/chat/{id}/stop", Handler: s.stopChat, Audit: "run.stop", Unrefused: true,
			Summary: "Stop the answer that is being written.",
			Doc: api.Doc{
				ID: "stopChat", Tag: api.TagAgent, Params: []string{"chatId"}, Errors: []api.Code{api.SessionConflict, api.SessionStoreUnavailable},
				Description: "The SDK's `stop()` only leaves: post this beside it.",
				Answers:     stopped(),
			},
		},
		{
			Method: http.MethodGet, Path: "/runs", Handler: s.listRuns, Audit: "run.list",
			Summary: "List your runs of the last 24 hours, the newest first.",
			Doc: api.Doc{
				ID: "listRuns", Tag: api.TagRuns, Params: []string{"runState", "runSession", "limit", "cursor"},
				Description: "Without those that took less than a second.",
				Errors:      []api.Code{api.ValidationFailed, api.SessionStoreUnavailable},
				Answers:     []api.DocAnswer{{Status: http.StatusOK, Description: "The runs.", Data: RunList{}}},
			},
		},
		{
			Method: http.MethodGet, Path: "/runs/{id}", Handler: s.getRun, Audit: "run.read",
			Summary: "Read a run.",
			Doc: api.Doc{
				ID: "getRun", Tag: api.TagRuns, Params: []string{"runId"},
				Errors:  []api.Code{api.NotFound, api.SessionStoreUnavailable},
				Answers: []api.DocAnswer{{Status: http.StatusOK, Description: "The run.", Data: RunInfo{}}},
			},
		},
		{
			Method: http.MethodGet, Path: "/runs/{id}/events", Handler: s.runEvents,
			Summary: "Watch a run from its start, or from the event that was read last.",
			Doc: api.Doc{
				ID: "watchRun", Tag: api.TagRuns, Params: []string{"runId", "Last-Event-ID"},
				Description: "If the instance that worked on it has died, the run goes on here.",
				Errors:      []api.Code{api.NotFound, api.SessionNotFound, api.SessionStoreUnavailable},
				Answers: append([]api.DocAnswer{{
					Status: http.StatusOK, Description: "Its events.", Headers: []string{"X-Accel-Buffering"},
					Content: map[string]any{"text/event-stream": StreamEvent{}},
				}}, api.NoContent("The last event was read.")...),
			},
		},
		{
			Method: http.MethodPost, Path: "/runs/{id}/stop", Handler: s.stopRun, Audit: "run.stop", Unrefused: true,
			Summary: "Stop a run.",
			Doc: api.Doc{
				ID: "stopRun", Tag: api.TagRuns, Params: []string{"runId"},
				Description: "Within 1.5 seconds, on any instance. The turn is stored with what was shown.",
				Errors:      []api.Code{api.NotFound, api.SessionConflict, api.SessionStoreUnavailable},
				Answers:     stopped(),
			},
		},
		{
			// A denial spends nothing and must not be refused.
			Method: http.MethodPost, Path: "/runs/{id}/approvals", Handler: s.approveRun, Audit: auditDeny, Unrefused: true,
			Summary: "Approve or deny a tool call that a run waits for.",
			Doc: api.Doc{
				ID: "approveCall", Tag: api.TagRuns, Params: []string{"runId"},
				Description: "Once, with the arguments that `pending` has. When nothing is left to wait for, the run goes on: without the request where the service has a queue (202), " +
					"else and with `Accept: text/event-stream` in it.",
				Body: &api.DocBody{Type: Approval{}},
				Errors: []api.Code{
					api.NotFound, api.SessionConflict, api.SessionNotFound, api.ValidationFailed, api.QuotaExceeded, api.ModelFailed, api.ModelUnavailable,
					api.ContentBlocked, api.SessionStoreUnavailable, api.Timeout,
				},
				Answers: []api.DocAnswer{
					{Status: http.StatusOK, Name: "Turn"},
					{Status: http.StatusAccepted, Description: "It goes on without the request, or still waits.", Data: RunInfo{}, Headers: []string{"Location"}},
				},
			},
		},
		{
			Method: http.MethodGet, Path: "/sessions", Handler: s.listSessions, Audit: "session.list",
			Summary: "List your sessions, the newest first.",
			Doc: api.Doc{
				ID: "listSessions", Tag: api.TagSessions, Params: []string{"limit", "cursor"},
				Errors: []api.Code{api.ValidationFailed, api.SessionStoreUnavailable},
				Answers: []api.DocAnswer{{
					Status: http.StatusOK, Description: "The sessions.", Data: SessionList{},
					Links: map[string]*huma.Link{"read": link("getSession", "/sessions/0/session_id")},
				}},
			},
		},
		{
			// A right to be forgotten that a rate limit can refuse is none.
			Method: http.MethodDelete, Path: "/sessions", Handler: s.deleteSessions, Audit: "session.delete_all", Unrefused: true,
			Summary: "Delete all of your sessions.",
			Doc: api.Doc{
				ID: "deleteSessions", Tag: api.TagSessions, Errors: []api.Code{api.SessionStoreUnavailable},
				Description: "And all else that is stored for you, in bounded steps: repeat it when it fails.",
				Answers:     api.NoContent("They are deleted."),
			},
		},
		{
			Method: http.MethodGet, Path: "/sessions/{id}", Handler: s.getSession, Audit: "session.read",
			Summary: "Read a session and its turns.",
			Doc: api.Doc{
				ID: "getSession", Tag: api.TagSessions, Params: []string{"sessionId", "limit", "cursor"},
				Description: "Other callers' sessions and expired ones are not found.",
				Errors:      []api.Code{api.SessionNotFound, api.ValidationFailed, api.SessionStoreUnavailable},
				Answers:     []api.DocAnswer{{Status: http.StatusOK, Description: "The session, and its turns in order.", Data: SessionTurns{}}},
			},
		},
		{
			Method: http.MethodDelete, Path: "/sessions/{id}", Handler: s.deleteSession, Audit: "session.delete", Unrefused: true,
			Summary: "Delete a session.",
			Doc: api.Doc{
				ID: "deleteSession", Tag: api.TagSessions, Params: []string{"sessionId"},
				Description: "And everything stored for it.",
				Errors:      []api.Code{api.SessionNotFound, api.SessionStoreUnavailable},
				Answers:     api.NoContent("It is deleted."),
			},
		},
		{
			Method: http.MethodGet, Path: "/sessions/{id}/files/{file}", Handler: s.getFile, Audit: "session.file",
			Summary: "Read a file of a session.",
			Doc: api.Doc{
				ID: "getFile", Tag: api.TagSessions, Params: []string{"sessionId", "fileName"},
				Description: "By its `uri`. Files are kept, as long as their session, where the service has a bucket.",
				Errors:      []api.Code{api.NotFound, api.SessionNotFound, api.SessionStoreUnavailable},
				Answers:     []api.DocAnswer{{Status: http.StatusOK, Description: "The file, with the type that it was checked to be of.", Content: map[string]any{"*/*": ""}}},
			},
		},
		{
			Method: http.MethodPut, Path: "/sessions/{id}/title", Handler: s.renameSession, Audit: "session.rename",
			Summary: "Rename a session.",
			Doc: api.Doc{
				ID: "renameSession", Tag: api.TagSessions, Params: []string{"sessionId"},
				Errors:  []api.Code{api.SessionNotFound, api.SessionStoreUnavailable},
				Body:    &api.DocBody{Type: Rename{}},
				Answers: api.NoContent("It has the title."),
			},
		},
		{
			Method: http.MethodPut, Path: "/sessions/{id}/turns/{turn}/feedback", Handler: s.putFeedback, Audit: "turn.feedback",
			Summary: "Rate a turn.",
			Doc: api.Doc{
				ID: "putFeedback", Tag: api.TagSessions, Params: []string{"sessionId", "turnNumber"},
				Description: "A later rating replaces an earlier one.",
				Errors:      []api.Code{api.NotFound, api.SessionNotFound, api.SessionStoreUnavailable},
				Body:        &api.DocBody{Type: Feedback{}},
				Answers:     api.NoContent("It is stored."),
			},
		},
		{
			// JSON lines instead of the envelope, so that an export of any size is never held
			// whole.
			Method: http.MethodGet, Path: "/export", Handler: s.export, Audit: "owner.export", Media: "application/jsonl",
			Summary: "Export all that is stored for you.",
			Doc: api.Doc{
				ID: "export", Tag: api.TagSessions, Errors: []api.Code{api.SessionStoreUnavailable},
				Description: "As JSON lines. Without the last line, `end`, the export is not whole.",
				Answers:     []api.DocAnswer{{Status: http.StatusOK, Description: "A line for each thing, with its `kind`.", Content: map[string]any{"application/jsonl": ""}}},
			},
		},
		{
			Method: http.MethodGet, Path: "/usage", Handler: s.getUsage,
			Summary: "Read your limits, and what you used today.",
			Doc: api.Doc{
				ID: "getUsage", Tag: api.TagLimits, Errors: []api.Code{api.SessionStoreUnavailable},
				Answers: []api.DocAnswer{{Status: http.StatusOK, Description: "Limits and use.", Data: UsageReport{}}},
			},
		},
	}
}

// stopped documents the answer to a stop.
func stopped() []api.DocAnswer {
	return []api.DocAnswer{{Status: http.StatusAccepted, Name: "Stopped", Description: "It stops.", Data: RunStop{}}}
}

// exampleQuestion returns a question to show in examples.
func (s *Service) exampleQuestion() string {
	if len(s.Agent.Examples) > 0 {
		return s.Agent.Examples[0]
	}
	return "What can you do for me?"
}

// describeTurn documents POST /invoke, under each of its paths.
func (s *Service) describeTurn(id string, description string) api.Doc {
	rate := link("putFeedback", "/session_id")
	rate.Parameters["turn"], rate.RequestBody = "$response.body#/data/turn", map[string]any{"score": 1}
	return api.Doc{
		ID: id, Tag: api.TagAgent, Description: description, Params: []string{"Idempotency-Key", "Prefer"}, Errors: api.TurnErrors(),
		Body: &api.DocBody{
			Name: "Question", Type: Request{},
			Refine: func(properties map[string]*huma.Schema) {
				bound(properties, s.MaxOutputTokens, s.Models())
				one, most := 1, MaxQuery
				// Validate checks it, after trimming. A schema cannot trim, so it has a
				// pattern.
				query := properties["query"]
				query.MinLength, query.MaxLength, query.Pattern = &one, &most, queryPattern
			},
			Examples: map[string]any{"A question": Request{Query: s.exampleQuestion()}},
		},
		Answers: []api.DocAnswer{{
			Status: http.StatusOK, Name: "Turn", Description: "The answer. The turn is stored, unless `warnings` has `session_not_saved`.", Data: Response{},
			Headers: []string{"Idempotency-Replayed", "X-Accel-Buffering"},
			Content: map[string]any{"text/event-stream": StreamEvent{}},
			Links: map[string]*huma.Link{
				"read": link("getSession", "/session_id"), "delete": link("deleteSession", "/session_id"), "rate": rate,
				"continue": {OperationID: "invoke", RequestBody: map[string]any{"query": "Tell me more.", "session_id": "$response.body#/data/session_id"}},
			},
		}, {
			Status: http.StatusAccepted, Name: "Background", Description: "With `Prefer: respond-async`, where the service has a queue: the run goes on without the request.",
			Data: Accepted{}, Headers: []string{"Location", "Preference-Applied", "Idempotency-Replayed"},
		}},
	}
}

// link refers to an operation on the session whose id is at a JSON pointer in the
// data.
func link(operation, id string) *huma.Link {
	return &huma.Link{OperationID: operation, Parameters: map[string]any{"id": "$response.body#/data" + id}}
}

// queryPattern requires a character other than white space, and no NUL. The escapes are for
// readers of the document: ECMA 262's \s lacks U+0085, which Go trims, and Python's has
// U+001C to U+001F.
const queryPattern = `^[^\x00]*[^\s\x00\x1c-\x1f\x85][^\x00]*$`

// A StreamEvent documents an event in the stream of POST /invoke.
type StreamEvent struct{}

// Schema implements [huma.SchemaProvider]. Each event is a schema by itself, so that
// generated clients have a type for it.
func (StreamEvent) Schema(r huma.Registry) *huma.Schema {
	named := func(name, description string, data *huma.Schema, more ...any) *huma.Schema {
		var component strings.Builder
		for word := range strings.SplitSeq(name, "_") {
			component.WriteString(strings.ToUpper(word[:1]) + word[1:])
		}
		component.WriteString("Event")
		r.Map()[component.String()] = &huma.Schema{
			Type: huma.TypeObject, Description: description, Required: []string{"id", "event", "data"},
			Properties: map[string]*huma.Schema{
				"id": {Type: huma.TypeString}, "event": {Type: huma.TypeString, Enum: append([]any{name}, more...)}, "data": data,
			},
		}
		return &huma.Schema{Ref: "#/components/schemas/" + component.String()}
	}
	return &huma.Schema{
		Description: "One event of the stream, as its lines are read: `id` is a position in the run's output, `data` JSON.",
		OneOf: []*huma.Schema{
			named("start", "The first.", schemaOf[Start](r, "")),
			named("delta", "A piece of the answer, or of a summary of the model's thoughts.", schemaOf[Delta](r, ""), "reasoning"),
			named("tool_call", "", schemaOf[ToolStart](r, "")),
			named("progress", "", schemaOf[Progress](r, "")),
			named("tool_result", "", schemaOf[ToolEnd](r, "")),
			named("source", "", schemaOf[Source](r, "")),
			named("file", "", schemaOf[File](r, "")),
			named("approval", "The run waits for a person.", schemaOf[session.Pending](r, "")),
			named("approval_answer", "", schemaOf[Approved](r, "")),
			named("reset", "What was shown since a step is void.", schemaOf[Void](r, "")),
			named("done", "The last: the turn is stored.", &huma.Schema{Ref: "#/components/schemas/ResponseAnswer"}),
			named("error", "Instead of done.", &huma.Schema{Ref: "#/components/schemas/Error"}),
		},
	}
}

// A ChatPart documents an event in the stream of POST /chat. It is one schema for all types of
// parts, since it is the SDK that reads them, by types of its own.
type ChatPart struct {
	Type             string         `json:"type" enum:"start,text-start,text-delta,text-end,reasoning-start,reasoning-delta,reasoning-end,tool-input-available,tool-output-available,tool-output-error,tool-approval-request,tool-approval-response,tool-output-denied,source-url,file,data-progress,reset-step,finish,error"`
	MessageID        string         `json:"messageId,omitempty"`
	MessageMetadata  *ChatMetadata  `json:"messageMetadata,omitempty" doc:"Of start and finish."`
	ID               string         `json:"id,omitempty"`
	Delta            string         `json:"delta,omitempty"`
	ToolCallID       string         `json:"toolCallId,omitempty"`
	ToolName         string         `json:"toolName,omitempty"`
	Input            map[string]any `json:"input,omitempty"`
	Output           *chatToolEnd   `json:"output,omitempty"`
	ErrorText        string         `json:"errorText,omitempty"`
	ProviderExecuted bool           `json:"providerExecuted,omitempty"`
	ApprovalID       string         `json:"approvalId,omitempty"`
	Approved         bool           `json:"approved,omitempty"`
	Reason           string         `json:"reason,omitempty"`
	Data             *Progress      `json:"data,omitempty"`
	SourceID         string         `json:"sourceId,omitempty"`
	URL              string         `json:"url,omitempty"`
	Title            string         `json:"title,omitempty"`
	MediaType        string         `json:"mediaType,omitempty"`
	FinishReason     string         `json:"finishReason,omitempty" enum:"stop,length,content-filter,tool-calls,other"`
}

// ChatMetadata documents the metadata of a message: what start has, what finish adds, and
// what is read with the session's messages.
type ChatMetadata struct {
	RunID        string           `json:"run_id"`
	Turn         int              `json:"turn"`
	RequestID    string           `json:"request_id,omitempty"`
	SessionID    string           `json:"session_id,omitempty"`
	Usage        *session.Usage   `json:"usage,omitempty"`
	Model        string           `json:"model,omitempty"`
	FinishReason string           `json:"finish_reason,omitempty"`
	Warnings     []string         `json:"warnings,omitempty"`
	Pending      []UIPending      `json:"pending,omitempty"`
	Feedback     *FeedbackInfo    `json:"feedback,omitempty"`
	Output       json.RawMessage  `json:"output,omitempty"`
	Sources      []session.Source `json:"sources,omitempty"`
	Suggestions  string           `json:"search_suggestions,omitempty"`
}

// Schema implements [huma.SchemaProvider].
func (UIMessageFacts) Schema(r huma.Registry) *huma.Schema { return schemaOf[ChatMetadata](r, "") }

// schemaOf registers the schema of T with a description and returns a reference to it. The
// description is the component's, wherever it is referred to: of several, the last counts.
func schemaOf[T any](r huma.Registry, description string) *huma.Schema {
	ref := r.Schema(reflect.TypeFor[T](), true, "")
	r.SchemaFromRef(ref.Ref).Description = description
	return ref
}
