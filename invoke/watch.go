package invoke

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/caller"
	"example.com/gatehouse/session"
)

const (
	// pollEvery is how often an instance reads the record of a run that another one works
	// on, however many watchers it has.
	pollEvery = time.Second
	// appearWithin is how long a run that is in its first second elsewhere is waited for.
	appearWithin = 2 * time.Second
	// maxEpoch bounds how often a run is taken over: what ends its holder each time is not
	// tried for ever. A run that goes on after an answer is taken over up to twice.
	maxEpoch = 8
)

// A run can be in one of four places, and moves between them while it is watched: worked on
// in this process, worked on by another instance, held by nobody because its holder died, or
// over. [Service.source] finds the place, and [Service.follow] shows what is there until the
// run moves or ends. The watcher's position goes along, so what it is shown is the same bytes
// in the same order wherever they come from.
//
// Death is distinguished from silence by the store's clock only: a record that was not written for
// [session.LeaseTime] has lapsed, and whoever needs the run takes it over by a conditional
// write with the next epoch. If the holder was only slow, its next write fails on that, and
// it ends. So at most one holder's turn is committed, and an instance whose clock is wrong
// does no harm.

// errNothingLeft: the position is that of the run's last event.
var errNothingLeft = errors.New("the run is over and was shown whole")

// Watch shows the events of a run of the caller, behind an event's id unless that is "",
// until the run ends, and returns its response. If the instance that worked on the run
// has died, this call goes on with it. With a nil show it only waits. The error is an
// [*api.Error]; with show, there is one only if there was no event.
func (s *Service) Watch(ctx context.Context, runID, lastEventID string, show func(Event) error) (*Response, error) {
	key, err := runKeyOf(ctx, runID)
	if err != nil {
		return nil, err
	}
	at, started := &Position{Attempt: -1}, false
	if lastEventID != "" {
		p, ok := ParseEventID(runID, lastEventID)
		if !ok {
			return nil, api.Malformed("Last-Event-ID", "must be the id of an event of this run")
		}
		at, started = &p, true
	}
	return s.watch(ctx, key, at, &started, show)
}

// runKeyOf returns the key of a run of the caller of ctx. An id that is none is not
// found, like that of another caller's run. Isolation needs no check: another owner's run has
// another key.
func runKeyOf(ctx context.Context, runID string) (runKey, error) {
	sessionID, turnID, ok := session.SplitRunID(runID)
	if !ok {
		return runKey{}, runNotFound()
	}
	return runKey{session.Key{Owner: caller.Owner(ctx), ID: sessionID}, turnID}, nil
}

// runNotFound returns the answer for a run that is unknown or another owner's.
func runNotFound() *api.Error {
	return &api.Error{Code: api.NotFound, Message: "There is no such run, or it is over and forgotten."}
}

// watch is [Service.Watch] from a position on. An error that comes after an event is an
// event.
func (s *Service) watch(ctx context.Context, key runKey, at *Position, started *bool, show func(Event) error) (*Response, error) {
	if show == nil {
		return s.follow(ctx, key, at, started, nil)
	}
	begun := false
	response, err := s.follow(ctx, key, at, started, func(e Event) error {
		begun = true
		return show(e)
	})
	if err == nil || !begun {
		return response, err
	}
	showFailure(ctx, key, *at, err, show)
	return nil, nil
}

