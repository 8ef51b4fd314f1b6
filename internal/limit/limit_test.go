package limit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"example.com/gatehouse/internal/limit"
	"example.com/gatehouse/internal/testclock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var start = time.Date(2026, 3, 1, 12, 0, 43, 0, time.UTC) // 17 s before the next minute

var errAway = errors.New("the counters are away")

// counters wraps counters in memory, counts calls and can fail or block them.
type counters struct {
	limit.Counters
	leases, reports, looks atomic.Int64 // reports are updates that request nothing
	away, hang             atomic.Bool

	mu       sync.Mutex
	accounts map[string]limit.Account
}

func newCounters(now func() time.Time) *counters {
	return &counters{Counters: limit.NewMemory(now), accounts: map[string]limit.Account{}}
}

func (c *counters) Update(ctx context.Context, name string, u limit.Update) (limit.Account, error) {
	if u.More > 0 || u.Least > u.InFlight {
		c.leases.Add(1)
	} else {
		c.reports.Add(1)
	}
	if err := c.fails(ctx); err != nil {
		return limit.Account{}, err
	}
	a, err := c.Counters.Update(ctx, name, u)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.accounts[name] = a
	return a, err
}

func (c *counters) Look(ctx context.Context, name string) (limit.Account, error) {
	c.looks.Add(1)
	if err := c.fails(ctx); err != nil {
		return limit.Account{}, err
	}
	return c.Counters.Look(ctx, name)
}

func (c *counters) fails(ctx context.Context) error {
	if c.hang.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	if c.away.Load() {
		return errAway
	}
	return nil
}

// calls returns the tenths leased in a minute over all accounts, and charged the
// tokens charged.
func (c *counters) calls(minute int64) (n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.accounts {
		n += a.Calls(minute)
	}
	return n
}

func (c *counters) charged() (n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.accounts {
		n += a.Charged()
	}
	return n
}

// spend returns the use of a call of some model.
func spend(tokens int64) map[string]limit.Spend {
	return map[string]limit.Spend{"model": {Tokens: tokens, CostUSD: float64(tokens) / 1000}}
}

func newLimiter(c limit.Counters, clock *testclock.Clock, instances int) *limit.Limiter {
	return limit.New(limit.Config{Counters: c, MaxInstances: instances, Now: clock.Now, Log: slog.New(slog.DiscardHandler)})
}

// setUp returns a limiter of one of some instances, with its clock and its counters.
func setUp(instances int) (*testclock.Clock, *counters, *limit.Limiter) {
	clock := testclock.New(start)
	c := newCounters(clock.Now)
	return clock, c, newLimiter(c, clock, instances)
}

