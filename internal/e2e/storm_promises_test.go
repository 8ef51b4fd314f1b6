package e2e_test

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// What a storm is held to beside its turns: that what fell silent comes back, that a
// revoked key is, that budgets, permits and places are what was spent, and that health is
// the truth and nobody's to move.

// A stormPromises is the part of a ledger about these.
type stormPromises struct {
	Recoveries []stormRecovery
	Admissions []stormAdmission
	Deadlines  []time.Duration // by place: from when on the revoked key is refused
	Budgets    []stormBudget
	Rate       stormRate
	Hostile    []stormHostile
	Sights     []stormSight
	Truths     []stormTruth
}

// A stormRecovery is how a process got over a silent connection.
type stormRecovery struct {
	Of    faultKind
	Place int
	Took  time.Duration // until it was answered again
	Other time.Duration // of other faults in this time, at the same place
}

// recoverIn is how long a process may take to notice a silent connection.
const recoverIn = 20 * time.Second

// A stormAdmission is what became of a request with the key that is revoked.
type stormAdmission struct {
	Place    int
	Began    time.Duration // since the storm's beginning
	Admitted bool
}

// A stormBudget is what an owner's budget of the day came to.
type stormBudget struct {
	Owner   int
	Limit   int64
	Left    int64 // as GET /usage has it
	Billed  int64 // by the model
	Unheard int64 // the most that was reserved for calls that may not have been heard to their end
	Flight  int64 // the most that calls at once have reserved at the end of a budget that was used up
	UsedUp  bool  // calls were made until one was refused
	Leased  int64 // the most that processes held when they were killed, which counts as spent: a block of tokens each
}

// A stormRate is what came of a caller that calls more often than its limit.
type stormRate struct {
	PerMinute, Minutes int
	Shares             int // what instances may allow by themselves while the counters are away
	Turns              int // for which the model was asked
	Refused            int
}

// A stormHostile is a request that is its caller's mistake.
type stormHostile struct {
	What   string
	Status int
	Code   string
	Calm   bool // nothing was at fault
}

// A stormSight is a look at a process's health.
type stormSight struct {
	Place     int
	Status    int
	State     string
	StoreDown bool // as the report says
	StoreCut  bool // it may have been
	Rate      float64
	Count     int
}

// A stormTruth is something that must be so in the end.
type stormTruth struct{ What, Want, Got string }

// A promiseReport counts what broke the promises; all must be 0.
type promiseReport struct {
	Stuck     int // silent for too long
	Admitted  int // by the revoked key, too late
	Overspent int // beyond the budget, or not counted
	Stranded  int // of the budget, and used by nobody
	Overrun   int // of the limit of a minute
	Blamed    int // on the service, for what a caller sent
	Untrue    int // said by health, or not as it must be in the end

	Problems []string
}

func (r *promiseReport) faults() int {
	return r.Stuck + r.Admitted + r.Overspent + r.Stranded + r.Overrun + r.Blamed + r.Untrue
}

func (r *promiseReport) problem(count *int, format string, args ...any) {
	*count++
	r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
}

// Check holds what was seen against the promises.
func (p stormPromises) Check() (r promiseReport) {
	for _, s := range p.Recoveries {
		if s.Took > recoverIn+s.Other {
			r.problem(&r.Stuck, "after %v, place %d was back in %v (%v of other faults)", s.Of, s.Place, s.Took, s.Other)
		}
	}
	for _, a := range p.Admissions {
		if a.Admitted && a.Began > p.Deadlines[a.Place] {
			r.problem(&r.Admitted, "the revoked key was admitted at place %d, %v after it had to be refused", a.Place, a.Began-p.Deadlines[a.Place])
		}
	}
	for _, b := range p.Budgets {
		r.checkBudget(b)
	}
	if most := p.Rate.PerMinute*p.Rate.Minutes + p.Rate.Shares; p.Rate.Turns > most {
		r.problem(&r.Overrun, "a caller had %d turns, %d a minute for %d minutes", p.Rate.Turns, p.Rate.PerMinute, p.Rate.Minutes)
	}
	for _, h := range p.Hostile {
		explained := !h.Calm && slices.Contains(passing, h.Code)
		if h.Status < 400 || h.Status >= 500 && !explained {
			r.problem(&r.Blamed, "%s: %d %s (calm: %v)", h.What, h.Status, h.Code, h.Calm)
		}
	}
	for _, s := range p.Sights {
		sick := s.StoreDown || s.Rate > 0.5 && s.Count >= 10
		if (s.Status == 503) != sick || (s.State == "unhealthy") != sick || s.StoreDown && !s.StoreCut {
			r.problem(&r.Untrue, "health at place %d: %+v", s.Place, s)
		}
	}
	for _, s := range p.Truths {
		if s.Got != s.Want {
			r.problem(&r.Untrue, "%s: %s, want %s", s.What, s.Got, s.Want)
		}
	}
	return r
}

