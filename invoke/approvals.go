package invoke

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"google.golang.org/genai"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/caller"
	"example.com/gatehouse/internal/drain"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/session"
	"example.com/gatehouse/tool"
)

// A run that waits for a person has stored its turn, with the finish reason WAITING, and holds
// no process, no lease and no memory: the answer may come days later, on any instance. What it
// waits for is in the run's record, and an answer is one conditional write to that. The write
// after which nothing is left to wait for also makes its writer the holder and raises the
// epoch, so that of two instances that enter the last answer at once only one goes on with the
// run. A new message that comes first denies what waits, in the write that appends its turn.
// Nothing is written when the time to answer is over: readers compare ExpiresAt.

// hasLedger reports whether a tool of the agent may change the world or ask a person.
// What a set of tools returns, or a Loop runs, is not known before. It decides whether a run that nobody
// watches has a journal, which writes nothing until such a tool is called.
func hasLedger(a agent.Agent) bool {
	return len(a.Toolsets) > 0 || a.Loop != nil || slices.ContainsFunc(a.Tools, func(t tool.Tool) bool { return t.HasEffect() || t.Asks() })
}

// generateOrFail is generate. A panic after an effect has begun is an error, so that the
// run leaves its turn. Before an effect a panic goes on, and turn releases the idempotency
// key. After one that would be wrong: a retry of the key would do again what was done.
func (s *Service) generateOrFail(ctx context.Context, g *generation, req *Request) (err error) {
	defer func() {
		if !g.run.journal.began() {
			return
		}
		if p := recover(); p != nil {
			err = telemetry.Panicked(ctx, s.Log, p)
		}
	}()
	if call := req.Options.Call; call != nil {
		return s.generateCall(ctx, g, req, call)
	}
	return s.generate(ctx, g, req)
}

// binds reports whether r leaves its turn although it failed: an effect has begun in it,
// and nobody else goes on with it.
func (r *run) binds(ctx context.Context) bool {
	cause := context.Cause(ctx)
	switch {
	// A fenced run is another holder's, and a deleted session takes no turn: one stored from
	// here would be a second one, or bring the session back.
	case !r.journal.began(), !r.req.Options.keepsEffects(), errors.Is(cause, session.ErrFenced), errors.Is(cause, errDeleted):
		return false
	case errors.Is(cause, drain.ErrCut): // whoever asks for it goes on
		return !r.watched && r.req.Options.Key == ""
	}
	return true
}

// endBound makes the turn of g's run, which failed with err after an effect had begun. The error
// that it returns is of making the turn. err itself becomes a warning of the turn, whose
// answer is a 200: a client that read an error would ask for the effect again.
func (s *Service) endBound(ctx context.Context, g *generation, err error) (session.RunState, error) {
	state, finish := session.Failed, genai.FinishReason(finishFailed)
	if cause := context.Cause(ctx); errors.Is(cause, errStopped) || errors.Is(cause, context.Canceled) {
		state, finish = session.Stopped, finishStopped
	}
	var failed *api.Error
	if state == session.Failed && !errors.Is(err, errEffectUnknown) {
		failed = failure(ctx, ctx, err)
		s.Log.ErrorContext(ctx, "A run failed after a tool had changed the world.", "error", err.Error(), "request_id", api.RequestID(ctx))
	}
	return state, g.fail(finish, failed)
}

// waited returns the session before r's turn, which r replaces because it has waited.
func (r *run) waited(current *session.Session) (*session.Session, string, error) {
	last, ok, err := current.Last()
	if err != nil || !ok || last.ID != r.turnID {
		return current, "", err
	}
	before, err := current.WithoutLast()
	return before, last.ID, err
}

