package limit_test

import (
	"fmt"
	"testing"
	"time"

	"example.com/gatehouse/internal/limit"
	"example.com/gatehouse/internal/testclock"
)

// What an update changes for others is written; what it does not is not worth a write.
func TestWhatIsWorthAWrite(t *testing.T) {
	t.Parallel()
	minute := start.Unix() / 60
	base := limit.Update{Instance: "i", Seq: 1, At: start, PerDay: 1000, Want: 10, Spent: 5, PerMinute: 600, Minute: minute, Calls: 10, Usage: spend(5)}
	stored, changed := limit.Account{}.Apply(base)
	if !changed {
		t.Fatal("the first update changes nothing")
	}
	for name, tt := range map[string]struct {
		update func(*limit.Update)
		want   bool
	}{
		"nothing":                         {func(*limit.Update) {}, false},
		"more tokens spent":               {func(u *limit.Update) { u.Spent++ }, true},
		"more tokens held":                {func(u *limit.Update) { u.Want++ }, true},
		"fewer tokens held":               {func(u *limit.Update) { u.Want-- }, true},
		"another use":                     {func(u *limit.Update) { u.Usage = spend(6) }, true},
		"more calls in the minute":        {func(u *limit.Update) { u.Calls++ }, true},
		"calls of the next minute":        {func(u *limit.Update) { u.Minute++ }, true},
		"the next minute without calls":   {func(u *limit.Update) { u.Minute, u.Calls = u.Minute+1, 0 }, false},
		"it has left":                     {func(u *limit.Update) { u.Leave = true }, true},
		"a holding that is renewed late":  {func(u *limit.Update) { u.At = u.At.Add(10 * time.Minute) }, true},
		"a holding that is renewed early": {func(u *limit.Update) { u.At = u.At.Add(10*time.Minute - time.Second) }, false},
		"an update that came before":      {func(u *limit.Update) { u.Seq, u.Spent = 1, 100 }, false},
	} {
		u := base
		u.Seq = 2
		tt.update(&u)
		next, changed := stored.Apply(u)
		if changed != tt.want {
			t.Errorf("%s: worth a write: %t", name, changed)
		}
		if u.Seq == 1 && next.Charged() != stored.Charged() {
			t.Errorf("%s: %d charged", name, next.Charged())
		}
	}
	for name, tt := range map[string]struct {
		update limit.Update
		want   bool
	}{
		"an instance that has nothing":    {limit.Update{}, false},
		"one that has spent tokens":       {limit.Update{Spent: 1}, true},
		"one that holds some":             {limit.Update{PerDay: 1000, Want: 1}, true},
		"one that has calls":              {limit.Update{Calls: 1}, true},
		"one with a use without a budget": {limit.Update{Usage: spend(1)}, true},
	} {
		tt.update.Instance, tt.update.Seq, tt.update.At, tt.update.Minute = "new", 1, start, minute
		if _, changed := stored.Apply(tt.update); changed != tt.want {
			t.Errorf("%s: worth a write: %t", name, changed)
		}
	}
}

// An account grants what is wanted as far as it is left, but no part that is of no use; what
// running calls need is held in any case.
func TestWhatAnAccountGrants(t *testing.T) {
	t.Parallel()
	others, _ := limit.Account{}.Apply(limit.Update{Instance: "o", Seq: 1, At: start, PerDay: 100, Want: 60})
	for name, tt := range map[string]struct{ want, least, inFlight, held int64 }{
		"all that is wanted":                {30, 30, 0, 30},
		"what is left":                      {50, 40, 0, 40},
		"less than is of use":               {50, 41, 0, 0},
		"less than is of use to more calls": {50, 41, 7, 7},
		"less than calls need":              {50, 50, 50, 50},
	} {
		a, _ := others.Apply(limit.Update{Instance: "i", Seq: 1, At: start, PerDay: 100, Want: tt.want, Least: tt.least, InFlight: tt.inFlight})
		if got := a.Shares["i"].Held; got != tt.held {
			t.Errorf("%s: %d held, want %d", name, got, tt.held)
		}
	}
}

// Holdings that nobody will report again are charged, so that an account stays small and
// nothing is given back that may have been spent.
func TestHoldingsAreFolded(t *testing.T) {
	t.Parallel()
	minute := start.Unix() / 60
	at := func(instance string, at time.Time, leave bool) limit.Update {
		return limit.Update{Instance: instance, Seq: 1, At: at, PerDay: 1e6, Want: 7, Spent: 3, Usage: spend(3), Leave: leave, PerMinute: 600, Minute: at.Unix() / 60, Calls: 10}
	}
	for name, tt := range map[string]struct {
		first limit.Update
		later time.Duration
		kept  int
	}{
		"one that is live":                            {at("a", start, false), time.Minute, 2},
		"one that has left counts in its minute":      {at("a", start, true), 0, 2},
		"one that has left, a minute later":           {at("a", start, true), time.Minute, 1},
		"one that may come back":                      {at("a", start, false), 2 * time.Hour, 2},
		"one that expired more than two hours before": {at("a", start, false), 4 * time.Hour, 1},
	} {
		a, _ := limit.Account{}.Apply(tt.first)
		a, _ = a.Apply(at("b", start.Add(tt.later), false))
		if len(a.Shares) != tt.kept || a.Charged() != 20 {
			t.Errorf("%s: %d holdings, %d charged", name, len(a.Shares), a.Charged())
		}
		if got := a.Usage["model"].Tokens; got != int64(3*(2-tt.kept)) {
			t.Errorf("%s: %d tokens of a model in what is folded", name, got)
		}
		if got := a.Calls(minute); tt.later == 0 && got != 20 {
			t.Errorf("%s: %d calls", name, got)
		}
	}

	var a limit.Account
	for i := range 502 {
		a, _ = a.Apply(at(fmt.Sprintf("%03d", i), start.Add(time.Duration(i)*time.Millisecond*1001), false))
		if len(a.Shares) != min(i+1, 500) {
			t.Fatalf("%d holdings of %d", len(a.Shares), i+1)
		}
	}
	if len(a.Shares) != 500 || a.Charged() != 502*10 {
		t.Errorf("%d holdings of 502, %d charged", len(a.Shares), a.Charged())
	}
	for instance, want := range map[string]bool{"000": false, "001": false, "002": true, "501": true} {
		if _, listed := a.Shares[instance]; listed != want {
			t.Errorf("holding %s is listed: %t", instance, listed)
		}
	}
}

