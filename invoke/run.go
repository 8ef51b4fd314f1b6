package invoke

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/caller"
	"example.com/gatehouse/internal/drain"
	"example.com/gatehouse/internal/rescue"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/session"
)

// A run outlives what began it. Its client may leave, its request may end, another instance
// may take it over, and it may go on here for a client who has come only to watch. So what a
// run does ([Service.rescued], in the goroutine of its caller) and what is seen of it (a
// [watcher], in a goroutine of each client) meet only in its output, and the run's context is
// made by [Service.lifetime], which decides what can end it: the client, its time, the
// instance, a stop, or a takeover.

// A run is one execution of the agent, which appends one turn to a session.
type run struct {
	req     Request
	owner   session.Owner
	turnID  string       // made at the beginning, so that the run has an id
	out     *output      // what it shows
	watched bool         // somebody follows out while it runs
	taken   *session.Run // the record of a run that is taken over; nil: a new run
	claimed *session.Run // the record of a new run that is the entry of its key
	earlier *session.Run // the record of the run of an earlier call, which this one replays

	loadTime time.Duration // of the session

	key     session.Key // of the session, once it is known
	cancel  context.CancelCauseFunc
	journal *journal // nil: the run has no record

	stopping   bool         // it was taken over only to be stopped, as its record says
	superseded bool         // another run was stopped for it
	passed     bool         // it is about to wait: its record stops it; [runs] guards it
	unwritten  atomic.Bool  // the queue has had it begun, and its record does not have its holder yet
	ended      *session.Run // its record, once that is stored with its end

	timeout time.Duration // of a run that the queue brings to its end; 0: that of a request
}

// epoch returns how often r was taken over. The run's turn has it, by which a record finds
// the turn in which the run has ended, see [Service.wentOn].
func (r *run) epoch() int {
	if r.taken == nil {
		return 0
	}
	return r.taken.Epoch
}

// end notes that the record is stored with the run's end, nil for a run without one. It keeps
// a copy, because the store may hold the record.
func (r *run) end(record *session.Run, at time.Time) {
	if record == nil {
		return
	}
	ended := *record
	ended.UpdatedAt = at
	r.ended = &ended
}

// A runKey names a run of an owner. The owner is in the session's key: whoever names another
// owner's run finds none.
type runKey struct {
	session session.Key
	id      string
}

// runs are the runs of this process, by each key that a request may name. The zero runs are
// none. It is safe for concurrent use.
type runs struct {
	mu    sync.Mutex
	byKey map[runKey]*run
}

func (rs *runs) add(r *run) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.byKey == nil {
		rs.byKey = map[runKey]*run{}
	}
	rs.byKey[runKey{r.key, r.turnID}] = r
}

// remove removes r, unless its place is taken by a run that has taken over from it.
func (rs *runs) remove(r *run) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.byKey[runKey{r.key, r.turnID}] == r {
		delete(rs.byKey, runKey{r.key, r.turnID})
	}
}

func (rs *runs) get(key runKey) *run {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return rs.byKey[key]
}

// held is get for a run that is sure to be this process's. Two deliveries of a task may both
// begin a run, and until one of them has written its record, what each shows may be void.
func (rs *runs) held(key runKey) *run {
	r := rs.get(key)
	if r == nil || r.unwritten.Load() {
		return nil
	}
	return r
}

// stop ends a run that is sure to be this process's and returns it, nil if there is none.
func (rs *runs) stop(key runKey) *run {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r := rs.byKey[key]
	if r == nil || r.unwritten.Load() || r.passed {
		return nil
	}
	r.cancel(errStopped)
	return r
}

// settled waits until r, which was stopped here, has ended, and reports whether nobody can go
// on with it: it has no record, or that is stored with the run's end.
func (r *run) settled(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, journalEvery)
	defer cancel()
	err := r.out.each(ctx, &Position{}, new(true), func(Event) error { return nil })
	return r.journal == nil || err == nil && (r.ended != nil || !r.journal.kept())
}

