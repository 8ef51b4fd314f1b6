package audit

import (
	"fmt"
	"sync"
	"time"
)

// A breaker keeps calls away from an API that has just failed, so that not every
// request waits for it in vain.
type breaker struct {
	mu       sync.Mutex
	failures int       // in a row
	until    time.Time // when the next trial may be, once failures reach maxFailures
	last     error
}

// allow returns nil when the API may be called, or why not. While the API fails,
// one call each cooldown is allowed.
func (b *breaker) allow(now time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failures < maxFailures {
		return nil
	}
	if now.Before(b.until) {
		return fmt.Errorf("not tried, as %d calls in a row failed, the last by: %w", b.failures, b.last)
	}
	b.until = now.Add(cooldown)
	return nil
}

// done records the result of a call that was allowed.
func (b *breaker) done(now time.Time, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil {
		b.failures = 0
		return
	}
	b.failures++
	b.last = err
	b.until = now.Add(cooldown)
}
