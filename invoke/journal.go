package invoke

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"time"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/caller"
	"example.com/gatehouse/session"
)

// One conditional write a second serves four ends: it stores what was shown, for whoever
// resumes; it shows that the holder lives, for whoever would take over; it finds out that the
// run is to stop; and it fails when another has taken over. So the holder neither polls nor
// listens. A run that is over within its first second has no record, unless an effect or a
// queue needs one before, and a usual turn costs no write more. The lock is held during a
// write: each write needs the revision of the one before, and two at once would fence the run
// from itself.

// journalEvery is how often a run with a record writes it, and how long a run goes on
// before it gets one. It is a fifth of [session.LeaseTime], so that a few writes may fail or
// be late before another takes the run over.
const journalEvery = time.Second

// The causes that end a run from outside.
var (
	errStopped = errors.New("the run was stopped")
	errDeleted = errors.New("the run's session was deleted")
)

// A journal writes the record of a run: what it has shown and what its finished steps
// have come to. Each write is the sign that the holder lives, too, and fails when
// somebody has stopped the run or taken it over; then the run is ended. A webhook that was
// set since the write before is taken over, and nothing else. A nil journal does nothing. It
// is safe for concurrent use.
type journal struct {
	s    *Service
	ctx  context.Context // of the run, for its values
	run  *run
	hold *session.Opened // the session, and the claim of the run's key

	mu         lock
	record     session.Run // as it is stored, or is to be
	attempted  bool        // a write was tried, so that there may be a record
	checkpoint *checkpoint // of the finished steps
	timer      *time.Timer
	closed     bool
	unsettled  bool // the record may not have the run's end
}

// A lock is a mutex that is held during calls of the store. Unlike one of package sync,
// a goroutine that waits for it is blocked for testing/synctest, too.
type lock chan struct{}

func (l lock) Lock()   { l <- struct{}{} }
func (l lock) Unlock() { <-l }

// newJournal returns the journal of a run that holds a session and starts it a second
// before the first write.
func (s *Service) newJournal(ctx context.Context, r *run, req *Request, hold *session.Opened, turn int) *journal {
	j := &journal{s: s, ctx: ctx, run: r, hold: hold, mu: make(lock, 1)}
	switch {
	case r.taken != nil:
		j.record, j.attempted = *r.taken, true
	case r.claimed != nil:
		j.record, j.attempted = *r.claimed, true
		j.record.Request = s.encodeRun(ctx, *req, bodyOf(s.idempotency(r.req)))
	default:
		j.record = session.Run{
			Key: hold.Session.Key, ID: r.turnID, State: session.Working, Holder: session.NewID(), Turn: turn, Request: s.encodeRun(ctx, *req, ""),
		}
		if hold.Claim != nil {
			j.record.KeyHash = hold.Claim.Hash()
		}
	}
	return j
}

// start begins the writes, each a second after the one before.
func (j *journal) start() {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.schedule()
}

// schedule begins the writes. The caller holds mu.
func (j *journal) schedule() {
	if j.timer != nil || j.closed {
		return
	}
	j.timer = time.AfterFunc(journalEvery, func() {
		if first := j.tick(); first != nil && j.run.taken == nil && j.run.stays() {
			j.s.left(j.ctx, first)
		}
	})
}

// tick makes one of the regular writes. It returns the record if that was its first.
func (j *journal) tick() (first *session.Run) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil
	}
	stored, begun := j.record.Revision != nil, time.Now()
	// Canceling ends the model call, too: nobody pays for a run that is another's.
	if _, err := j.write(); err != nil {
		j.run.cancel(err)
		return nil
	}
	// From the beginning of the write on: a slow store must not make a stop wait for longer
	// than the time of one write more. Not at once, so that whoever waits to end the run is first.
	j.timer.Reset(max(journalEvery-time.Since(begun), journalEvery/10))
	if stored || j.record.Revision == nil {
		return nil
	}
	record := j.record
	return &record
}

// finished takes over what the finished steps have come to, for the next write.
func (j *journal) finished(c *checkpoint) {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.checkpoint = c
}

