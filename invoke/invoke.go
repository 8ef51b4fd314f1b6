// Package invoke handles the routes that run the agent: one turn of a session, as JSON
// or as an event stream, and the sessions that turns create.
//
// A turn reads from top to bottom in [Service.turn]: load the session, run the agent,
// commit the session, respond. The loop of model and tool calls is in generate.go.
// Authentication and rate limits are applied before, by package middleware.
//
// What a run shows goes to its output (output.go), an ordered log of parts that is
// stored with the turn. A client that streams only watches it, in a dialect: an [Event]
// is what a watcher of any protocol is shown.
//
// # Doors
//
// Further protocols are packages below gate. Each returns routes (gate.Door), whose
// handlers only translate: a request of the protocol to a [Request], events and the
// [Response] to its answer. [Service.Ask] runs a turn for the caller in the request's
// context, with a session, a key and an owner as POST /invoke has them; [Options] has
// what a door may ask for beside, such as a run without a session. Errors are
// [*api.Error], whose code and sentence the door sends in its own form. A door keeps no
// state and reads no store.
package invoke

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"google.golang.org/genai"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/caller"
	"example.com/gatehouse/internal/drain"
	"example.com/gatehouse/internal/limit"
	"example.com/gatehouse/internal/model"
	"example.com/gatehouse/internal/models"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/internal/webhook"
	"example.com/gatehouse/session"
)

// A Config holds the dependencies and limits of a [Service]. Agent, Model, ModelName, Store,
// Log, Now and the limits must be set. A Config is not changed once it was passed to [New].
type Config struct {
	Agent           agent.Agent
	Model           *model.Client
	ModelName       string
	ModelsAllowed   []string     // what a request may name beside ModelName
	Thinking        models.Level // "": low for an agent with tools, else the model's lowest
	Tables          *models.Live // nil: the built-in table
	Store           session.Store
	Files           Files
	Timeout         time.Duration // of the whole turn
	MaxBodyBytes    int64
	MaxOutputTokens int // the largest max_tokens of a request
	HistoryTokens   int // limit on earlier turns in a prompt
	MaxToolRounds   int
	Limiter         *limit.Limiter // nil: no limits
	Limits          limit.Limits
	Observer        *telemetry.Observer // nil: no spans and metrics
	Log             *slog.Logger
	LogContent      bool // log questions and answers
	ShowTools       bool // show the outputs of all tools
	Now             func() time.Time

	// Of runs that outlive their request.
	Queue         Queue                       // nil: there are none
	RunTimeout    time.Duration               // of one
	MaxBackground int                         // of an owner's at once
	Places        *drain.Places               // that each takes while it works; nil: no bound
	Admits        func(caller.Principal) bool // whether its caller may still call
	Operates      func(caller.Principal) bool // whether its caller is an operator
	Webhooks      *webhook.Sender             // nil: no webhooks
	ApprovalTTL   time.Duration               // how long a run waits for a person; 0: 72 h

	Schedules string // the account whose calls are keyed by their schedule; "" is none
}

// A Service handles requests. It keeps no state of them, and is safe for concurrent
// use.
type Service struct {
	Config
	body      *api.Body[Request]
	feedback  *api.Body[Feedback]
	approval  *api.Body[Approval]
	rename    *api.Body[Rename]
	tools     *toolset // the agent's Tools
	combined  lastToolset
	live      runs // of this process
	mirrors   mirrors
	lookups   lookups
	answering oneByOne
	digest    string          // of the agent
	hasLedger bool            // a tool may change the world or ask a person
	ownParts  bool            // the model may show more than text
	schema    json.RawMessage // of a typed answer; nil for text
	room      *drain.Places   // of bodies with files, in MiB
	subagents
}

// New returns a Service.
func New(c Config) *Service {
	s := newService(c, subagents{})
	s.body, s.feedback, s.approval = newBody(c.MaxOutputTokens, c.Models()), api.NewBody[Feedback](nil), api.NewBody[Approval](nil)
	s.rename = api.NewBody[Rename](nil)
	s.room = newRoom()
	s.subagents.add(c, c.Agent.Tools)
	return s
}

