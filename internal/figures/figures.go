// Package figures counts what the service answers, so that health can report how
// it does as a whole: health is another function, and sees nothing of the
// instances that answer.
//
// Each instance has a [Counter], which counts by clock minute and, at the end of
// a request, writes the minute to the [Store] that all share, with the states of
// its breakers. A minute is one record, named by the instance and the minute and
// written whole, so that writing it again, or being frozen in the middle of it,
// changes nothing. [Counter.Sum] adds up the last five minutes of all instances.
package figures

import (
	"context"
	"net/http"
	"time"

	"example.com/gatehouse/internal/api"
)

// Minutes is how many clock minutes a sum covers, the one that has begun among
// them: between four and five minutes of time.
const Minutes = 5

// Figures are what was counted in some time.
type Figures struct {
	// Requests are all that were counted.
	Requests int64
	// Judged are those that measure the service: all but those that
	// were refused for what their caller did, and those turned away on purpose.
	Judged int64
	// Errors are those of the judged that the service failed.
	Errors int64
}

// ErrorRate is the share of errors among what is judged, from 0 to 1. What
// callers do wrong is in neither of the two, so they can neither raise nor hide
// it.
func (f Figures) ErrorRate() float64 {
	if f.Judged <= 0 {
		return 0
	}
	// The sums are not read at one moment.
	return min(1, float64(f.Errors)/float64(f.Judged))
}

// Plus is f and g together.
func (f Figures) Plus(g Figures) Figures {
	return Figures{f.Requests + g.Requests, f.Judged + g.Judged, f.Errors + g.Errors}
}

func (f Figures) minus(g Figures) Figures {
	return Figures{f.Requests - g.Requests, f.Judged - g.Judged, f.Errors - g.Errors}
}

// one is what a request adds that was answered with this status, and with this
// code of the contract if it failed ("" otherwise).
func one(status int, code string) Figures {
	f := Figures{Requests: 1}
	switch api.Code(code) {
	case api.Overloaded, api.ShuttingDown, api.NotReady:
		return f
	}
	if status >= http.StatusBadRequest && status < http.StatusInternalServerError {
		return f
	}
	f.Judged = 1
	if status >= http.StatusInternalServerError {
		f.Errors = 1
	}
	return f
}

// A Minute is what an instance counted in one clock minute.
type Minute struct {
	Instance string    // which instance; safe for a document's id
	Start    time.Time // the whole minute, in UTC
	Figures
	Agent    string            // the name of the agent that answered
	Breakers map[string]string // state by model when it was written; nil without breakers
}

// A Store keeps the minutes of all instances. It is safe for concurrent use and
// ends with the context.
type Store interface {
	// Write keeps m, in the place of what was written for its instance and
	// minute before. It may be forgotten an hour after the minute.
	Write(ctx context.Context, m Minute) error
	// Sum adds up the minutes that begin at since or later.
	Sum(ctx context.Context, since time.Time) (Stored, error)
}

// Stored is what a store has of all instances.
type Stored struct {
	Figures
	Agent    string                       // as the newest minute has it; "" without minutes
	Breakers map[string]map[string]string // states by instance and model, as each instance's newest minute has them
}

// A Sum is what is known of the service's last minutes.
type Sum struct {
	Figures
	Agent    string            // the name of the agent that answers; "" when not known
	Breakers map[string]string // by model, the worst state of all instances
}