// enter enters effects that begin in the ledger and writes the record at once, with all that is
// finished. The error is that of a run that must end, or [session.ErrUnavailable].
func (j *journal) enter(effects map[string]session.Effect) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	before := j.record.Effects
	if len(effects) > 0 {
		j.record.Effects = cloned(before)
		maps.Copy(j.record.Effects, effects)
	}
	for {
		// The system's clock, not the service's: what counts is how long the process really
		// took.
		begun := time.Now()
		saved, err := j.write()
		if err != nil {
			j.run.cancel(err)
			return err
		}
		if !saved {
			j.record.Effects = before
			return session.ErrUnavailable
		}
		if time.Since(begun) < session.LeaseTime {
			break
		}
		// The process stood still. Another may have taken the run over since the write.
	}
	j.schedule() // a run that has a record shows that its holder lives
	return nil
}

// write writes the record, and reports whether it is written and why the run must end,
// nil if it goes on. It is tried again at the next time if the store does not answer. The
// caller holds mu.
func (j *journal) write() (saved bool, _ error) {
	ctx, cancel := detach(j.ctx, storeTimeout)
	defer cancel()
	next := j.record
	next.Parts, next.Resets = j.run.out.shown()
	next.Checkpoint = j.checkpoint.encode(next.Checkpoint)
	err := j.save(ctx, next)
	switch {
	case err == nil && j.record.Stop && !j.run.stopping: // it came between the write and its reply
		return false, errStopped
	// A holder that cannot reach the store works on. If another takes the run over in this
	// time, the first write that gets through fails on its condition, and so does the commit.
	case err == nil || errors.Is(err, session.ErrUnavailable):
		return err == nil, nil
	case errors.Is(err, session.ErrTakenOver), errors.Is(err, session.ErrFenced):
		return false, session.ErrFenced
	}
	if !errors.Is(err, session.ErrChanged) && !errors.Is(err, session.ErrNotFound) {
		j.s.Log.ErrorContext(j.ctx, "The record of a run could not be written.", "error", err.Error(), "request_id", api.RequestID(j.ctx))
		return false, nil
	}
	// A webhook or a stop may come between each read and the write after it. If more of them
	// come than there are tries, the next write meets the last one.
	for range stopTries {
		stored, err := j.s.Store.LoadRun(ctx, next.Key, next.ID)
		switch {
		case errors.Is(err, session.ErrRunDeleted):
			return false, errDeleted
		case errors.Is(err, session.ErrNotFound) && next.Revision == nil: // the session has changed; the next write finds out
			return false, nil
		case errors.Is(err, session.ErrNotFound):
			return false, errDeleted
		case err != nil:
			return false, nil
		case stored.Request == nil: // of a stop that came before any record
		case !stored.HeldBy(next.Holder, next.Epoch) || stored.Over():
			return false, session.ErrFenced
		}
		next.Revision, next.Deliveries = stored.Revision, stored.Deliveries
		j.record.Revision, j.record.Stop, j.record.Deliveries = stored.Revision, stored.Stop, stored.Deliveries
		if stored.Stop && !j.run.stopping {
			return false, errStopped
		}
		err = j.save(ctx, next)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, session.ErrUnavailable):
			return false, nil
		case !errors.Is(err, session.ErrChanged) && !errors.Is(err, session.ErrNotFound):
			return false, err
		}
	}
	return false, nil
}

// save makes one conditional write. The first one of a run that holds a key binds the
// key to the record. The caller holds mu.
func (j *journal) save(ctx context.Context, next session.Run) error {
	var saved *session.Run
	var err error
	if next.Revision == nil && j.hold.Claim != nil {
		j.hold.Session, saved, err = session.Begin(ctx, j.s.Store, j.hold.Session, j.hold.Claim, &next)
	} else {
		saved, err = j.s.Store.SaveRun(ctx, &next)
	}
	// Also if it failed: a write whose reply was lost may have been made.
	j.attempted = true
	if err == nil {
		j.record = *saved
		j.run.unwritten.Store(false)
	}
	return err
}

