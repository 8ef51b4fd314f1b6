package explore_test

import (
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/gatehouse/internal/slowtest"
)

func TestMain(m *testing.M) {
	log.SetOutput(io.Discard) // the SDK writes each broken answer to it
	os.Exit(m.Run())
}

// execute runs a scenario in a bubble of its own. What of the service never ends is
// violated.
func execute(t *testing.T, s scenario, g guide) (w *world) {
	t.Helper()
	defer func() {
		if p := recover(); p != nil {
			if w == nil {
				w = &world{scenario: s}
			}
			w.wrong = append(w.wrong, fmt.Sprint("panic: ", p))
		}
	}()
	synctest.Test(t, func(*testing.T) { w = run(s, g) })
	return w
}

// scenarioOf returns the scenario of a seed.
func scenarioOf(seed uint64) scenario {
	r := rand.New(rand.NewPCG(seed, 81))
	s := scenario{
		name: fmt.Sprint("seed ", seed), question: []string{talk, pay, fire, send, send}[r.IntN(5)],
		keyed: r.IntN(3) > 0, streamed: r.IntN(2) == 0, existing: r.IntN(3) == 0, faults: r.IntN(4), waits: r.IntN(6), recovers: r.IntN(2),
	}
	all := []string{retries, stops, deletes, writes, watches, resumes}
	if !s.keyed {
		all = all[1:]
	}
	if s.question == send {
		all = append(all, approves, approves, denies)
	}
	s.visits = []visit{{asks, r.IntN(2)}}
	for n := 1 + r.IntN(4); len(s.visits) <= n; {
		s.visits = append(s.visits, visit{all[r.IntN(len(all))], r.IntN(2)})
	}
	// What was added later is drawn last: the seeds of earlier executions stay comparable.
	if s.queued = r.IntN(3) == 0; s.queued {
		s.leaves = r.IntN(2) == 0
	}
	for i := range s.visits[1:] {
		switch r.IntN(12) {
		case 0:
			s.visits[1+i].what = clears
		case 1, 2:
			s.visits[1+i].what = edits
		}
	}
	s.recovers = r.IntN(3)
	if r.IntN(4) == 0 {
		s.loses(r)
	}
	return s
}

// loses makes s one without a session.
func (s *scenario) loses(r *rand.Rand) {
	s.without, s.existing = []string{ofChat, ofCall}[r.IntN(2)], false
	all := []string{stops, watches, resumes, clears}
	if s.keyed {
		all = append(all, retries, retries)
	}
	if s.without == ofCall {
		s.streamed, s.leaves = false, false
		if s.question == talk {
			s.question = send
		}
		if s.expires = r.IntN(3) == 0; s.question == send {
			all = append(all, approves, approves, denies)
		}
	}
	for i, v := range s.visits[1:] {
		if !slices.Contains(all, v.what) || r.IntN(4) == 0 {
			s.visits[1+i].what = all[r.IntN(len(all))]
		}
	}
}

// scenarios are explored in all orders, up to a depth.
var scenarios = []scenario{
	{name: "a stop meets the end", question: talk, streamed: true, visits: []visit{{asks, 0}, {stops, 1}, {watches, 1}}, waits: 1},
	{name: "a retry meets its first try", question: pay, keyed: true, visits: []visit{{asks, 0}, {retries, 1}}, waits: 1, faults: 1},
	{name: "a holder dies in an effect", question: fire, keyed: true, streamed: true, visits: []visit{{asks, 0}, {retries, 1}}, waits: 1, faults: 1},
	{name: "a deletion meets an effect", question: pay, existing: true, visits: []visit{{asks, 0}, {deletes, 1}}, waits: 1, faults: 1},
	{name: "two answers meet", question: send, visits: []visit{{asks, 0}, {approves, 0}, {denies, 1}}, waits: 1},
	{name: "an approval meets a message", question: send, visits: []visit{{asks, 0}, {approves, 0}, {writes, 1}}, faults: 1},
	{name: "an approval meets a stop", question: send, keyed: true, visits: []visit{{asks, 0}, {approves, 0}, {stops, 1}}, faults: 1},
	{name: "a delivery comes twice", question: fire, keyed: true, queued: true, leaves: true, visits: []visit{{asks, 0}, {retries, 1}}, faults: 1},
	{name: "a deletion of all meets the queue", question: pay, existing: true, queued: true, leaves: true, visits: []visit{{asks, 0}, {clears, 1}, {stops, 0}}, waits: 1},
	{name: "an edit meets an approval", question: send, keyed: true, queued: true, visits: []visit{{asks, 0}, {approves, 0}, {edits, 1}}, faults: 1},
	{name: "a call is made again", without: ofCall, question: fire, keyed: true, visits: []visit{{asks, 0}, {retries, 1}}, waits: 1, faults: 1},
	{name: "an approval of a call meets a stop", without: ofCall, question: send, keyed: true, visits: []visit{{asks, 0}, {approves, 0}, {stops, 1}}, faults: 1},
	{name: "an approval of a call comes late", without: ofCall, question: send, expires: true, visits: []visit{{asks, 0}, {approves, 1}, {denies, 0}}, waits: 1, faults: 1},
	{name: "a chat without a session is watched", without: ofChat, question: pay, keyed: true, streamed: true, visits: []visit{{asks, 0}, {watches, 1}}, waits: 1, faults: 1},
	{name: "everything meets", question: send, keyed: true, streamed: true, visits: []visit{{asks, 0}, {retries, 1}, {stops, 0}, {approves, 1}, {deletes, 0}, {writes, 1}}, waits: 1, faults: 1},
}