// wentOn returns the turn in which the run of a turn that waits has ended, and the run's
// record, nil for none. That turn has taken the place of the one that waits since this was
// read, or it is a later one, if a message came while the run went on; it has the run's id
// then. The record may be of before the turn was read: last reports whether that was the
// session's last, for only then does a run that was seen to wait still do.
func (s *Service) wentOn(ctx context.Context, key session.Key, turn session.Turn, last bool, record *session.Run) (session.Turn, *session.Run, error) {
	if turn.FinishReason != finishWaiting {
		return turn, record, nil
	}
	if record == nil || record.State == session.Waiting && !last {
		var err error
		if record, err = s.Store.LoadRun(ctx, key, turn.ID); err != nil && !errors.Is(err, session.ErrNotFound) {
			return turn, nil, err
		}
	}
	if record == nil || !record.Over() || record.Turn < turn.Number {
		return turn, record, nil
	}
	_, records, err := s.Store.Turns(ctx, key, record.Turn-1, 1)
	if err != nil || len(records) == 0 {
		return turn, record, err
	}
	end, err := records[0].Turn()
	if err != nil || end.Epoch != record.Epoch || end.Number == turn.Number && end.ID != turn.ID {
		return turn, record, err
	}
	end.ID = turn.ID
	return end, record, nil
}

// waitingMember is how a turn that waits is stored. In a string of the turn, the quotes
// would be escaped.
var waitingMember = []byte(`"finish_reason":"` + finishWaiting + `"`)

// waitingTurn returns the last turn of current if it waits.
func waitingTurn(current *session.Session) (session.Turn, bool) {
	n := len(current.Recent)
	if n == 0 || !bytes.Contains(current.Recent[n-1].Data, waitingMember) {
		return session.Turn{}, false
	}
	last, err := current.Recent[n-1].Turn()
	return last, err == nil && last.FinishReason == finishWaiting
}

// waits reports whether a run waits for a person who may still answer. The first that expires
// ends the wait for all: a step goes on only when each of its calls is answered.
func (s *Service) waits(record *session.Run) bool {
	now := s.Now()
	return record.State == session.Waiting && !slices.ContainsFunc(record.Pending, func(p session.Pending) bool { return !now.Before(p.ExpiresAt) })
}

// settle makes t, the last turn of its session or not, one that clients may see: a turn
// that was stored as it began to wait may no longer do.
func (s *Service) settle(ctx context.Context, key session.Key, t *session.Turn, last bool) error {
	var record *session.Run
	// A turn that another one follows was denied by it, so only the last one needs its record
	// read.
	if last {
		var err error
		if *t, record, err = s.wentOn(ctx, key, *t, last, nil); err != nil && !errors.Is(err, session.ErrNotFound) {
			return err
		}
	}
	s.settleBy(record, t, last)
	return nil
}

// settleBy is settle for a turn whose run's record is read, nil for none. It returns how the
// run has failed since it waited, nil if it has not.
func (s *Service) settleBy(record *session.Run, t *session.Turn, last bool) *api.Error {
	if t.FinishReason != finishWaiting {
		return nil
	}
	t.Pending = nil
	switch {
	case record != nil && record.State == session.Working: // it goes on
		return nil
	case last && record != nil && s.waits(record):
		t.Pending = record.Pending
		return nil
	}
	t.FinishReason = finishStopped
	if record == nil || record.State != session.Failed || record.Result == nil {
		return nil
	}
	return failureOf(record)
}

// deniedByMessage is the reason of an answer by a new message.
const deniedByMessage = "A new message came first."