func take(t testing.TB, l *limit.Limiter, rules []limit.Rule, cost int64) *limit.Permit {
	t.Helper()
	p, err := l.Take(t.Context(), rules, cost)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func reserve(t testing.TB, l *limit.Limiter, budgets []limit.Budget, n int64) *limit.Reservation {
	t.Helper()
	r, err := l.Reserve(t.Context(), budgets, n)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func person(n int) []limit.Rule { return []limit.Rule{{Name: "end_user", Who: "p", PerMinute: n}} }

func tokens(n int64) []limit.Budget { return []limit.Budget{{Name: "tokens", Who: "p", PerDay: n}} }

// drain takes permits until one is refused.
func drain(t testing.TB, l *limit.Limiter, rules []limit.Rule, cost int64) (n int, refusal *limit.Refusal) {
	t.Helper()
	for {
		_, err := l.Take(t.Context(), rules, cost)
		if errors.As(err, &refusal) {
			return n, refusal
		}
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
}

func TestAlone(t *testing.T) {
	t.Parallel()
	for _, perMinute := range []int{1, 2, 3, 7, 60, 600, 10_000} {
		for _, cost := range []int64{limit.Turn, limit.Get} {
			t.Run(fmt.Sprintf("%d a minute at %d", perMinute, cost), func(t *testing.T) {
				t.Parallel()
				clock, c, l := setUp(10)
				n, refusal := drain(t, l, person(perMinute), cost)
				if want := perMinute * int(limit.Turn/cost); n != want {
					t.Errorf("alone got %d of %d", n, want)
				}
				if refusal.RetryAfter != 17*time.Second || refusal.Rule != "end_user" || refusal.Limit != int64(perMinute) || refusal.Daily {
					t.Errorf("refusal %+v", refusal)
				}
				leases := c.leases.Load()
				if leases > 9 {
					t.Errorf("%d leases for a whole limit", leases)
				}
				for range 100 {
					if _, err := l.Take(t.Context(), person(perMinute), cost); err == nil {
						t.Fatal("let through beyond the limit")
					}
				}
				if more := c.leases.Load() - leases; more != 0 {
					t.Errorf("%d leases for refused calls", more)
				}
				clock.Advance(17 * time.Second)
				if n, _ := drain(t, l, person(perMinute), cost); n != perMinute*int(limit.Turn/cost) {
					t.Errorf("got %d after the minute turned", n)
				}
			})
		}
	}
}

// Any interleaving of instances allows at most the limit in any minute, refunded calls
// aside.
func TestInstancesTogether(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		clock := testclock.New(start)
		c := newCounters(clock.Now)
		perMinute := rapid.IntRange(1, 80).Draw(t, "limit")
		const perDay = 1000
		var limiters []*limit.Limiter
		for range rapid.IntRange(1, 5).Draw(t, "instances") {
			limiters = append(limiters, newLimiter(c, clock, 5))
		}
		var undo []func()
		through, spent := map[int64]int64{}, int64(0)
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			i := rapid.IntRange(0, len(limiters)-1).Draw(t, "limiter")
			switch action := rapid.IntRange(0, 20).Draw(t, "action"); {
			case action == 0:
				clock.Advance(time.Duration(rapid.IntRange(1, 40).Draw(t, "seconds")) * time.Second)
			case action == 1:
				limiters[i].Close(context.Background())
				limiters[i] = newLimiter(c, clock, 5)
			case action < 5 && len(undo) > 0:
				rapid.SampledFrom(undo).Draw(t, "undo")()
			case action < 9:
				n := rapid.Int64Range(1, 90).Draw(t, "tokens")
				actual := rapid.Int64Range(0, n).Draw(t, "actual")
				r, err := limiters[i].Reserve(context.Background(), tokens(perDay), n)
				if err == nil {
					spent += n
					undo = append(undo, sync.OnceFunc(func() {
						r.Settle(spend(actual))
						spent -= n - actual
					}))
				}
			default:
				cost := rapid.SampledFrom([]int64{limit.Turn, limit.Turn, limit.Get}).Draw(t, "cost")
				minute := clock.Now().Unix() / 60
				p, err := limiters[i].Take(context.Background(), person(perMinute), cost)
				if err == nil {
					through[minute] += cost
					undo = append(undo, sync.OnceFunc(func() {
						p.Settle(0)
						through[minute] -= cost
					}))
				}
			}
			for minute, n := range through {
				if n > int64(perMinute)*limit.Turn {
					t.Fatalf("minute %d: %d tenths let through of %d turns", minute, n, perMinute)
				}
			}
			if spent > perDay {
				t.Fatalf("%d tokens spent of %d", spent, perDay)
			}
		}
	})
}

// The same without refunds, concurrently, counting the calls allowed.
func TestInstancesAtOnce(t *testing.T) {
	t.Parallel()
	for _, instances := range []int{1, 2, 4, 16} {
		t.Run(fmt.Sprintf("%d instances", instances), func(t *testing.T) {
			t.Parallel()
			const perMinute = 600
			clock := testclock.New(start)
			c := newCounters(clock.Now)
			rules := []limit.Rule{{Name: "end_user", Who: "p", PerMinute: perMinute}, {Name: "caller", Who: "c", PerMinute: 10 * perMinute}}
			var through atomic.Int64
			var group sync.WaitGroup
			for range instances {
				l := newLimiter(c, clock, instances)
				for range 8 {
					group.Go(func() {
						n, _ := drain(t, l, rules, limit.Turn)
						through.Add(int64(n))
					})
				}
			}
			group.Wait()
			t.Logf("%d instances: %d of %d let through, %d leases", instances, through.Load(), perMinute, c.leases.Load())
			if got := through.Load(); got > perMinute || got < perMinute*9/10 {
				t.Errorf("%d of %d let through", got, perMinute)
			}
		})
	}
}

func TestSteadyUseLeasesOnceAMinute(t *testing.T) {
	t.Parallel()
	clock := testclock.New(start)
	clock.Advance(17 * time.Second)
	c := newCounters(clock.Now)
	l := newLimiter(c, clock, 100)
	rules := []limit.Rule{{Name: "end_user", Who: "p", PerMinute: 60}, {Name: "caller", Who: "c", PerMinute: 600}}
	var got []int64
	for range 10 {
		before := c.leases.Load()
		for range 20 {
			take(t, l, rules, limit.Turn)
			clock.Advance(3 * time.Second)
		}
		got = append(got, c.leases.Load()-before)
	}
	t.Logf("leases in each minute, for two rules: %v", got)
	for minute, n := range got[1:] {
		if n > 2 {
			t.Errorf("minute %d: %d leases for two rules", minute+2, n)
		}
	}
}

