// Package breaker keeps calls away from a server that has just failed several times in a
// row, so that not every request waits for it in vain. Models, the Logging API and MCP
// servers are each behind one.
//
// After a cooldown one call tries the server, and its end decides for all. An attempt that
// began before a change of state is not heard: it means nothing for what came after.
package breaker

import (
	"sync"
	"time"
)

// A State is that of a breaker.
type State int

// The states, from the best to the worst.
const (
	Closed   State = iota // calls go through
	HalfOpen              // one trial goes through, whose end decides
	Open                  // no call goes through
)

var stateNames = [...]string{"closed", "half_open", "open"}

func (s State) String() string { return stateNames[s] }

// Parse returns the state of a name; Closed for a name that is not known, such as one of
// another revision of the service.
func Parse(name string) State {
	for s, known := range stateNames {
		if name == known {
			return State(s)
		}
	}
	return Closed
}

// trialLimit is how long a trial may take. After it the server counts as still
// away, so that a trial that never ends does not keep everybody else out.
const trialLimit = time.Minute

// A Verdict is what the end of an attempt means for the breaker.
type Verdict int

// The verdicts.
const (
	Uncounted Verdict = iota // nothing: it is the caller's doing
	Answered                 // the server is there
	Away                     // it is not
)

// A RefusedError is the error of a call that a breaker keeps away.
type RefusedError struct {
	RetryAfter time.Duration // not negative
	trial      bool
}

func (e *RefusedError) Error() string {
	if e.trial {
		return "not asked: it has failed too often, and is being tried by another call"
	}
	return "not asked: it has failed too often, its breaker is open"
}

// Settings are those of a breaker.
type Settings struct {
	Failures int              // one after another that open it
	Cooldown time.Duration    // how long it then keeps calls away
	OnChange func(State)      // may be nil; see [Breaker]
	Now      func() time.Time // nil: time.Now
}

// A Breaker is safe for concurrent use. A nil breaker lets everything through.
//
// OnChange is called with each new state, on the goroutine of the call that brought it
// about: one call at a time, without a lock. States that pass while it runs are skipped.
type Breaker struct {
	Settings

	mu        sync.Mutex
	state     State
	era       int       // counts the changes of state: an attempt of an earlier one is not heard
	failed    int       // attempts, one after another
	until     time.Time // an open breaker lets a trial through
	trial     time.Time // when it began; zero: there is none
	notified  State     // the last that OnChange was called with
	notifying bool      // OnChange runs
}

// New returns a closed breaker.
func New(s Settings) *Breaker {
	if s.Now == nil {
		s.Now = time.Now
	}
	return &Breaker{Settings: s}
}

// A Permit lets one attempt through a breaker, which must hear of its end.
type Permit struct {
	breaker *Breaker
	era     int
	trial   bool
}

// Allow returns a permit, or why there is none.
func (b *Breaker) Allow() (Permit, *RefusedError) {
	if b == nil {
		return Permit{}, nil
	}
	b.mu.Lock()
	defer b.unlock()
	b.cool()
	if !b.trial.IsZero() && b.Now().Sub(b.trial) >= trialLimit {
		b.open()
	}
	if refused := b.refused(); refused != nil {
		return Permit{}, refused
	}
	if b.state == HalfOpen {
		b.trial = b.Now()
	}
	return Permit{b, b.era, b.state == HalfOpen}, nil
}

// Refuses returns the error that Allow would return, without taking a permit.
func (b *Breaker) Refuses() *RefusedError {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.unlock()
	b.cool()
	return b.refused()
}

// refused is why no call goes through now, nil if one does. A trial that has taken too
// long has failed, which the next Allow finds: until then it refuses nobody.
func (b *Breaker) refused() *RefusedError {
	switch {
	case b.state == Open:
		return &RefusedError{RetryAfter: max(b.until.Sub(b.Now()), 0)}
	case !b.trial.IsZero() && b.Now().Sub(b.trial) < trialLimit:
		return &RefusedError{RetryAfter: time.Second, trial: true}
	}
	return nil
}

// Begins reports that the server has begun to answer. That is all a trial is to find
// out: those who wait need not wait for its end.
func (p Permit) Begins() {
	if p.trial {
		p.Done(Answered)
	}
}

// Done reports how the attempt ended.
func (p Permit) Done(v Verdict) {
	b := p.breaker
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.unlock()
	switch b.cool(); {
	case p.era != b.era:
	case v == Answered && p.trial:
		b.change(Closed)
	case v == Answered:
		b.failed = 0
	case v == Uncounted:
		b.trial = time.Time{}
	case p.trial:
		b.open()
	default:
		if b.failed++; b.failed >= b.Failures {
			b.open()
		}
	}
}

// State returns the state now.
func (b *Breaker) State() State {
	if b == nil {
		return Closed
	}
	b.mu.Lock()
	defer b.unlock()
	b.cool()
	return b.state
}

// cool lets a trial through once the cooldown is over. The caller holds mu, as that
// of open and change does.
func (b *Breaker) cool() {
	if b.state == Open && !b.Now().Before(b.until) {
		b.change(HalfOpen)
	}
}

func (b *Breaker) open() {
	b.until = b.Now().Add(b.Cooldown)
	b.change(Open)
}

func (b *Breaker) change(state State) {
	b.state, b.failed, b.trial = state, 0, time.Time{}
	b.era++
}

// unlock releases mu after it has called OnChange with the state that came about.
func (b *Breaker) unlock() {
	defer b.mu.Unlock()
	for b.OnChange != nil && !b.notifying && b.notified != b.state {
		b.notified, b.notifying = b.state, true
		b.notify(b.state)
	}
}

func (b *Breaker) notify(state State) {
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		b.notifying = false
	}()
	b.OnChange(state)
}
