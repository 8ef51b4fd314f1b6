// Package refresh decides when remote values (secrets, an issuer's keys) are fetched
// again, by which request, and how long they may be used if that fails.
//
// An instance has CPU only while a request is open, so requests do the fetching: one
// of them fetches values older than [After] while the others use the old ones. They
// wait only if these are older than [Stale], as on an instance that had no request for
// hours. If a fetch fails, the last good value stays; one that admits callers is used
// for at most [Usable]. A value that is refused for good is withdrawn as soon as a
// second fetch confirms it; a [Refusal] tracks that.
package refresh

import (
	"context"
	"sync"
	"time"
)

const (
	// After is the age from which a request fetches again.
	After = 5 * time.Minute
	// Stale is the age from which requests wait for the fetch.
	Stale = 10 * time.Minute
	// Usable is how long values that admit callers may be used after the last
	// successful fetch.
	Usable = time.Hour
	// Confirm is how long after a refusal the second fetch is made.
	Confirm = 10 * time.Second
	// RetryAfter is how long after a failure requests do not wait for another fetch.
	RetryAfter = 30 * time.Second
	// Timeout bounds a fetch while there are old values, and FirstTimeout one without
	// any to fall back on.
	Timeout      = 2 * time.Second
	FirstTimeout = 5 * time.Second

	// Backoff after a failed first fetch; it doubles.
	firstBackoff = time.Second
	maxBackoff   = 15 * time.Second
)

// An Outcome is the result of a fetch.
type Outcome int

const (
	// Failed means that nothing was learned; old values stay.
	Failed Outcome = iota
	// Refused means refused for good, to be confirmed by a second fetch.
	Refused
	// Known means that the values were fetched, or that their withdrawal was
	// confirmed.
	Known
)

// A Fetch fetches values and applies them. Its context bounds it.
type Fetch func(context.Context) Outcome

// A Schedule decides when to fetch one value, or several together. It is safe for
// concurrent use.
type Schedule struct {
	now func() time.Time

	mu       sync.Mutex
	known    time.Time     // start of the last fetch that ended Known; zero: none did
	tried    time.Time     // end of the last fetch
	last     Outcome       // of the last fetch
	refused  bool          // a refusal must be confirmed
	failures int           // consecutive, before the first fetch that ended Known
	flight   chan struct{} // closed when the running fetch ends; nil: none runs
}

// NewSchedule returns the schedule of values not fetched yet. A nil now means
// time.Now.
func NewSchedule(now func() time.Time) *Schedule {
	if now == nil {
		now = time.Now
	}
	return &Schedule{now: now}
}

// Refresh calls fetch if it is due, or waits for another request's call if the values
// are too old to use. It returns early when ctx ends.
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

// Now calls fetch even if it is not due, or waits for the running call. allowed is
// consulted only before a call, and prevents it by returning false.
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

// Fetched records that everything was fetched by other means, starting at begun.
func (s *Schedule) Fetched(begun time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known, s.tried, s.last, s.failures = begun.Round(0), s.clock(), Known, 0
}

// Usable reports whether the values may still admit callers.
func (s *Schedule) Usable() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.age(s.clock()) < Usable
}

// clock returns the time without its monotonic part, which stops while the machine is
// suspended.
func (s *Schedule) clock() time.Time { return s.now().Round(0) }

// age returns the time since the last fetch that ended Known, as [Age] does.
func (s *Schedule) age(now time.Time) time.Duration {
	return Age(now, s.known)
}

// Age returns the age at now of what was fetched at t, by wall clock. It exceeds any
// bound if t is zero or in the future, as after the clock was set back.
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

// fly calls fetch on behalf of all waiting requests. The caller holds the lock, which
// fly releases.
func (s *Schedule) fly(ctx context.Context, begun time.Time, fetch Fetch) {
	flight := make(chan struct{})
	s.flight = flight
	timeout := Timeout
	if s.known.IsZero() {
		timeout = FirstTimeout
	}
	s.mu.Unlock()

	outcome := Failed // also if fetch panics
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
	// Others wait for it, so it must not end with this request.
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

// A Refusal tracks whether a value was refused for good. The zero Refusal was not
// refused. It is not safe for concurrent use.
type Refusal struct{ since time.Time }

// Confirmed records a refusal at now, and reports whether the first one is at least
// [Confirm] old, so that the value must be withdrawn.
func (r *Refusal) Confirmed(now time.Time) bool {
	now = now.Round(0)
	if r.since.IsZero() || now.Before(r.since) {
		r.since = now
	}
	return now.Sub(r.since) >= Confirm
}

// Clear records a successful fetch.
func (r *Refusal) Clear() { r.since = time.Time{} }
