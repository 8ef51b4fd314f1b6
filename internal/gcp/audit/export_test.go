package audit

import (
	"context"
	"time"
)

// The bounds, for the tests.
const (
	WriteLimit  = writeLimit
	MaxFailures = maxFailures
	Cooldown    = cooldown
	Tick        = tick
)

// SetClock changes the clock before l is used.
func (l *Log) SetClock(now func() time.Time) { l.now = now }

// SetLimit changes the bound of Write before l is used.
func (l *Log) SetLimit(d time.Duration) { l.limit = d }

func Region(ctx context.Context) string { return region(ctx) }