// Without its counters an instance reserves its share of what was left of a day's
// budget, beside what it has leased, and no more.
func TestCountersAwayADaysShare(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ before, want int64 }{
		"never heard of":   {0, 3300},
		"of what was left": {2000, 2650}, // a third of 8000
		"nothing is left":  {9950, 0},
	} {
		_, c, l := setUp(3)
		if tt.before > 0 {
			if _, err := l.Reserve(t.Context(), tokens(10_000), tt.before); err != nil {
				t.Fatal(name, err)
			}
		}
		c.away.Store(true)
		n := int64(0)
		for ; n <= 10_000; n += 50 {
			if _, err := l.Reserve(t.Context(), tokens(10_000), 50); err != nil {
				break
			}
		}
		if n != tt.want {
			t.Errorf("%s: %d reserved, want %d", name, n, tt.want)
		}
	}
}

// The use in a report is that of the first budget's subject, by model; models beyond a
// bound are one, and one without use is none.
func TestUseByModel(t *testing.T) {
	t.Parallel()
	clock, c, l := setUp(2)
	settle := func(who string, used map[string]limit.Spend) {
		t.Helper()
		r := reserve(t, l, []limit.Budget{{Name: "end_user", Who: who}, {Name: "caller", Who: "c", PerDay: 1e6}}, 10)
		r.Settle(used)
	}
	settle("p", map[string]limit.Spend{"one": {Tokens: 7}, "none": {}})
	settle("q", map[string]limit.Spend{"two": {Tokens: 9}})
	for i := range 1000 {
		settle("r", map[string]limit.Spend{fmt.Sprint(i): {Tokens: 1}})
	}
	settle("r", map[string]limit.Spend{"0": {Tokens: 1}}) // counted before: under its name, not with the others
	own, err := l.Report(t.Context(), nil, []limit.Budget{{Name: "caller", Who: "c", PerDay: 1e6}})
	if err != nil || len(own.States) != 1 || own.States[0].Left != 1e6-7-9-1001 {
		t.Errorf("the instance that used it: %+v, %v", own, err)
	}
	l.Close(t.Context())
	fresh := newLimiter(c, clock, 2)
	for who, want := range map[string]struct {
		tokens int64
		models int
	}{"p": {7, 1}, "q": {9, 1}, "r": {1001, 17}} {
		report, err := fresh.Report(t.Context(), nil, []limit.Budget{{Name: "end_user", Who: who}, {Name: "caller", Who: "c", PerDay: 1e6}})
		if err != nil {
			t.Fatal(err)
		}
		sum := int64(0)
		for _, s := range report.Usage {
			sum += s.Tokens
		}
		state := report.States[0]
		if len(report.States) != 1 || state.Name != "caller" || state.Left != 1e6-7-9-1001 {
			t.Errorf("%s: %+v of the caller's budget after %d tokens", who, report.States, 7+9+1001)
		}
		if sum != want.tokens || len(report.Usage) != want.models {
			t.Errorf("%s used %d tokens of %d models, want %d of %d", who, sum, len(report.Usage), want.tokens, want.models)
		}
		if n := report.Usage["0"].Tokens; who == "r" && n != 2 {
			t.Errorf("%d of 2 tokens of the first model", n)
		}
	}
}

// A report that could not be read opens no minute that was known to be used up.
func TestAFailedReportOpensNothing(t *testing.T) {
	t.Parallel()
	clock := testclock.New(start)
	clock.Advance(17 * time.Second)
	c := newCounters(clock.Now)
	other, l := newLimiter(c, clock, 2), newLimiter(c, clock, 2)
	drain(t, other, person(60), limit.Turn)
	if n, _ := drain(t, l, person(60), limit.Turn); n != 0 {
		t.Fatalf("%d let through", n)
	}
	c.away.Store(true)
	if _, err := l.Report(t.Context(), person(60), nil); err == nil {
		t.Fatal("an account that cannot be read is reported")
	}
	looks := c.looks.Load()
	if _, err := l.Report(t.Context(), person(60), nil); err == nil || c.looks.Load() != looks {
		t.Errorf("a report while the counters are not called: %v, %d were", err, c.looks.Load()-looks)
	}
	before := c.leases.Load()
	if n, _ := drain(t, l, person(60), limit.Turn); n != 0 || c.leases.Load() != before {
		t.Errorf("%d let through, %d updates", n, c.leases.Load()-before)
	}
}
