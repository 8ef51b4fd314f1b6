package invoke

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/drain"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/internal/truncate"
	"example.com/gatehouse/session"
	"example.com/gatehouse/tool"
)

const (
	// storeTimeout bounds a call of the store, except a commit. It is shorter than a
	// turn, so that an unavailable store is reported as such and not as a timeout.
	storeTimeout = 5 * time.Second
	// commitTimeout bounds storing a turn. It does not depend on the time left for the
	// turn: an answer that exists is stored.
	commitTimeout = 5 * time.Second
)

// Warnings of a [Response].
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
	Response     string             `json:"response" doc:"In Markdown."`
	Output       json.RawMessage    `json:"output" doc:"Of an agent with a typed answer."`
	RunID        string             `json:"run_id"`
	SessionID    string             `json:"session_id" pattern:"^[A-Za-z0-9_-]{16,64}$"`
	Turn         int                `json:"turn" minimum:"1" doc:"1 for the session's first."`
	Model        string             `json:"model" doc:"That answered."`
	FinishReason string             `json:"finish_reason" doc:"The model's own word; WAITING for a person, STOPPED, or FAILED after a tool had an effect."`
	ToolCalls    []session.ToolCall `json:"tool_calls"`
	Sources      []Source           `json:"sources"`
	Suggestions  string             `json:"search_suggestions,omitempty" doc:"HTML that Google's terms want shown beside the answer, in a frame without scripts."`
	Files        []File             `json:"files"`
	Pending      []session.Pending  `json:"pending" doc:"Tool calls that wait for a person."`
	Usage        session.Usage      `json:"usage"`
	Timing       session.Timing     `json:"timing"`
	Warnings     []string           `json:"warnings" doc:"session_not_saved, fallback_model, model_substituted, parameter_ignored, history_truncated, response_truncated, tool_rounds_exhausted, effect_unknown; of a FAILED turn its error."`

	replayed bool // the answer of an earlier call with the same key
}

// Replayed reports whether r is the answer of an earlier call with the same key.
func (r *Response) Replayed() bool { return r.replayed }

// SetHeader sets the header of a response that is the answer of an earlier call with the
// same key.
func (r *Response) SetHeader(h http.Header) {
	if r.replayed {
		h.Set(headerReplayed, "true")
	}
}

// newResponse returns the response for a turn of a session that has shown parts.
func newResponse(sessionID string, t *session.Turn, text string, parts []session.Part) *Response {
	return &Response{
		Response: text, Output: t.Output, RunID: session.RunID(sessionID, t.ID), SessionID: sessionID, Turn: t.Number, Model: t.Model,
		FinishReason: t.FinishReason, ToolCalls: orEmpty(t.ToolCalls), Sources: sourcesOf(parts), Suggestions: t.Suggestions, Files: filesOf(parts),
		Pending: orEmpty(t.Pending), Usage: t.Usage, Timing: t.Timing, Warnings: orEmpty(t.Warnings),
	}
}

// A turn keeps the promises of the contract by its order. A session is read before the model
// is asked, and what was read is the condition of the commit: no instance trusts its memory
// of a session. A key is claimed before the model is asked, so that its retry finds the
// claim. Beside claims and files, nothing is stored of a turn before its commit, except where
// the run needs a record: because somebody watches, because a tool may change the world, or
// because the record is the entry of the run's key. The answer goes out when the turn is
// stored, or with the warning session_not_saved.

