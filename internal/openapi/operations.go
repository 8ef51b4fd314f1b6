package openapi

import (
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"example.com/gatehouse/health"
	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/version"
	"example.com/gatehouse/invoke"
)

// The groups that operations are shown in.
const (
	tagAgent    = "Agent"
	tagSessions = "Sessions"
	tagLimits   = "Limits"
	tagHealth   = "Health"
	tagAbout    = "About"
)

var tags = []*huma.Tag{
	{Name: tagAgent, Description: "Ask the agent."},
	{Name: tagSessions, Description: "What was asked and answered. A session is only ever seen by the identity that made it."},
	{Name: tagLimits, Description: "How much is left."},
	{Name: tagHealth, Description: "How the service is."},
	{Name: tagAbout, Description: "What the service is, and this description of it."},
}

// An operation is what a route's code does not tell of it.
type operation struct {
	id          string // its name in generated clients
	tag         string
	description string
	parameters  []string // names of parameters, beside those that every operation has
	body        func(*document) *huma.RequestBody
	answers     map[int]func(*document) *huma.Response // by status, nil for none; errors are beside them
	errors      []api.Code                             // beside those of what every request goes through

	// failed changes the answer of an error's status; nil: all are alike.
	failed func(*document, int, *huma.Response)
}

// of a JSON body.
var bodyErrors = []api.Code{api.MalformedRequest, api.RequestTimeout, api.RequestTooLarge, api.UnsupportedMediaType, api.ValidationFailed}

// of a turn, beside those of its body.
var turnErrors = append([]api.Code{
	api.SessionNotFound, api.IdempotencyInProgress, api.SessionConflict, api.IdempotencyMismatch, api.ContentBlocked, api.QuotaExceeded,
	api.ModelFailed, api.ModelUnavailable, api.SessionStoreUnavailable, api.Timeout,
}, bodyErrors...)