// A caller whose calls are spread evenly is not refused at half its limit, even if
// more instances serve it than the limit has first batches.
func TestSpreadEvenly(t *testing.T) {
	t.Parallel()
	clock := testclock.New(start)
	clock.Advance(17 * time.Second)
	c := newCounters(clock.Now)
	rules := []limit.Rule{{Name: "caller", Who: "c", PerMinute: 6000}}
	var limiters []*limit.Limiter
	for range 16 {
		limiters = append(limiters, newLimiter(c, clock, 16))
	}
	for range 3 {
		before := c.leases.Load()
		for i := range 3000 {
			if _, err := limiters[i%len(limiters)].Take(t.Context(), rules, limit.Turn); err != nil {
				t.Fatalf("call %d: %v", i, err)
			}
			clock.Advance(20 * time.Millisecond)
		}
		t.Logf("%d leases for 3000 calls on 16 instances", c.leases.Load()-before)
	}
}

func TestRefund(t *testing.T) {
	t.Parallel()
	_, c, l := setUp(1)
	p := take(t, l, person(3), limit.Turn)
	if n, _ := drain(t, l, person(3), limit.Turn); n != 2 {
		t.Fatalf("%d more, not 2", n)
	}
	leases := c.leases.Load()
	p.Settle(0)
	p.Settle(0)
	if n, _ := drain(t, l, person(3), limit.Turn); n != 1 {
		t.Errorf("a refund twice let %d through, not 1", n)
	}
	if c.leases.Load() != leases {
		t.Error("a refund cost a lease")
	}
}

func TestRefusedByOneRule(t *testing.T) {
	t.Parallel()
	_, c, l := setUp(1)
	caller := limit.Rule{Name: "caller", Who: "c", PerMinute: 5}
	both := func(who string) []limit.Rule {
		return []limit.Rule{{Name: "end_user", Who: who, PerMinute: 60}, caller}
	}
	if n, refusal := drain(t, l, both("p"), limit.Turn); n != 5 || refusal.Rule != "caller" {
		t.Fatalf("%d let through, refused by %q", n, refusal.Rule)
	}
	if n, _ := drain(t, l, both("p")[:1], limit.Turn); n != 55 {
		t.Errorf("the person has %d left, not 55", n)
	}
	leases := c.leases.Load()
	for i := range 50 {
		if _, err := l.Take(t.Context(), both(fmt.Sprint("new", i)), limit.Turn); err == nil {
			t.Fatal("let through beyond the caller's limit")
		}
	}
	if more := c.leases.Load() - leases; more != 0 {
		t.Errorf("%d leases for new people of a refused caller", more)
	}
}

func TestNoLimit(t *testing.T) {
	t.Parallel()
	_, c, l := setUp(1)
	p := take(t, l, person(0), limit.Turn)
	h := http.Header{}
	p.Header(h)
	p.Settle(0)
	r := reserve(t, l, tokens(0), 1<<40)
	r.Settle(spend(1))
	if len(h) != 0 || c.leases.Load() != 0 {
		t.Errorf("headers %v, %d leases", h, c.leases.Load())
	}
}

func TestBudget(t *testing.T) {
	t.Parallel()
	clock, c, l := setUp(10)
	left := func() int64 { return reported(t, l, nil, tokens(10_000))[0].Left }
	reserve := func(n int64) (*limit.Reservation, error) { return l.Reserve(t.Context(), tokens(10_000), n) }

	r, err := reserve(4000)
	if err != nil || left() != 6000 {
		t.Fatalf("%v, %d left", err, left())
	}
	r.Settle(spend(1000))
	running, err := reserve(500)
	r.Settle(spend(1000))
	if err != nil || left() != 8500 {
		t.Errorf("settled twice beside 500 in flight: %v, %d left", err, left())
	}
	running.Settle(nil)
	if left() != 9000 {
		t.Errorf("settled: %d left", left())
	}
	r, err = reserve(1000)
	if err != nil {
		t.Fatal(err)
	}
	r.Settle(spend(7000)) // a debt
	if left() != 2000 {
		t.Errorf("in debt: %d left", left())
	}
	if _, err := reserve(500); err != nil || c.charged() < 8500 {
		t.Errorf("the lease after a debt: %v, %d charged", err, c.charged())
	}
	_, err = reserve(1501)
	var refusal *limit.Refusal
	if !errors.As(err, &refusal) {
		t.Fatal(err)
	}
	if !refusal.Daily || refusal.RetryAfter != 11*time.Hour+59*time.Minute+17*time.Second || refusal.Limit != 10_000 || refusal.Rule != "tokens" {
		t.Errorf("refusal %+v", refusal)
	}
	if _, err := reserve(1500); err != nil {
		t.Errorf("the last tokens: %v", err)
	}
	if _, err := reserve(10_001); err == nil {
		t.Error("more than a day's")
	}
	clock.Advance(12 * time.Hour)
	if _, err := reserve(10_000); err != nil {
		t.Errorf("the next day: %v", err)
	}
}

