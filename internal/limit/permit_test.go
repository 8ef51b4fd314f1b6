package limit_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/gatehouse/internal/limit"
	"example.com/gatehouse/internal/testclock"
)

// A permit returns what the call did not cost, to the minute it was taken from and
// down to nothing used.
func TestWhatAPermitGivesBack(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		cost, settled int64
		later         time.Duration
		left          int // tenths of 30
	}{
		"all of it":                    {limit.Turn, 0, 0, 30},
		"most of it":                   {limit.Turn, limit.Get, 0, 29},
		"nothing":                      {limit.Turn, limit.Turn, 0, 20},
		"it cost more":                 {limit.Get, limit.Turn, 0, 20},
		"nothing to the minute after":  {limit.Turn, 0, 17 * time.Second, 30 - 7},
		"it cost more, a minute later": {limit.Get, limit.Turn, 17 * time.Second, 30 - 7},
	} {
		clock, _, l := setUp(1)
		p := take(t, l, person(3), tt.cost)
		if tt.later > 0 {
			clock.Advance(tt.later)
			for range 7 {
				take(t, l, person(3), limit.Get)
			}
		}
		p.Settle(tt.settled)
		if n, _ := drain(t, l, person(3), limit.Get); n != tt.left {
			t.Errorf("%s: %d tenths left, want %d", name, n, tt.left)
		}
	}
}

// The write that leases a permit leases what its turn will reserve of the same account, too.
func TestOneWriteForATurn(t *testing.T) {
	t.Parallel()
	clock, c, l := setUp(10)
	rules, budgets := []limit.Rule{{Name: "end_user", Who: "p", PerMinute: 60}}, []limit.Budget{{Name: "end_user", Who: "p", PerDay: 1_000_000}}
	for turn, want := range []int64{2, 1, 1} {
		before := c.leases.Load()
		take(t, l, rules, limit.Turn)
		r := reserve(t, l, budgets, 2000)
		r.Settle(spend(2000))
		if got := c.leases.Load() - before; got != want {
			t.Errorf("turn %d: %d leases, want %d", turn, got, want)
		}
		clock.Advance(time.Minute)
	}
}

// Without counters one instance has the whole limit, as does one of an unknown number.
func TestTheShareOfOneInstance(t *testing.T) {
	t.Parallel()
	for instances, want := range map[int]int{-1: 60, 0: 60, 1: 60, 2: 30} {
		clock := testclock.New(start)
		c := newCounters(clock.Now)
		c.away.Store(true)
		if n, _ := drain(t, newLimiter(c, clock, instances), person(60), limit.Turn); n != want {
			t.Errorf("%d instances: %d let through, want %d", instances, n, want)
		}
	}
}

func TestTheTextOfARefusal(t *testing.T) {
	t.Parallel()
	for want, refusal := range map[string]limit.Refusal{
		`the limit "caller" of 60 calls a minute is reached`: {Rule: "caller", Limit: 60},
		`the budget "caller" of 1000 tokens a day is spent`:  {Rule: "caller", Limit: 1000, Daily: true},
	} {
		if got := refusal.Error(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// hangsFor counts as its counters do, but for accounts whose first update it saw hang.
type hangsFor struct {
	*counters
	hang string
}

func (h *hangsFor) Update(ctx context.Context, name string, u limit.Update) (limit.Account, error) {
	if name == h.hang {
		<-ctx.Done()
		return limit.Account{}, ctx.Err()
	}
	return h.counters.Update(ctx, name, u)
}

// An account that does not answer in time leaves those that did as they are: what is known
// to be used up is refused until its minute ends, not until the counters may answer.
func TestOneAccountOfTwoHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		shared := newCounters(time.Now)
		used := limit.Rule{Name: "end_user", Who: "p", PerMinute: 6}
		hanging := limit.Rule{Name: "caller", Who: "c", PerMinute: 600}
		other := limit.New(limit.Config{Counters: shared, MaxInstances: 1, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
		drain(t, other, []limit.Rule{used}, limit.Turn)
		name := ""
		probe := newCounters(time.Now)
		if _, err := limit.New(limit.Config{Counters: probe, MaxInstances: 1, Now: time.Now, Log: slog.New(slog.DiscardHandler)}).Take(t.Context(), []limit.Rule{hanging}, limit.Turn); err != nil {
			t.Fatal(err)
		}
		for name = range probe.accounts {
		}
		l := limit.New(limit.Config{Counters: &hangsFor{shared, name}, MaxInstances: 1, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
		_, err := l.Take(t.Context(), []limit.Rule{used, hanging}, limit.Turn)
		refusal, ok := errors.AsType[*limit.Refusal](err)
		if !ok || refusal.Rule != "end_user" || refusal.RetryAfter != 59*time.Second {
			t.Errorf("%+v", err)
		}
		if len(refusal.States) != 2 || !strings.Contains(refusal.Error(), "6 calls") {
			t.Errorf("%+v", refusal)
		}
		l.Close(t.Context())
	})
}

// A call that one rule refuses returns what it took of another: calls, and none of the
// tokens that its caller has reserved.
func TestARefusedCallFreesNoTokens(t *testing.T) {
	t.Parallel()
	_, _, l := setUp(1)
	caller, used := limit.Rule{Name: "caller", Who: "c", PerMinute: 60}, limit.Rule{Name: "end_user", Who: "p", PerMinute: 1}
	budgets := []limit.Budget{{Name: "caller", Who: "c", PerDay: 10_000}}
	drain(t, l, []limit.Rule{used}, limit.Turn)
	reserve(t, l, budgets, 500)
	p := take(t, l, []limit.Rule{caller}, limit.Turn)
	p.Settle(0) // its lease is there, to be taken from and returned to
	for range 3 {
		if _, err := l.Take(t.Context(), []limit.Rule{caller, used}, limit.Turn); err == nil {
			t.Fatal("let through beyond the limit")
		}
	}
	states := reported(t, l, []limit.Rule{caller}, budgets)
	if states[0].Left != 60 || states[1].Left != 9500 {
		t.Errorf("%+v, want 60 calls and 9500 tokens", states)
	}
}

// A call that is never refused is a debt where it goes beyond the lease. The next lease of
// its minute covers it, and the minute's end ends it: no write is made for it.
func TestADebtOfCalls(t *testing.T) {
	t.Parallel()
	clock, c, l := setUp(10)
	for range 25 {
		l.Charge(t.Context(), person(3), limit.Turn)
	}
	if n, _ := drain(t, l, person(3), limit.Get); n != 0 {
		t.Errorf("%d calls let through in debt", n)
	}
	l.Charge(t.Context(), person(3), -1_000_000) // no credit beyond the limit
	if n, _ := drain(t, l, person(3), limit.Get); n != 30 {
		t.Errorf("%d calls let through of 30", n)
	}
	clock.Advance(time.Minute)
	if n, _ := drain(t, l, person(3), limit.Turn); n != 3 || c.reports.Load() != 0 {
		t.Errorf("%d calls let through a minute later, %d reports", n, c.reports.Load())
	}
	if clock.Advance(2 * time.Minute); l.Due() {
		t.Error("calls of a minute that is over are to be reported")
	}
}