// turn runs one turn: load, run, commit. It goes on with a run that was taken over. A claim
// of an idempotency key is released if the run fails or panics.
func (s *Service) turn(ctx context.Context, r *run) (_ *Response, err error) {
	opened, err := s.open(ctx, r)
	if err != nil {
		return nil, err
	}
	current := opened.Session
	if !r.req.Options.Sessionless {
		recordPreviousTurn(ctx, current.Key, current.Recent)
	}
	telemetry.SetTurn(ctx, func(t *telemetry.Turn) { t.Session = current.Key.Hash() })
	if opened.Replay != nil {
		return s.replay(ctx, opened, r.out)
	}
	if r.earlier != nil {
		return s.replayKeyed(ctx, r)
	}
	if opened.Claim == nil && r.claimed == nil && !s.hasLedger {
		return s.perform(ctx, r, opened)
	}
	// [Service.rescued] enters the panic of a run that is watched in its record.
	returned := false // stays so in a panic
	defer func() {
		if !returned && !r.watched {
			r.journal.fail(session.Failed, api.Fail(api.Internal, nil))
		}
		switch {
		case r.claimed != nil && r.journal != nil: // which has written the end
		case r.claimed != nil && (!returned || err != nil):
			s.releaseKeyed(ctx, r, err)
		case opened.Claim != nil && (!returned || err != nil && r.releases(err)):
			s.release(ctx, opened)
		}
	}()
	response, err := s.perform(ctx, r, opened)
	returned = true
	return response, err
}

// perform runs the turn of a session that is loaded, and commits it. Of its errors, [failure]
// makes those of the contract, except of an elsewhereError: the run goes on in another
// process then.
func (s *Service) perform(ctx context.Context, r *run, opened *session.Opened) (_ *Response, err error) {
	if err := s.followStopped(ctx, r, opened); err != nil {
		return nil, failure(ctx, ctx, err)
	}
	req, current := &r.req, opened.Session // which stays as it was sent: that identifies a retry
	// A record holds the request as the hook left it, so one that is taken over is not
	// changed again.
	if s.Agent.Hooks.Question != nil && r.taken == nil && req.Options.Call == nil {
		if req, err = s.question(toolContext(ctx, current, current.Turns+1, req), req); err != nil {
			return nil, err
		}
	}
	at, err := s.slot(ctx, current, r, req)
	if err != nil {
		return nil, failure(ctx, ctx, err)
	}
	before := at.before
	if at.last == r.turnID || r.superseded {
		req = req.withoutAfterTurn() // it held before the turn that waited, or that was stopped for this one
	}
	var chosen []chosenTurn
	var note func(chosenTurn)
	if s.Agent.Loop != nil {
		note = func(t chosenTurn) { chosen = append(chosen, t) }
	}
	g := newGeneration(cmp.Or(req.Model, s.ModelName), r)
	g.digest = s.digest
	if g.earlier, err = history(before, s.HistoryTokens, note); err != nil {
		return nil, api.Fail(api.Internal, err)
	}
	if g.files, err = s.openFiles(ctx, current.Key, req, r.out); err != nil {
		// The queue's run whose files are gone ends with that; while the bucket does not
		// answer, it is tried again.
		if r.taken != nil && api.AsError(err).Code != api.SessionStoreUnavailable {
			r.journal = s.newJournal(ctx, r, req, opened, before.Turns+1)
			return nil, s.abandon(ctx, r, err)
		}
		return nil, err
	}
	// Files are stored before the turn that refers to them. If the turn is not stored, they
	// are left only to a session that exists: they are deleted with it. Whoever goes on with the
	// run needs them.
	defer func() {
		if err != nil && (opened.Claim == nil && req.SessionID == "" && !r.goesOn(err) || errors.Is(err, session.ErrNotFound)) {
			s.forget(ctx, g.files)
		}
	}()
	if err := s.sendable(ctx, g.files, &g.earlier); err != nil {
		return nil, api.Fail(api.Internal, err)
	}
	if s.Agent.Loop != nil {
		slices.Reverse(chosen)
		g.past = pastOf(g.earlier.turns, chosen)
	}
	defer s.extendFiles(ctx, before)()
	g.bytesOfToken = bytesOfToken(before)
	g.turns.left.Store(int64(s.MaxToolRounds))
	g.rounds = &g.turns
	if req.Options.Call == nil {
		g.states = s.newStates(before)
	}
	if g.earlier.cut {
		g.warn(warnHistoryCut)
	}
	number := before.Turns + 1
	followed := r.watched && !req.Options.Sessionless || r.taken != nil
	if followed || s.hasLedger || r.claimed != nil {
		r.journal = s.newJournal(ctx, r, req, opened, number)
	}
	if r.taken != nil {
		if err := g.restore(r.taken); err != nil {
			r.journal.close(session.Failed)
			return nil, s.endUnreadable(ctx, r.taken, err)
		}
		if err := s.reopenFiles(ctx, g); err != nil {
			return nil, err
		}
	}
	// The first model call is the moment at which nothing of the request is open any more.
	// Before it, a failure is an ordinary response, and nobody finds the run; from then on it
	// can be watched and stopped.
	g.admitted = func() {
		if r.out.started() {
			return
		}
		r.out.begin(Start{RequestID: api.RequestID(ctx), RunID: session.RunID(current.Key.ID, r.turnID), SessionID: current.Key.ID, Turn: number, Model: g.model})
		s.live.add(r)
		if followed || r.claimed != nil {
			r.journal.start()
		}
	}
	if r.taken != nil {
		g.admitted() // it was, by the first holder
	}
	// Nothing is generated: what its record has shown becomes the turn.
	if r.stopping {
		r.cancel(errStopped)
	}
	err = s.generateOrFail(s.turnContext(ctx, g, current, number, req), g, req)
	recordGeneration(ctx, g)
	end, err := s.conclude(ctx, r, g, err)
	if err != nil {
		return nil, s.abandon(ctx, r, err)
	}
	return s.keepTurn(ctx, r, opened, at, req, g, end)
}