// A lease is a thousandth of the budget, so the number of leases per turn follows from
// the number of turns in the budget.
func TestBudgetTakesFewLeases(t *testing.T) {
	t.Parallel()
	_, c, l := setUp(10)
	for range 1000 {
		r := reserve(t, l, tokens(20_000_000), 5000)
		r.Settle(spend(2000))
	}
	if got := c.leases.Load() + c.reports.Load(); got > 130 {
		t.Errorf("%d updates for 1000 turns that use a tenth of the budget", got)
	}
	if got := c.charged(); got > 2_000_000+20_000+5000 {
		t.Errorf("%d charged, of which 2000000 are spent", got)
	}
}

func TestDebtIsChargedAtClose(t *testing.T) {
	t.Parallel()
	_, c, l := setUp(10)
	r := reserve(t, l, tokens(10_000), 100)
	r.Settle(spend(5000))
	l.Close(t.Context())
	if c.charged() != 5000 {
		t.Errorf("%d charged", c.charged())
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	clock, c, l := setUp(10)
	rules := append(person(600), limit.Rule{Name: "caller", Who: "c", PerMinute: 6000})
	for range 3 {
		take(t, l, rules, limit.Turn)
	}
	r := reserve(t, l, tokens(10_000), 500)
	r.Settle(spend(200))
	l.Close(t.Context())
	if got, want := c.calls(clock.Now().Unix()/60), 2*3*limit.Turn; got != want {
		t.Errorf("%d tenths leased after Close, used %d", got, want)
	}
	if got := c.charged(); got != 200 {
		t.Errorf("%d tokens charged after Close, used 200", got)
	}
	if _, err := l.Take(t.Context(), rules, limit.Turn); err == nil {
		t.Error("let through after Close without a lease")
	}
	if n, _ := drain(t, newLimiter(c, clock, 10), rules, limit.Turn); n != 597 {
		t.Errorf("another instance got %d, not what was left", n)
	}
}

func TestCloseWhileAway(t *testing.T) {
	t.Parallel()
	clock := testclock.New(start)
	c := newCounters(clock.Now)
	var logged bytes.Buffer
	l := limit.New(limit.Config{Counters: c, MaxInstances: 7, Now: clock.Now, Log: slog.New(slog.NewTextHandler(&logged, nil))})
	for i := range 1000 {
		take(t, l, []limit.Rule{{Name: "end_user", Who: fmt.Sprint(i), PerMinute: 60}}, limit.Turn)
	}
	c.away.Store(true)
	l.Close(t.Context())
	if c.reports.Load() > 100 || strings.Count(logged.String(), "level=WARN") != 1 {
		t.Errorf("%d updates tried:\n%s", c.reports.Load(), &logged)
	}
}

func TestCountersAway(t *testing.T) {
	t.Parallel()
	clock := testclock.New(start)
	clock.Advance(17 * time.Second)
	c := newCounters(clock.Now)
	var logged bytes.Buffer
	l := limit.New(limit.Config{Counters: c, MaxInstances: 7, Now: clock.Now, Log: slog.New(slog.NewTextHandler(&logged, nil))})

	// 5 of 60 are leased before the counters fail.
	for range 3 {
		take(t, l, person(60), limit.Turn)
	}
	if l.Degraded() {
		t.Error("degraded from the start")
	}
	c.away.Store(true)
	n, refusal := drain(t, l, person(60), limit.Turn)
	if n != 2+8 { // 3 of the 5 leased are used, and a seventh of 55 is 8
		t.Errorf("%d let through, want 10", n)
	}
	if refusal.RetryAfter != 5*time.Second || !l.Degraded() {
		t.Errorf("refusal %+v, degraded %t", refusal, l.Degraded())
	}
	if n, _ := drain(t, l, []limit.Rule{{Name: "end_user", Who: "other", PerMinute: 60}}, limit.Turn); n != 9 {
		t.Errorf("another person got %d of a share of 9", n)
	}
	if got := c.leases.Load(); got != 2 {
		t.Errorf("asked %d times within the pause", got-1)
	}
	clock.Advance(5 * time.Second)
	drain(t, l, person(60), limit.Turn)
	drain(t, l, person(60), limit.Turn)
	if got := c.leases.Load(); got != 3 {
		t.Errorf("asked %d times after the pause", got-2)
	}
	c.away.Store(false)
	clock.Advance(5 * time.Second)
	if n, _ := drain(t, l, person(60), limit.Turn); n != 47 {
		t.Errorf("%d let through after the outage, 13 of 60 before", n)
	}
	if l.Degraded() {
		t.Error("degraded after the outage")
	}
	if got := strings.Count(logged.String(), "level=WARN"); got != 1 {
		t.Errorf("%d warnings:\n%s", got, &logged)
	}
}

// A minute known to be used up stays closed, and a share is at most what is known to
// be left.
func TestCountersAwayOpenNothing(t *testing.T) {
	t.Parallel()
	clock := testclock.New(start)
	c := newCounters(clock.Now)
	other, l := newLimiter(c, clock, 2), newLimiter(c, clock, 2)
	for range 54 {
		if _, err := other.Take(t.Context(), person(60), limit.Turn); err != nil {
			t.Fatal(err)
		}
	}
	other.Close(t.Context())
	if got := reported(t, l, person(60), nil)[0].Left; got != 6 {
		t.Fatalf("%d left", got)
	}
	c.away.Store(true)
	if n, _ := drain(t, l, person(60), limit.Turn); n != 3 {
		t.Errorf("%d let through of half of 6 that were left", n)
	}
}

func TestCountersSlow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCounters(time.Now)
		c.hang.Store(true)
		l := limit.New(limit.Config{Counters: c, MaxInstances: 6, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
		begun := time.Now()
		rules := append(person(60), limit.Rule{Name: "caller", Who: "c", PerMinute: 600})
		take(t, l, rules, limit.Turn)
		if took := time.Since(begun); took != time.Second {
			t.Errorf("two rules waited %v", took)
		}
		if n, _ := drain(t, l, rules, limit.Turn); n != 9 || time.Since(begun) != time.Second {
			t.Errorf("%d more let through in %v", n, time.Since(begun))
		}

		l.Close(t.Context())
	})
}

