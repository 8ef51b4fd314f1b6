package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A stub is a sender whose exports do as they are told.
type stub struct {
	do     func(ctx context.Context, call int) error
	calls  atomic.Int32
	left   int
	closed bool
}

func (s *stub) send(ctx context.Context) error { return s.do(ctx, int(s.calls.Add(1))) }
func (s *stub) pending() int                   { return s.left }
func (s *stub) close(context.Context) error    { s.closed = true; return nil }

// stubbed returns an Observer that exports by these senders, each at most every
// 10 s.
func stubbed(senders ...sender) *Observer {
	o := &Observer{now: time.Now}
	for _, s := range senders {
		o.lanes = append(o.lanes, newLane("stub", tracesEvery, s, time.Now, slog.New(slog.DiscardHandler)))
	}
	return o
}

// takes is how long do takes.
func takes(do func()) time.Duration {
	begin := time.Now()
	do()
	return time.Since(begin)
}

func hang(ctx context.Context, _ int) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestFlushAtMostEveryTenSeconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &stub{do: func(context.Context, int) error { return nil }}
		f := stubbed(s)
		for range 41 { // a request each second, from 0 to 40
			f.Flush(t.Context())
			time.Sleep(time.Second)
		}
		if got := s.calls.Load(); got != 5 {
			t.Errorf("%d exports in 40 s, want 5", got)
		}
	})
}

func TestFlushIsBounded(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		do   func(context.Context, int) error
		want time.Duration
	}{
		{"done at once", func(context.Context, int) error { return nil }, 0},
		{"refused at once", func(context.Context, int) error { return errors.New("no") }, 0},
		{"hangs", hang, flushBound},
		{"slow", func(context.Context, int) error { time.Sleep(100 * time.Millisecond); return nil }, 100 * time.Millisecond},
		{"slow to fail", func(context.Context, int) error { time.Sleep(200 * time.Millisecond); return errors.New("no") }, flushBound},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := stubbed(&stub{do: tt.do}, &stub{do: func(context.Context, int) error { return nil }})
				if got := takes(func() { f.Flush(t.Context()) }); got != tt.want {
					t.Errorf("took %v, want %v", got, tt.want)
				}
				_ = f.Shutdown(t.Context())
			})
		})
	}
}

func TestFlushBySomebodyElse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &stub{do: hang}
		f := stubbed(s)
		go f.Flush(t.Context())
		synctest.Wait()
		for range 100 {
			if got := takes(func() { f.Flush(t.Context()) }); got != 0 {
				t.Errorf("waited %v for another's flush", got)
			}
		}
		if got := s.calls.Load(); got != 1 {
			t.Errorf("%d exports at once", got)
		}
		_ = f.Shutdown(t.Context())
	})
}

// A collector that needs longer than the bound is still served: the export goes
// on, and the next flush looks at it first and then sends what is new.
func TestFlushGoesOnAfterTheBound(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &stub{do: func(_ context.Context, call int) error {
			if call == 1 {
				time.Sleep(2 * time.Second)
			}
			return nil
		}}
		f := stubbed(s)
		f.Flush(t.Context())
		time.Sleep(tracesEvery)
		if got := takes(func() { f.Flush(t.Context()) }); got != 0 || s.calls.Load() != 2 {
			t.Errorf("took %v, %d exports; want the first to be over and the second done", got, s.calls.Load())
		}
	})
}

// An export that gets no answer is given up, and the next flush begins another.
func TestFlushGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var ended atomic.Int32
		s := &stub{do: func(ctx context.Context, _ int) error { defer ended.Add(1); return hang(ctx, 0) }}
		f := stubbed(s)
		f.Flush(t.Context())
		time.Sleep(exportBound - flushBound - tick)
		if s.calls.Load() != 1 || ended.Load() != 0 {
			t.Errorf("%d exports begun, %d given up before the bound", s.calls.Load(), ended.Load())
		}
		time.Sleep(2 * tick)
		if s.calls.Load() != 1 || ended.Load() != 1 {
			t.Errorf("%d exports begun, %d given up after the bound", s.calls.Load(), ended.Load())
		}
		time.Sleep(tracesEvery)
		if got := takes(func() { f.Flush(t.Context()) }); got != flushBound || s.calls.Load() != 2 {
			t.Errorf("took %v, %d exports begun", got, s.calls.Load())
		}
		_ = f.Shutdown(t.Context())
	})
}

