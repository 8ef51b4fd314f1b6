package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"example.com/gatehouse/internal/cputime"
	"example.com/gatehouse/internal/rescue"
	"example.com/gatehouse/internal/truncate"
)

// How exports are paced. Every bound counts only the time in which the process
// runs: an instance that is frozen between requests is not late when it thaws.
const (
	tracesEvery  = 10 * time.Second // between two exports, at least
	metricsEvery = 60 * time.Second // each sample is paid for

	flushBound  = 300 * time.Millisecond // a flush takes, at most
	exportBound = 5 * time.Second        // an export takes, which may outlast the flush that began it
	exportTries = 2                      // a connection that broke while frozen fails at once, a new one stands

	lastTries = 3           // of a signal at shutdown
	lastBound = time.Second // for each of them
	lastPause = 100 * time.Millisecond

	tick = 25 * time.Millisecond // by which running time is counted
)

// Due reports whether [Observer.Flush] may do something now. It allocates
// nothing, so that a request with nothing to export does not begin to.
func (o *Observer) Due() bool {
	if o != nil {
		now := o.now()
		for _, l := range o.lanes {
			if l.due(now) {
				return true
			}
		}
	}
	return false
}

// Flush exports what has gathered, at the end of a request and after the client
// has its bytes. It takes at most 300 ms, and exports traces at most every 10 s
// and metrics every 60 s, for one caller at once; for the others it returns at
// once. An export that takes longer goes on while the CPU is there, and the next
// flush waits for it first; what could not be exported stays queued for the
// next. The end of ctx ends the wait, so it should outlive the client's
// connection.
func (o *Observer) Flush(ctx context.Context) {
	if !o.Due() {
		return
	}
	var wg sync.WaitGroup
	for _, l := range o.lanes {
		wg.Go(func() { l.flush(ctx) })
	}
	wg.Wait()
}

// Shutdown exports the rest and closes the exporters. It takes at most about
// 3 s, less when ctx ends earlier, and its error reports what was lost. Later
// flushes do nothing.
func (o *Observer) Shutdown(ctx context.Context) error {
	if o == nil {
		return nil
	}
	errs := make([]error, len(o.lanes))
	var wg sync.WaitGroup
	for i, l := range o.lanes {
		wg.Go(func() { errs[i] = l.shutdown(ctx) })
	}
	wg.Wait()
	for _, closer := range o.closers {
		errs = append(errs, closer(ctx))
	}
	return errors.Join(errs...)
}

// A lane exports one signal, one export at a time. It is safe for concurrent
// use.
type lane struct {
	signal string
	every  time.Duration
	sender sender
	now    func() time.Time
	log    *slog.Logger
	next   atomic.Pointer[time.Time] // when the next flush may begin; nil: at once

	turn     chan struct{} // held by whoever flushes; guards the fields below
	closed   bool
	job      *job      // the export under way; nil: none
	reported time.Time // when trouble was last logged; zero: there is none
}

func newLane(signal string, every time.Duration, s sender, now func() time.Time, log *slog.Logger) *lane {
	return &lane{signal: signal, every: every, sender: s, now: now, log: log, turn: make(chan struct{}, 1)}
}

func (l *lane) due(now time.Time) bool {
	next := l.next.Load()
	return next == nil || !now.Before(*next)
}

// A job is one export. It may outlast the flush that began it.
type job struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when err holds
	err    error
}

var errSlow = errors.New("no answer within the bound")

func (l *lane) start(tries int) *job {
	ctx, cancel := cputime.WithTimeoutCause(context.Background(), exportBound, tick, errSlow)
	j := &job{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(j.done)
		defer cancel()
		for range tries {
			j.err = rescue.Call(func() error { return l.sender.send(ctx) })
			if j.err == nil || ctx.Err() != nil {
				return
			}
		}
	}()
	return j
}

// wait waits for the job to end, for at most bound.
func (j *job) wait(ctx context.Context, bound time.Duration) error {
	ctx, cancel := cputime.WithTimeoutCause(ctx, bound, tick, errSlow)
	defer cancel()
	select {
	case <-j.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// flush waits for the export that an earlier flush left under way, if there is
// one, and then for a new one, within the bound.
func (l *lane) flush(ctx context.Context) {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	default:
		return
	}
	now := l.now()
	if l.closed || !l.due(now) {
		return
	}
	next := now.Add(l.every)
	l.next.Store(&next)
	ctx, cancel := cputime.WithTimeoutCause(ctx, flushBound, tick, errSlow)
	defer cancel()
	if l.job != nil {
		if err := l.job.wait(ctx, flushBound); err != nil {
			l.report(err)
			return
		}
	}
	l.job = l.start(exportTries)
	err := l.job.wait(ctx, flushBound)
	if err == nil {
		err = l.job.err
		l.job = nil
	}
	l.report(err)
}

// shutdown exports the rest, and closes the exporter.
func (l *lane) shutdown(ctx context.Context) error {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if l.closed {
		return nil
	}
	l.closed = true
	var err error
	for try := range lastTries {
		left := l.job != nil // by an earlier flush
		if !left {
			l.job = l.start(1)
		}
		if l.job.wait(ctx, lastBound) != nil {
			l.job.cancel()
			if l.job.wait(context.WithoutCancel(ctx), lastPause) != nil {
				// It heeds no context, and so cannot be closed either.
				return fmt.Errorf("%s: %w", l.signal, errSlow)
			}
		}
		err = l.job.err
		l.job = nil
		if ctx.Err() != nil || !left && err == nil {
			break
		}
		if err != nil && try < lastTries-1 {
			select {
			case <-time.After(lastPause):
			case <-ctx.Done():
			}
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

// report logs trouble when it begins and then once a minute, and its end.
func (l *lane) report(err error) {
	switch {
	case err == nil && !l.reported.IsZero():
		l.reported = time.Time{}
		l.log.Info("Telemetry export works again.", slog.String("signal", l.signal))
	case err != nil && (l.reported.IsZero() || l.now().Sub(l.reported) >= time.Minute):
		l.reported = l.now()
		l.log.Warn("Telemetry export failed; queued data is sent with the next export.",
			slog.String("signal", l.signal), slog.String("error", truncate.Text(err.Error(), maxProblem)))
	}
}
