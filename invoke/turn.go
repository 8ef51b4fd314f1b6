package invoke

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/drain"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/session"
)

const (
	// storeTimeout bounds a call of the store but a commit, so that a store that is away is
	// said to be so, and not that the turn took too long.
	storeTimeout = 5 * time.Second
	// commitTimeout bounds storing a turn. It is its own: an answer that is
	// there is stored whatever is left of the invocation's time.
	commitTimeout = 5 * time.Second
)

// The warnings of a [Response].
const (
	warnNotSaved        = "session_not_saved"
	warnHistoryCut      = "history_truncated"
	warnTruncated       = "response_truncated"
	warnRoundsExhausted = "tool_rounds_exhausted"
	warnFallback        = "fallback_model"
	warnSubstituted     = "model_substituted"
	warnIgnored         = "parameter_ignored"
)

// A Response is the data of a successful invocation.
type Response struct {
	Response     string             `json:"response" doc:"The agent's answer, in Markdown."`
	SessionID    string             `json:"session_id" pattern:"^[A-Za-z0-9_-]{16,64}$" doc:"Send it to go on with the session."`
	Turn         int                `json:"turn" minimum:"1" doc:"The number of the turn that this call appended: 1 for the session's first."`
	Model        string             `json:"model" doc:"The model that answered."`
	FinishReason string             `json:"finish_reason" doc:"The model's own word for how it ended."`
	ToolCalls    []session.ToolCall `json:"tool_calls" doc:"The tools that were called, in order."`
	Usage        session.Usage      `json:"usage"`
	Warnings     []string           `json:"warnings" doc:"Codes of what was less than asked for: session_not_saved, fallback_model, model_substituted, parameter_ignored, history_truncated, response_truncated, tool_rounds_exhausted."`

	replayed bool // of an earlier call with the same key
}

// turn is one invocation: load, run, commit. What it streams goes to out.
func (s *Service) turn(ctx context.Context, owner session.Owner, req Request, out *stream) (_ *Response, err error) {
	opened, err := s.load(ctx, owner, req)
	if err != nil {
		return nil, err
	}
	current := opened.Session
	noteEarlier(ctx, current.Key, current.Recent)
	telemetry.SetTurn(ctx, func(t *telemetry.Turn) { t.Session = current.Key.Hash() })
	out.prepare(current.Key.ID)
	if opened.Replay != nil {
		return s.replay(ctx, opened, out)
	}
	if opened.Claim != nil {
		defer func() {
			p := recover()
			// With the store away the key is not given back either: it lapses.
			if p != nil || err != nil && !errors.Is(err, session.ErrUnavailable) {
				s.release(ctx, opened)
			}
			if p != nil {
				panic(p)
			}
		}()
	}
	before, replaces, err := replaced(current, req)
	if err != nil {
		return nil, api.Fail(api.Internal, err)
	}
	history, cut, err := history(before, s.HistoryTokens)
	if err != nil {
		return nil, api.Fail(api.Internal, err)
	}

	g := newGeneration(s.ModelName)
	g.bytesOfToken = bytesOfToken(before)
	if cut {
		g.warn(warnHistoryCut)
	}
	err = s.generate(toolContext(ctx, current, replaces, req), g, history, req, out)
	note(ctx, g)
	if err != nil {
		return nil, err
	}

	turn := g.turn(ctx, s.Now())
	number, err := s.commit(ctx, opened, turn, session.Conditions{AfterTurn: req.AfterTurn, Claim: opened.Claim, Replace: replaces})
	if errors.Is(err, session.ErrTakenOver) {
		return s.overtaken(ctx, owner, req, out)
	}
	if err != nil {
		if opened.Claim != nil || !unsaved(err) {
			return nil, err
		}
		// The answer is worth more than its being remembered: it goes out.
		g.warn(warnNotSaved)
		s.Log.ErrorContext(ctx, "A turn was answered and not saved.",
			"error", err.Error(), "request_id", api.RequestID(ctx), "session_id", current.Key.Hash())
	}
	if s.LogContent {
		s.Log.InfoContext(ctx, "Content of a turn.", "request_id", api.RequestID(ctx), "session_id", current.Key.Hash(),
			"query", telemetry.Truncate(req.Query, maxLogged), "response", telemetry.Truncate(g.text.String(), maxLogged))
	}
	return &Response{
		Response: g.text.String(), SessionID: current.Key.ID, Turn: number, Model: g.model,
		FinishReason: string(g.finish), ToolCalls: g.calls, Usage: g.usage, Warnings: g.warnings,
	}, nil
}