// denials returns what a commit writes of the run that the session's last turn waits with,
// because the turn of another run follows it. It is called before each write of the commit,
// with the session as that write has it. An answer that is entered at the same time is a write
// of the same record, so that one of the two fails: a run never goes on with a call that a
// message has denied.
func (s *Service) denials(own string, denied **session.Run) func(context.Context, *session.Session) (*session.Run, error) {
	return func(ctx context.Context, current *session.Session) (*session.Run, error) {
		*denied = nil
		last, ok := waitingTurn(current)
		if !ok || last.ID == own {
			return nil, nil
		}
		record, err := s.Store.LoadRun(ctx, current.Key, last.ID)
		switch {
		case errors.Is(err, session.ErrNotFound):
			return nil, nil
		case err != nil:
			return nil, err
		case record.State != session.Waiting: // it was answered, or stopped
			return nil, nil
		}
		step, _ := stepOf(record) // of a record that cannot be read, the run is over anyway
		next := stoppedWait(record)
		next.Answers = cloned(record.Answers)
		for _, p := range record.Pending {
			next.Answers[answerKey(step, p.CallID)] = session.Answer{Reason: deniedByMessage, By: string(current.Key.Owner), At: s.Now().UTC()}
		}
		*denied = next
		return next, nil
	}
}

// stoppedWait returns the record of a run that waits as it is once nobody can answer any more:
// its webhook is still to be told.
func stoppedWait(record *session.Run) *session.Run {
	next := *record
	next.State, next.Pending = session.Stopped, nil
	untold(&next, true)
	return &next
}

// reportEnd reports a run that has ended, or waits, in a request to its webhook. The request
// does not fail for it. The turn that it is about is stored already, and its answer must not
// depend on the queue.
func (s *Service) reportEnd(ctx context.Context, r *session.Run) {
	told := *r
	told.UpdatedAt = s.Now()
	if err := s.report(ctx, &told); err != nil {
		s.Log.WarnContext(ctx, "The webhook of a run could not be scheduled.", "error", err.Error(), "request_id", api.RequestID(ctx))
	}
}

// stepOf returns the step whose calls wait, 0 for a run that is over.
func stepOf(record *session.Run) (int, error) {
	c, err := readCheckpoint(record)
	if c == nil {
		return 0, err
	}
	return c.Step, nil
}

// maxReason bounds the reason of an answer, in characters. It has the value of the tags of
// [Approval] and [Feedback], which cannot name a constant.
const maxReason = 2000

// validReason reports whether text may be a reason, where no tag of [Approval] checks it.
func validReason(text string) bool {
	return utf8.RuneCountInString(text) <= maxReason && !strings.ContainsRune(text, 0)
}

// An Approval is the body of POST /runs/{id}/approvals.
type Approval struct {
	CallID  string `json:"call_id" minLength:"1" maxLength:"256" doc:"As pending has it."`
	Approve bool   `json:"approve"`
	Reason  string `json:"reason,omitempty" maxLength:"2000" pattern:"^[^\\x00]*$" patternDescription:"text without NUL" doc:"For the model and the record."`
}

// conflict returns the error of an approval that cannot be given, in words for a person.
func conflict(message string) *api.Error {
	e := api.Fail(api.SessionConflict, nil)
	e.Message = message
	return e
}

// Approve answers a call that a run of the caller waits for. When all that the run waits
// for is answered, the run goes on in this call, as [Service.Ask] does; until then, and
// without show where there is a queue, the response is nil. The error is an [*api.Error]. It
// is 404 for a run that is not the caller's, and 409, with a sentence for the person, for a
// call that was answered, whose time is over, or whose conversation went on.
func (s *Service) Approve(ctx context.Context, runID string, a Approval, show func(Event) error) (*Response, error) {
	key, err := runKeyOf(ctx, runID)
	if err != nil {
		return nil, err
	}
	telemetry.SetTurn(ctx, func(t *telemetry.Turn) { t.Session = key.session.Hash() })
	return s.answerRun(ctx, key, func(*session.Run) ([]Approval, error) { return []Approval{a}, nil }, show)
}

