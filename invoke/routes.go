package invoke

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/session"
)

// The routes are a table, and their documentation is part of it: the OpenAPI document, GET /
// and the audit read it from here, so that none of them has to be kept in step by hand. The
// example of a stream is made by the code that sends streams, so that it cannot fall behind.

// turnErrors are the errors of a turn, except those of its body.
var turnErrors = []api.Code{
	api.SessionNotFound, api.IdempotencyInProgress, api.SessionConflict, api.IdempotencyMismatch, api.ContentBlocked, api.QuotaExceeded,
	api.ModelFailed, api.ModelUnavailable, api.SessionStoreUnavailable, api.Timeout,
}

// Routes returns the routes of the function "invoke". Those of a nil Service are what it
// will serve once it is ready: their handlers must not be called, and the documentation
// knows no agent.
func (s *Service) Routes() []api.Route {
	if s == nil {
		s = &Service{}
	}
	example := s.newExample()
	const everyPart = " What fails before the question is admitted is an ordinary JSON error. A client that goes away ends the turn, which is then not stored."
	return []api.Route{
		{
			Method: http.MethodPost, Path: "/invoke", Handler: s.invoke, Audit: api.AuditTurn,
			Summary: "Ask the agent; the answer is JSON, or an event stream with Accept: text/event-stream.",
			Doc: s.describeTurn("invoke", example, "One turn of a session: the agent's answer to `query`, after all that was said before.\n\n"+
				"With `Accept: text/event-stream`, or `\"stream\": true`, the answer comes as it is written: `start`, then `delta`, `tool_call` and `tool_result` "+
				"as they happen, and exactly one of `done` and `error` at the end. A comment line is sent after every 15 seconds of silence."+everyPart),
		},
		{
			Method: http.MethodPost, Path: "/", Handler: s.invoke, Audit: api.AuditTurn,
			Summary: "The same as POST /invoke.",
			Doc:     s.describeTurn("invokeRoot", example, "The same as `POST /invoke`, at the function's own URL."),
		},
		{
			// The SDK shows an answer's body as error.message, as it is: so it is a sentence,
			// not JSON.
			Method: http.MethodPost, Path: "/chat", Handler: s.chat, Audit: api.AuditTurn, Fail: api.WriteSentence,
			Summary: "Ask the agent in the protocol of the AI SDK's useChat.",
			Doc: api.Doc{
				ID: "chat", Tag: api.TagAgent, Params: []string{"Idempotency-Key", headerSDK}, Errors: turnErrors, Sentences: true,
				Description: "The same turn in the protocol of the AI SDK's `useChat` (https://ai-sdk.dev/docs/ai-sdk-ui/stream-protocol): use " +
					"`new DefaultChatTransport({ api: URL + \"/chat\" })`. A session of this `id` is made when there is none. The service remembers what was said before: " +
					fmt.Sprintf("of the page's own history only `metadata.run_id` of its answers is read. A body may have %d bytes, its last message what a body of `POST /invoke` may.\n\n", ChatBytes) +
					"The page's answers, or `after_turn` where the last message comes alone, must end with the session's last turn: else somebody else went on, and it is a 409. " +
					"With `messageId` of an earlier message, or to regenerate an earlier answer, that turn and those after it are replaced. An answer that the page no longer waits for is stopped first.\n\n" +
					"The answer is a UI message stream: `start`; then `text-start`, `text-delta`, `text-end`, `tool-input-available`, and `tool-output-available` or `tool-output-error`, as they happen; " +
					"one of `finish` and `error`; and `[DONE]`. To pages of version 6 and later, a tool call that waits for a person is a `tool-approval-request`: a request whose last message is " +
					"the assistant's, as `addToolApprovalResponse` makes it, answers it, and its stream continues that message. What fails before the question is admitted has its status, and a sentence to show to a person as its body, or the envelope with `Accept: application/json`. " +
					"The answer goes on when its client goes away.",
				Body: &api.DocBody{Type: ChatRequest{}, Examples: map[string]any{
					"A question":   example.chat("submit-message"),
					"Regeneration": example.chat("regenerate-message"),
				}},
				Answers: []api.DocAnswer{{
					Status: http.StatusOK, Description: "The agent's answer.",
					Headers: []string{"x-vercel-ai-ui-message-stream", "Idempotency-Replayed", "X-Accel-Buffering"},
					Content: map[string]api.DocMedia{"text/event-stream": {Type: ChatEvent{}, Example: example.stream(&uiMessages{})}},
				}},
			},
		},
		{
			Method: http.MethodGet, Path: "/chat/{id}", Handler: s.getChat, Audit: "session.read",
			Summary: "Read a session as the messages of useChat.",
			Doc: api.Doc{
				ID: "getChat", Tag: api.TagAgent, Params: []string{"chat", headerSDK},
				Description: fmt.Sprintf("The last %d turns, for `useChat({ messages })`.", maxChatTurns),
				Errors:      []api.Code{api.SessionNotFound, api.SessionStoreUnavailable},
				Answers: []api.DocAnswer{{
					Status: http.StatusOK, Description: "The messages, in order.", Message: "The messages of the session",
					Data: ChatHistory{[]UIMessage{{ID: example.response.RunID, Role: "assistant", Parts: []UIPart{{Type: "text", Text: example.turn.Response}}}}},
				}},
			},
		},
		{
			Method: http.MethodGet, Path: "/chat/{id}/stream", Handler: s.resumeChat, Fail: api.WriteSentence,
			Summary: "Go on watching the answer that is being written.",
			Doc: api.Doc{
				ID: "resumeChat", Tag: api.TagAgent, Params: []string{"chat", headerSDK}, Errors: []api.Code{api.SessionStoreUnavailable}, Sentences: true,
				Description: "What `useChat` asks for with `resume: true`: the running answer of the session from its start, on any instance.",
				Answers: append([]api.DocAnswer{{
					Status: http.StatusOK, Description: "The running answer.", Headers: []string{"x-vercel-ai-ui-message-stream", "X-Accel-Buffering"},
					Content: map[string]api.DocMedia{"text/event-stream": {Type: ChatEvent{}, Example: example.stream(&uiMessages{})}},
				}}, api.NoContent("No answer is being written.")...),
			},
		},
		{
			// Whoever has used up the limit must still be able to stop what spends it.
			Method: http.MethodPost, Path: "/chat/{id}/stop", Handler: s.stopChat, Audit: "run.stop", Unrefused: true,
			Summary: "Stop the answer that is being written.",
			Doc: api.Doc{
				ID: "stopChat", Tag: api.TagAgent, Params: []string{"chat"}, Errors: []api.Code{api.SessionConflict, api.SessionStoreUnavailable},
				Description: "The SDK's own `stop()` only leaves: post this beside it. It stops the newest run of the session, on any instance.",
				Answers:     example.stopped(),
			},
		},
		{
			Method: http.MethodGet, Path: "/runs", Handler: s.listRuns, Audit: "run.list",
			Summary: "List your runs of the last 24 hours, the newest first.",
			Doc: api.Doc{
				ID: "listRuns", Tag: api.TagRuns, Params: []string{"run_state", "run_session", "limit", "cursor"},
				Description: "Runs that took less than a second are not listed. Those that wait are, as long as their approval can be given.",
				Errors:      []api.Code{api.ValidationFailed, api.SessionStoreUnavailable},
				Answers: []api.DocAnswer{{
					Status: http.StatusOK, Description: "Your runs, the newest first.", Message: "Runs, the newest first", Data: RunList{Runs: []RunInfo{example.run(nil)}},
				}},
			},
		},
		{
			Method: http.MethodGet, Path: "/runs/{id}", Handler: s.getRun, Audit: "run.read",
			Summary: "Read a run.",
			Doc: api.Doc{
				ID: "getRun", Tag: api.TagRuns, Params: []string{"run"}, Description: "Its state, and its result once it is over.",
				Errors: []api.Code{api.NotFound, api.SessionStoreUnavailable},
				Answers: []api.DocAnswer{{
					Status: http.StatusOK, Description: "The run.", Message: "The run", Data: example.run(api.Success(context.Background(), invoked, example.response)),
				}},
			},
		},
		{
			Method: http.MethodGet, Path: "/runs/{id}/events", Handler: s.runEvents,
			Summary: "Watch a run from its start, or from the event that was read last.",
			Doc: api.Doc{
				ID: "watchRun", Tag: api.TagRuns, Params: []string{"run", "Last-Event-ID"},
				Description: "The event stream of POST /invoke, on any instance, whether the run goes on or is over. If the instance that worked on it has died, the run goes on here.",
				Errors:      []api.Code{api.NotFound, api.SessionNotFound, api.SessionStoreUnavailable},
				Answers: append([]api.DocAnswer{{
					Status: http.StatusOK, Description: "Its events.", Headers: []string{"X-Accel-Buffering"},
					Content: map[string]api.DocMedia{"text/event-stream": {Type: StreamEvent{}, Example: example.stream(events{})}},
				}}, api.NoContent("The last event was read.")...),
			},
		},
		{
			Method: http.MethodPost, Path: "/runs/{id}/stop", Handler: s.stopRun, Audit: "run.stop", Unrefused: true,
			Summary: "Stop a run.",
			Doc: api.Doc{
				ID: "stopRun", Tag: api.TagRuns, Params: []string{"run"},
				Description: "The model call ends within 1.5 seconds, on any instance, and the turn is stored with what was shown.",
				Errors:      []api.Code{api.NotFound, api.SessionConflict, api.SessionStoreUnavailable},
				Answers:     example.stopped(),
			},
		},
		{
			// A denial spends nothing and must not be refused.
			Method: http.MethodPost, Path: "/runs/{id}/approvals", Handler: s.approveRun, Audit: auditDeny, Unrefused: true,
			Summary: "Approve or deny a tool call that a run waits for.",
			Doc: api.Doc{
				ID: "approveCall", Tag: api.TagRuns, Params: []string{"run"},
				Description: "The approval holds for the call and its arguments as `pending` has them, once. When nothing it waits for is left, the run goes on: where the service has a queue, without the request (202), " +
					"else and with `Accept: text/event-stream` in it, and the answer is that of `POST /invoke`. Of several answers to one call, the first counts; the others get `session_conflict`, as does " +
					"one that comes too late, or after another message.",
				Body: &api.DocBody{Type: Approval{}, Examples: map[string]any{"An approval": map[string]any{"call_id": "call_1_1", "approve": true}}},
				Errors: []api.Code{
					api.NotFound, api.SessionConflict, api.SessionNotFound, api.ValidationFailed, api.QuotaExceeded, api.ModelFailed, api.ModelUnavailable,
					api.ContentBlocked, api.SessionStoreUnavailable, api.Timeout,
				},
				Answers: []api.DocAnswer{
					{
						Status: http.StatusOK, Description: "The rest of the run.", Message: invoked, Data: example.response,
						Content: map[string]api.DocMedia{"text/event-stream": {Type: StreamEvent{}, Example: example.stream(events{})}},
					},
					{
						Status: http.StatusAccepted, Description: "It goes on without the request, or waits for more answers.", Message: accepted, Data: example.run(nil),
						Headers: []string{"Location"},
					},
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
					Status: http.StatusOK, Description: "Your sessions, the newest first.",
					Message: "Sessions, the newest first", Data: SessionList{Sessions: []SessionInfo{example.info}},
					Links: map[string]*huma.Link{"read": link("getSession", "/sessions/0/session_id", "Read the newest.")},
				}},
			},
		},
		{
			// A right to be forgotten that a rate limit can refuse is none.
			Method: http.MethodDelete, Path: "/sessions", Handler: s.deleteSessions, Audit: "session.delete_all", Unrefused: true,
			Summary: "Delete all of your sessions.",
			Doc: api.Doc{
				ID: "deleteSessions", Tag: api.TagSessions, Errors: []api.Code{api.SessionStoreUnavailable},
				Description: "All that is stored for you, or for the end user that you name, in bounded steps: repeat it when it fails.",
				Answers:     api.NoContent("They are deleted."),
			},
		},
		{
			Method: http.MethodGet, Path: "/sessions/{id}", Handler: s.getSession, Audit: "session.read",
			Summary: "Read a session and its turns.",
			Doc: api.Doc{
				ID: "getSession", Tag: api.TagSessions, Params: []string{"session", "limit", "cursor"},
				Description: "Other callers' sessions and expired ones are answered like those that never existed: not found.",
				Errors:      []api.Code{api.SessionNotFound, api.ValidationFailed, api.SessionStoreUnavailable},
				Answers: []api.DocAnswer{{
					Status: http.StatusOK, Description: "The session, and its turns in order.",
					Message: "The session and its turns", Data: SessionTurns{Session: example.info, Turns: []TurnInfo{example.turn}},
				}},
			},
		},
		{
			Method: http.MethodDelete, Path: "/sessions/{id}", Handler: s.deleteSession, Audit: "session.delete", Unrefused: true,
			Summary: "Delete a session.",
			Doc: api.Doc{
				ID: "deleteSession", Tag: api.TagSessions, Params: []string{"session"},
				Description: "The session and everything stored for it. A second time it is not found.",
				Errors:      []api.Code{api.SessionNotFound, api.SessionStoreUnavailable},
				Answers:     api.NoContent("It is deleted."),
			},
		},
		{
			Method: http.MethodGet, Path: "/sessions/{id}/files/{file}", Handler: s.getFile, Audit: "session.file",
			Summary: "Read a file of a session.",
			Doc: api.Doc{
				ID: "getFile", Tag: api.TagSessions, Params: []string{"session", "stored_file"},
				Description: "The content of a file that a question carried or an answer has, by the `uri` that it is listed with. Files are kept where the service has a bucket for them, as long as their session.",
				Errors:      []api.Code{api.NotFound, api.SessionNotFound, api.SessionStoreUnavailable},
				Answers: []api.DocAnswer{{
					Status: http.StatusOK, Description: "The file, with the type that it was checked to be of.",
					Content: map[string]api.DocMedia{"*/*": {Type: ""}},
				}},
			},
		},
		{
			Method: http.MethodPut, Path: "/sessions/{id}/title", Handler: s.renameSession, Audit: "session.rename",
			Summary: "Rename a session.",
			Doc: api.Doc{
				ID: "renameSession", Tag: api.TagSessions, Params: []string{"session"},
				Errors:  []api.Code{api.SessionNotFound, api.SessionStoreUnavailable},
				Body:    &api.DocBody{Type: Rename{}, Examples: map[string]any{"A title": Rename{Title: "Deployment options"}}},
				Answers: api.NoContent("It has the title."),
			},
		},
		{
			Method: http.MethodPut, Path: "/sessions/{id}/turns/{turn}/feedback", Handler: s.putFeedback, Audit: "turn.feedback",
			Summary: "Rate a turn.",
			Doc: api.Doc{
				ID: "putFeedback", Tag: api.TagSessions, Params: []string{"session", "turn"},
				Description: "A later rating replaces an earlier one.",
				Errors:      []api.Code{api.NotFound, api.SessionNotFound, api.SessionStoreUnavailable},
				Body: &api.DocBody{Type: Feedback{}, Examples: map[string]any{
					"Thumbs up": Feedback{Score: 1, Comment: "Exactly what I was looking for."}, "No rating": Feedback{},
				}},
				Answers: api.NoContent("It is stored with the turn."),
			},
		},
		{
			// JSON lines instead of the envelope, so that an export of any size is never held
			// whole.
			Method: http.MethodGet, Path: "/export", Handler: s.export, Audit: "owner.export", Media: "application/jsonl",
			Summary: "Export all that is stored for you.",
			Doc: api.Doc{
				ID: "export", Tag: api.TagSessions, Errors: []api.Code{api.SessionStoreUnavailable},
				Description: "Sessions, turns, feedback, state, runs, files by reference and today's use, of you or of the end user that you name, as JSON lines. The last line is `end`; without it the export is not whole.",
				Answers: []api.DocAnswer{{
					Status: http.StatusOK, Description: "A line for each thing, with its `kind`.",
					Content: map[string]api.DocMedia{"application/jsonl": {Type: ""}},
				}},
			},
		},
		{
			Method: http.MethodGet, Path: "/usage", Handler: s.getUsage,
			Summary: "Read your limits, what is left of them, and what you used today.",
			Doc: api.Doc{
				ID: "getUsage", Tag: api.TagLimits, Errors: []api.Code{api.SessionStoreUnavailable},
				Description: "What is left is what this instance knows: what other instances have reserved counts as used.",
				Answers: []api.DocAnswer{{
					Status: http.StatusOK, Description: "Your limits, and what you used today.", Message: "Limits, and what was used today",
					Data: UsageReport{
						Limits: []LimitInfo{
							{Name: "end_user", Unit: "calls_per_minute", Limit: 60, Left: 57, ResetsAt: api.ExampleTime()},
							{Name: "caller", Unit: "tokens_per_day", Limit: 1_000_000, Left: 999_455, ResetsAt: api.ExampleTime().AddDate(0, 0, 1)},
						},
						Today: TodayInfo{Date: "2026-11-23", TotalTokens: 545, EstimatedCostUSD: *example.usage.EstimatedCostUSD, Models: []ModelUsage{
							{Model: example.turn.Model, TotalTokens: 545, EstimatedCostUSD: example.usage.EstimatedCostUSD},
						}},
					},
				}},
			},
		},
	}
}