// follow shows a run from at on, and follows it when it moves to another instance, or to this
// one: then it goes on with the run. A run that began elsewhere a moment ago may have no
// record yet, so it is waited for.
func (s *Service) follow(ctx context.Context, key runKey, at *Position, started *bool, show func(Event) error) (*Response, error) {
	begin, found, connected := time.Now(), false, false
	for {
		out, taken, err := s.source(ctx, key)
		switch {
		case errors.Is(err, session.ErrNotFound) && time.Since(begin) < appearWithin && !(found && *started):
			select { // it may be in its first second elsewhere
			case <-time.After(pollEvery / 4): // to share a look that may have been too early
				continue
			case <-ctx.Done():
				return nil, failure(ctx, ctx, context.Cause(ctx))
			}
		case errors.Is(err, session.ErrNotFound):
			return nil, runNotFound()
		case err != nil:
			return nil, failure(ctx, ctx, err)
		case taken != nil:
			at.settle(taken.out)
			return s.drive(ctx, taken, at, started, show)
		}
		found = true
		at.settle(out.output)
		if *started && out.final && !out.reaches(*at) {
			out.leave()
			return nil, api.Malformed("Last-Event-ID", "is beyond the end of this run")
		}
		if end := out.last(); *started && out.over() && *at == end {
			out.leave()
			return nil, errNothingLeft
		}
		each := show
		if show == nil {
			each = func(Event) error { return nil }
		}
		if *started && !connected { // its next event may be long in coming
			// The comment opens the response: an EventSource counts as connected only when it
			// has the headers.
			connected = true
			err = each(Event{Run: session.RunID(key.session.ID, key.id), At: *at})
		}
		if err == nil {
			err = out.each(ctx, at, started, each)
		}
		out.leave()
		if err != nil { // the watcher has left, or does not read: neither is a failure of the store
			left, leave := context.WithCancel(ctx)
			leave()
			return nil, failure(ctx, left, err)
		}
		end := out.outcome()
		// The run is looked for again, with the position that was reached.
		if end.moved {
			continue
		}
		if show == nil {
			if end.failure != nil {
				return nil, end.failure
			}
			return end.response, nil
		}
		if !out.reaches(*at) { // while it went on, that was not known
			return nil, api.Malformed("Last-Event-ID", "is beyond the end of this run")
		}
		_ = s.showEnd(ctx, out.output, show)
		return end.response, nil
	}
}

// settle makes p, if it is that of a watcher from the start on, the start of out.
func (p *Position) settle(out *output) {
	if p.Attempt < 0 {
		_, resets := out.shown()
		*p = Position{Attempt: len(resets)}
	}
}

// A source is where the events of a run come from.
type source struct {
	*output
	final bool // nothing more can come than what its holder has shown
	leave func()
}

// source returns where a run can be watched: in this process, in its session, or in its
// record. A run whose holder has died is returned as taken over, to one watcher. The order
// matters: this process knows its runs without a read, and a mirror reads already. The caller
// must call leave of the source when it has read enough. The error is [session.ErrNotFound]
// for a run that has neither record nor turn.
func (s *Service) source(ctx context.Context, key runKey) (*source, *run, error) {
	for {
		if r := s.live.held(key); r != nil {
			return &source{r.out, true, func() {}}, nil, nil
		}
		if m := s.mirrors.join(key); m != nil {
			return s.mirrored(m), nil, nil
		}
		l, first := s.lookups.join(key)
		if first {
			return s.look(ctx, key, l)
		}
		select {
		case <-l.done:
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
		}
		if l.out != nil {
			return &source{l.out, true, func() {}}, nil, nil
		}
		if l.err != nil {
			return nil, nil, l.err
		}
	}
}

// mirrored returns a run of another instance as a source. All of its watchers here share m,
// which reads the record; the last one to leave ends it.
func (s *Service) mirrored(m *mirror) *source {
	return &source{m.out, false, func() { s.mirrors.leave(m) }}
}

// look reads where a run can be watched, for all who ask at the same time.
func (s *Service) look(ctx context.Context, key runKey, l *lookup) (_ *source, _ *run, err error) {
	defer func() {
		// A look that ended with its own client has no result: one of the others looks again.
		if err != nil && ctx.Err() == nil {
			l.err = err
		}
		s.lookups.end(l)
	}()
	reading, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	record, err := s.loadRun(reading, key)
	if err != nil && !errors.Is(err, session.ErrNotFound) {
		return nil, nil, err
	}
	if err != nil || record.State != session.Working {
		s.found(ctx, record)
		out := &output{}
		if record, err = s.showEnded(reading, key, record, out); err != nil {
			return nil, nil, err
		}
		if record == nil {
			l.out = out
			return &source{out, true, func() {}}, nil, nil
		}
	}
	if record.Lapsed() {
		taken, err := s.takeOver(reading, record, false)
		if err == nil {
			return nil, taken, nil
		}
		if !errors.Is(err, session.ErrChanged) {
			return nil, nil, err
		}
	}
	// It is another instance's, or has become another's since it was read.
	return s.mirrored(s.mirrors.begin(s, key, record)), nil, nil
}