// withoutAfterTurn returns a copy of req that may follow any turn.
func (req *Request) withoutAfterTurn() *Request {
	changed := *req
	changed.AfterTurn = nil
	return &changed
}

// turnContext returns the context of what a turn runs. A tool that a client calls by itself
// has no session and no state.
func (s *Service) turnContext(ctx context.Context, g *generation, current *session.Session, number int, req *Request) context.Context {
	if req.Options.Call != nil {
		return tool.WithFiles(toolContext(ctx, &session.Session{}, 0, req), g.files.tools)
	}
	return tool.WithFiles(g.states.context(toolContext(ctx, current, number, req)), g.files.tools)
}

// A conclusion is what a generation has come to.
type conclusion struct {
	state   session.RunState
	waits   *session.Run // the record of a run that waits for a person
	stopped error        // why it ended early, of one whose turn is stored
}

// conclude returns what g, which ended with err, has come to. The error is that of a run
// that leaves no turn.
func (s *Service) conclude(ctx context.Context, r *run, g *generation, err error) (end conclusion, _ error) {
	if errors.Is(err, errWaits) {
		end.state = session.Waiting
		if end.waits, err = s.suspend(ctx, g); !errors.Is(err, errStopped) {
			return end, err
		}
	}
	switch {
	case err == nil:
		end.state = session.Done
		return end, nil
	case r.binds(ctx):
		end.state, err = s.endBound(ctx, g, err)
		return end, err
	}
	if end.stopped = s.cutShort(ctx, r, g); end.stopped == nil {
		return end, err
	}
	end.state = session.Stopped
	return end, nil
}