// answerRun enters what answers returns of the record of a run. If nothing is left that it
// waits for, the run goes on in this call; where there is a queue and nobody watches, the
// queue goes on with it, and the response is nil.
func (s *Service) answerRun(ctx context.Context, key runKey, answers func(*session.Run) ([]Approval, error), show func(Event) error) (*Response, error) {
	// A watcher wants the rest in this response. Without one the queue is the better place:
	// its task has RUN_TIMEOUT, a request only REQUEST_TIMEOUT.
	later := s.Queue != nil && show == nil
	saved, err := s.enterAnswers(ctx, key, later, answers)
	if err != nil || saved.State == session.Waiting {
		return nil, err
	}
	if later {
		err := s.schedule(ctx, saved)
		if err == nil {
			return nil, nil
		}
		s.Log.WarnContext(ctx, "The queue took no task: a run that was answered goes on in its request.", "error", err.Error(), "request_id", api.RequestID(ctx))
		if saved, err = s.hold(ctx, saved); err != nil {
			return nil, failure(ctx, ctx, err)
		}
	}
	asked, err := decodeRun(saved)
	if err != nil {
		return nil, err
	}
	if !later {
		// If this process dies, nobody asks for the run again: the person has done their part.
		s.left(ctx, saved)
	}
	r := &run{
		req: asked.Request, owner: key.session.Owner, turnID: saved.ID, key: key.session, out: &output{}, watched: true, taken: saved,
	}
	r.out.restore(saved.Parts, saved.Resets)
	// Whoever answers has seen what led to the question, so the events begin behind it.
	at := &Position{Attempt: len(saved.Resets), Part: len(saved.Parts)}
	return s.drive(ctx, r, at, new(bool), show)
}

// hold makes this process the holder of a run that has none. A task that the queue took
// although its reply was lost may be first; the error is then [session.ErrChanged], since both
// write the same revision.
func (s *Service) hold(ctx context.Context, record *session.Run) (*session.Run, error) {
	ctx, cancel := detach(ctx, storeTimeout)
	defer cancel()
	held := *record
	held.Holder = session.NewID()
	return s.Store.SaveRun(ctx, &held)
}

// ended reports a run that has gone on in a request, or was denied by it, to its webhook. It
// reads the record again: the run may have been taken over, and its end is then not this
// process's.
func (s *Service) ended(ctx context.Context, record *session.Run) {
	if record == nil || webhookOf(record).URL == "" {
		return
	}
	ctx, cancel := detach(ctx, storeTimeout)
	defer cancel()
	if now, err := s.Store.LoadRun(ctx, record.Key, record.ID); err == nil {
		s.reportEnd(ctx, now)
	}
}

// endedHere reports a run that this process worked on to its webhook, unless a task of the
// queue does. If its end is not known here, the record has it.
func (s *Service) endedHere(ctx context.Context, r *run) {
	switch {
	case r.timeout != 0:
	case r.ended != nil && r.ended.Deliveries != nil:
		s.reportEnd(ctx, r.ended)
	case r.ended == nil && r.journal.delivered() != nil:
		s.ended(ctx, &session.Run{Key: r.key, ID: r.turnID, Deliveries: r.journal.delivered()})
	}
}

// enterAnswers enters answers in the record of a run, one call of this process at a time.
// The write is conditional, so that of answers at once only one is entered; those of an
// impatient person must not contend for the record, which would be slow.
func (s *Service) enterAnswers(ctx context.Context, key runKey, later bool, answers func(*session.Run) ([]Approval, error)) (*session.Run, error) {
	leave, err := s.answering.enter(ctx, key)
	if err != nil {
		return nil, failure(ctx, ctx, err)
	}
	defer leave()
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	// Each try judges the answers by the record as it is then, so a call that another has
	// answered in between becomes a conflict instead of being answered twice.
	for range stopTries {
		saved, err := s.tryAnswers(ctx, key, later, answers)
		if !errors.Is(err, session.ErrChanged) {
			return saved, err
		}
	}
	// Nothing was entered, so the same answers may be sent again.
	return nil, api.Fail(api.SessionStoreUnavailable, session.ErrChanged)
}

// An oneByOne lets one call at a time work on a run. The zero oneByOne is free. It is safe
// for concurrent use. It knows only runs that a call works on or waits for, so that the
// requests in flight bound its memory.
type oneByOne struct {
	mu    sync.Mutex
	byKey map[runKey]*runPlace
}