// pass has whoever stops r do so by its record from now on. A stop before has ended r's
// context.
func (rs *runs) pass(r *run) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r.passed = true
}

// newest returns the run of a session that began last, nil for none. It looks at all of them,
// which are about as many as requests at once.
func (rs *runs) newest(key session.Key) (last *run) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for k, r := range rs.byKey {
		if k.session == key && (last == nil || r.out.since().After(last.out.since())) {
			last = r
		}
	}
	return last
}

// Ask runs one turn for the caller of ctx and returns its response. The error is an
// [*api.Error].
//
// With show, it is called with each event as it happens, one call at a time: start as
// soon as the question is admitted, done or error at the end. Then Ask returns an error
// only if there was no event. If show returns an error, its client has left: what becomes
// of the run then is the request's choice.
func (s *Service) Ask(ctx context.Context, req Request, show func(Event) error) (*Response, error) {
	r := newRun(ctx)
	r.req, r.watched = req, show != nil
	return s.work(ctx, r, show)
}

// work is [Service.drive] of a new run, from its start on.
func (s *Service) work(ctx context.Context, r *run, show func(Event) error) (*Response, error) {
	return s.drive(ctx, r, &Position{}, new(bool), show)
}

// newRun returns a run for the caller of ctx, whose request is to be set.
func newRun(ctx context.Context) *run {
	return &run{owner: caller.Owner(ctx), turnID: session.NewID(), out: &output{}}
}

// A request's stack has room for a turn from its beginning (growStack of package middleware). A
// turn that is deeper doubles it, and a thousand streams wait at once in frames of theirs. So a
// Request, a model's and its Answer go by pointer from here on, and an [Event] is made in a
// function of its own.

// drive works on r until it ends, and shows its events from a position on. The order at the
// end matters. The run leaves live first, so that a watcher which looks where it is does not
// find it here. Then its output ends, which ends the watchers, and only when this call's own
// has shown all does drive return: the ResponseWriter is not the handler's any more after
// that, and started is the watcher's until then.
func (s *Service) drive(client context.Context, r *run, at *Position, started *bool, show func(Event) error) (*Response, error) {
	ctx, cancel := s.lifetime(client, r)
	defer cancel(nil)
	r.cancel = cancel
	defer s.endedHere(client, r)
	defer s.live.remove(r)
	var w *watcher
	if show != nil {
		w = r.follow(at, started, show)
	}
	response, err := s.rescued(ctx, r)
	asker := client
	if r.stays() {
		client = ctx // whether the client has left does not matter
	}
	var failed *api.Error
	if err != nil {
		failed = failure(client, ctx, err)
	}
	elsewhere, moved := errors.AsType[*elsewhereError](err)
	s.live.remove(r) // before its watchers look where it is now
	r.out.end(outcome{response, failed, moved})
	left := w.wait()
	switch {
	// The client goes on seeing the run, wherever that is worked on.
	case moved && left == nil:
		response, err := s.watch(asker, elsewhere.run, at, started, show)
		if err != nil && *started && show != nil {
			showFailure(asker, elsewhere.run, *at, err, show)
			return nil, nil
		}
		return response, err
	// A run that was not admitted has shown no event. If it was taken over under a stream
	// that has begun, watch ends that.
	case failed != nil && (show == nil || !*started || !r.out.started()):
		return nil, failed
	}
	if unwritten, ok := errors.AsType[*api.Error](left); ok {
		failed = unwritten // which ended the run, instead of a client that left
	}
	if failed != nil {
		telemetry.Fail(client, failed)
	}
	if show != nil && left == nil {
		_ = s.showEnd(client, r.out, show) // no client is left to answer
	}
	return response, nil
}

// A watcher follows what a run shows. A nil watcher is none.
type watcher struct {
	done chan struct{}
	left error // why it is gone before the run's end
}

