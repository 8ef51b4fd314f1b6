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

// The simulation agrees with queueing theory where that has a formula.
func TestKnownQueues(t *testing.T) {
	near := func(name string, got, want, tolerance float64) {
		t.Helper()
		if math.Abs(got-want) > tolerance*want {
			t.Errorf("%s: %.5g, theory says %.5g", name, got, want)
		}
	}
	for _, test := range []struct {
		name    string
		rate    float64
		servers int
	}{{"M/M/1, half busy", 0.5, 1}, {"M/M/1, nine tenths busy", 0.9, 1}, {"M/M/4, three quarters busy", 3, 4}, {"M/M/80, nine tenths busy", 72, 80}} {
		w := queue{test.rate, test.servers, exponential(1)}.simulate(2_000_000, 7)
		delayed := erlangC(test.servers, test.rate)
		near(test.name+", share that waits", w.delayed, delayed, 0.03)
		near(test.name+", mean wait", w.mean, delayed/(float64(test.servers)-test.rate), 0.08)
		near(test.name+", busy", w.busy, test.rate/float64(test.servers), 0.01)
	}
	// Pollaczek and Khinchine: constant service waits half as long.
	w := queue{0.8, 1, constant(1)}.simulate(2_000_000, 7)
	near("M/D/1, mean wait", w.mean, 0.8/(2*(1-0.8)), 0.05)
}

func TestPlan(t *testing.T) {
	m := measured{cpu: 0.002, reads: 1, writes: 1, others: 0.04}
	small, err := planFor(10, m)
	if err != nil {
		t.Fatal(err)
	}
	large, err := planFor(1000, m)
	if err != nil {
		t.Fatal(err)
	}
	if small.instances != 1 || large.instances != math.Ceil(1000*3/48.) {
		t.Errorf("%v and %v instances", small.instances, large.instances)
	}
	if large.reads != 800 || large.writes < 1000 || large.writes > 1200 {
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
	m, err := read("../results/results.json")
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	if err := table(&want, m); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../docs/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "\n"+want.String()+"\n") {
		t.Errorf("docs/performance.md does not have what go run ./bench/scale gives:\n%s", &want)
	}
}