// operations are by the patterns of their routes.
var operations = map[string]operation{
	"POST /invoke": invocation("invoke", `One turn of a session: what the agent answers to `+"`query`"+`, after all that was said before.

With `+"`Accept: text/event-stream`, or `\"stream\": true`"+`, the answer comes as it is written: `+"`start`, then `delta`, `tool_call` and `tool_result`"+` in the order they happen, and exactly one of
`+"`done` and `error`"+` at the end. What fails before the model's first word is an ordinary JSON error. A comment line is sent every 15 seconds of silence.
A client that goes away ends the turn, and it is not stored.`),
	"POST /":     invocation("invokeRoot", "The same as `POST /invoke`, at the function's own URL."),
	"POST /chat": chat(),
	"GET /chat/{id}/stream": {
		id: "resumeChat", tag: tagAgent, parameters: []string{"chat"},
		description: "A turn ends with the connection that asked for it.",
		answers:     map[int]func(*document) *huma.Response{204: nothing("There is no stream to go on with.")},
	},
	"GET /sessions": {
		id: "listSessions", tag: tagSessions, parameters: []string{"limit", "cursor"},
		errors: []api.Code{api.ValidationFailed, api.SessionStoreUnavailable},
		answers: map[int]func(*document) *huma.Response{200: linked(data("SessionList", "Your sessions, the newest first.", "Sessions, the newest first",
			invoke.SessionList{Sessions: []invoke.SessionInfo{exampleInfo}}), map[string]*huma.Link{
			"read": {OperationID: "getSession", Parameters: map[string]any{"id": "$response.body#/data/sessions/0/session_id"}, Description: "Read the newest."},
		})},
	},
	"DELETE /sessions": {
		id: "deleteSessions", tag: tagSessions,
		description: "All that is stored for you, or for the end user you name, in bounded steps: repeat it when it fails.",
		errors:      []api.Code{api.SessionStoreUnavailable},
		answers:     map[int]func(*document) *huma.Response{204: nothing("They are gone.")},
	},
	"GET /sessions/{id}": {
		id: "getSession", tag: tagSessions, parameters: []string{"session", "limit", "cursor"},
		description: "Somebody else's session and one that has expired are not found, like one that never was.",
		errors:      []api.Code{api.SessionNotFound, api.ValidationFailed, api.SessionStoreUnavailable},
		answers: map[int]func(*document) *huma.Response{200: data("SessionTurns", "The session, and its turns in order.", "The session and its turns",
			invoke.SessionTurns{Session: exampleInfo, Turns: []invoke.TurnInfo{exampleTurn}})},
	},
	"DELETE /sessions/{id}": {
		id: "deleteSession", tag: tagSessions, parameters: []string{"session"},
		description: "The session and everything stored for it. The second time it is not found.",
		errors:      []api.Code{api.SessionNotFound, api.SessionStoreUnavailable},
		answers:     map[int]func(*document) *huma.Response{204: nothing("It is gone.")},
	},
	"PUT /sessions/{id}/turns/{turn}/feedback": {
		id: "putFeedback", tag: tagSessions, parameters: []string{"session", "turn"},
		description: "The last one counts.",
		errors:      append([]api.Code{api.NotFound, api.SessionNotFound, api.SessionStoreUnavailable}, bodyErrors...),
		body: jsonBody(func(d *document) *huma.Schema {
			return d.schemas.named("Feedback", func() *huma.Schema { return d.schemas.request(invoke.Feedback{}) })
		},
			map[string]any{"Thumbs up": invoke.Feedback{Score: 1, Comment: "Exactly what I was looking for."}, "Neither any more": invoke.Feedback{}}),
		answers: map[int]func(*document) *huma.Response{204: nothing("It is kept with the turn.")},
	},
	"GET /usage": {
		id: "getUsage", tag: tagLimits,
		description: "What is left of a limit is as far as this instance knows: what others have taken in advance counts as used.",
		errors:      []api.Code{api.SessionStoreUnavailable},
		answers: map[int]func(*document) *huma.Response{200: data("UsageReport", "Your limits, and what you used today.", "Limits, and what was used today", invoke.UsageReport{
			Limits: []invoke.LimitInfo{
				{Name: "end_user", Unit: "calls_per_minute", Limit: 60, Left: 57, ResetsAt: exampleTime},
				{Name: "caller", Unit: "tokens_per_day", Limit: 1_000_000, Left: 998_361, ResetsAt: exampleTime.AddDate(0, 0, 1)},
			},
			Today: invoke.TodayInfo{Date: "2026-11-23", TotalTokens: 1639, EstimatedCostUSD: cost, Models: []invoke.ModelUsage{
				{Model: exampleModel, TotalTokens: 1639, EstimatedCostUSD: &cost}}},
		})},
	},
	"GET /health": {
		id: "getHealth", tag: tagHealth,
		description: "Anybody may see the status; who may see the details is for the service's operators to say.",
		answers:     map[int]func(*document) *huma.Response{200: healthy},
		errors:      []api.Code{api.Unhealthy},
		failed:      unhealthy,
	},
	"GET /health/live": {
		id: "getLiveness", tag: tagHealth,
		answers: map[int]func(*document) *huma.Response{200: data("Status", "The process serves.", "The process serves", health.Status{Status: "live"})},
	},
	"GET /health/ready": {
		id: "getReadiness", tag: tagHealth, errors: []api.Code{api.NotReady},
		description: "Otherwise `details` names the variables at fault.",
		answers:     map[int]func(*document) *huma.Response{200: data("Status", "The service is ready.", "The service is ready", health.Status{Status: "ready"})},
	},
	"GET /metrics": {
		id: "getMetrics", tag: tagHealth,
		description: "One instance's view, for local runs and collectors beside it. Served where metrics are exported to Prometheus.",
		answers: map[int]func(*document) *huma.Response{200: func(d *document) *huma.Response {
			r := content("The metrics.", "text/plain", text(""))(d)
			r.Content["application/openmetrics-text"] = &huma.MediaType{Schema: text("")}
			return r
		}},
	},
	"GET /": {
		id: "getDescription", tag: tagAbout, parameters: []string{"If-None-Match"},
		description: "To a browser, where the playground is on, it is the playground.",
		answers:     map[int]func(*document) *huma.Response{200: description, 304: unchangedPage},
	},
	"GET /openapi.json": {
		id: "getDocument", tag: tagAbout, parameters: []string{"If-None-Match"},
		answers: map[int]func(*document) *huma.Response{
			200: content("This document.", "application/json", &huma.Schema{Type: huma.TypeObject, Required: []string{"openapi", "info", "paths"}}, "ETag"),
			304: content("The client's copy still holds.", "", nil, "ETag"),
		},
	},
	"GET /docs": {
		id: "getPage", tag: tagAbout, parameters: []string{"If-None-Match"},
		description: "Everything that the page needs comes from this service.",
		answers: map[int]func(*document) *huma.Response{
			200: content("The page.", "text/html", text(""), "ETag", "Content-Security-Policy"),
			304: content("The client's copy still holds.", "", nil, "ETag"),
		},
	},
	"GET /docs/{file}": {
		id: "getPageFile", tag: tagAbout, parameters: []string{"file", "If-None-Match"}, errors: []api.Code{api.NotFound},
		answers: map[int]func(*document) *huma.Response{
			200: func(d *document) *huma.Response {
				r := content("The file.", "text/css", text(""), "ETag")(d)
				r.Content["text/javascript"] = &huma.MediaType{Schema: text("")}
				return r
			},
			304: content("The client's copy still holds.", "", nil, "ETag"),
		},
	},
}

