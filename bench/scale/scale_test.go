package main

import (
	"math"
	"os"
	"strings"
	"testing"
)

// erlangC is the share of arrivals that wait in M/M/c with a load of a erlangs.
func erlangC(servers int, a float64) float64 {
	sum, term := 0.0, 1.0 // term is a^k/k!
	for k := range servers {
		sum += term
		term *= a / float64(k+1)
	}
	last := term * float64(servers) / (float64(servers) - a)
	return last / (sum + last)
}

// near fails the test unless got is what theory says, but for a share of it.
func near(t *testing.T, name string, got, want, tolerance float64) {
	t.Helper()
	if math.Abs(got-want) > tolerance*want {
		t.Errorf("%s: %.5g, theory says %.5g", name, got, want)
	}
}

// The simulation agrees with queueing theory where that has a formula.
func TestKnownQueues(t *testing.T) {
	for _, test := range []struct {
		name    string
		rate    float64
		servers int
	}{{"M/M/1, half busy", 0.5, 1}, {"M/M/1, nine tenths busy", 0.9, 1}, {"M/M/4, three quarters busy", 3, 4}, {"M/M/80, nine tenths busy", 72, 80}} {
		w := queue{test.rate, test.servers, exponential(1)}.simulate(2_000_000, 7)
		delayed := erlangC(test.servers, test.rate)
		near(t, test.name+", share that waits", w.delayed, delayed, 0.03)
		near(t, test.name+", mean wait", w.mean, delayed/(float64(test.servers)-test.rate), 0.08)
		near(t, test.name+", busy", w.busy, test.rate/float64(test.servers), 0.01)
	}
	// Pollaczek and Khinchine: constant service waits half as long.
	w := queue{0.8, 1, constant(1)}.simulate(2_000_000, 7)
	near(t, "M/D/1, mean wait", w.mean, 0.8/(2*(1-0.8)), 0.05)
}

// So do runs: without an end of their instances they are M/M/c, and the queue's rate makes
// them M/D/1; with ends that are as frequent as theirs, half of them are taken over.
func TestRuns(t *testing.T) {
	const much = 1e9
	base := runner{rate: 9, takes: exponential(1), steps: 5, instances: 50, dispatches: much, concurrent: 10, lease: 5, backoff: 2}
	r := base.simulate(500_000, 7)
	near(t, "no ends, share that waits", r.wait.delayed, erlangC(10, 9), 0.05)
	near(t, "no ends, mean wait", r.wait.mean, erlangC(10, 9), 0.1)
	near(t, "no ends, at work", r.atWork, 9, 0.02)
	if r.takenOver != 0 || r.again != 0 || r.deliveries != 1 {
		t.Errorf("without an end of an instance: %+v", r)
	}
	limited := base
	limited.dispatches, limited.concurrent = 10, 1000
	near(t, "limited by the queue's rate, mean wait", limited.simulate(500_000, 7).wait.mean, 0.9/(2*(1-0.9))/10, 0.1)

	ending := base
	ending.concurrent, ending.life, ending.takes = 10_000, 30, exponential(30)
	r = ending.simulate(200_000, 7)
	near(t, "ends as frequent as runs', taken over", r.takenOver, 0.5, 0.02)
	// The first delivery after 2 s is refused, by a lease of 5 s; the next comes 4 s later.
	near(t, "until a run goes on", r.gap, 6, 0.001)
	if r.again <= 0 || r.again > 0.2 {
		t.Errorf("%v of the work was done twice", r.again)
	}
	ending.steps = 1000
	if fine := ending.simulate(200_000, 7); fine.again > r.again/50 {
		t.Errorf("%v was done twice with a thousand steps, %v with five", fine.again, r.again)
	}
}

// aTurn is what a turn costs in the tests of plans.
var aTurn = measured{cpu: 0.002, reads: 1, writes: 1, others: 0.04, runReads: 3, runWrites: 2}

// What breaks first is a statement about where each limit is reached.
func TestBounds(t *testing.T) {
	p, err := planFor(1000, aTurn)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range bounds {
		at, err := planFor(b.reached(p), aTurn)
		if err != nil {
			t.Fatal(err)
		}
		if use := b.use(at) / b.most; math.Abs(use-1) > 0.1 {
			t.Errorf("%s: %.2f of it is used where it should be reached", b.name, use)
		}
	}
	for operations, want := range map[float64]float64{1: 0, 500: 0, 750: 5, 751: 10, 10_000: 40} {
		if got := ramp(operations); got != want {
			t.Errorf("%v operations a second after %v minutes, want %v", operations, got, want)
		}
	}
}

func TestPlan(t *testing.T) {
	m := aTurn
	small, err := planFor(10, m)
	if err != nil {
		t.Fatal(err)
	}
	large, err := planFor(1000, m)
	if err != nil {
		t.Fatal(err)
	}
	if small.instances != 1 || large.instances != math.Ceil(1000*(0.95*3+0.05*30)/48) {
		t.Errorf("%v and %v instances", small.instances, large.instances)
	}
	// A turn is a write; six tenths of them are three writes more, a twentieth 31.
	if want := 1000 * (1 + 0.6*3 + 0.05*31); large.writes < want || large.writes > 1.05*want || large.reads < 800+1000*0.05*5 || large.reads > 1.02*(800+1000*0.05*5) {
		t.Errorf("%v reads, %v writes", large.reads, large.writes)
	}
	if large.cloud > small.cloud || large.cloud < 0.9+0.24 {
		t.Errorf("a million turns cost %v alone and %v among many", small.cloud, large.cloud)
	}
	m.cpu = 0.5 // then the CPU is what instances are for
	if p, err := planFor(100, m); err != nil || p.instances != math.Ceil(100*0.5/0.6) {
		t.Errorf("%v instances for half a second of CPU a turn (%v)", p.instances, err)
	}
}

// The page shows the results of the kept figures.
func TestDocs(t *testing.T) {
	m, err := read("../results/results.json", "../../cmd/cost/measured.json")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../docs/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	want, err := document(string(text), m)
	if err != nil {
		t.Fatal(err)
	}
	if want != string(text) {
		t.Errorf("docs/performance.md is not what results.json makes: cd bench && go run ./scale -docs ../docs/performance.md\n%s", want[strings.Index(want, "<!-- scale -->"):])
	}
}