// describeTurn documents POST /invoke, under each of its paths.
func (s *Service) describeTurn(id string, example example, description string) api.Doc {
	afterTurn, temperature := 1, 0.2
	read := link("getSession", "/session_id", "Read the session.")
	rate := link("putFeedback", "/session_id", "Rate the turn.")
	rate.Parameters["turn"], rate.RequestBody = "$response.body#/data/turn", map[string]any{"score": 1}
	return api.Doc{
		ID: id, Tag: api.TagAgent, Description: description, Params: []string{"Idempotency-Key", "Prefer"}, Errors: turnErrors,
		Body: &api.DocBody{
			Type: Request{},
			Refine: func(properties map[string]*huma.Schema) {
				bound(properties, s.MaxOutputTokens, s.Models())
				one, most := 1, MaxQuery
				// Validate checks it, after trimming. A schema cannot trim, so it has a
				// pattern.
				query := properties["query"]
				query.MinLength, query.MaxLength, query.Pattern = &one, &most, queryPattern
			},
			Examples: map[string]any{
				"A new session":      Request{Query: example.turn.Query},
				"The same session":   Request{Query: "Tell me more.", SessionID: api.ExampleSession, AfterTurn: &afterTurn},
				"With a file":        Request{Query: "What is in this picture?", Files: []FileInput{{Type: "image/png", Data: examplePicture}}},
				"As an event stream": Request{Query: example.turn.Query, Temperature: &temperature, Stream: true},
			},
		},
		Answers: []api.DocAnswer{{
			Status: http.StatusOK, Name: "Turn", Description: "The agent's answer. The turn is stored, unless `warnings` has `session_not_saved`.",
			Message: invoked, Data: example.response,
			Headers: []string{"Idempotency-Replayed", "X-Accel-Buffering"},
			Content: map[string]api.DocMedia{"text/event-stream": {Type: StreamEvent{}, Example: example.stream(events{})}},
			Links: map[string]*huma.Link{
				"read": read, "delete": link("deleteSession", "/session_id", "Delete the session."), "rate": rate,
				"continue": {OperationID: "invoke", RequestBody: map[string]any{"query": "Tell me more.", "session_id": "$response.body#/data/session_id"}, Description: "Continue the session."},
			},
		}, {
			Status: http.StatusAccepted, Name: "Accepted", Description: "With `Prefer: respond-async`, where the service has a queue: the run goes on without the request, to its end or RUN_TIMEOUT, even if its instance ends.",
			Message: accepted, Data: Accepted{RunID: example.response.RunID, SessionID: example.response.SessionID, State: session.Working},
			Headers: []string{"Location", "Preference-Applied", "Idempotency-Replayed"},
		}},
	}
}

