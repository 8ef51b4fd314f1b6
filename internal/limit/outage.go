package limit

import (
	"log/slog"
	"sync"
	"time"
)

// pause is how long the counters are left alone after a failure.
const pause = 5 * time.Second

// An outage is whether the counters answer.
type outage struct {
	log *slog.Logger

	mu    sync.Mutex
	away  bool
	askAt time.Time
}

// admits tells whether the counters may be asked: always, but once a pause
// while they are away.
func (o *outage) admits(now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.away {
		if now.Before(o.askAt) {
			return false
		}
		o.askAt = now.Add(pause)
	}
	return true
}

// note takes in how a call of the counters ended.
func (o *outage) note(now time.Time, err error) {
	o.mu.Lock()
	before := o.away
	o.away = err != nil
	if o.away {
		o.askAt = now.Add(pause)
	}
	o.mu.Unlock()
	switch {
	case err != nil && !before:
		o.log.Warn("The counters of limits do not answer; each instance goes on with its share of every limit.", "error", err)
	case err == nil && before:
		o.log.Info("The counters of limits answer again.")
	}
}

func (o *outage) isAway() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.away
}

// next is how long it is until the counters may be asked.
func (o *outage) next(now time.Time) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.askAt.Sub(now)
}