// maxLogged bounds each text of a turn's content in the log, in bytes: a line
// stays below the 256 KiB that Cloud Logging takes.
const maxLogged = 64 << 10

// load reads the session that req names, or begins a new one without a read.
// With an idempotency key it takes hold of the key, or finds what came of it.
func (s *Service) load(ctx context.Context, owner session.Owner, req Request) (_ *session.Opened, err error) {
	defer s.storeTime(ctx)()
	loading, step := s.Observer.StartLoad(ctx)
	defer func() { step.End(loading, code(ctx, err)) }()
	if req.key != "" {
		opening, cancel := context.WithTimeout(loading, storeTimeout)
		defer cancel()
		return session.Open(opening, s.Store, owner, req.SessionID, s.idempotency(req), req.AfterTurn, s.Now)
	}
	var current *session.Session
	if req.SessionID == "" { // nothing is stored of it
		current = session.New(session.Key{Owner: owner, ID: session.NewID()})
	} else if current, err = s.stored(loading, session.Key{Owner: owner, ID: req.SessionID}, req.create); err != nil {
		return nil, err
	}
	if req.AfterTurn != nil && *req.AfterTurn != current.Turns {
		return nil, fmt.Errorf("%w: %d, not %d", session.ErrTurnCount, current.Turns, *req.AfterTurn)
	}
	return &session.Opened{Session: current}, nil
}

// stored reads a session, or gives a new one where there is none and create is set.
func (s *Service) stored(ctx context.Context, key session.Key, create bool) (*session.Session, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	loaded, err := s.Store.Load(ctx, key)
	switch {
	case errors.Is(err, session.ErrNotFound) && create:
		return session.New(key), nil
	case err != nil:
		return nil, err
	case loaded.Deleted && !loaded.Reusable(), !loaded.Exists() && !create:
		return nil, session.ErrNotFound
	}
	return loaded, nil
}

// commit stores the turn and gives its number, also when it could not be
// stored. It goes on when the client has gone away.
func (s *Service) commit(ctx context.Context, opened *session.Opened, turn session.Turn, conditions session.Conditions) (_ int, err error) {
	defer s.storeTime(ctx)()
	committing, cancel := lasting(ctx, commitTimeout)
	defer cancel()
	committing, step := s.Observer.StartCommit(committing)
	defer func() { step.End(committing, code(committing, err)) }()
	meta, err := session.Commit(committing, s.Store, opened.Session, turn, conditions)
	if err != nil {
		meta.Turns = opened.Session.Turns + 1
		if conditions.Replace != "" {
			meta.Turns--
		}
		telemetry.SetTurn(ctx, func(t *telemetry.Turn) { t.Number = meta.Turns })
		return meta.Turns, err
	}
	telemetry.SetTurn(ctx, func(t *telemetry.Turn) { noteStored(t, opened.Session.Key, turn, meta.Turns) })
	return meta.Turns, nil
}

// lastMoment is what the store still gets once the instance's end has cut a
// request short: the client is to have its answer before the process ends.
const lastMoment = 150 * time.Millisecond

// lasting returns a context that goes on for d when the client of ctx goes away,
// or has gone, and for a moment when the instance ends.
func lasting(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	on, cancel := context.WithTimeout(context.WithoutCancel(ctx), d)
	stop := context.AfterFunc(drain.End(ctx), func() {
		timer := time.NewTimer(lastMoment)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel()
		case <-on.Done():
		}
	})
	return on, func() {
		stop()
		cancel()
	}
}

// storeTime begins to measure what the store takes; the func it gives ends that.
func (s *Service) storeTime(ctx context.Context) func() {
	begin := s.Now()
	return func() {
		telemetry.SetTurn(ctx, func(t *telemetry.Turn) { t.StoreTime += s.Now().Sub(begin) })
	}
}

// unsaved reports whether err means that the store failed, rather than that
// the session is no longer what the caller takes it for.
func unsaved(err error) bool {
	return !errors.Is(err, session.ErrNotFound) && !errors.Is(err, session.ErrTurnCount) && !errors.Is(err, session.ErrReplaced)
}