// TestAllOrders lets everything happen in all orders up to a depth, in which at each
// decision a step may fail, too. What is decided after it is the first of what is possible.
func TestAllOrders(t *testing.T) {
	depth := number(t, "EXPLORE_DEPTH", 3, 5)
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
			if text := os.Getenv("EXPLORE_PATH"); text != "" {
				g := &replay{}
				for _, field := range strings.Split(text, ",") {
					n, err := strconv.Atoi(field)
					if err != nil {
						t.Fatal(err)
					}
					g.path = append(g.path, n)
				}
				report(t, execute(t, s, g), "")
				return
			}
			begun, g := time.Now(), &search{depth: depth, seen: map[uint64]int{}}
			for more := true; more; more = g.next() {
				w := execute(t, s, g)
				if len(w.wrong) > 0 {
					path := strings.Trim(strings.Join(strings.Fields(fmt.Sprint(g.path)), ","), "[]")
					w = execute(t, s, &replay{path: g.path})
					report(t, w, fmt.Sprintf("EXPLORE_PATH=%s go test -run '%s'", path, t.Name()))
					break
				}
			}
			end := "whole"
			if g.cut {
				end = fmt.Sprintf("to depth %d", depth)
			}
			if g.lost > 0 {
				t.Errorf("%d executions did not go as before: something is decided by chance, and not by the scheduler", g.lost)
			}
			t.Logf("%d executions, %d states, %s, %v", g.worlds, len(g.seen), end, time.Since(begun).Round(time.Millisecond))
		})
	}
}

// number returns the number in an environment variable. Without it, that is short, or long
// where slow tests are asked for.
func number(t *testing.T, name string, short, long int) int {
	t.Helper()
	text := os.Getenv(name)
	switch {
	case text == "" && (os.Getenv(slowtest.Variable) != "" || os.Getenv("CI") != ""):
		return long
	case text == "":
		return short
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// report reports what was violated, and how it came to that.
func report(t *testing.T, w *world, how string) {
	t.Helper()
	t.Errorf("%s\n%s\n%s %+v\nagain: %s", strings.Join(w.wrong, "\n"), strings.Join(w.trace, "\n"), w.name, w.visits, how)
}

// kindOf returns what a violation has in common with others: no text, id or number.
func kindOf(violation string) string {
	return regexp.MustCompile(`"[^"]*"|\S*[0-9]\S*`).ReplaceAllString(violation, "…")
}

func TestRandom(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	if text := os.Getenv("EXPLORE_SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		g := newRandom(seed)
		g.aloud = true
		w := execute(t, scenarioOf(seed), g)
		t.Logf("%s\n%+v\n%v", strings.Join(w.trace, "\n"), w.scenario, w.wrong)
		if len(w.wrong) > 0 {
			t.Fail()
		}
		return
	}
	n, from := number(t, "EXPLORE_RANDOM", 200, 2000), number(t, "EXPLORE_FROM", 0, 0)
	begun, states, found := time.Now(), map[uint64]struct{}{}, map[string]int{}
	for i := range n {
		seed := uint64(from + i)
		g := newRandom(seed)
		g.seen = func(state uint64) { states[state] = struct{}{} }
		w := execute(t, scenarioOf(seed), g)
		if len(w.wrong) == 0 {
			continue
		}
		kind := kindOf(w.wrong[0])
		if found[kind]++; found[kind] > 1 {
			continue
		}
		g = newRandom(seed)
		g.aloud = true
		again := execute(t, scenarioOf(seed), g)
		if !slices.Equal(kinds(w.wrong), kinds(again.wrong)) {
			t.Errorf("seed %d does not replay: %v", seed, w.wrong)
		}
		report(t, again, fmt.Sprintf("EXPLORE_SEED=%d", seed))
		if len(found) > 9 {
			t.Fatal("and so on")
		}
	}
	for kind, n := range found {
		t.Errorf("%d times: %s", n, kind)
	}
	t.Logf("%d executions, %d states, %v", n, len(states), time.Since(begun).Round(time.Millisecond))
}