// keepTurn stores the turn that g has come to, and returns the response. at is where the turn
// goes, and req the request as the agent's hook left it.
func (s *Service) keepTurn(ctx context.Context, r *run, opened *session.Opened, at slot, req *Request, g *generation, end conclusion) (_ *Response, err error) {
	key := opened.Session.Key
	turn := g.turn(ctx, s.Now())
	if req.Options.Sessionless {
		turn.Number = at.before.Turns + 1
		response := newResponse(key.ID, &turn, g.text.String(), r.out.attached())
		begin := s.Now()
		err = s.endSessionless(ctx, r, end, response)
		s.addStoreTime(ctx, begin)
		if err != nil {
			return nil, s.abandon(ctx, r, err)
		}
		return response, nil
	}
	if r.taken != nil && len(r.taken.Answers) > 0 && at.last != r.turnID {
		turn.ID = session.NewID() // another turn came after the one that waited, which stays
	}
	record := end.waits
	if record == nil {
		record = r.journal.close(end.state)
	}
	var denied *session.Run
	conditions := session.Conditions{
		AfterTurn: req.AfterTurn, Claim: opened.Claim, Replace: at.last, First: at.first, State: g.states.seal(ctx), Run: record,
		Deny: s.denials(r.turnID, &denied),
	}
	// An effect stays done, so its turn is appended to what the session has become.
	if turn.Effects {
		conditions.AfterTurn = nil
	}
	begin := s.Now()
	turn.Number, err = s.commit(ctx, opened, turn, conditions)
	if errors.Is(err, session.ErrReplaced) && (at.last == r.turnID || turn.Effects) { // another turn came while this one went on
		if at.last == r.turnID {
			turn.ID = session.NewID() // the one that waited stays
		}
		conditions.Replace, conditions.First = "", 0
		turn.Number, err = s.commit(ctx, opened, turn, conditions)
	}
	commitTime := s.addStoreTime(ctx, begin)
	if err == nil {
		turn.Timing.Commit = commitTime.Milliseconds()
		r.end(record, s.Now())
		s.ended(ctx, denied)
	}
	// Two holders must not both answer: this one's answer is void, and its client watches the
	// other's.
	if errors.Is(err, session.ErrFenced) {
		return nil, s.abandon(ctx, r, err)
	}
	if errors.Is(err, session.ErrTakenOver) {
		return s.answerTakenOver(ctx, r)
	}
	if err != nil {
		// A key promises that its retry finds this answer, and a turn that waits can only be
		// approved where it is stored.
		if opened.Claim != nil || !unsaved(err) || end.state == session.Waiting {
			return nil, s.abandon(ctx, r, err)
		}
		// The answer is worth more than its storage, so it is sent.
		g.warn(warnNotSaved)
		turn.Warnings = g.warnings
		s.Log.ErrorContext(ctx, "Turn answered but not saved.",
			"error", err.Error(), "request_id", api.RequestID(ctx), "session_id", key.Hash())
	}
	if s.LogContent {
		s.Log.InfoContext(ctx, "Content of a turn.", "request_id", api.RequestID(ctx), "session_id", key.Hash(),
			"query", truncate.Text(req.Query, maxLogged), "response", truncate.Text(g.text.String(), maxLogged))
	}
	if end.stopped != nil && !errors.Is(end.stopped, errStopped) {
		return nil, end.stopped // the turn is stored, and the client is gone
	}
	if end.waits != nil && end.waits.State == session.Stopped { // a stop came before the commit
		turn.FinishReason, turn.Pending = finishStopped, nil
	}
	turn.ID = r.turnID
	return newResponse(key.ID, &turn, g.text.String(), r.out.attached()), nil
}

// open loads the session of a run and claims its key. A retry of a key whose run has a
// record takes over from a holder that has died, or watches the run.
func (s *Service) open(ctx context.Context, r *run) (*session.Opened, error) {
	for try := 0; ; try++ {
		load := func() (*session.Opened, error) { return s.load(ctx, r.owner, &r.req) }
		switch {
		case r.taken != nil:
			load = func() (*session.Opened, error) { return s.reopen(ctx, r) }
		case r.req.Options.Sessionless && r.req.Options.Key != "":
			load = func() (*session.Opened, error) { return s.openKeyed(ctx, r) }
		}
		begin := s.Now()
		opened, err := load()
		r.loadTime += s.addStoreTime(ctx, begin)
		if r.taken != nil {
			r.key = r.taken.Key
			return opened, err
		}
		if err == nil {
			r.key = opened.Session.Key
			return opened, nil
		}
		held, ok := errors.AsType[*session.InProgressError](err)
		if !ok || held.Run == "" || try > 0 {
			return nil, err
		}
		if err := s.join(ctx, r, held); err != nil {
			return nil, err
		}
	}
}

