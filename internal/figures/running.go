package figures

import (
	"context"
	"sync"
	"time"
)

// slice is how finely running time is measured.
const slice = 25 * time.Millisecond

// running gives a context that ends once the process has run for about d. An
// instance may be frozen as soon as its client has the answer; the time until it
// runs again counts as one slice, so that a write whose reply lies ready by then
// is not given up.
func running(parent context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	var (
		mu    sync.Mutex
		left  = d
		timer *time.Timer
	)
	mu.Lock()
	timer = time.AfterFunc(min(slice, d), func() {
		mu.Lock()
		defer mu.Unlock()
		if left -= slice; left <= 0 {
			cancel(context.DeadlineExceeded)
		} else if ctx.Err() == nil {
			timer.Reset(slice)
		}
	})
	mu.Unlock()
	return ctx, func() {
		cancel(context.Canceled)
		timer.Stop()
	}
}