// A runPlace is taken by whoever could put something into free.
type runPlace struct {
	free  chan struct{}
	calls int // that have it or wait for it
}

// enter waits until no other call works on the run. The caller calls leave. The error is the
// cause of ctx's end; leave is then nil.
func (o *oneByOne) enter(ctx context.Context, key runKey) (leave func(), err error) {
	o.mu.Lock()
	p := o.byKey[key]
	if p == nil {
		p = &runPlace{free: make(chan struct{}, 1)}
		if o.byKey == nil {
			o.byKey = map[runKey]*runPlace{}
		}
		o.byKey[key] = p
	}
	p.calls++
	o.mu.Unlock()
	// A call that stops waiting leaves as one that is done does, or the map would keep the
	// run.
	gone := func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		if p.calls--; p.calls == 0 {
			delete(o.byKey, key)
		}
	}
	select {
	case p.free <- struct{}{}:
		return func() { <-p.free; gone() }, nil
	case <-ctx.Done():
		gone()
		return nil, context.Cause(ctx)
	}
}

// tryAnswers makes one try to enter answers. When nothing waits any more, the caller holds
// the run, or nobody if it is to go on later. The error is [session.ErrChanged] if the record
// has changed since it was read.
func (s *Service) tryAnswers(ctx context.Context, key runKey, later bool, answers func(*session.Run) ([]Approval, error)) (*session.Run, error) {
	record, err := s.Store.LoadRun(ctx, key.session, key.id)
	if errors.Is(err, session.ErrNotFound) {
		// The record is gone after [session.RunLife]. The turn knows whether the run is over or was
		// never there.
		if _, err := session.Find(ctx, s.Store, key.session, key.id); err == nil {
			return nil, runOver()
		}
		return nil, runNotFound()
	}
	if err != nil {
		return nil, storeFailure(err)
	}
	asked, unreadable := decodeRun(record)
	step, err := stepOf(record)
	if err = errors.Join(unreadable, err); err != nil && record.State == session.Waiting {
		return nil, s.endUnreadable(ctx, record, err)
	}
	given, err := answers(record)
	if err != nil {
		return nil, err
	}
	who, _ := caller.FromContext(ctx)
	next := *record
	next.Pending, next.Answers = slices.Clone(record.Pending), cloned(record.Answers)
	var said []string
	for _, a := range given {
		if err := s.answerable(&next, a.CallID); err != nil { // by the answers before it, too
			return nil, err
		}
		if a.Reason, err = s.comment(ctx, key.session, record.Turn, "approval", a.Reason, maxReason); err != nil {
			return nil, err
		}
		said = append(said, auditText(record, a))
		next.Answers[answerKey(step, a.CallID)] = session.Answer{Approve: a.Approve, Reason: a.Reason, By: string(who.Principal.Owner()), At: s.Now().UTC()}
		next.Pending = slices.DeleteFunc(next.Pending, func(p session.Pending) bool { return p.CallID == a.CallID })
	}
	if asked.Options.Call == nil { // which has no session
		if err := s.isLast(ctx, record); err != nil {
			return nil, err
		}
	}
	if len(next.Pending) == 0 {
		next.State, next.Holder, next.Pending = session.Working, session.NewID(), nil
		if later {
			// The task takes the run over as it takes one whose holder has died.
			next.Holder = ""
		}
		// What a holder of before the wait may still write is fenced.
		next.Epoch++
	}
	saved, err := s.Store.SaveRun(ctx, &next)
	if err != nil && !errors.Is(err, session.ErrChanged) {
		return nil, storeFailure(err)
	}
	telemetry.SetTurn(ctx, func(t *telemetry.Turn) { t.Calls = strings.Join(said, ", ") })
	return saved, err
}