// examplePicture is a PNG of one pixel. It is whole, so that the example can be sent as it
// is.
const examplePicture = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="

// link refers to an operation on the session whose id is at a JSON pointer in the
// data.
func link(operation, id, description string) *huma.Link {
	return &huma.Link{OperationID: operation, Description: description, Parameters: map[string]any{"id": "$response.body#/data" + id}}
}

// queryPattern requires a character other than white space, and no NUL. The escapes are for
// readers of the document: ECMA 262's \s lacks U+0085, which Go trims, and Python's has
// U+001C to U+001F.
const queryPattern = `^[^\x00]*[^\s\x00\x1c-\x1f\x85][^\x00]*$`

// A StreamEvent documents an event in the stream of POST /invoke.
type StreamEvent struct{}

// Schema implements [huma.SchemaProvider]. The data of an event is text that holds
// JSON, described as OpenAPI 3.2 defines.
func (StreamEvent) Schema(r huma.Registry) *huma.Schema {
	named := func(name, description string, data *huma.Schema) *huma.Schema {
		return &huma.Schema{
			Title: name, Type: huma.TypeObject, Description: description, Required: []string{"id", "event", "data"},
			Properties: map[string]*huma.Schema{
				"id":    {Type: huma.TypeString, Description: "A position in the run's output."},
				"event": {Type: huma.TypeString, Enum: []any{name}}, "data": jsonText(data),
			},
		}
	}
	return &huma.Schema{
		Description: "One event of the stream: the name in its line `event:`, and the JSON in its line `data:`.",
		OneOf: []*huma.Schema{
			named("start", "The first: the run is admitted.", schemaOf[Start](r, "")),
			named("delta", "A piece of the answer's text.", schemaOf[Delta](r, "")),
			named("reasoning", "A piece of a summary of the model's thoughts, of an agent that shows them.", schemaOf[Delta](r, "")),
			named("tool_call", "The model calls a tool.", schemaOf[ToolStart](r, "")),
			named("progress", "A tool reports how far it is.", schemaOf[Progress](r, "")),
			named("tool_result", "A tool call has ended.", schemaOf[ToolEnd](r, "")),
			named("source", "Where the answer comes from.", schemaOf[Source](r, "")),
			named("file", "A file of the answer.", schemaOf[File](r, "")),
			named("approval", "The run waits for a person.", schemaOf[session.Pending](r, "")),
			named("approval_answer", "The person has answered.", schemaOf[Approved](r, "")),
			named("reset", "What was shown since a step is void: it begins again.", schemaOf[Void](r, "")),
			named("done", "The last: the turn is stored. The response is all deltas joined.", &huma.Schema{Ref: "#/components/schemas/ResponseAnswer"}),
			named("error", "The last, instead of done.", &huma.Schema{Ref: "#/components/schemas/Error"}),
		},
	}
}