// releases reports whether a run that failed with err releases its key. If the store is
// unavailable, releasing would fail too: the lease expires. A run that goes on elsewhere,
// or can, keeps its key. So does one in which an effect has begun: the retry goes on from
// there instead of repeating it.
func (r *run) releases(err error) bool {
	if errors.Is(err, session.ErrUnavailable) || errors.Is(err, session.ErrFenced) || r.journal.began() || r.journal.open() {
		return false
	}
	return !r.journal.kept() || !errors.Is(err, drain.ErrCut)
}

// goesOn reports whether another may go on with r, which failed here with err.
func (r *run) goesOn(err error) bool {
	_, moved := errors.AsType[*elsewhereError](err)
	return moved || r.journal.open() || r.journal.began() || r.journal.kept() && (errors.Is(err, drain.ErrCut) || errors.Is(err, session.ErrUnavailable))
}

// cutShort makes the turn of a run that was stopped, or whose client left, hold what was
// shown. It returns why the run ended, or nil if it leaves no turn. So the page, the session
// and the model agree on the conversation. With a key, a turn that was cut short would be what
// its retry gets, so there is none, unless a stop asked for it.
func (s *Service) cutShort(ctx context.Context, r *run, g *generation) error {
	cause := context.Cause(ctx)
	switch {
	case errors.Is(cause, errStopped):
	case errors.Is(cause, context.Canceled) && r.watched && r.req.Options.Key == "" && !r.stays():
	default:
		return nil
	}
	if r.req.Options.Sessionless && !errors.Is(cause, errStopped) {
		return nil
	}
	if kept, err := g.stop(); err != nil || !kept {
		return nil
	}
	return cause
}

// abandon ends the record of a run that leaves no turn, and returns its error: a
// different one if the run goes on elsewhere.
func (s *Service) abandon(ctx context.Context, r *run, err error) error {
	cause := context.Cause(ctx)
	if errors.Is(err, session.ErrFenced) || errors.Is(cause, session.ErrFenced) {
		r.journal.close(session.Working)
		return &elsewhereError{runKey{r.key, r.turnID}, session.ErrFenced}
	}
	state := session.Failed
	if errors.Is(cause, errStopped) {
		state = session.Stopped
	}
	if r.journal != nil {
		failed := failure(ctx, ctx, err)
		if errors.Is(err, session.ErrNotFound) || errors.Is(cause, errDeleted) {
			failed = api.Fail(api.SessionNotFound, nil) // the deletion counts, and not what it led to
		}
		r.journal.fail(state, failed)
	}
	return err
}

// maxLogged bounds each text of a turn in the log, in bytes: Cloud Logging accepts
// entries of at most 256 KiB. Two of them fit, with room for escapes.
const maxLogged = 64 << 10