// kept reports whether there may be a record.
func (j *journal) kept() bool {
	if j == nil {
		return false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.attempted
}

// close ends the writes and returns the record as the run's end is to leave it, nil if
// there is none. The caller writes that record, in one commit with the turn if there is one: a
// run is over in both or in neither.
func (j *journal) close(state session.RunState) *session.Run {
	if j == nil {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = true
	if j.timer != nil {
		j.timer.Stop()
	}
	if !j.attempted {
		return nil
	}
	end := j.record
	end.State, end.Stop = state, false
	end.Parts, end.Resets, end.Checkpoint = nil, nil, nil // the turn has them
	return &end
}

// fail writes the end of a run that leaves no turn, with what it has shown. A run that
// is cut off with its instance is left to whoever asks for it.
func (j *journal) fail(state session.RunState, failure *api.Error) {
	if j == nil {
		return
	}
	end := j.close(state)
	if end == nil {
		return
	}
	ctx, cancel := detach(j.ctx, storeTimeout)
	defer cancel()
	end.Parts, end.Resets = j.run.out.shown()
	switch {
	case failure.Code == api.SessionNotFound: // it was deleted, and nothing of it may stay
		end = &session.Run{Key: end.Key, ID: end.ID, State: session.Failed, Epoch: end.Epoch, Turn: end.Turn, Revision: end.Revision}
	// After an effect the run is left open although it failed: its key stays bound, and
	// whoever takes it over knows from the ledger what was done.
	case failure.Code == api.ShuttingDown || len(end.Effects) > 0 && j.run.req.Options.keepsEffects():
		end.State, end.Holder = session.Working, ""
		end.Stop = j.record.Stop || errors.Is(context.Cause(j.ctx), errStopped)
		end.Checkpoint = j.checkpoint.encode(j.record.Checkpoint)
	}
	if end.State != session.Working {
		end.Result, _ = json.Marshal(api.Failure(j.ctx, failure)) // strings and numbers
	}
	unsettled := !j.settle(ctx, end)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.unsettled = unsettled
}

// settle writes the end of a run, and reports whether its record, if there is one, has an
// end. Otherwise another may go on with the run.
func (j *journal) settle(ctx context.Context, end *session.Run) bool {
	j.mu.Lock()
	holder := j.record.Holder // end may have none
	j.mu.Unlock()
	// Further tries are for a stop, webhooks, or an earlier write whose reply was lost.
	for range stopTries {
		if end.Revision != nil {
			_, err := j.s.Store.SaveRun(ctx, end)
			if !errors.Is(err, session.ErrChanged) {
				return err == nil || errors.Is(err, session.ErrNotFound)
			}
		}
		stored, err := j.s.Store.LoadRun(ctx, end.Key, end.ID)
		switch {
		case errors.Is(err, session.ErrNotFound):
			return true
		case err != nil || !stored.HeldBy(holder, end.Epoch):
			return false
		case stored.State != session.Working: // by a commit of which this holder has not heard
			return true
		}
		end.Revision, end.Deliveries = stored.Revision, stored.Deliveries
		end.Stop = end.Stop || stored.Stop && end.State == session.Working
		j.mu.Lock()
		j.record.Deliveries = stored.Deliveries
		j.mu.Unlock()
	}
	return false
}

// delivered returns what is to be delivered of the run, as far as the journal has met it.
func (j *journal) delivered() json.RawMessage {
	if j == nil {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.record.Deliveries
}

// open reports whether another may go on with the run, although it has failed here.
func (j *journal) open() bool {
	if j == nil {
		return false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.unsettled
}

// A runRequest is what the record of a run has of its request: enough to go on without
// it. It holds no credential. Whether the caller is still admitted, and is an operator, is not
// believed from here: the queue's tasks ask again.
type runRequest struct {
	Request   Request        `json:"request"`
	Options   Options        `json:"options"`
	Caller    caller.Caller  `json:"caller"`
	RequestID string         `json:"request_id"`
	Model     string         `json:"model"`
	Inline    bool           `json:"inline,omitempty"` // it had files that are stored nowhere
	Files     []session.File `json:"files,omitempty"`  // that were kept, until a checkpoint refers to them
	Body      string         `json:"body,omitempty"`   // digest of what was sent, of a run without a session that has a key
}

// encodeRun returns what the record of a run has of its request. body is the digest of
// what was sent, of a run whose record is the entry of its key.
func (s *Service) encodeRun(ctx context.Context, req Request, body string) json.RawMessage {
	who, _ := caller.FromContext(ctx)
	asked := runRequest{
		Options: req.Options, Caller: who, RequestID: api.RequestID(ctx), Model: cmp.Or(req.Model, s.ModelName),
		Inline: !s.keeps(req), Body: body,
	}
	for _, a := range req.attached {
		asked.Files = append(asked.Files, a.File)
	}
	req.Files = nil // contents are the bucket's
	asked.Request = req
	request, _ := json.Marshal(asked) // strings and numbers
	return request
}

// decodeRun returns what a record has of its request.
func decodeRun(record *session.Run) (runRequest, error) {
	var r runRequest
	if err := json.Unmarshal(record.Request, &r); err != nil {
		return runRequest{}, api.Fail(api.Internal, err)
	}
	r.Request.Options = r.Options
	return r, nil
}