func (r *promiseReport) checkBudget(b stormBudget) {
	charged := b.Limit - b.Left
	if b.Billed > b.Limit+b.Flight {
		r.problem(&r.Overspent, "owner %d was billed %d of %d, and %d may have been in flight", b.Owner, b.Billed, b.Limit, b.Flight)
	}
	if charged < min(b.Billed, b.Limit) {
		r.problem(&r.Overspent, "owner %d was charged %d, and billed %d", b.Owner, charged, b.Billed)
	}
	if b.UsedUp && (b.Billed+b.Unheard+b.Leased)*10 < b.Limit*9 {
		r.problem(&r.Stranded, "owner %d could use %d of %d, and %d may have been spent unheard", b.Owner, b.Billed, b.Limit, b.Unheard)
	}
	if !b.UsedUp && charged-b.Billed-b.Unheard-b.Leased > b.Limit/10 {
		r.problem(&r.Stranded, "owner %d was charged %d of %d, billed %d, and %d may have been spent unheard", b.Owner, charged, b.Limit, b.Billed, b.Unheard)
	}
}

func TestWhatAStormMustKeep(t *testing.T) {
	t.Parallel()
	kept := func() stormPromises {
		return stormPromises{
			Recoveries: []stormRecovery{{Of: faultSilentStore, Took: 12 * time.Second}, {Of: faultSilentLog, Took: 22 * time.Second, Other: 3 * time.Second}},
			Deadlines:  []time.Duration{10 * time.Second, 20 * time.Second},
			Admissions: []stormAdmission{{0, 9 * time.Second, true}, {1, 15 * time.Second, true}, {0, 11 * time.Second, false}},
			Budgets: []stormBudget{
				{Owner: 0, Limit: 1000, Left: 0, Billed: 950, Unheard: 10, Flight: 20, UsedUp: true},
				{Owner: 1, Limit: 1000, Left: 600, Billed: 300, Unheard: 50},
			},
			Rate:    stormRate{PerMinute: 30, Minutes: 2, Shares: 3, Turns: 63, Refused: 1},
			Hostile: []stormHostile{{"a bad cursor", 422, "validation_failed", true}, {"a bad cursor", 503, "session_store_unavailable", false}},
			Sights: []stormSight{
				{Status: 200, State: "healthy", Rate: 0.01, Count: 100}, {Status: 200, State: "degraded", Rate: 0.3, Count: 100},
				{Status: 503, State: "unhealthy", StoreDown: true, StoreCut: true}, {Status: 503, State: "unhealthy", Rate: 0.6, Count: 10},
				{Status: 200, State: "degraded", Rate: 1, Count: 9},
			},
			Truths: []stormTruth{{"places free", "60", "60"}},
		}
	}
	if r := kept().Check(); r.faults() != 0 {
		t.Errorf("promises that were kept: %v", r.Problems)
	}
	tests := []struct {
		name string
		do   func(p *stormPromises)
		want func(r promiseReport) int
	}{
		{"stay silent", func(p *stormPromises) { p.Recoveries[0].Took = 21 * time.Second }, func(r promiseReport) int { return r.Stuck }},
		{"admit a revoked key", func(p *stormPromises) { p.Admissions[2].Admitted = true }, func(r promiseReport) int { return r.Admitted }},
		{"spend more than the budget", func(p *stormPromises) { p.Budgets[0].Billed = 1021 }, func(r promiseReport) int { return r.Overspent }},
		{"count less than was billed", func(p *stormPromises) { p.Budgets[1].Left = 701 }, func(r promiseReport) int { return r.Overspent }},
		{"strand a budget that is used up", func(p *stormPromises) { p.Budgets[0].Billed = 880 }, func(r promiseReport) int { return r.Stranded }},
		{"strand a budget", func(p *stormPromises) { p.Budgets[1].Left = 500 }, func(r promiseReport) int { return r.Stranded }},
		{"let a caller overrun its limit", func(p *stormPromises) { p.Rate.Turns = 64 }, func(r promiseReport) int { return r.Overrun }},
		{"answer a mistake as a fault of ours", func(p *stormPromises) { p.Hostile[0].Status, p.Hostile[0].Code = 503, "session_store_unavailable" }, func(r promiseReport) int { return r.Blamed }},
		{"answer a mistake as a bug", func(p *stormPromises) { p.Hostile[1].Status, p.Hostile[1].Code = 500, "internal" }, func(r promiseReport) int { return r.Blamed }},
		{"take a mistake", func(p *stormPromises) { p.Hostile[0].Status, p.Hostile[0].Code = 200, "" }, func(r promiseReport) int { return r.Blamed }},
		{"be unhealthy for nothing", func(p *stormPromises) { p.Sights[0].Status, p.Sights[0].State = 503, "unhealthy" }, func(r promiseReport) int { return r.Untrue }},
		{"be well with a store that is away", func(p *stormPromises) { p.Sights[2].Status, p.Sights[2].State = 200, "healthy" }, func(r promiseReport) int { return r.Untrue }},
		{"report a store as away that is not", func(p *stormPromises) { p.Sights[2].StoreCut = false }, func(r promiseReport) int { return r.Untrue }},
		{"keep a place", func(p *stormPromises) { p.Truths[0].Got = "59" }, func(r promiseReport) int { return r.Untrue }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := kept()
			test.do(&p)
			if r := p.Check(); test.want(r) != 1 || r.faults() != 1 {
				t.Errorf("seen as %+v", r)
			}
		})
	}
}
