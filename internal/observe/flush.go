package observe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"example.com/gatehouse/internal/rescue"
)

// How exports are paced. All of it is time in which the process runs: an
// instance that is frozen between requests is not late when it thaws.
const (
	flushBound    = 300 * time.Millisecond // a flush takes, at most
	flushInterval = 10 * time.Second       // between two flushes, at least
	flushTries    = 2                      // of a signal in one flush: a connection that broke while frozen fails at once, a new one stands
	patience      = 3 * flushBound         // flushes wait this long in all for one export, then it is given up

	lastTries = 3           // of a signal at shutdown
	lastBound = time.Second // for each of them
	lastPause = 100 * time.Millisecond
)

// Due reports whether [Observer.Flush] may do something now. It takes nothing, so
// that a request that has nothing to export does not begin to.
func (o *Observer) Due() bool { return o != nil && len(o.flusher.lanes) > 0 && o.flusher.due(o.now()) }

func (f *flusher) due(now time.Time) bool {
	next := f.next.Load()
	return next == nil || !now.Before(*next)
}

// Flush exports what has gathered, at the end of a request and after the client
// has its bytes. It takes at most 300 ms, and does something at most every 10 s
// and for one caller at once; for the others it returns at once. An export that
// takes longer goes on while the CPU is there, and the next flush waits for it
// first; what could not be exported stays queued for the next. The end of ctx
// ends the wait, so it should outlive the client's connection.
func (o *Observer) Flush(ctx context.Context) {
	if o != nil {
		o.flusher.flush(ctx)
	}
}

// Shutdown exports the rest and closes the exporters. It takes at most about
// 3 s, less when ctx ends earlier, and tells what was lost. Later flushes do
// nothing.
func (o *Observer) Shutdown(ctx context.Context) error {
	if o == nil {
		return nil
	}
	errs := []error{o.flusher.shutdown(ctx)}
	for _, closer := range o.closers {
		if err := closer(ctx); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// A flusher exports each signal on a lane of its own, side by side.
type flusher struct {
	now   func() time.Time
	turn  chan struct{} // full while somebody flushes, who alone touches what follows
	lanes []*lane
	next  atomic.Pointer[time.Time] // when the next flush may begin; nil: at once
	shut  bool
	log   *slog.Logger
}

func newFlusher(now func() time.Time, log *slog.Logger) *flusher {
	return &flusher{now: now, log: log, turn: make(chan struct{}, 1)}
}

func (f *flusher) add(signal string, s sender) {
	f.lanes = append(f.lanes, &lane{signal: signal, sender: s, log: f.log, now: f.now})
}

func (f *flusher) flush(ctx context.Context) {
	if len(f.lanes) == 0 {
		return
	}
	select {
	case f.turn <- struct{}{}:
		defer func() { <-f.turn }()
	default:
		return
	}
	now := f.now()
	if f.shut || !f.due(now) {
		return
	}
	next := now.Add(flushInterval)
	f.next.Store(&next)
	var wg sync.WaitGroup
	for _, l := range f.lanes {
		wg.Go(func() { l.flush(ctx) })
	}
	wg.Wait()
}

func (f *flusher) shutdown(ctx context.Context) error {
	select {
	case f.turn <- struct{}{}:
		defer func() { <-f.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if f.shut {
		return nil
	}
	f.shut = true
	errs := make([]error, len(f.lanes))
	var wg sync.WaitGroup
	for i, l := range f.lanes {
		wg.Go(func() { errs[i] = l.finish(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// A lane exports one signal, one export at a time. It is not safe for
// concurrent use.
type lane struct {
	signal string
	sender sender
	job    *job // under way, or not yet looked at; nil: none
	log    *slog.Logger
	now    func() time.Time
	told   time.Time // when trouble was last logged; zero: there is none
}

// A job is one export. It may outlast the flush that began it.
type job struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when err holds
	err    error
	waited time.Duration // by flushes
}

func (l *lane) start() *job {
	ctx, cancel := context.WithCancel(context.Background())
	j := &job{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(j.done)
		defer cancel()
		j.err = rescue.Call(func() error { return l.sender.send(ctx) })
	}()
	return j
}

var errSlow = errors.New("no answer within the bound")

// flush waits for the export that an earlier flush left under way, if there is
// one, and then for a new one, within the bound.
func (l *lane) flush(ctx context.Context) {
	left := budget(flushBound)
	for try := 0; ; {
		fresh := l.job == nil
		if fresh {
			try++
			l.job = l.start()
		}
		before := left
		done := left.wait(ctx, l.job.done)
		l.job.waited += time.Duration(before - left)
		if !done {
			if l.job.waited >= patience {
				l.job.cancel()
			}
			l.tell(errSlow)
			return
		}
		err := l.job.err
		l.job = nil
		if fresh && (err == nil || try == flushTries) || ctx.Err() != nil {
			l.tell(err)
			return
		}
	}
}

// finish exports the rest, and closes the exporter.
func (l *lane) finish(ctx context.Context) error {
	var err error
	for try := 0; try < lastTries; {
		fresh := l.job == nil
		if fresh {
			l.job = l.start()
		}
		try++
		left := budget(lastBound)
		if !left.wait(ctx, l.job.done) {
			l.job.cancel()
			left = budget(lastPause)
			if !left.wait(context.WithoutCancel(ctx), l.job.done) {
				// An exporter that does not even end: it cannot be closed either.
				return fmt.Errorf("%s: %w", l.signal, errSlow)
			}
		}
		err = l.job.err
		l.job = nil
		if ctx.Err() != nil || fresh && err == nil {
			break
		}
		if err != nil && try < lastTries {
			left = budget(lastPause)
			left.wait(ctx, nil)
		}
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", l.signal, err)
		if n := l.sender.pending(); n > 0 {
			err = fmt.Errorf("%w (%d lost)", err, n)
		}
	}
	return errors.Join(err, l.sender.close(ctx))
}

// tell logs trouble when it begins and then once a minute, and its end.
func (l *lane) tell(err error) {
	switch {
	case err == nil && !l.told.IsZero():
		l.told = time.Time{}
		l.log.Info("Telemetry is exported again.", slog.String("signal", l.signal))
	case err != nil && (l.told.IsZero() || l.now().Sub(l.told) >= time.Minute):
		l.told = l.now()
		l.log.Warn("Telemetry could not be exported; what is queued goes with the next.",
			slog.String("signal", l.signal), slog.String("error", cut(err.Error())))
	}
}