// showEnded makes out show a run that is over, or waits: its turn, or its record if that
// left none. It returns the record of one that has gone on since.
func (s *Service) showEnded(ctx context.Context, key runKey, record *session.Run, out *output) (goesOn *session.Run, err error) {
	var turn session.Turn
	current, err := s.Store.Load(ctx, key.session)
	if err == nil {
		turn, err = session.FindIn(ctx, s.Store, current, key.id)
	}
	if err == nil {
		turn, record, err = s.wentOn(ctx, key.session, turn, turn.Number == current.Turns, record)
	}
	switch {
	case err == nil && turn.FinishReason == finishWaiting && record != nil && record.State == session.Working:
		return record, nil
	case err == nil:
		parts := turn.Shown()
		_, text := turn.Texts()
		resets := turn.Resets
		// A run that had waited and then ended without a turn has its later resets in its record
		// only. Whoever has seen what came after the turn's end is taken back to that.
		if record != nil && turn.FinishReason == finishWaiting && record.Over() {
			if len(record.Resets) > len(resets) {
				resets = record.Resets
			}
			if len(record.Parts) > len(parts) {
				resets = append(slices.Clip(resets), session.Reset{Part: len(parts)})
			}
		}
		out.restore(parts, resets)
		out.begin(Start{RequestID: turn.RequestID, RunID: session.RunID(key.session.ID, turn.ID), SessionID: key.session.ID, Turn: turn.Number, Model: turn.Model})
		if failed := s.settleBy(record, &turn, turn.Number == current.Turns); failed != nil {
			out.end(outcome{failure: failed})
			return nil, nil
		}
		out.end(outcome{response: newResponse(key.session.ID, &turn, text, parts)})
	case !errors.Is(err, session.ErrNotFound) || record == nil:
		return nil, err
	default:
		out.restore(record.Parts, record.Resets)
		out.begin(startOf(record))
		if response := responseOf(record); response != nil {
			out.end(outcome{response: response})
			return nil, nil
		}
		out.end(outcome{failure: failureOf(record)})
	}
	return nil, nil
}

// startOf returns the first event of the run of a record.
func startOf(record *session.Run) Start {
	asked, _ := decodeRun(record)
	return Start{
		RequestID: asked.RequestID, RunID: session.RunID(record.Key.ID, record.ID), SessionID: record.Key.ID, Turn: max(record.Turn, 1), Model: asked.Model,
	}
}

// stoppedEarly is what the client of a run reads that was stopped before it had shown anything.
const stoppedEarly = "The answer was stopped before it began."

// failureOf returns how the run of a record without a turn has failed. A record without a
// result is that of a stop which came first.
func failureOf(record *session.Run) *api.Error {
	var envelope struct {
		Error   api.Code
		Message string
		Details []api.Detail
	}
	if json.Unmarshal(record.Result, &envelope) == nil && envelope.Error != "" {
		return &api.Error{Code: envelope.Error, Message: envelope.Message, Details: envelope.Details}
	}
	return conflict(stoppedEarly)
}