// description is GET /, which is a page too where the playground is on.
func description(d *document) *huma.Response {
	r := data("Description", "The service, and its routes.", "Gatehouse: an AI agent as a service", Description{
		Service: "gatehouse", Version: version.Version,
		Endpoints: []Endpoint{{http.MethodPost, "/invoke", "Ask the agent: JSON, or an event stream with Accept: text/event-stream."}},
	})(d)
	if d.config.Playground {
		r.Description = "The service, and its routes; the playground's page, where `Accept` names HTML and likes it no less."
		r.Content["text/html"] = &huma.MediaType{Schema: text("")}
	}
	return r
}

// unchangedPage is GET / of a browser that has the page already.
func unchangedPage(d *document) *huma.Response {
	if !d.config.Playground {
		return nil
	}
	return content("The browser's copy of the page still holds.", "", nil, "ETag")(d)
}

// invocation is POST /invoke, under each of its paths.
func invocation(id, description string) operation {
	return operation{
		id: id, tag: tagAgent, description: description, parameters: []string{"Idempotency-Key"}, errors: turnErrors,
		body: jsonBody(func(d *document) *huma.Schema {
			return d.schemas.named("Request", func() *huma.Schema {
				s := d.schemas.request(invoke.Request{})
				invoke.Describe(s.Properties, d.config.MaxOutputTokens)
				return s
			})
		}, map[string]any{
			"A new session": invoke.Request{Query: "Which deployment options are there?"},
			"Go on with it": invoke.Request{Query: "And which is the cheapest?", SessionID: exampleSession, AfterTurn: &one, MaxTokens: &tokens},
			"As a stream":   invoke.Request{Query: "Which deployment options are there?", Temperature: &temperature, Stream: true},
		}),
		answers: map[int]func(*document) *huma.Response{200: func(d *document) *huma.Response {
			r := linked(data("Response", "The agent's answer. The turn is stored, unless `warnings` has `session_not_saved`.", "Agent invocation successful", exampleResponse), map[string]*huma.Link{
				"read":     {OperationID: "getSession", Parameters: map[string]any{"id": "$response.body#/data/session_id"}, Description: "Read the session."},
				"delete":   {OperationID: "deleteSession", Parameters: map[string]any{"id": "$response.body#/data/session_id"}, Description: "Delete it."},
				"continue": {OperationID: "invoke", RequestBody: map[string]any{"query": "Go on.", "session_id": "$response.body#/data/session_id"}, Description: "Go on with it."},
				"opinion": {OperationID: "putFeedback", RequestBody: map[string]any{"score": 1}, Description: "Say what the answer was worth.",
					Parameters: map[string]any{"id": "$response.body#/data/session_id", "turn": "$response.body#/data/turn"}},
			})(d)
			r.Content["text/event-stream"] = &huma.MediaType{Schema: d.events(), Examples: map[string]*huma.Example{
				"stream": {Summary: "A whole stream", Value: exampleStream()},
			}}
			for _, name := range []string{"Idempotency-Replayed", "X-Accel-Buffering"} {
				r.Headers[name] = header(name)
			}
			return r
		}},
	}
}