// A ChatEvent documents an event in the stream of POST /chat.
type ChatEvent struct{}

// Schema implements [huma.SchemaProvider].
func (ChatEvent) Schema(r huma.Registry) *huma.Schema {
	unnamed := func(title, description string, data *huma.Schema) *huma.Schema {
		return &huma.Schema{
			Title: title, Type: huma.TypeObject, Description: description, Required: []string{"data"},
			Properties: map[string]*huma.Schema{"data": data},
		}
	}
	r.Map()["ChatPart"] = &huma.Schema{Description: "A part of a UI message stream.", OneOf: []*huma.Schema{
		schemaOf[chatStart](r, "The first: the run is admitted."),
		schemaOf[chatTextStart](r, "A piece of text, or of reasoning, begins."),
		schemaOf[chatTextDelta](r, "It continues."),
		schemaOf[chatTextEnd](r, "It is complete."),
		schemaOf[chatToolInput](r, "The model calls a tool."),
		schemaOf[chatToolOutput](r, "A tool call has ended."),
		schemaOf[chatToolError](r, "A tool call has failed."),
		schemaOf[chatProgress](r, "A tool reports how far it is."),
		schemaOf[chatApproval](r, "A tool call waits for the page's person (SDK 6 and later)."),
		schemaOf[chatAnswered](r, "The person has answered, in a stream that has asked (SDK 7)."),
		schemaOf[chatDenied](r, "The person has denied the tool call (SDK 6 and later)."),
		schemaOf[chatSource](r, "Where the answer comes from."),
		schemaOf[chatFile](r, "A file of the answer."),
		schemaOf[chatReset](r, "What was shown is void; what still holds of it follows again (SDK 7)."),
		schemaOf[chatFinish](r, "The last: the turn is stored."),
		schemaOf[chatError](r, "The last, instead of finish."),
	}}
	part := &huma.Schema{Ref: "#/components/schemas/ChatPart"}
	return &huma.Schema{
		Description: "One event of the stream, which has no name: the content of its line `data:`.",
		AnyOf: []*huma.Schema{
			unnamed("part", "A part of the message.", jsonText(part)),
			unnamed("end", "The end: no part follows.", &huma.Schema{Type: huma.TypeString, Enum: []any{"[DONE]"}}),
		},
	}
}