// takeOver makes this process the holder of a run, which goes on from its last finished
// step. What the step after it has shown is void, unless the run is only to be stopped.
// The error is [session.ErrChanged] if its holder lives or another was first. A run that may
// not go on is ended by the same write, so that it is not tried again: one that has ended
// each of its holders, one whose files were in its first holder's memory only, and one of
// which only the claim was stored.
func (s *Service) takeOver(ctx context.Context, record *session.Run, stop bool) (*run, error) {
	asked, err := decodeRun(record)
	c, unreadable := readCheckpoint(record)
	if err = errors.Join(err, unreadable); err != nil {
		return nil, s.endUnreadable(ctx, record, err)
	}
	if c == nil {
		c = new(checkpoint)
	}
	stop = stop || record.Stop // its holder died before it met the stop
	next := *record
	next.Holder, next.Stop = session.NewID(), stop // for whoever takes over next
	next.Epoch++
	// A holder that died may have shown more than it wrote.
	if first := min(c.Parts, len(record.Parts)); first < len(record.Parts) || record.Holder != "" {
		next.Resets = append(slices.Clip(next.Resets), session.Reset{Step: c.Step + 1, Part: first})
		// Who stops it keeps the text of an answer that broke. Calls that broke are shown again, with
		// how their effects ended.
		if !stop || len(record.Effects) > 0 && first < len(next.Parts) && next.Parts[first].Kind == session.KindToolCall {
			next.Parts = next.Parts[:first:first]
		}
	}
	if next.Epoch > maxEpoch+2*len(next.Answers) || asked.Inline && !stop || asked.Request.Query == "" {
		next.State = session.Failed
		next.Result, _ = json.Marshal(api.Failure(ctx, api.Fail(api.Internal, nil)))
	}
	taken, err := s.Store.SaveRun(ctx, &next)
	if err != nil {
		return nil, err
	}
	if taken.State == session.Failed {
		return nil, api.Fail(api.Internal, fmt.Errorf("a run cannot be taken over: it was %d times, inline files: %t", record.Epoch, asked.Inline))
	}
	r := resumed(asked, taken)
	r.stopping = stop
	return r, nil
}

// resumed returns the run of a record that this process holds. It counts as watched even if
// nobody follows it here: others read in its record what it shows.
func resumed(asked runRequest, held *session.Run) *run {
	r := &run{req: asked.Request, owner: held.Key.Owner, turnID: held.ID, key: held.Key, out: &output{}, watched: true, taken: held}
	if held.Checkpoint == nil {
		r.req.attached = keptFiles(asked.Files)
	}
	r.out.restore(held.Parts, held.Resets)
	return r
}

// join makes r, which retries the key that another run holds, take that run over if its
// holder has died. The error is what else is to be done. A nil error means that the key is
// to be looked at again. An elsewhereError has a client that streams watch the run, and an
// InProgressError is the 409 for others.
func (s *Service) join(ctx context.Context, r *run, held *session.InProgressError) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	record, err := s.Store.LoadRun(ctx, held.Key, held.Run)
	held.Left = min(held.Left, session.LeaseTime) // after which a dead holder is taken over
	switch {
	case errors.Is(err, session.ErrNotFound):
		return held
	case err != nil:
		return err
	case record.Lapsed():
		taken, err := s.takeOver(ctx, record, false)
		if err == nil {
			r.req, r.turnID, r.taken, r.key, r.stopping = taken.req, taken.turnID, taken.taken, taken.key, taken.stopping
			parts, resets := taken.out.shown()
			r.out.restore(parts, resets)
			return nil
		}
		if !errors.Is(err, session.ErrChanged) {
			return err
		}
	case record.Over() && r.req.Options.Sessionless:
		return nil // the next look at it finds its end
	case record.State == session.Failed && record.Result != nil && len(record.Effects) > 0: // without a turn
		return failureOf(record)
	case record.Over() && len(record.Effects) == 0: // without a turn, and its key could not be given back
		current, err := s.Store.Load(ctx, held.Key)
		if err != nil {
			return err
		}
		claim, err := session.ClaimOf(current, record)
		if err != nil || claim == nil {
			return held
		}
		return session.Release(ctx, s.Store, current, claim)
	}
	if !r.watched {
		return held
	}
	return &elsewhereError{runKey{held.Key, held.Run}, held}
}

