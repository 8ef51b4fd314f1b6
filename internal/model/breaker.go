package model

import (
	"errors"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"
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

var (
	errAway      = errors.New("the model is away")       // what a breaker counts
	errUncounted = errors.New("says nothing of a model") // what it does not count
	errOpen      = errors.New("not asked: the model has failed too often, its breaker is open")
	errTrial     = errors.New("not asked: the model has failed too often, and is being tried by another call")
)

// A breaker keeps calls away from a model that has failed several times in a
// row. It is safe for concurrent use. A nil breaker lets everything through.
type breaker struct {
	model    string
	cooldown time.Duration
	onChange func(model string, state State) // may be nil

	mu         sync.Mutex // held around every use of circuit
	circuit    *gobreaker.TwoStepCircuitBreaker[struct{}]
	state      State
	told       State     // the state that onChange has heard of
	telling    bool      // onChange runs
	until      time.Time // an open one lets a trial through
	trial      func(error)
	trialBegan time.Time
}

func newBreaker(model string, failures int, cooldown time.Duration, onChange func(model string, state State)) *breaker {
	b := &breaker{model: model, cooldown: cooldown, onChange: onChange, state: Closed, told: Closed}
	b.circuit = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests: 1,
		Timeout:     cooldown,
		ReadyToTrip: func(c gobreaker.Counts) bool { return int64(c.ConsecutiveFailures) >= int64(failures) },
		IsExcluded:  func(err error) bool { return errors.Is(err, errUncounted) },
		OnStateChange: func(_ string, _, to gobreaker.State) {
			switch to {
			case gobreaker.StateClosed:
				b.state = Closed
			case gobreaker.StateHalfOpen:
				b.state = HalfOpen
			case gobreaker.StateOpen:
				b.state, b.until = Open, time.Now().Add(cooldown)
			}
		},
	})
	return b
}

// A permit lets one attempt through a breaker, which must hear of its end.
type permit struct {
	breaker *breaker
	report  func(error)
	trial   bool
}

// allow gives a permit, or says when to come again.
func (b *breaker) allow() (permit, *Error) {
	if b == nil {
		return permit{}, nil
	}
	b.mu.Lock()
	defer b.unlock()
	report, err := b.circuit.Allow()
	if errors.Is(err, gobreaker.ErrTooManyRequests) && time.Since(b.trialBegan) >= trialLimit {
		b.trial(errAway)
		err = gobreaker.ErrOpenState
	}
	switch {
	case errors.Is(err, gobreaker.ErrTooManyRequests):
		return permit{}, &Error{Kind: Unavailable, RetryAfter: time.Second, err: errTrial}
	case err != nil:
		left := min(max(time.Until(b.until), 0), b.cooldown)
		return permit{}, &Error{Kind: Unavailable, RetryAfter: left, err: errOpen}
	}
	trial := b.state == HalfOpen
	if trial {
		b.trial, b.trialBegan = report, time.Now()
	}
	return permit{b, report, trial}, nil
}

// answers tells the breaker that the model has begun to answer. That is all a
// trial is to find out: those who wait need not wait for its end.
func (p permit) answers() {
	if p.trial {
		p.done(nil)
	}
}

// done tells the breaker how the attempt ended: nil, errAway or errUncounted.
// What is told of an attempt that the breaker waits for no longer is ignored.
func (p permit) done(result error) {
	if p.breaker == nil {
		return
	}
	p.breaker.mu.Lock()
	defer p.breaker.unlock()
	p.report(result)
}

// current is the state now.
func (b *breaker) current() State {
	b.mu.Lock()
	defer b.unlock()
	b.circuit.State() // an open one whose time has passed becomes half open by this
	return b.state
}

// unlock gives mu back and tells onChange of the state that has come about: one
// call at a time, with no lock held. States that pass while it runs are skipped.
func (b *breaker) unlock() {
	if b.told == b.state || b.telling || b.onChange == nil {
		b.mu.Unlock()
		return
	}
	b.telling = true
	defer func() {
		b.telling = false
		b.mu.Unlock()
	}()
	for b.told != b.state {
		b.told = b.state
		b.tell(b.told)
	}
}

// tell calls onChange. The caller holds mu, which is free meanwhile.
func (b *breaker) tell(state State) {
	b.mu.Unlock()
	defer b.mu.Lock()
	b.onChange(b.model, state)
}
