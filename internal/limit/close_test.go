package limit_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/gatehouse/internal/limit"
)

// Close asks for sixteen accounts at once, for none of those that hold and owe nothing, and
// not at all once its time is over. It waits for the updates that are under way, and leaves
// nothing to be reported.
func TestHowALimiterIsClosed(t *testing.T) {
	t.Parallel()
	fill := func(t *testing.T, l *limit.Limiter, subjects int) {
		t.Helper()
		for i := range subjects {
			take(t, l, []limit.Rule{{Name: "end_user", Who: fmt.Sprint(i), PerMinute: 60}}, limit.Turn)
		}
	}
	for name, end := range map[string]func(*testing.T, *parallel, *limit.Limiter){
		"sixteen at once": func(t *testing.T, c *parallel, l *limit.Limiter) {
			fill(t, l, 40)
			begun := time.Now()
			l.Close(t.Context())
			if c.most.Load() != 16 || c.reports.Load() != 40 || time.Since(begun) != 3*10*time.Millisecond {
				t.Errorf("%d at once of %d, in %v", c.most.Load(), c.reports.Load(), time.Since(begun))
			}
		},
		"what holds and owes nothing": func(t *testing.T, c *parallel, l *limit.Limiter) {
			fill(t, l, 40)
			time.Sleep(time.Minute)
			if l.Close(t.Context()); c.reports.Load() != 0 {
				t.Errorf("%d updates", c.reports.Load())
			}
		},
		"its time is over": func(t *testing.T, c *parallel, l *limit.Limiter) {
			fill(t, l, 40)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if l.Close(ctx); c.reports.Load() != 0 || strings.Count(c.logged.String(), "level=WARN") != 1 {
				t.Errorf("%d updates, logged %s", c.reports.Load(), &c.logged)
			}
		},
		"an update is under way": func(t *testing.T, c *parallel, l *limit.Limiter) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			if _, err := l.Take(ctx, person(60), limit.Turn); err == nil {
				t.Error("it did not wait")
			}
			if l.Close(t.Context()); c.running.Load() != 0 || c.most.Load() != 1 {
				t.Errorf("%d under way, %d at once", c.running.Load(), c.most.Load())
			}
		},
		"nothing is to be reported afterwards": func(t *testing.T, c *parallel, l *limit.Limiter) {
			r := reserve(t, l, tokens(1_000_000), 100)
			r.Settle(spend(90))
			c.away.Store(true)
			l.Close(t.Context())
			if time.Sleep(time.Hour); l.Due() {
				t.Error("a report is due")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := &parallel{counters: newCounters(time.Now)}
				end(t, c, limit.New(limit.Config{Counters: c, MaxInstances: 1, Now: time.Now, Log: slog.New(slog.NewTextHandler(&c.logged, nil))}))
				synctest.Wait()
			})
		})
	}
}

// parallel takes 10 ms for an update, and counts how many are under way.
type parallel struct {
	*counters
	running, most atomic.Int64
	logged        bytes.Buffer
}

func (p *parallel) Update(ctx context.Context, name string, u limit.Update) (limit.Account, error) {
	n := p.running.Add(1)
	defer p.running.Add(-1)
	for most := p.most.Load(); n > most && !p.most.CompareAndSwap(most, n); most = p.most.Load() {
	}
	time.Sleep(10 * time.Millisecond)
	return p.counters.Update(ctx, name, u)
}