// events is what each event of a stream is.
func (d *document) events() *huma.Schema {
	return d.schemas.named("Event", func() *huma.Schema {
		return &huma.Schema{
			Description: "One event of the stream: the name in its line `event:`, and the JSON in its line `data:`.",
			OneOf: []*huma.Schema{
				d.schemas.event("start", "The first: the model has begun to answer.", d.schemas.of(invoke.Start{})),
				d.schemas.event("delta", "A piece of the answer's text.", d.schemas.of(invoke.Delta{})),
				d.schemas.event("tool_call", "The model wants a tool called.", d.schemas.of(invoke.ToolStart{})),
				d.schemas.event("tool_result", "A tool is done.", d.schemas.of(invoke.ToolEnd{})),
				d.schemas.event("done", "The last: the turn is stored. The response is all deltas joined.", &huma.Schema{Ref: components + "ResponseAnswer"}),
				d.schemas.event("error", "The last, instead of done.", &huma.Schema{Ref: components + "Failure"}),
			},
		}
	})
}

// data is a good answer: example, of the type that the handler encodes, in the
// envelope.
func data(name, description, message string, example any) func(*document) *huma.Response {
	return func(d *document) *huma.Response {
		return &huma.Response{Description: description, Headers: map[string]*huma.Param{}, Content: map[string]*huma.MediaType{"application/json": {
			Schema:   d.schemas.answer(name, d.schemas.of(example)),
			Examples: map[string]*huma.Example{"answer": {Value: enveloped(message, example)}},
		}}}
	}
}

// linked adds to an answer what may be asked next with what is in it.
func linked(answer func(*document) *huma.Response, links map[string]*huma.Link) func(*document) *huma.Response {
	return func(d *document) *huma.Response {
		r := answer(d)
		r.Links = links
		return r
	}
}

// nothing is an answer without a body.
func nothing(description string) func(*document) *huma.Response {
	return content(description, "", nil)
}

// content is an answer that is not in the envelope, with these headers.
func content(description, media string, schema *huma.Schema, names ...string) func(*document) *huma.Response {
	return func(*document) *huma.Response {
		r := &huma.Response{Description: description, Headers: map[string]*huma.Param{}}
		if media != "" {
			r.Content = map[string]*huma.MediaType{media: {Schema: schema}}
		}
		for _, name := range names {
			r.Headers[name] = header(name)
		}
		return r
	}
}

// jsonBody is a JSON body with examples, by what they show.
func jsonBody(schema func(*document) *huma.Schema, examples map[string]any) func(*document) *huma.RequestBody {
	return func(d *document) *huma.RequestBody {
		media := &huma.MediaType{Schema: schema(d), Examples: map[string]*huma.Example{}}
		for name, value := range examples {
			media.Examples[name] = &huma.Example{Summary: name, Value: value}
		}
		return &huma.RequestBody{Content: map[string]*huma.MediaType{"application/json": media}}
	}
}

// health is the data of GET /health, by what the caller may see.
func (d *document) health() *huma.Schema {
	status, report := d.schemas.of(health.Status{}), d.schemas.of(health.Report{})
	// The figures are an embedded pointer: left out together when they are not known.
	s := d.schemas.registry.SchemaFromRef(report.Ref)
	s.Required = slices.DeleteFunc(s.Required, func(name string) bool {
		return name == "error_rate" || name == "request_count" || name == "error_count"
	})
	return &huma.Schema{AnyOf: []*huma.Schema{status, report}}
}

func healthy(d *document) *huma.Response {
	return &huma.Response{Description: "The service is healthy, or degraded.", Content: map[string]*huma.MediaType{"application/json": {
		Schema: d.schemas.answer("Health", d.health()),
		Examples: map[string]*huma.Example{
			"for anybody":   {Value: enveloped("The service is healthy", health.Status{Status: health.Healthy})},
			"for operators": {Value: enveloped("The service is healthy", exampleReport)},
		},
	}}}
}

// unhealthy lets the one error that has data have it.
func unhealthy(d *document, status int, r *huma.Response) {
	if status != http.StatusServiceUnavailable {
		return
	}
	media := r.Content["application/json"]
	unhealthy := d.schemas.named("Unhealthy", func() *huma.Schema {
		return d.schemas.envelope(false, d.health(), &huma.Schema{Type: huma.TypeString, Enum: []any{string(api.Unhealthy)}})
	})
	media.Schema = &huma.Schema{AnyOf: []*huma.Schema{
		unhealthy, d.schemas.failure([]any{string(api.ShuttingDown), string(api.NotReady)}),
	}}
	e := failed(api.Fail(api.Unhealthy, nil))
	e.Data = health.Status{Status: health.Unhealthy}
	media.Examples[string(api.Unhealthy)] = &huma.Example{Value: e}
}
