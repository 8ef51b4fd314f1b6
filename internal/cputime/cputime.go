// Package cputime bounds work that is done after the response was sent, by the time
// that the process runs. The platform may freeze an instance at any moment then. When
// it thaws, what the work waited for has usually arrived, so a wall-clock timeout
// would end it for nothing.
package cputime

import (
	"context"
	"sync"
	"time"
)

// WithTimeoutCause returns a context that ends with cause once the process has run for
// about limit. It counts ticks, each started when the one before has fired, so that at
// most one tick of a frozen period counts. The returned function must be called.
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