// newService returns a Service that runs c's agent, without what requests need. An agent that
// is a tool has no routes, so it needs neither decoders nor room for bodies.
func newService(c Config, all subagents) *Service {
	tools := newToolset(c.Agent.Tools)
	if m := c.Agent.Model; m != nil && m.MediaResolution == genai.MediaResolutionHigh {
		c.Files.HighResolution = true
	}
	var schema json.RawMessage
	if c.Agent.Output != nil {
		schema, _ = json.Marshal(c.Agent.Output.Schema()) // it was made from a Go type
	}
	return &Service{
		Config:    c,
		tools:     tools,
		digest:    digest(c.Agent, tools.declarations),
		hasLedger: hasLedger(c.Agent),
		ownParts:  hasOwnParts(c.Agent),
		schema:    schema,
		subagents: all,
	}
}

// turnRoutes returns the routes of a turn.
func (s *Service) turnRoutes() []api.Route {
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
	}
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

// invoke handles POST /invoke.
func (s *Service) invoke(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), s.Timeout)
	defer cancel()
	memory := memoryClaim{room: s.room, owner: caller.Owner(ctx)}
	defer memory.leave()
	begun := newRun(ctx)
	req := &begun.req
	streamed, err := s.decode(w, r, &memory, req)
	if err != nil {
		return err
	}
	// Without a queue the preference is passed over, as RFC 7240, section 2, allows.
	async := s.Queue != nil && prefersAsync(r)
	if err := s.checkWebhook(req, async); err != nil {
		return err
	}
	if async {
		return s.accept(w, r, req)
	}
	if streamed {
		req.Options.Resets, begun.watched = true, true
		return Show(w, r, events{}, func(show func(Event) error) (*Response, error) { return s.work(ctx, begun, show) })
	}
	response, err := s.work(ctx, begun, nil)
	if err != nil {
		return err
	}
	response.SetHeader(w.Header())
	return api.WriteSuccess(w, r, invoked, response)
}

// invoked is the message in a turn's envelope.
const invoked = "Agent invocation successful"

// Stream runs a turn and streams its events in a dialect. A failure before the first
// event is returned, to become an ordinary error response.
func (s *Service) Stream(ctx context.Context, w http.ResponseWriter, r *http.Request, req Request, d Dialect) error {
	return Show(w, r, d, s.Asking(ctx, req))
}

// failure returns the error response for err, which ended a turn that ran in ctx for a
// client. Precedence: client cancellation, then deadline, then model or store error. The end
// of a context comes first, because the error that a canceled call returns is only its
// consequence. An *api.Error was made for the caller where the cause was known, and stays.
func failure(client, ctx context.Context, err error) *api.Error {
	if failure, ok := errors.AsType[*api.Error](err); ok {
		return failure
	}
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errStopped):
		return &api.Error{Code: api.SessionConflict, Message: stoppedEarly, Cause: err}
	case errors.Is(cause, errDeleted):
		return api.Fail(api.SessionNotFound, nil)
	}
	if e := disconnectError(client, err); e != nil {
		return e
	}
	if errors.Is(err, errEffectUnknown) { // of a run without a turn, which would have it as a warning
		e := api.Fail(api.Internal, err)
		e.Message = "It is not known whether what was asked for has been done. Check it before you ask for it again."
		return e
	}
	if refusal, ok := errors.AsType[*agent.Refusal](err); ok {
		return &api.Error{Code: api.ContentBlocked, Message: refusal.Message, Cause: errRefused}
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return api.Fail(api.Timeout, err)
	}
	if errors.Is(context.Cause(ctx), drain.ErrCut) {
		return api.Fail(api.ShuttingDown, err)
	}
	if ctx.Err() != nil { // the stream canceled it: the client does not read
		return api.Fail(api.ClientClosedRequest, err)
	}
	if gone, ok := errors.AsType[*model.GoneError](err); ok {
		return ModelGone(gone)
	}
	if errors.Is(err, model.ErrNoKey) {
		return api.Fail(api.NotReady, err)
	}
	if failed, ok := errors.AsType[*model.Error](err); ok {
		e := api.Fail(api.ModelFailed, err)
		switch failed.Kind {
		case model.Unavailable:
			e.Code, e.RetryAfter = api.ModelUnavailable, failed.RetryAfter
		case model.Timeout:
			e.Code = api.Timeout
		}
		return e
	}
	return storeFailure(err)
}

