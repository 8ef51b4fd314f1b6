package limit

import (
	"log/slog"
	"sync"
	"time"
)

// pause is how long the counters are not called after a failure.
const pause = 5 * time.Second

// An outage tracks whether the counters respond.
type outage struct {
	log *slog.Logger

	mu    sync.Mutex
	down  bool
	askAt time.Time
}

// admits reports whether the counters may be called: always while they respond, else
// once per pause.
func (o *outage) admits(now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.down {
		if now.Before(o.askAt) {
			return false
		}
		o.askAt = now.Add(pause)
	}
	return true
}

// note records how a call of the counters ended and logs a change of state.
func (o *outage) note(now time.Time, err error) {
	o.mu.Lock()
	before := o.down
	o.down, o.askAt = err != nil, now.Add(pause)
	o.mu.Unlock()
	switch {
	case err != nil && !before:
		o.log.Warn("Rate-limit counters unavailable; enforcing per-instance shares.", "error", err)
	case err == nil && before:
		o.log.Info("Rate-limit counters available again.")
	}
}

func (o *outage) isDown() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.down
}

// next returns the time until the counters may be called.
func (o *outage) next(now time.Time) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.askAt.Sub(now)
}