// isLast returns the error of an answer to a run whose turn is not its session's last one. The
// record is conditioned and the session is not: a message that comes after this read writes the
// record, too, since it denies what waits, and the save of the answer fails.
func (s *Service) isLast(ctx context.Context, record *session.Run) error {
	current, err := s.Store.Load(ctx, record.Key)
	if errors.Is(err, session.ErrNotFound) {
		s.overtaken(ctx, record)
	}
	if err != nil {
		return storeFailure(err)
	}
	last, ok, err := current.Last()
	if err != nil {
		return api.Fail(api.Internal, err)
	}
	if !ok || last.ID != record.ID {
		s.overtaken(ctx, record)
		return conflict("The conversation went on without this answer. Ask again.")
	}
	return nil
}

// overtaken stops a run that waits in a session that has gone on, or is gone. A revision that
// knows no runs stores a turn behind one that waits, and does not deny it as [Service.denials]
// does.
func (s *Service) overtaken(ctx context.Context, record *session.Run) {
	if saved, err := s.Store.SaveRun(ctx, stoppedWait(record)); err == nil { // else the next answer does
		s.found(ctx, saved)
	}
}

// auditText returns what the audit has of an answer. The arguments and the reason are content,
// and left out: the audit has who did what, not what was written.
func auditText(record *session.Run, a Approval) string {
	word, name := "denied", ""
	if a.Approve {
		word = "approved"
	}
	for _, p := range record.Pending {
		if p.CallID == a.CallID {
			name = p.Name
		}
	}
	return word + " " + name + " " + a.CallID
}

// answerable returns the error of an answer to a call for which record does not wait.
func (s *Service) answerable(record *session.Run, call string) error {
	i := slices.IndexFunc(record.Pending, func(p session.Pending) bool { return p.CallID == call })
	// This comes before the state is judged: a second click of the same button is to read that
	// its answer was entered, also when the run has gone on since.
	if i < 0 {
		for answered := range record.Answers {
			if _, id, _ := strings.Cut(answered, "/"); id == call {
				return conflict("This was answered already.")
			}
		}
	}
	switch {
	case record.State != session.Waiting:
		return runOver()
	case i < 0:
		e := api.Fail(api.NotFound, nil)
		e.Message = "There is nothing to approve under this id."
		return e
	case !s.Now().Before(record.Pending[i].ExpiresAt):
		return conflict("The time to approve this is over. Ask again.")
	}
	return nil
}

// The actions of an approval in the audit.
const (
	auditApprove = "run.approve"
	auditDeny    = "run.deny"
)

// approvalRoute returns the route of POST /runs/{id}/approvals.
func (s *Service) approvalRoute() api.Route {
	return api.Route{
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
	}
}

// approveRun handles POST /runs/{id}/approvals.
func (s *Service) approveRun(w http.ResponseWriter, r *http.Request) error {
	body, err := s.approval.Read(w, r, s.MaxBodyBytes, s.Timeout)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.Timeout)
	defer cancel()
	action := auditDeny
	if body.Approve {
		action = auditApprove
	}
	// Set before the answer is entered, so that the audit names one that is refused, too.
	telemetry.SetTurn(ctx, func(t *telemetry.Turn) { t.Action = action })
	id := r.PathValue("id")
	if _, _, streamed := api.Negotiate(r); streamed {
		st := newStream(w, r, events{})
		defer st.close()
		response, err := s.Approve(ctx, id, body, st.show)
		if err != nil || response != nil || st.started() {
			return err
		}
	} else if response, err := s.Approve(ctx, id, body, nil); err != nil || response != nil {
		if err != nil {
			return err
		}
		return api.WriteSuccess(w, r, invoked, response)
	}
	// Without response and error the run waits for more, or the queue goes on with it: 202,
	// with the run as it is.
	info, err := s.Read(ctx, id)
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/runs/"+id)
	message := accepted
	if info.State == session.Waiting {
		message = "The run waits for more answers"
	}
	return api.WriteAccepted(w, r, message, info)
}
