package limit_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"example.com/gatehouse/internal/limit"
	"example.com/gatehouse/internal/testclock"
)

// A report reads the first account, and of the others those of which nothing was heard for
// two minutes, each once.
func TestWhichAccountsAReportReads(t *testing.T) {
	t.Parallel()
	caller := limit.Rule{Name: "caller", Who: "c", PerMinute: 600}
	both := append(person(60), caller)
	for name, tt := range map[string]struct {
		used    []limit.Rule
		since   time.Duration
		rules   []limit.Rule
		budgets []limit.Budget
		want    int64
	}{
		"the first, though it was heard of":                        {both, 0, both, nil, 1},
		"another, heard of less than two minutes ago":              {both, 2*time.Minute - 1, both, nil, 1},
		"another, heard of two minutes ago":                        {both, 2 * time.Minute, both, nil, 2},
		"two of which nothing was heard":                           {nil, 0, both, nil, 2},
		"one with a rate and a budget, of which nothing was heard": {nil, 0, both[1:], []limit.Budget{{Name: "caller", Who: "c", PerDay: 1000}}, 1},
	} {
		clock, c, l := setUp(1)
		if _, err := l.Take(t.Context(), tt.used, limit.Turn); err != nil {
			t.Fatal(name, err)
		}
		clock.Advance(tt.since)
		reported(t, l, tt.rules, tt.budgets)
		if got := c.looks.Load(); got != tt.want {
			t.Errorf("%s: %d accounts read, want %d", name, got, tt.want)
		}
	}
}

// The states of a refusal are of what is limited: use that is only counted has none.
func TestTheStatesOfARefusal(t *testing.T) {
	t.Parallel()
	_, _, l := setUp(1)
	_, err := l.Reserve(t.Context(), []limit.Budget{{Name: "end_user", Who: "p"}, {Name: "caller", Who: "c", PerDay: 10}}, 11)
	refusal, ok := errors.AsType[*limit.Refusal](err)
	if !ok || len(refusal.States) != 1 || refusal.States[0].Name != "caller" {
		t.Errorf("%+v", err)
	}
	if _, refusal := drain(t, l, person(1), limit.Turn); len(refusal.States) != 1 {
		t.Errorf("a limit of one call: %+v", refusal)
	}
}

// What was spent is reported until the counters have it, and is due once.
func TestWhenAReportIsRepeated(t *testing.T) {
	t.Parallel()
	spent := func(t *testing.T, l *limit.Limiter) {
		t.Helper()
		r := reserve(t, l, tokens(1_000_000), 100)
		r.Settle(spend(90))
	}
	for name, tt := range map[string]struct {
		// before runs when the report is due.
		before func(t *testing.T, c *counters, l *limit.Limiter)
		again  time.Duration // 0: never
	}{
		"it was written": {func(*testing.T, *counters, *limit.Limiter) {}, 0},
		"a lease had it with it": {func(t *testing.T, _ *counters, l *limit.Limiter) {
			reserve(t, l, tokens(1_000_000), 2000)
			if l.Due() {
				t.Error("what a lease reported is due")
			}
		}, 0},
		"the counters failed": {func(_ *testing.T, c *counters, _ *limit.Limiter) { c.away.Store(true) }, time.Minute},
		"the counters had failed before": {func(t *testing.T, c *counters, l *limit.Limiter) {
			c.away.Store(true)
			if _, err := l.Report(t.Context(), person(60), nil); err == nil {
				t.Error("a report without counters")
			}
		}, 5 * time.Second},
	} {
		clock, c, l := setUp(2)
		spent(t, l)
		clock.Advance(time.Minute)
		tt.before(t, c, l)
		l.Flush(t.Context())
		if l.Due() {
			t.Errorf("%s: due at once", name)
		}
		if tt.again > 0 {
			if clock.Advance(tt.again - 1); l.Due() {
				t.Errorf("%s: due before %v", name, tt.again)
			}
			clock.Advance(1)
		} else {
			clock.Advance(time.Hour)
		}
		if l.Due() != (tt.again > 0) {
			t.Errorf("%s: due %t after %v", name, l.Due(), tt.again)
		}
		c.away.Store(false)
		l.Flush(t.Context())
		fresh := newLimiter(c, clock, 2)
		report, err := fresh.Report(t.Context(), nil, tokens(1_000_000))
		if err != nil || report.Usage["model"].Tokens != 90 {
			t.Errorf("%s: %d of 90 tokens were reported, %v", name, report.Usage["model"].Tokens, err)
		}
	}
}

// An update that is under way may not have all that was spent: the report is repeated a
// second later.
func TestAReportWhileAnUpdateRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		shared := newCounters(time.Now)
		slow := newLate(shared, 0)
		l := limit.New(limit.Config{Counters: slow, MaxInstances: 2, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
		reserve := func(ctx context.Context, n int64) *limit.Reservation {
			r, _ := l.Reserve(ctx, tokens(1_000_000), n)
			return r
		}
		reserve(t.Context(), 100).Settle(spend(90))
		running := reserve(t.Context(), 100)
		time.Sleep(time.Minute)
		slow.after.Store(int64(300 * time.Millisecond))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		reserve(ctx, 2000)
		running.Settle(spend(150))
		l.Flush(t.Context())
		time.Sleep(time.Second)
		if !l.Due() {
			t.Error("what was spent while the update ran is not due")
		}
		l.Flush(t.Context())
		if got := shared.charged(); got < 240 {
			t.Errorf("%d charged, 240 were spent", got)
		}
		l.Close(t.Context())
	})
}

// An instance keeps no more than it may of what a call had asked for that ended without it.
func TestTheLeaseOfACallThatEnded(t *testing.T) {
	t.Parallel()
	t.Run("while it waited", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			shared := newCounters(time.Now)
			l := limit.New(limit.Config{Counters: newLate(shared, 20*time.Millisecond), MaxInstances: 2, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			defer cancel()
			if _, err := l.Reserve(ctx, tokens(1_000_000), 5000); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond)
			if !l.Due() {
				t.Error("nothing is to be returned")
			}
			l.Flush(t.Context())
			if got := shared.charged(); got != 1000 {
				t.Errorf("%d held, a lease is 1000", got)
			}
			l.Close(t.Context())
		})
	})
	t.Run("refused by another budget", func(t *testing.T) {
		t.Parallel()
		clock := testclock.New(start)
		c := newCounters(clock.Now)
		service := limit.Budget{Name: "service", Who: "everybody", PerDay: 3000}
		if _, err := newLimiter(c, clock, 2).Reserve(t.Context(), []limit.Budget{service}, 3000); err != nil {
			t.Fatal(err)
		}
		l := newLimiter(c, clock, 2)
		_, err := l.Reserve(t.Context(), append(tokens(1_000_000), service), 2600)
		if refusal, ok := errors.AsType[*limit.Refusal](err); !ok || refusal.Rule != "service" {
			t.Fatal(err)
		}
		if !l.Due() {
			t.Error("nothing is to be returned")
		}
		l.Flush(t.Context())
		if got := c.charged(); got != 3000+1000 {
			t.Errorf("%d held beside 3000, a lease is 1000", got-3000)
		}
	})
}
