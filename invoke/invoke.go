// Package invoke answers what callers ask the agent: one turn of a session, as
// JSON or as an event stream, and the sessions those turns make.
//
// A turn reads from top to bottom in [Service.turn]: load the session, run the
// agent, commit the session, answer. Running the agent is model, tools, model
// again, in generate.go. Who calls and how often is settled before, by the
// package guard.
package invoke

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/caller"
	"example.com/gatehouse/internal/drain"
	"example.com/gatehouse/internal/limit"
	"example.com/gatehouse/internal/model"
	"example.com/gatehouse/internal/models"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/session"
	"example.com/gatehouse/tool"
)

// A Config is what the service is made of and bounded by.
type Config struct {
	Agent           agent.Agent
	Model           *model.Client
	ModelName       string
	Thinking        models.Level // "": low for an agent with tools, else the model's lowest
	Tables          *models.Live // of the models; nil for the program's own
	Store           session.Store
	Timeout         time.Duration // of a whole invocation
	MaxBodyBytes    int64
	MaxOutputTokens int // the most a request may ask for
	HistoryTokens   int // of earlier turns in a prompt, estimated
	MaxToolRounds   int
	Limiter         *limit.Limiter // nil: nothing is counted
	Limits          limit.Limits
	Observer        *telemetry.Observer // nil: no spans and metrics
	Log             *slog.Logger
	LogContent      bool // whether prompts and answers may be logged
	Now             func() time.Time
}

// A Service answers invocations. It holds nothing of any of them, and is safe
// for concurrent use.
type Service struct {
	Config
	body         *api.Body[Request]
	feedback     *api.Body[Feedback]
	tools        map[string]tool.Tool
	declarations json.RawMessage // of the tools, for the model
}

// New makes a service.
func New(c Config) *Service {
	s := &Service{
		Config:       c,
		body:         newBody(c.MaxOutputTokens),
		feedback:     api.NewBody[Feedback](nil),
		tools:        make(map[string]tool.Tool, len(c.Agent.Tools)),
		declarations: model.Declare(c.Agent.Tools),
	}
	for _, t := range c.Agent.Tools {
		s.tools[t.Name()] = t
	}
	return s
}

// invoke is POST /invoke.
func (s *Service) invoke(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), s.Timeout)
	defer cancel()
	req, streamed, err := s.decode(w, r)
	if err != nil {
		return err
	}
	if streamed {
		return s.stream(ctx, r, req, newStream(w, r, events{}, cancel))
	}
	response, err := s.turn(ctx, caller.Owner(ctx), req, nil)
	if err != nil {
		return failure(r.Context(), ctx, err)
	}
	if response.replayed {
		w.Header().Set(headerReplayed, "true")
	}
	return api.WriteSuccess(w, r, invoked, response)
}

// invoked is the message of a turn's envelope.
const invoked = "Agent invocation successful"

// stream answers with what out makes of a turn. What fails before it has begun
// is answered as an error.
func (s *Service) stream(ctx context.Context, r *http.Request, req Request, out *stream) error {
	defer out.close()
	defer func() {
		if !out.started() {
			return // a panic is answered by the guard
		}
		if p := recover(); p != nil {
			out.fail(api.Panicked(r.Context(), s.Log, p))
		}
	}()
	response, err := s.turn(ctx, caller.Owner(ctx), req, out)
	if err != nil {
		failure := failure(r.Context(), ctx, err)
		if out.started() {
			out.fail(failure)
			return nil
		}
		return failure
	}
	out.done(invoked, response)
	return nil
}

// failure turns what ended a turn, done in ctx for a client's request, into the
// answer. Who ended first counts: the client, then the time, then the model or
// the store.
func failure(client, ctx context.Context, err error) *api.Error {
	if failure, ok := errors.AsType[*api.Error](err); ok {
		return failure
	}
	if e := gone(client, err); e != nil {
		return e
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return api.Fail(api.Timeout, err)
	}
	if ctx.Err() != nil { // the stream gave up on a client that does not read
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

// ModelGone returns the answer of a service whose models the API does not have.
func ModelGone(gone *model.GoneError) *api.Error {
	e := api.Fail(api.NotReady, gone)
	e.Message = "The model that the service is set up with does not exist, or no longer: see details."
	issue := fmt.Sprintf("names %s, which the API says does not exist, and no model of MODEL_FALLBACKS stands in", gone.Model)
	if gone.Successor != "" {
		issue += "; its successor is " + gone.Successor
	}
	e.Details = []api.Detail{{Field: "MODEL", Issue: issue}}
	return e
}

// gone is the answer to a client whose request has ended, cut short or given up;
// nil to one that waits.
func gone(client context.Context, err error) *api.Error {
	switch {
	case errors.Is(context.Cause(client), drain.ErrCut):
		return api.Fail(api.ShuttingDown, err)
	case errors.Is(client.Err(), context.Canceled):
		return api.Fail(api.ClientClosedRequest, err)
	}
	return nil
}

// storeFailure turns a store's error into the answer.
func storeFailure(err error) *api.Error {
	switch {
	case errors.Is(err, session.ErrNotFound):
		return api.Fail(api.SessionNotFound, nil)
	case errors.Is(err, session.ErrTurnCount), errors.Is(err, session.ErrReplaced):
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
	case errors.Is(err, session.ErrChanged): // by other calls, each time that it was tried
		e := api.Fail(api.RateLimited, err)
		e.RetryAfter = time.Second
		return e
	case errors.Is(err, session.ErrTooLarge):
		return api.Fail(api.RequestTooLarge, err)
	case errors.Is(err, session.ErrCursor):
		return api.Invalid("cursor", "is not one that this list gave")
	default:
		return api.Fail(api.SessionStoreUnavailable, err)
	}
}

// note tells the request's log line and the audit what a generation came to.
func note(ctx context.Context, g *generation) {
	telemetry.SetTurn(ctx, func(t *telemetry.Turn) {
		t.Model, t.Attempts, t.Tokens, t.CostUSD = g.model, g.attempts, g.usage.TotalTokens, g.usage.EstimatedCostUSD
		t.ModelTime = g.modelTime
	})
}

// noteStored tells of a turn that is stored: this request's own, or the one that
// its session ended with before.
func noteStored(t *telemetry.Turn, key session.Key, turn session.Turn, number int) {
	t.Session, t.ID, t.At, t.Number, t.Request = key.Hash(), turn.ID, turn.CreatedAt, number, turn.RequestID
	t.Model, t.Tokens, t.CostUSD = turn.Model, turn.Usage.TotalTokens, turn.Usage.EstimatedCostUSD
}

// noteEarlier tells the audit of the last of a session's turns: should the
// process that answered it have died before it could write its entry, this
// request's does.
func noteEarlier(ctx context.Context, key session.Key, turns []session.Record) {
	if len(turns) == 0 {
		return
	}
	last := turns[len(turns)-1]
	telemetry.SetEarlier(ctx, func() (earlier telemetry.Turn, ok bool) {
		turn, err := last.Turn()
		noteStored(&earlier, key, turn, last.Number)
		return earlier, err == nil
	})
}

// code is the contract's word for what ended a step, "" for nothing.
func code(ctx context.Context, err error) string {
	if err == nil {
		return ""
	}
	return string(failure(ctx, ctx, err).Code)
}
