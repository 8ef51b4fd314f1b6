package model

import (
	"errors"
	"sync"
	"time"
)

// A State is that of a model's breaker.
type State int

// The states, from the best to the worst.
const (
	Closed   State = iota // asked as usual
	HalfOpen              // asked by one trial, whose end decides
	Open                  // not asked
)

func (s State) String() string {
	switch s {
	case Closed:
		return "closed"
	case HalfOpen:
		return "half_open"
	case Open:
		return "open"
	}
	return "unknown"
}

// trialLimit is how long a trial may take. After it the model counts as still
// away, so that a trial that never ends does not keep everybody else out.
const trialLimit = time.Minute

// A verdict is what the end of an attempt means for its model's breaker.
type verdict int

const (
	uncounted verdict = iota // nothing
	answered
	away
)

var (
	errOpen  = errors.New("not asked: the model has failed too often, its breaker is open")
	errTrial = errors.New("not asked: the model has failed too often, and is being tried by another call")
)

// A breaker keeps calls away from a model that has failed several times in a
// row. It is safe for concurrent use. A nil breaker lets everything through.
type breaker struct {
	model    string
	failures int // that open it
	cooldown time.Duration
	onChange func(model string, state State) // may be nil

	mu        sync.Mutex
	state     State
	era       int       // counts the changes of state: an attempt of an earlier one is not heard
	failed    int       // attempts, one after another
	until     time.Time // an open breaker lets a trial through
	trial     time.Time // when it began; zero: there is none
	notified  State     // the last that onChange was called with
	notifying bool      // onChange runs
}

// A permit lets one attempt through a breaker, which must hear of its end.
type permit struct {
	breaker *breaker
	era     int
	trial   bool
}

// allow returns a permit, or an error with the time to come again.
func (b *breaker) allow() (permit, *Error) {
	if b == nil {
		return permit{}, nil
	}
	b.mu.Lock()
	defer b.unlock()
	b.cool()
	if !b.trial.IsZero() && time.Since(b.trial) >= trialLimit {
		b.open()
	}
	switch {
	case b.state == Open:
		return permit{}, &Error{Kind: Unavailable, RetryAfter: max(time.Until(b.until), 0), err: errOpen}
	case !b.trial.IsZero():
		return permit{}, &Error{Kind: Unavailable, RetryAfter: time.Second, err: errTrial}
	case b.state == HalfOpen:
		b.trial = time.Now()
	}
	return permit{b, b.era, b.state == HalfOpen}, nil
}

// refuses returns what allow would, without taking a permit.
func (b *breaker) refuses() *Error {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.unlock()
	b.cool()
	switch {
	case b.state == Open:
		return &Error{Kind: Unavailable, RetryAfter: max(time.Until(b.until), 0), err: errOpen}
	case !b.trial.IsZero() && time.Since(b.trial) < trialLimit:
		return &Error{Kind: Unavailable, RetryAfter: time.Second, err: errTrial}
	}
	return nil
}

// begins reports that the model has begun to answer. That is all a trial is to find
// out: those who wait need not wait for its end.
func (p permit) begins() {
	if p.trial {
		p.done(answered)
	}
}

// done reports how the attempt ended.
func (p permit) done(v verdict) {
	b := p.breaker
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.unlock()
	switch b.cool(); {
	case p.era != b.era:
	case v == answered && p.trial:
		b.change(Closed)
	case v == answered:
		b.failed = 0
	case v == uncounted:
		b.trial = time.Time{}
	case p.trial:
		b.open()
	default:
		if b.failed++; b.failed >= b.failures {
			b.open()
		}
	}
}

// current is the state now.
func (b *breaker) current() State {
	b.mu.Lock()
	defer b.unlock()
	b.cool()
	return b.state
}

// cool lets a trial through once the cooldown is over. The caller holds mu, as that
// of open and change does.
func (b *breaker) cool() {
	if b.state == Open && !time.Now().Before(b.until) {
		b.change(HalfOpen)
	}
}

func (b *breaker) open() {
	b.until = time.Now().Add(b.cooldown)
	b.change(Open)
}

func (b *breaker) change(state State) {
	b.state, b.failed, b.trial = state, 0, time.Time{}
	b.era++
}

// unlock releases mu after it has called onChange with the state that came about:
// one call at a time, without the lock. States that pass while it runs are skipped.
func (b *breaker) unlock() {
	defer b.mu.Unlock()
	for b.onChange != nil && !b.notifying && b.notified != b.state {
		b.notified, b.notifying = b.state, true
		b.notify(b.state)
	}
}

func (b *breaker) notify(state State) {
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		b.notifying = false
	}()
	b.onChange(b.model, state)
}
