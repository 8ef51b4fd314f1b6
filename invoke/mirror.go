package invoke

import (
	"context"
	"errors"
	"sync"
	"time"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/rescue"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/session"
)

// Watching a run of another instance must not cost a read for each watcher: a page that many
// people have open, or one client with many connections, would be billed by the second. So
// the watchers of a run in this process share two things. A lookup finds out where the run
// is, once for all who ask at the same time. A mirror is the output of a run that is worked
// on elsewhere, filled from its record by a goroutine that reads once in [pollEvery]. It
// lives only while somebody watches: between requests an instance has no CPU to read with.
//
// A mirror ends with the outcome moved when the record has lapsed or is gone. Its watchers
// then look again, and the first of them, by way of the lookup, takes the run over.

// lookups are the reads of where runs can be watched: one at a time for each run, and
// at most one in [pollEvery] for a run that was not found. The zero lookups are none. It
// is safe for concurrent use.
type lookups struct {
	mu    sync.Mutex
	byKey map[runKey]*lookup
}

// A lookup is one such read. Its result is set before done is closed; without any, the
// run is in mirrors or live, or is to be looked up again.
type lookup struct {
	key   runKey
	begun time.Time
	done  chan struct{}
	out   *output // of a run that is over
	err   error
	kept  bool // it is done, and its result holds for a while
}

// join returns the lookup of a run, and reports whether it begins with this call, which
// must end it.
func (ls *lookups) join(key runKey) (l *lookup, first bool) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	// One that is kept counts by its time, not by whether its timer has run yet: a watcher that
	// looks again at the same instant would share it by chance.
	if l := ls.byKey[key]; l != nil && (!l.kept || time.Since(l.begun) < pollEvery) {
		return l, false
	}
	l = &lookup{key: key, begun: time.Now(), done: make(chan struct{})}
	if ls.byKey == nil {
		ls.byKey = map[runKey]*lookup{}
	}
	ls.byKey[key] = l
	return l, true
}

// end ends a lookup. That a run was not found holds for whoever asks within the time. Other
// results are for those who waited only, because they do not last: a run ends, its holder
// dies, the store answers again.
func (ls *lookups) end(l *lookup) {
	// Who joins between here and the removal finds the result at once.
	close(l.done)
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if rest := pollEvery - time.Since(l.begun); errors.Is(l.err, session.ErrNotFound) && rest > 0 {
		l.kept = true
		time.AfterFunc(rest, func() {
			ls.mu.Lock()
			defer ls.mu.Unlock()
			ls.remove(l)
		})
		return
	}
	ls.remove(l)
}

// remove removes l, unless a later lookup has its place. The caller holds mu.
func (ls *lookups) remove(l *lookup) {
	if ls.byKey[l.key] == l {
		delete(ls.byKey, l.key)
	}
}

// mirrors follow the records of runs that other instances work on: one for each run, for
// all its watchers here. The zero mirrors follow none. It is safe for concurrent use.
type mirrors struct {
	mu    sync.Mutex
	byKey map[runKey]*mirror
}

// A mirror shows what the record of a run has. It reads it once a second, as long as it
// has a watcher.
type mirror struct {
	key      runKey
	out      *output
	watchers int
	cancel   context.CancelFunc
}

// join adds a watcher to the mirror of a run, and returns nil if there is none.
func (ms *mirrors) join(key runKey) *mirror {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	m := ms.byKey[key]
	if m != nil {
		m.watchers++
	}
	return m
}

// begin is join with a new mirror, which begins with record. Rarely, a watcher that looked
// for a mirror just before another one began it begins a second one. That takes the place in
// byKey, and each ends with the watchers that it has.
func (ms *mirrors) begin(s *Service, key runKey, record *session.Run) *mirror {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	m := &mirror{key: key, out: &output{}, watchers: 1}
	m.show(record)
	var ctx context.Context
	// The mirror belongs to all of its watchers: the end of the first one's request must not
	// end it for the others.
	ctx, m.cancel = context.WithCancel(context.Background())
	if ms.byKey == nil {
		ms.byKey = map[runKey]*mirror{}
	}
	ms.byKey[key] = m
	go func() {
		err := rescue.Call(func() error { ms.follow(ctx, s, m); return nil })
		p, ok := errors.AsType[*rescue.Panic](err)
		if !ok {
			return
		}
		telemetry.LogPanic(ctx, s.Log, "Following a run panicked.", p.Stack)
		ms.end(m, outcome{failure: api.Fail(api.Internal, err)}) // if it moved, its watchers would panic with the next one
	}()
	return m
}

// leave takes a watcher away. The last one to leave ends the mirror, so each join and begin
// must be followed by one leave.
func (ms *mirrors) leave(m *mirror) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	if m.watchers--; m.watchers == 0 {
		ms.drop(m)
	}
}

// drop ends a mirror. The caller holds mu.
func (ms *mirrors) drop(m *mirror) {
	m.cancel()
	// Another mirror of the run may have the place.
	if ms.byKey[m.key] == m {
		delete(ms.byKey, m.key)
	}
}

// follow shows the record as it changes, until the run is no longer worked on elsewhere or
// nobody watches. How the run has ended is read once, for all its watchers.
func (ms *mirrors) follow(ctx context.Context, s *Service, m *mirror) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if s.live.held(m.key) == nil && !s.refresh(ctx, m) { // else it has become this process's
			continue
		}
		ms.end(m, outcome{moved: true}) // unless it has ended; the watchers look where it is now
	}
}

// end ends a mirror for all its watchers.
func (ms *mirrors) end(m *mirror, as outcome) {
	ms.mu.Lock()
	ms.drop(m)
	ms.mu.Unlock()
	m.out.end(as)
}

// refresh reads the record of m's run, and reports whether there is nothing more to
// follow.
func (s *Service) refresh(ctx context.Context, m *mirror) bool {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	record, err := s.Store.LoadRun(ctx, m.key.session, m.key.id)
	switch {
	// The watchers see a pause instead of an error.
	case errors.Is(err, session.ErrUnavailable):
		return false
	case err != nil || record.Lapsed():
		return true
	case record.State == session.Working:
		m.show(record)
		return false
	}
	goesOn, err := s.showEnded(ctx, m.key, record, m.out)
	if goesOn != nil {
		m.show(goesOn)
		return false
	}
	return !errors.Is(err, session.ErrUnavailable) // if the turn cannot be read, the next tick tries again
}

// show makes the output what the record has. The pieces in which text came are not in the
// record, so that what is new since the last read goes out as one piece of the same bytes.
func (m *mirror) show(record *session.Run) {
	m.out.restore(record.Parts, record.Resets)
	m.out.begin(startOf(record))
}
