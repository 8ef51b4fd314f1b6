// Package cputime bounds what is done after a client has its answer, in time
// that the process runs: an instance may be frozen at any moment then, and what
// it waits for lies ready when it thaws.
package cputime

import (
	"context"
	"sync"
	"time"
)

// WithTimeoutCause returns a context that ends for cause once the process has run
// for about limit. It counts ticks, each set when the one before has fired: of a
// time in which the instance was frozen, at most one is counted. The returned
// func must be called.
func WithTimeoutCause(parent context.Context, limit, tick time.Duration, cause error) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	var (
		mu    sync.Mutex // held while timer is set or stopped
		timer *time.Timer
		left  = (limit + tick - 1) / tick
	)
	mu.Lock()
	defer mu.Unlock()
	timer = time.AfterFunc(tick, func() {
		mu.Lock()
		defer mu.Unlock()
		left--
		switch {
		case ctx.Err() != nil:
		case left > 0:
			timer.Reset(tick)
		default:
			cancel(cause)
		}
	})
	return ctx, func() {
		cancel(nil)
		mu.Lock()
		defer mu.Unlock()
		timer.Stop()
	}
}
