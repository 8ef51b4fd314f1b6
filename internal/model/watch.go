package model

import (
	"context"
	"errors"
	"time"
)

var errStalled = errors.New("the model went silent: nothing came for too long")

// A watch ends an attempt whose model gives no sign of life. The time that our
// own side takes, to pass text on, is not the model's.
type watch struct {
	ctx    context.Context // of the attempt
	cancel context.CancelCauseFunc
	timer  *time.Timer // nil: there is only the caller's deadline
	stream bool
	until  time.Time // before text has been passed on; zero: no bound
	since  time.Time // the model's silence; zero: it is our turn
}

// watchOf watches an attempt. A stream may be silent for stallAfter. An attempt
// of either form that has brought no text ends at until, if there is one.
func watchOf(ctx context.Context, stream bool, until time.Time) *watch {
	w := &watch{ctx: ctx, stream: stream, until: until, since: time.Now()}
	if !stream && until.IsZero() {
		return w
	}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	w.timer = time.AfterFunc(w.patience(false), func() { w.cancel(errStalled) })
	return w
}

// patience is how long nothing may come from now on.
func (w *watch) patience(shown bool) time.Duration {
	switch {
	case shown || w.until.IsZero():
		return stallAfter
	case w.stream:
		return min(stallAfter, time.Until(w.until))
	}
	return time.Until(w.until)
}

// pause says that something came, and that it is now our turn.
func (w *watch) pause() {
	w.timer.Stop()
	w.since = time.Time{}
}

// resume says that it is the model's turn. shown: text has been passed on.
func (w *watch) resume(shown bool) {
	w.since = time.Now()
	w.timer.Reset(w.patience(shown))
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
		w.cancel(nil)
	}
}