// schemaOf registers the schema of T with a description and returns a reference to it. The
// description is the component's, wherever it is referred to: of several, the last counts.
func schemaOf[T any](r huma.Registry, description string) *huma.Schema {
	ref := r.Schema(reflect.TypeFor[T](), true, "")
	r.SchemaFromRef(ref.Ref).Description = description
	return ref
}

// jsonText returns the schema of text that holds data as JSON.
func jsonText(data *huma.Schema) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Extensions: map[string]any{"contentMediaType": "application/json", "contentSchema": data}}
}

// The documented examples are of one turn, so that a reader finds the session of one answer
// in the next one.

// An example is the turn used in the documented examples.
type example struct {
	response Response
	info     SessionInfo
	turn     TurnInfo
	call     session.ToolCall
	usage    session.Usage
}

// exampleTurn is the id of the turn in the documented examples.
const exampleTurn = "Qx3v0Tn7kYcE9dRb2LwHsA"

// newExample returns an example with the agent's first question and first tool.
func (s *Service) newExample() example {
	cost, at := 0.00046, api.ExampleTime()
	call := session.ToolCall{Name: "get_weather", OK: true, DurationMS: 3}
	query, text, model := "What can you do for me?", "Ask me anything: I look it up before I answer.", s.ModelName
	if len(s.Agent.Examples) > 0 {
		query = s.Agent.Examples[0]
	}
	if len(s.Agent.Tools) > 0 {
		call.Name = s.Agent.Tools[0].Name()
	}
	usage := session.Usage{PromptTokens: 412, CompletionTokens: 133, TotalTokens: 545, Source: session.Counted, EstimatedCostUSD: &cost}
	run := session.RunID(api.ExampleSession, exampleTurn)
	return example{
		call: call, usage: usage,
		response: Response{
			Response: text, RunID: run, SessionID: api.ExampleSession, Turn: 1, Model: model, FinishReason: "STOP",
			ToolCalls: []session.ToolCall{call}, Usage: usage, Warnings: []string{},
			Sources: []Source{}, Files: []File{}, Pending: []session.Pending{},
		},
		info: SessionInfo{
			SessionID: api.ExampleSession, CreatedAt: at, UpdatedAt: at, ExpiresAt: at.AddDate(0, 0, 30), Turns: 1, TotalTokens: 545, Title: query,
		},
		turn: TurnInfo{
			Turn: 1, Files: []File{}, RunID: run, Query: query, Response: text, ToolCalls: []session.ToolCall{call}, Usage: usage,
			Parts: []PartInfo{
				{Type: "tool", Tool: &ToolInfo{ID: "call_1_1", Name: call.Name, Args: map[string]any{}, OK: true, DurationMS: call.DurationMS}},
				{Type: "text", Text: text},
			},
			Sources: []Source{}, Warnings: []string{}, Pending: []session.Pending{},
			Model: model, FinishReason: "STOP", RequestID: api.ExampleRequest, CreatedAt: at,
		},
	}
}

