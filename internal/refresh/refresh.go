// Package refresh decides when what was fetched from elsewhere (secrets, an
// issuer's keys) is fetched again, by which request, and how long it may be used
// when it cannot be.
//
// An instance has CPU only while a request is open, so requests do it: one of them
// fetches what is older than [After] while the others go on with what there is.
// They wait for it only where that is older than [Stale], as it is on an instance
// that had no request for hours. What cannot be fetched for the moment keeps its
// last good value; what admits callers does so for [Usable] at most. What is
// refused for good is withdrawn as soon as a second fetch says the same: a
// [Refusal] counts them.
package refresh

import (
	"context"
	"sync"
	"time"
)

const (
	// After is the age from which one request fetches again.
	After = 5 * time.Minute
	// Stale is the age from which requests wait for the fetch.
	Stale = 10 * time.Minute
	// Usable is how long what admits callers may be used after it was last known to
	// be good.
	Usable = time.Hour
	// Confirm is how long after a refusal a second fetch is made.
	Confirm = 10 * time.Second
	// RetryAfter is how long after a failure nobody waits for another fetch.
	RetryAfter = 30 * time.Second
	// Timeout bounds a fetch of what is there already, and FirstTimeout one of what
	// nobody has: there is nothing to go on with.
	Timeout      = 2 * time.Second
	FirstTimeout = 5 * time.Second

	// How long a first fetch that failed is not tried again: this, then doubled.
	firstBackoff = time.Second
	maxBackoff   = 15 * time.Second
)

// An Outcome is what became of a fetch.
type Outcome int

const (
	// Failed is a fetch from which nothing was learned: what there is stays.
	Failed Outcome = iota
	// Refused is a refusal for good that a second fetch has yet to confirm.
	Refused
	// Known is a fetch after which everything is known: it brought the values, or
	// confirmed that they are withdrawn.
	Known
)

// A Fetch gets what is fetched and puts it to use. Its context bounds it.
type Fetch func(context.Context) Outcome

// A Schedule is when one thing, or several together, are fetched. It is safe for
// concurrent use.
type Schedule struct {
	now func() time.Time

	mu       sync.Mutex
	known    time.Time     // when the last fetch that ended Known began; zero: none did
	tried    time.Time     // when the last fetch ended
	last     Outcome       // of the last fetch
	refused  bool          // a refusal is to be confirmed
	failures int           // in a row, before the first fetch that ended Known
	flight   chan struct{} // closed when the fetch under way has ended; nil: none is
}

// NewSchedule returns the schedule of what was never fetched. A nil now is
// time.Now.
func NewSchedule(now func() time.Time) *Schedule {
	if now == nil {
		now = time.Now
	}
	return &Schedule{now: now}
}

// Refresh calls fetch if it is due, and waits for the call of another request where
// what there is is too old to go on with. It returns early when ctx ends.
func (s *Schedule) Refresh(ctx context.Context, fetch Fetch) {
	s.mu.Lock()
	now := s.clock()
	switch {
	case s.flight != nil:
		flight := s.flight
		waits := s.age(now) >= Stale
		s.mu.Unlock()
		if waits {
			wait(ctx, flight)
		}
	case s.due(now):
		s.fly(ctx, now, fetch) // unlocks
	default:
		s.mu.Unlock()
	}
}

// Now calls fetch whether or not it is due, or waits for the call under way. It
// does nothing when allowed, which is asked only before a call, reports false.
func (s *Schedule) Now(ctx context.Context, allowed func() bool, fetch Fetch) {
	s.mu.Lock()
	switch {
	case s.flight != nil:
		flight := s.flight
		s.mu.Unlock()
		wait(ctx, flight)
	case allowed():
		s.fly(ctx, s.clock(), fetch) // unlocks
	default:
		s.mu.Unlock()
	}
}

// Fetched notes that everything was fetched elsewhere, from begun on.
func (s *Schedule) Fetched(begun time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known, s.tried, s.last, s.failures = begun.Round(0), s.clock(), Known, 0
}

// Usable reports whether what was fetched may still admit callers.
func (s *Schedule) Usable() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.age(s.clock()) < Usable
}

// clock is the time without its monotonic part, which stands still while the
// machine is suspended.
func (s *Schedule) clock() time.Time { return s.now().Round(0) }

// age is how long ago everything was known: more than any bound where it never was,
// or where the clock was set back.
func (s *Schedule) age(now time.Time) time.Duration {
	return Age(now, s.known)
}

// Age is how old what was fetched at t is, without the monotonic parts of the
// times: more than any bound when t is zero or in the future.
func Age(now, t time.Time) time.Duration {
	age := now.Round(0).Sub(t.Round(0))
	if t.IsZero() || age < 0 {
		return 1<<63 - 1
	}
	return age
}

func (s *Schedule) due(now time.Time) bool {
	waited := Age(now, s.tried)
	switch age := s.age(now); {
	case s.known.IsZero() && s.failures == 0:
		return true
	case s.known.IsZero():
		return waited >= min(firstBackoff<<min(s.failures-1, 10), maxBackoff)
	case s.last == Refused:
		return waited >= Confirm
	case s.refused, age >= Stale && s.last == Failed:
		return waited >= RetryAfter
	default:
		return age >= Stale || age >= After && waited >= After
	}
}

// fly is a call of fetch for all who wait. It is called with the lock held, and
// releases it.
func (s *Schedule) fly(ctx context.Context, begun time.Time, fetch Fetch) {
	flight := make(chan struct{})
	s.flight = flight
	timeout := Timeout
	if s.known.IsZero() {
		timeout = FirstTimeout
	}
	s.mu.Unlock()

	outcome := Failed // also when fetch panics
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.flight, s.tried, s.last = nil, s.clock(), outcome
		switch outcome {
		case Known:
			s.known, s.refused, s.failures = begun, false, 0
		case Refused:
			s.refused = true
			s.failures++
		case Failed:
			s.failures++
		}
		close(flight)
	}()
	// Others wait for it, so it does not end with this request.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	outcome = fetch(ctx)
}

func wait(ctx context.Context, flight <-chan struct{}) {
	select {
	case <-flight:
	case <-ctx.Done():
	}
}

// A Refusal is what is known of a thing that was refused for good. The zero
// Refusal is of one that was not. It is not safe for concurrent use.
type Refusal struct{ since time.Time }

// Confirmed notes a refusal at now, and reports whether an earlier one is [Confirm]
// old: the thing is withdrawn.
func (r *Refusal) Confirmed(now time.Time) bool {
	now = now.Round(0)
	if r.since.IsZero() || now.Before(r.since) {
		r.since = now
	}
	return now.Sub(r.since) >= Confirm
}

// Clear notes that the thing was had.
func (r *Refusal) Clear() { r.since = time.Time{} }