// reopen loads the session of a run that was taken over. The claim must still be the
// record's: otherwise another call has the key, and the error is [session.ErrTakenOver].
func (s *Service) reopen(ctx context.Context, r *run) (*session.Opened, error) {
	if r.req.Options.Sessionless {
		return sessionless(r.taken.Key, r.req.Options.History), nil
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	current, err := s.Store.Load(ctx, r.taken.Key)
	if errors.Is(err, session.ErrNotFound) && r.taken.KeyHash == "" { // its first turn
		current, err = session.New(r.taken.Key), nil
	}
	switch {
	case err != nil:
		return nil, err
	case current.Deleted && (!current.Reusable() || !r.req.Options.Create || r.taken.Turn > 1):
		return nil, session.ErrNotFound
	}
	claim, err := session.ClaimOf(current, r.taken)
	if err != nil {
		return nil, err
	}
	return &session.Opened{Session: current, Claim: claim}, nil
}

// Stop ends a run of the caller, wherever it is worked on: its turn is stored with what
// was shown. The error is an [*api.Error], session_conflict if the run is over.
func (s *Service) Stop(ctx context.Context, runID string) error {
	key, err := runKeyOf(ctx, runID)
	if err != nil {
		return err
	}
	return s.stop(ctx, key)
}

// stopTries bounds the writes of a stop: the run's holder writes once a second.
const stopTries = 5

// stop stops a run: one in this process at once, another by a mark in its record, which the
// holder's next write meets, within a second. It returns when the run is sure to stop, whoever
// dies: its end is stored, or the mark is, which stays until the end. An end that takes longer
// is seen by watching it.
func (s *Service) stop(ctx context.Context, key runKey) error {
	here := false
	for range stopTries {
		if r := s.live.stop(key); r != nil {
			if r.settled(ctx) {
				return nil
			}
			here = true
		}
		reading, cancel := context.WithTimeout(ctx, storeTimeout)
		done, err := s.stopRecord(reading, ctx, key)
		cancel()
		if failed, ok := errors.AsType[*api.Error](err); ok && here && failed.Code == api.SessionConflict {
			return nil // it is over by the stop
		}
		if done || err != nil && !errors.Is(err, session.ErrChanged) {
			return err
		}
	}
	return api.Fail(api.SessionStoreUnavailable, session.ErrChanged)
}

// stopRecord stops a run by its record. It reports whether the run will stop. ctx bounds the
// calls of the store. client is for the rest of a run whose holder is dead, which is stored
// here.
func (s *Service) stopRecord(ctx, client context.Context, key runKey) (bool, error) {
	record, err := s.loadRun(ctx, key)
	switch {
	case errors.Is(err, session.ErrRunDeleted):
		return false, runNotFound()
	case errors.Is(err, session.ErrNotFound):
		if _, err := session.Find(ctx, s.Store, key.session, key.id); err == nil {
			return false, runOver()
		} else if !errors.Is(err, session.ErrNotFound) {
			return false, storeFailure(err)
		}
		// It may be in its first second: its first write, if it comes, meets this one.
		record = &session.Run{Key: key.session, ID: key.id, State: session.Stopped, Stop: true}
	case err != nil:
		return false, storeFailure(err)
	case record.Over():
		s.found(client, record)
		return false, runOver()
	case (record.Lapsed() || record.Holder == session.Queued) && record.Checkpoint == nil && len(record.Parts) == 0:
		// It has shown nothing, so it leaves no turn: one in the queue, for instance.
		ended := *record
		ended.State, ended.Holder = session.Stopped, ""
		ended.Epoch++ // for a holder that is only late
		_, err := s.Store.SaveRun(ctx, &ended)
		if err != nil && !errors.Is(err, session.ErrChanged) {
			return false, storeFailure(err)
		}
		return err == nil, err
	case record.Lapsed():
		taken, err := s.takeOver(ctx, record, true)
		if err != nil {
			return false, err
		}
		_, err = s.drive(client, taken, &Position{}, new(bool), nil)
		if failed, ok := errors.AsType[*api.Error](err); ok && failed.Code == api.SessionConflict {
			err = nil // it had shown nothing
		}
		return err == nil, err
	case record.Stop && record.State == session.Working:
		return true, nil // a write would look like a sign that the holder lives
	}
	next := new(*record)
	if record.State == session.Waiting {
		next = stoppedWait(record)
	}
	next.Stop = true
	saved, err := s.Store.SaveRun(ctx, next)
	if err != nil && !errors.Is(err, session.ErrChanged) {
		return false, storeFailure(err)
	}
	if err == nil && saved.State == session.Stopped {
		s.reportEnd(ctx, saved)
	}
	return err == nil, err
}

// runOver returns the answer for a stop that comes too late.
func runOver() *api.Error { return conflict("The run is over.") }