// run returns the example as a run.
func (e example) run(result any) RunInfo {
	at := api.ExampleTime()
	expires := at.Add(session.RunLife)
	return RunInfo{
		RunID: e.response.RunID, SessionID: e.response.SessionID, Turn: 1, State: session.Done, CreatedAt: at, UpdatedAt: at, ExpiresAt: &expires,
		Pending: []session.Pending{}, Result: result,
	}
}

// stopped returns the answer to a stop.
func (e example) stopped() []api.DocAnswer {
	return []api.DocAnswer{{
		Status: http.StatusAccepted, Description: "It stops.", Message: "The run stops", Data: RunStop{RunID: e.response.RunID},
	}}
}

// stream returns the example as sent in a dialect. It goes through an output like that of a
// run, whose events are documented by being sent.
func (e example) stream(d Dialect) string {
	var b bytes.Buffer
	envelope := api.Success(api.WithRequestID(context.Background(), e.turn.RequestID), invoked, e.response)
	envelope.Timestamp = api.Timestamp(api.ExampleTime())
	out := &output{}
	out.begin(Start{
		RequestID: e.turn.RequestID, RunID: e.response.RunID, SessionID: e.response.SessionID, Turn: e.response.Turn, Model: e.response.Model,
	})
	out.add(session.Part{Kind: session.KindToolCall, ID: "call_1_1", Name: e.call.Name})
	out.add(session.Part{Kind: session.KindToolResult, ID: "call_1_1", Name: e.call.Name, OK: true, DurationMS: e.call.DurationMS})
	half := len(e.response.Response) / 2
	out.appendText(session.KindText, e.response.Response[:half])
	out.appendText(session.KindText, e.response.Response[half:])
	out.end(outcome{})
	// Encoding to memory fails only for values that JSON cannot represent.
	_ = out.each(context.Background(), &Position{}, new(bool), func(event Event) error { return d.Event(&b, event) })
	_ = d.Event(&b, Event{Kind: KindDone, Run: out.id(), At: out.last(), Response: &e.response, Envelope: envelope})
	return b.String()
}

// chat returns a body as the AI SDK sends it.
func (e example) chat(trigger string) map[string]any {
	message := map[string]any{"id": "msg-1", "role": "user", "parts": []any{map[string]any{"type": "text", "text": e.turn.Query}}}
	return map[string]any{"id": api.ExampleSession, "trigger": trigger, "messages": []any{message}}
}