// ModelGone returns the error response if the API does not have the configured models. The
// variable and the successor are in the answer, because only an operator can mend it, and a
// caller is often the first who sees it.
func ModelGone(gone *model.GoneError) *api.Error {
	e := api.Fail(api.NotReady, gone)
	e.Message = "The configured model does not exist or was shut down; see details."
	issue := fmt.Sprintf("names %s, which the API says does not exist, and no model of MODEL_FALLBACKS stands in", gone.Model)
	if gone.Successor != "" {
		issue += "; its successor is " + gone.Successor
	}
	e.Details = []api.Detail{{Field: "MODEL", Issue: issue}}
	return e
}

// disconnectError returns the error for a client that disconnected or was cut off, or
// nil.
func disconnectError(client context.Context, err error) *api.Error {
	switch {
	case errors.Is(context.Cause(client), drain.ErrCut):
		return api.Fail(api.ShuttingDown, err)
	case errors.Is(client.Err(), context.Canceled):
		return api.Fail(api.ClientClosedRequest, err)
	}
	return nil
}

// storeFailure returns the error response for an error of the store.
func storeFailure(err error) *api.Error {
	if failure, ok := errors.AsType[*api.Error](err); ok {
		return failure
	}
	switch {
	case errors.Is(err, session.ErrNotFound):
		return api.Fail(api.SessionNotFound, nil)
	case errors.Is(err, session.ErrTurnCount), errors.Is(err, session.ErrReplaced), errors.Is(err, session.ErrStateConflict):
		return api.Fail(api.SessionConflict, err)
	case errors.Is(err, session.ErrInProgress):
		e := api.Fail(api.IdempotencyInProgress, err)
		if held, ok := errors.AsType[*session.InProgressError](err); ok {
			e.RetryAfter = held.Left
		}
		return e
	case errors.Is(err, session.ErrTakenOver):
		return api.Fail(api.IdempotencyInProgress, err)
	case errors.Is(err, session.ErrKeyMismatch):
		return api.Fail(api.IdempotencyMismatch, nil)
	case errors.Is(err, session.ErrTooManyKeys):
		e := api.Fail(api.RateLimited, err)
		// Keys are kept for [session.KeyLife], so that room comes slowly.
		e.RetryAfter = time.Hour
		return e
	case errors.Is(err, session.ErrChanged): // every attempt met another call's change
		e := api.Fail(api.RateLimited, err)
		e.RetryAfter = time.Second
		return e
	case errors.Is(err, session.ErrTooLarge):
		return api.Fail(api.RequestTooLarge, err)
	case errors.Is(err, session.ErrCursor):
		return api.Invalid("cursor", "is not a valid cursor")
	default:
		return api.Fail(api.SessionStoreUnavailable, err)
	}
}

// recordGeneration adds a generation's results to the request's log line and audit
// entry.
func recordGeneration(ctx context.Context, g *generation) {
	telemetry.SetTurn(ctx, func(t *telemetry.Turn) {
		t.Model, t.Attempts, t.Tokens, t.CostUSD = g.model, g.attempts, g.usage.TotalTokens, g.usage.EstimatedCostUSD
		t.Agent = g.digest
		t.ModelTime = g.modelTime
	})
}

// recordStored sets the fields of a stored turn: of this request or of the session's
// previous one.
func recordStored(t *telemetry.Turn, key session.Key, turn *session.Turn, number int) {
	if t.Session == "" {
		t.Session = key.Hash()
	}
	t.ID, t.At, t.Number, t.Request = turn.ID, turn.CreatedAt, number, turn.RequestID
	t.Model, t.Tokens, t.CostUSD, t.Agent = turn.Model, turn.Usage.TotalTokens, turn.Usage.EstimatedCostUSD, turn.AgentDigest
}

// recordPreviousTurn passes the session's last turn to the audit. If the process that
// ran it ended before it wrote the audit entry, this request writes it. The entry's insert id
// follows from the turn, by which Cloud Logging shows the two as one.
func recordPreviousTurn(ctx context.Context, key session.Key, turns []session.Record) {
	if len(turns) == 0 {
		return
	}
	last := turns[len(turns)-1]
	telemetry.SetEarlier(ctx, func() (earlier telemetry.Turn, ok bool) {
		turn, err := last.Turn()
		recordStored(&earlier, key, &turn, last.Number)
		return earlier, err == nil
	})
}

// code returns the error code for what ended a step, "" for success.
func code(ctx context.Context, err error) string {
	if err == nil {
		return ""
	}
	return string(failure(ctx, ctx, err).Code)
}