// load reads the session that req names, or creates a new one without a read. With an
// idempotency key it claims the key, or finds the stored turn. The error is
// [session.ErrTurnCount] if AfterTurn does not hold: the model is not asked for an answer
// that could not be stored.
func (s *Service) load(ctx context.Context, owner session.Owner, req *Request) (_ *session.Opened, err error) {
	loading, step := s.Observer.StartLoad(ctx)
	defer func() { step.End(loading, code(ctx, err)) }()
	if req.Options.Sessionless {
		return sessionless(session.Key{Owner: owner, ID: session.NewID()}, req.Options.History), nil
	}
	if req.Options.Key != "" {
		opening, cancel := context.WithTimeout(loading, storeTimeout)
		defer cancel()
		return session.Open(opening, s.Store, owner, req.SessionID, s.idempotency(*req), req.AfterTurn, s.Now)
	}
	var current *session.Session
	if req.SessionID == "" { // nothing is stored yet
		current = session.New(session.Key{Owner: owner, ID: session.NewID()})
	} else if current, err = s.stored(loading, session.Key{Owner: owner, ID: req.SessionID}, req.Options.Create); err != nil {
		return nil, err
	}
	if req.AfterTurn != nil && *req.AfterTurn != current.Turns {
		return nil, fmt.Errorf("%w: %d, not %d", session.ErrTurnCount, current.Turns, *req.AfterTurn)
	}
	return &session.Opened{Session: current}, nil
}

// sessionless returns a session that is not stored and holds a history.
func sessionless(key session.Key, history []json.RawMessage) *session.Opened {
	s := session.New(key)
	s.Turns = len(history)
	for i, contents := range history {
		// As a stored turn is encoded, so that the history is cut and sent as that of a
		// session is.
		data := slices.Concat([]byte(`{"contents":`), contents, []byte("}"))
		s.Recent = append(s.Recent, session.Record{Number: i + 1, Data: data})
	}
	return &session.Opened{Session: s}
}

// stored reads a session. If there is none and create is set, it returns a new one. The mark
// of a deletion which a key's retry must still find is not overwritten, even with create.
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

// commit stores the turn and returns its number, even if storing failed. It continues
// if the client disconnects. An answer that exists has been paid for. If storing failed, the
// number is the expected one.
func (s *Service) commit(ctx context.Context, opened *session.Opened, turn session.Turn, conditions session.Conditions) (_ int, err error) {
	committing, cancel := detach(ctx, commitTimeout)
	defer cancel()
	committing, step := s.Observer.StartCommit(committing)
	defer func() { step.End(committing, code(committing, err)) }()
	// A turn that another call has appended since the load may have lost its entry too.
	conditions.Onto = func(s *session.Session) { recordPreviousTurn(ctx, s.Key, s.Recent) }
	meta, err := session.Commit(committing, s.Store, opened.Session, turn, conditions)
	if err != nil {
		meta.Turns = cmp.Or(conditions.First, opened.Session.Turns+1)
		telemetry.SetTurn(ctx, func(t *telemetry.Turn) { t.Number = meta.Turns })
		return meta.Turns, err
	}
	telemetry.SetTurn(ctx, func(t *telemetry.Turn) { recordStored(t, opened.Session.Key, &turn, meta.Turns) })
	return meta.Turns, nil
}

// shutdownGrace is how much longer the store may take once the shutdown has cut a request
// off: the client must get its answer before the process ends. Cloud Run kills the process 10
// seconds after SIGTERM (https://cloud.google.com/run/docs/container-contract), and requests
// are cut off 8 seconds after it.
const shutdownGrace = 150 * time.Millisecond

// detach returns a context that survives the client's cancellation for at most d. It
// ends shortly after the instance cuts requests off.
func detach(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(drain.Detach(ctx, shutdownGrace), d)
}

// addStoreTime returns the time spent in the store since begin, which the request's log line
// has, too.
func (s *Service) addStoreTime(ctx context.Context, begin time.Time) time.Duration {
	spent := s.Now().Sub(begin)
	telemetry.SetTurn(ctx, func(t *telemetry.Turn) { t.StoreTime += spent })
	return spent
}

// unsaved reports whether err means that the store failed, rather than that the
// session has changed or is gone. Only then may the answer go out with a warning: in the
// other cases it is one to a conversation that is not there.
func unsaved(err error) bool {
	return !errors.Is(err, session.ErrNotFound) && !errors.Is(err, session.ErrTurnCount) && !errors.Is(err, session.ErrReplaced) &&
		!errors.Is(err, session.ErrStateConflict)
}
