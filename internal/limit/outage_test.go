package limit_test

import (
	"testing"
	"time"

	"example.com/gatehouse/internal/limit"
	"example.com/gatehouse/internal/testclock"
)

// While the counters fail they are called every five seconds, however often calls come,
// and a refusal names the seconds until then.
func TestCallsDuringAnOutage(t *testing.T) {
	t.Parallel()
	clock := testclock.New(start)
	clock.Advance(17 * time.Second)
	c := newCounters(clock.Now)
	c.away.Store(true)
	l := newLimiter(c, clock, 6)
	drain(t, l, person(60), limit.Turn)
	for second := 1; second <= 12; second++ {
		clock.Advance(time.Second)
		_, refusal := drain(t, l, person(60), limit.Turn)
		if want := time.Duration(5-second%5) * time.Second; refusal.RetryAfter != want || c.leases.Load() != int64(1+second/5) {
			t.Errorf("after %d s: called %d times, again in %v, want %v", second, c.leases.Load(), refusal.RetryAfter, want)
		}
	}
}

// A call takes from the shares of all its rules or of none, and what it reserves from a
// share is reported once the counters answer.
func TestCallsFromShares(t *testing.T) {
	t.Parallel()
	clock := testclock.New(start)
	c := newCounters(clock.Now)
	c.away.Store(true)
	l := newLimiter(c, clock, 6)
	both := append(person(60), limit.Rule{Name: "caller", Who: "c", PerMinute: 6})
	if n, refusal := drain(t, l, both, limit.Turn); n != 1 || refusal.Rule != "caller" {
		t.Errorf("%d let through, refused by %q", n, refusal.Rule)
	}
	if n, _ := drain(t, l, person(60), limit.Turn); n != 9 {
		t.Errorf("%d more of a share of 10, of which one is used", n)
	}
	reserve(t, l, tokens(1_000_000), 500)
	c.away.Store(false)
	clock.Advance(time.Minute)
	if !l.Due() {
		t.Error("a reservation from a share is not to be reported")
	}
	l.Flush(t.Context()) // one account, to see whether the counters answer
	clock.Advance(5 * time.Second)
	l.Flush(t.Context())
	if got := c.charged(); got != 500 {
		t.Errorf("%d charged, 500 are reserved", got)
	}
}

// A call that no share covers has nothing to be reported.
func TestNothingIsReportedOfARefusedCall(t *testing.T) {
	t.Parallel()
	clock := testclock.New(start)
	c := newCounters(clock.Now)
	c.away.Store(true)
	l := newLimiter(c, clock, 3)
	if _, err := l.Reserve(t.Context(), tokens(2), 1); err == nil {
		t.Error("let through without a share")
	}
	if clock.Advance(time.Minute); l.Due() {
		t.Error("a report is due")
	}
}