// An exporter that heeds no context holds up one flush in ten seconds, and one
// goroutine.
func TestFlushOfADeafExporter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		end := make(chan struct{})
		s := &stub{do: func(context.Context, int) error { <-end; return nil }}
		f := stubbed(s)
		for range 10 {
			if got := takes(func() { f.Flush(t.Context()) }); got > flushBound {
				t.Errorf("took %v", got)
			}
			time.Sleep(tracesEvery)
		}
		if s.calls.Load() != 1 {
			t.Errorf("%d exports at once", s.calls.Load())
		}
		if got := takes(func() {
			if f.Shutdown(t.Context()) == nil {
				t.Error("shut down without a word")
			}
		}); got > 2*lastBound || s.closed {
			t.Errorf("shutdown took %v, closed %t", got, s.closed)
		}
		close(end)
	})
}

func TestFlushEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := stubbed(&stub{do: hang})
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if got := takes(func() { f.Flush(ctx) }); got != 50*time.Millisecond {
			t.Errorf("took %v", got)
		}
		_ = f.Shutdown(t.Context())
	})
}

func TestFlushTriesABrokenConnectionAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &stub{do: func(_ context.Context, call int) error {
			if call == 1 {
				return errors.New("connection reset by peer")
			}
			return nil
		}}
		f := stubbed(s)
		f.Flush(t.Context())
		if s.calls.Load() != 2 || !f.lanes[0].reported.IsZero() {
			t.Errorf("%d tries", s.calls.Load())
		}
	})
}

func TestShutdown(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		do    func(context.Context, int) error
		least time.Duration // it takes
		most  time.Duration
		calls int32
		lost  bool
	}{
		{"well", func(context.Context, int) error { return nil }, 0, 0, 1, false},
		{"the third time", func(_ context.Context, call int) error {
			if call < 3 {
				return errors.New("no")
			}
			return nil
		}, 2 * lastPause, 2 * lastPause, 3, false},
		{"never", func(context.Context, int) error { return errors.New("no") }, 2 * lastPause, 2 * lastPause, 3, true},
		{"hangs", hang, 3 * lastBound, 3*lastBound + 3*lastPause, 3, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &stub{do: tt.do, left: 7}
				f := stubbed(s)
				var err error
				if got := takes(func() { err = f.Shutdown(t.Context()) }); got < tt.least || got > tt.most {
					t.Errorf("took %v", got)
				}
				if got := s.calls.Load(); got != tt.calls || !s.closed {
					t.Errorf("%d tries, closed %t", got, s.closed)
				}
				if (err != nil) != tt.lost || tt.lost && !strings.Contains(err.Error(), "7 lost") {
					t.Errorf("error %v", err)
				}
				f.Flush(t.Context())
				if err := f.Shutdown(t.Context()); err != nil || s.calls.Load() != tt.calls {
					t.Errorf("used after its end: %v", err)
				}
			})
		})
	}
}

// What an earlier flush left under way is waited for, and then the rest is sent.
func TestShutdownDuringAnExport(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &stub{do: func(context.Context, int) error { time.Sleep(500 * time.Millisecond); return nil }}
		f := stubbed(s)
		f.Flush(t.Context())
		if err := f.Shutdown(t.Context()); err != nil || s.calls.Load() != 2 {
			t.Errorf("%d exports, %v", s.calls.Load(), err)
		}
	})
}

func TestShutdownEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := stubbed(&stub{do: hang})
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		if got := takes(func() { _ = f.Shutdown(ctx) }); got > 200*time.Millisecond+2*lastPause {
			t.Errorf("took %v", got)
		}
	})
}

func TestTroubleIsToldOnceAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var lines strings.Builder
		down := true
		s := &stub{do: func(context.Context, int) error {
			if down {
				return errors.New(strings.Repeat("x", 1<<20))
			}
			return nil
		}}
		f := stubbed(s)
		f.lanes[0].log = slog.New(slog.NewTextHandler(&lines, nil))
		for range 12 { // two minutes
			f.Flush(t.Context())
			time.Sleep(tracesEvery)
		}
		down = false
		f.Flush(t.Context())
		if got := strings.Count(lines.String(), "\n"); got != 3 || lines.Len() > 4096 {
			t.Errorf("%d lines, %d bytes; want trouble twice and its end once", got, lines.Len())
		}
	})
}
