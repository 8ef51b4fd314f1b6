package model

import (
	"context"
	"errors"
	"time"
)

// stallAfter is how long a stream may bring nothing once it has begun: a model thinks
// before its first chunk, not between two. Before the first chunk a stream has as
// long as a whole answer, which shows no sign before it is there.
const stallAfter = 20 * time.Second

var errStalled = errors.New("the model went silent: nothing came for too long")

// A watch ends an attempt whose model shows no sign of life. The time that our
// own side takes, to pass text on, is not the model's.
type watch struct {
	ctx    context.Context // of the attempt
	cancel context.CancelCauseFunc
	timer  *time.Timer // nil: there is only the caller's deadline
	until  time.Time   // before text has been passed on; zero: no bound
	since  time.Time   // the model's silence; zero: it is our turn
}

// newWatch watches an attempt. One that has brought no text ends at until, if that
// is set.
func newWatch(ctx context.Context, until time.Time) *watch {
	w := &watch{until: until, since: time.Now()}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	if !until.IsZero() {
		w.stallAfter(time.Until(until))
	}
	return w
}

func (w *watch) stallAfter(d time.Duration) {
	if w.timer == nil {
		w.timer = time.AfterFunc(d, func() { w.cancel(errStalled) })
		return
	}
	w.timer.Reset(d)
}

// pause reports that something came, and that it is now our turn.
func (w *watch) pause() {
	if w.timer != nil {
		w.timer.Stop()
	}
	w.since = time.Time{}
}

// resume reports that it is the model's turn. shown: text has been passed on.
func (w *watch) resume(shown bool) {
	w.since = time.Now()
	patience := stallAfter
	if !shown && !w.until.IsZero() {
		patience = min(patience, time.Until(w.until))
	}
	w.stallAfter(patience)
}

// silent is how long nothing has come.
func (w *watch) silent() time.Duration {
	if w.since.IsZero() {
		return 0
	}
	return time.Since(w.since)
}

// stalled reports whether the watch has ended the attempt.
func (w *watch) stalled() bool { return errors.Is(context.Cause(w.ctx), errStalled) }

func (w *watch) end() {
	if w.timer != nil {
		w.timer.Stop()
	}
	w.cancel(nil)
}