// A call that ends while it waits takes nothing; the lease continues.
func TestCallEndsWhileItWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCounters(time.Now)
		l := limit.New(limit.Config{Counters: c, MaxInstances: 6, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
		held := []limit.Rule{{Name: "held", Who: "h", PerMinute: 1}}
		p := take(t, l, held, limit.Turn)
		p.Settle(0)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		slowly := limit.New(limit.Config{Counters: &slow{c}, MaxInstances: 6, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
		if _, err := slowly.Take(ctx, person(60), limit.Turn); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		time.Sleep(20 * time.Millisecond)
		leases := c.leases.Load()
		if _, err := slowly.Take(t.Context(), person(60), limit.Turn); err != nil || c.leases.Load() != leases || slowly.Degraded() {
			t.Errorf("the lease of the call that ended is lost: %v", err)
		}

		c.hang.Store(true)
		ctx, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if _, err := l.Take(ctx, append(held, person(60)...), limit.Turn); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		c.hang.Store(false)
		if n, _ := drain(t, l, held, limit.Turn); n != 1 {
			t.Errorf("%d left of what the ended call held", n)
		}
		l.Close(t.Context())
	})
}

// Of concurrent calls that need a lease, one asks and the others wait for it.
func TestOneLeaseAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &slow{newCounters(time.Now)}
		l := limit.New(limit.Config{Counters: c, MaxInstances: 6, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
		begun := time.Now()
		var group sync.WaitGroup
		for range 50 {
			group.Go(func() {
				if _, err := l.Take(t.Context(), person(600), limit.Turn); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		if got, took := c.leases.Load(), time.Since(begun); got != 1 || took != 20*time.Millisecond {
			t.Errorf("%d leases in %v", got, took)
		}
	})
}

type slow struct{ *counters }

func (s *slow) Update(ctx context.Context, name string, u limit.Update) (limit.Account, error) {
	time.Sleep(20 * time.Millisecond)
	return s.counters.Update(ctx, name, u)
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	_, _, l := setUp(10)
	rules := append(person(60), limit.Rule{Name: "caller", Who: "c", PerMinute: 600})
	var p *limit.Permit
	for range 18 {
		var err error
		if p, err = l.Take(t.Context(), rules, limit.Turn); err != nil {
			t.Fatal(err)
		}
	}
	h := http.Header{}
	p.Header(h)
	want := http.Header{
		"Ratelimit-Policy": {`"end_user";q=60;w=60, "caller";q=600;w=60`},
		"Ratelimit":        {`"end_user";r=42;t=17, "caller";r=582;t=17`},
	}
	if diff := cmp.Diff(want, h); diff != "" {
		t.Errorf("a permit's (-want +got):\n%s", diff)
	}

	_, err := l.Reserve(t.Context(), []limit.Budget{{Name: `a "b\`, Who: "p", PerDay: 100}}, 200)
	var refusal *limit.Refusal
	if !errors.As(err, &refusal) {
		t.Fatal(err)
	}
	refusal.Header(h)
	want.Add("Ratelimit-Policy", `"a \"b\\";q=100;w=86400`)
	want.Add("Ratelimit", `"a \"b\\";r=100;t=43157`)
	if diff := cmp.Diff(want, h); diff != "" {
		t.Errorf("with a budget's refusal (-want +got):\n%s", diff)
	}

	_, refusal = drain(t, l, rules, limit.Turn)
	h = http.Header{}
	refusal.Header(h)
	want = http.Header{
		"Ratelimit-Policy": {`"end_user";q=60;w=60, "caller";q=600;w=60`},
		"Ratelimit":        {`"end_user";r=0;t=17, "caller";r=540;t=17`},
	}
	if diff := cmp.Diff(want, h); diff != "" {
		t.Errorf("a refusal's (-want +got):\n%s", diff)
	}
}

// reported returns the state of rules and budgets.
func reported(t *testing.T, l *limit.Limiter, rules []limit.Rule, budgets []limit.Budget) []limit.State {
	t.Helper()
	report, err := l.Report(t.Context(), rules, budgets)
	if err != nil {
		t.Fatal(err)
	}
	return report.States
}

// A report reads the first subject's account and no others seen recently. It includes
// what another instance has reported and what this one has not.
func TestReport(t *testing.T) {
	t.Parallel()
	clock := testclock.New(start)
	c := newCounters(clock.Now)
	other, l := newLimiter(c, clock, 10), newLimiter(c, clock, 10)
	rules := append(person(60), limit.Rule{Name: "caller", Who: "c", PerMinute: 600})
	budgets := []limit.Budget{{Name: "end_user", Who: "p"}, {Name: "caller", Who: "c", PerDay: 1000}}
	for _, l := range []*limit.Limiter{other, l} {
		take(t, l, rules, limit.Turn)
		r := reserve(t, l, budgets, 100)
		r.Settle(spend(40))
	}
	clock.Advance(time.Minute)
	if !other.Due() {
		t.Error("a minute later nothing is to be reported")
	}
	other.Flush(t.Context())
	if other.Due() {
		t.Error("what was reported is to be reported")
	}
	take(t, l, rules, limit.Get)
	report, err := l.Report(t.Context(), rules, budgets)
	if err != nil {
		t.Fatal(err)
	}
	want := limit.Report{ // the other instance still holds a token
		States: []limit.State{
			{Name: "end_user", Limit: 60, Left: 59, ResetsAt: time.Date(2026, 3, 1, 12, 2, 0, 0, time.UTC)},
			{Name: "caller", Limit: 600, Left: 599, ResetsAt: time.Date(2026, 3, 1, 12, 2, 0, 0, time.UTC)},
			{Name: "caller", Daily: true, Limit: 1000, Left: 919, ResetsAt: time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)},
		},
		Usage: map[string]limit.Spend{"model": {Tokens: 80, CostUSD: 0.08}},
	}
	if diff := cmp.Diff(want, report); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := c.looks.Load(); got != 1 {
		t.Errorf("%d accounts read", got)
	}
	c.away.Store(true)
	if _, err := l.Report(t.Context(), rules, budgets); err == nil {
		t.Error("an account that cannot be read is reported")
	}
}

// Only counters that do not respond are an outage, not a caller that stops waiting for its
// report.
func TestACallerThatLeavesItsReport(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCounters(time.Now)
		c.hang.Store(true)
		l := limit.New(limit.Config{Counters: c, MaxInstances: 6, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := l.Report(ctx, person(60), nil); !errors.Is(err, context.DeadlineExceeded) || l.Degraded() {
			t.Errorf("a caller that leaves: %v, degraded %t", err, l.Degraded())
		}
		if _, err := l.Report(t.Context(), person(60), nil); !errors.Is(err, context.DeadlineExceeded) || !l.Degraded() {
			t.Errorf("counters that hang: %v, degraded %t", err, l.Degraded())
		}
		l.Close(t.Context())
	})
}

// The number of subjects is bounded, and no lease or debt is lost.
func TestForgottenSubjects(t *testing.T) {
	t.Parallel()
	clock, c, l := setUp(1)
	before, _ := drain(t, l, person(5), limit.Turn)
	r := reserve(t, l, tokens(10_000), 100)
	r.Settle(spend(9990)) // a debt
	for i := range 25_000 {
		take(t, l, []limit.Rule{{Name: "end_user", Who: fmt.Sprint(i), PerMinute: 5}}, limit.Get)
	}
	leases := c.leases.Load()
	after, _ := drain(t, l, person(5), limit.Turn)
	if before != 5 || after != 0 || c.leases.Load() == leases {
		t.Errorf("%d, then %d let through, %d leases", before, after, c.leases.Load()-leases)
	}
	if _, err := l.Reserve(t.Context(), tokens(10_000), 100); err == nil {
		t.Error("a debt was forgotten")
	}
	if got := limit.Remembered(l); got > 11_000 {
		t.Errorf("%d subjects are remembered", got)
	}
	l.Close(t.Context())
	if got, want := c.calls(clock.Now().Unix()/60), int64(25_000+50); got != want {
		t.Errorf("%d tenths are leased, %d were used", got, want)
	}
}

// Above ten thousand subjects a new one replaces the one that was used longest ago: what
// is known of one that is used is not forgotten, and costs no lease again.
func TestASubjectInUseIsRemembered(t *testing.T) {
	t.Parallel()
	_, c, l := setUp(1)
	drain(t, l, person(5), limit.Turn)
	leases := c.leases.Load()
	const others = 20_000
	for i := range others {
		take(t, l, []limit.Rule{{Name: "caller", Who: fmt.Sprint(i), PerMinute: 1}}, limit.Turn)
		if i%5000 == 0 {
			drain(t, l, person(5), limit.Turn)
		}
	}
	if got := limit.Remembered(l); got != 10_000 {
		t.Errorf("%d subjects are remembered", got)
	}
	if more := c.leases.Load() - leases - others; more != 0 {
		t.Errorf("%d leases for what was known to be used up", more)
	}
}

// While the counters fail, no debt is dropped, and the number of subjects is still
// bounded.
func TestSubjectsThatOweAreKept(t *testing.T) {
	t.Parallel()
	clock, c, l := setUp(1)
	c.away.Store(true)
	refused := 0
	for i := range 15_000 {
		r, err := l.Reserve(t.Context(), []limit.Budget{{Name: "end_user", Who: fmt.Sprint(i), PerDay: 10_000}}, 10)
		if refusal, ok := errors.AsType[*limit.Refusal](err); ok {
			// An empty list is no field (RFC 9651, 3.1).
			h := http.Header{}
			if refusal.Header(h); len(h) != 0 {
				t.Fatalf("headers without a state: %v", h)
			}
			if !refusal.Daily || refusal.Limit != 10_000 || refusal.RetryAfter != 5*time.Second {
				t.Fatalf("%+v", refusal)
			}
			refused++
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		r.Settle(spend(10))
	}
	if got := limit.Remembered(l); got != 11_000 || refused != 4000 {
		t.Errorf("%d subjects are remembered, %d refused", got, refused)
	}
	fresh := []limit.Rule{{Name: "caller", Who: "c", PerMinute: 60}}
	_, err := l.Take(t.Context(), fresh, limit.Turn)
	if refusal, ok := errors.AsType[*limit.Refusal](err); !ok || refusal.Daily || refusal.Limit != 60 || refusal.RetryAfter != 5*time.Second {
		t.Errorf("a call: %+v", err)
	}
	for name, budgets := range map[string][]limit.Budget{"of a rate": nil, "of a budget": {{Name: "caller", Who: "c", PerDay: 10}}} {
		if _, err := l.Report(t.Context(), fresh[len(budgets):], budgets); !errors.As(err, new(*limit.Refusal)) {
			t.Errorf("a report %s: %v", name, err)
		}
	}
	c.away.Store(false)
	clock.Advance(5 * time.Second)
	l.Close(t.Context())
	if got, want := c.charged(), int64(15_000-refused)*10; got != want {
		t.Errorf("%d charged of %d", got, want)
	}
}

func TestAccountNamesTellNobody(t *testing.T) {
	t.Parallel()
	_, c, l := setUp(1)
	for _, rules := range [][]limit.Rule{
		{{Name: "a", Who: "bc", PerMinute: 5}}, {{Name: "ab", Who: "c", PerMinute: 5}}, {{Name: "a", Who: "d/../x", PerMinute: 5}},
	} {
		take(t, l, rules, limit.Turn)
	}
	reserve(t, l, []limit.Budget{{Name: "a", Who: "bc", PerDay: 5}}, 1)
	if len(c.accounts) != 3 {
		t.Errorf("%d accounts of 3 subjects", len(c.accounts))
	}
	for name := range c.accounts {
		if len(name) != 64 || strings.Trim(name, "abcdef0123456789") != "" {
			t.Errorf("name %q", name)
		}
	}
}

func TestChangedLimit(t *testing.T) {
	t.Parallel()
	_, _, l := setUp(1)
	if n, _ := drain(t, l, person(5), limit.Turn); n != 5 {
		t.Fatalf("%d of 5", n)
	}
	if n, _ := drain(t, l, person(8), limit.Turn); n != 3 {
		t.Errorf("%d more after it was raised to 8", n)
	}
	if n, _ := drain(t, l, person(6), limit.Turn); n != 0 {
		t.Errorf("%d more after it was lowered to 6", n)
	}
}

func BenchmarkTake(b *testing.B) {
	clock := testclock.New(start)
	l := newLimiter(limit.NewMemory(clock.Now), clock, 1)
	rules := []limit.Rule{{Name: "end_user", Who: "p", PerMinute: 1 << 30}, {Name: "caller", Who: "c", PerMinute: 1 << 30}}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := l.Take(b.Context(), rules, limit.Turn); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// A late response is used, and the lease is not requested again: it serves the calls
// that follow, once.
func TestALateAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		shared := newCounters(time.Now)
		l := limit.New(limit.Config{Counters: newLate(shared, 1500*time.Millisecond), MaxInstances: 10, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
		begun := time.Now()
		r, err := l.Reserve(t.Context(), tokens(1_000_000), 500)
		if err != nil || time.Since(begun) != time.Second {
			t.Fatalf("%v after %v", err, time.Since(begun))
		}
		r.Settle(spend(100)) // from its share: there is no response yet
		time.Sleep(time.Second)
		if _, err := l.Reserve(t.Context(), tokens(1_000_000), 500); err != nil || shared.leases.Load() != 1 {
			t.Errorf("%v, %d leases", err, shared.leases.Load())
		}
		if got := shared.charged(); got > 1000+500 {
			t.Errorf("%d charged: a lease was taken twice", got)
		}
		l.Close(t.Context())
	})
}

// late applies updates at once and responds after a delay.
type late struct {
	*counters
	after atomic.Int64 // a time.Duration
}

func newLate(c *counters, after time.Duration) *late {
	l := &late{counters: c}
	l.after.Store(int64(after))
	return l
}

func (c *late) Update(ctx context.Context, name string, u limit.Update) (limit.Account, error) {
	a, err := c.counters.Update(ctx, name, u)
	if err != nil {
		return a, err
	}
	return a, sleep(ctx, time.Duration(c.after.Load()))
}

// A lost response leaves no lease unaccounted for: the next update states the totals.
func TestALostAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		shared := newCounters(time.Now)
		slow := newLate(shared, time.Minute)
		l := limit.New(limit.Config{Counters: slow, MaxInstances: 10, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
		for range 20 { // each times out after five seconds
			if r, err := l.Reserve(t.Context(), tokens(1_000_000), 500); err == nil {
				r.Settle(spend(100))
			}
			time.Sleep(10 * time.Second)
		}
		slow.after.Store(0)
		time.Sleep(time.Minute)
		if !l.Due() {
			t.Error("nothing is to be reported")
		}
		l.Flush(t.Context())
		if got := shared.charged(); got < 2000 || got > 2000+2*1000 {
			t.Errorf("%d charged of 2000 that were spent", got)
		}
		l.Close(t.Context())
		if got := shared.charged(); got != 2000 {
			t.Errorf("%d charged in the end of 2000 that were spent", got)
		}
	})
}