// follow starts to show the events of r from a position on. A watcher that leaves ends a
// run that does not go on without it. It is not ended by the client's context: the event that
// ends the run is still due when the time is over. A client that has gone fails the next
// write.
func (r *run) follow(at *Position, started *bool, show func(Event) error) *watcher {
	w := &watcher{done: make(chan struct{})}
	go func() {
		defer close(w.done)
		w.left = rescue.Call(func() error { return r.out.each(context.Background(), at, started, show) })
		if w.left != nil && !r.stays() { // stop paying for the model
			r.cancel(context.Canceled)
		}
	}()
	return w
}

// wait waits until w has seen all, and returns why it has not.
func (w *watcher) wait() error {
	if w == nil {
		return nil
	}
	<-w.done
	return w.left
}

// showEnd shows the event that ends a run.
func (s *Service) showEnd(ctx context.Context, out *output, show func(Event) error) error {
	end := out.outcome()
	e := Event{Kind: KindDone, Run: out.id(), At: out.last(), Response: end.response}
	if end.failure != nil {
		e.Kind, e.Envelope = KindError, api.Failure(ctx, end.failure)
	} else {
		e.Envelope = api.Success(ctx, invoked, end.response)
	}
	return show(e)
}

// showFailure shows the event that ends a run with an error which came after an event.
func showFailure(ctx context.Context, key runKey, at Position, err error, show func(Event) error) {
	failed := api.AsError(err)
	telemetry.Fail(ctx, failed)
	_ = show(Event{Kind: KindError, Run: session.RunID(key.session.ID, key.id), At: at, Envelope: api.Failure(ctx, failed)})
}

// An elsewhereError is the end of a run in this process that goes on, or has ended, in
// another one. It is never an answer: whoever waits for the run watches it there.
type elsewhereError struct {
	run   runKey
	cause error
}

func (e *elsewhereError) Error() string { return "the run is worked on elsewhere: " + e.cause.Error() }
func (e *elsewhereError) Unwrap() error { return e.cause }

// stays reports whether r goes on when its client has left. A run with a key stays because
// its retry wants the whole answer, and one that was taken over because those who wait for it
// did not begin it.
func (r *run) stays() bool {
	switch r.req.OnDisconnect {
	case DisconnectContinue:
		return true
	case DisconnectCancel:
		return false
	}
	return r.req.Options.Stay || r.req.Options.Key != "" || r.taken != nil
}

// lifetime returns the context of a run: that of its client, or one that ends only with
// the run's time or the instance. Its cause is why it has ended. The returned function must
// be called with nil when the run is over; with a cause it ends the run.
func (s *Service) lifetime(client context.Context, r *run) (context.Context, context.CancelCauseFunc) {
	deadline := time.Now().Add(cmp.Or(r.timeout, s.Timeout))
	asked, ok := client.Deadline()
	if ok && asked.Before(deadline) {
		deadline = asked
	}
	if !r.stays() && asked.Equal(deadline) { // the client's context ends with its time and the instance's
		return context.WithCancelCause(client)
	}
	base := client
	if r.stays() {
		base = drain.Detach(client, 0)
	}
	ctx, cancel := context.WithCancelCause(base)
	ctx, expire := context.WithDeadline(ctx, deadline)
	return ctx, func(cause error) {
		if cause == nil { // the run is over
			expire()
		}
		cancel(cause)
	}
}

// rescued is turn for a run with a watcher: a panic becomes the error that ends the run. A
// stream that has begun has its status, so only an event can end it, and it may have begun
// before the run did: that of a run which is taken over.
func (s *Service) rescued(ctx context.Context, r *run) (_ *Response, err error) {
	defer func() {
		if !r.watched {
			return
		}
		if p := recover(); p != nil {
			err = telemetry.Panicked(ctx, s.Log, p)
			r.journal.fail(session.Failed, api.AsError(err))
		}
	}()
	return s.turn(ctx, r)
}
