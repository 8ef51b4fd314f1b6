package explore_test

import (
	"math/rand/v2"
	"slices"
)

// A guide decides what happens.
type guide interface {
	// choose returns the number of an option, or -1 for an execution that need not go on.
	choose(w *world, options []option) int
	// tells reports whether what happens is to be written down.
	tells() bool
}

// A random guide decides by a seed.
type random struct {
	*rand.Rand
	aloud bool
	rank  map[string]int // of actors, where they do not take turns by chance
	seen  func(state uint64)
}

func newRandom(seed uint64) *random {
	g := &random{Rand: rand.New(rand.NewPCG(seed, 18))}
	if g.IntN(2) == 0 {
		g.rank = map[string]int{}
	}
	return g
}

func (g *random) tells() bool { return g.aloud }

func (g *random) choose(w *world, options []option) int {
	if g.seen != nil {
		g.seen(w.state())
	}
	var plain, passing, faults []int
	for i, o := range options {
		switch {
		case o.fault:
			faults = append(faults, i)
		case o.step == nil:
			passing = append(passing, i)
		default:
			plain = append(plain, i)
		}
	}
	switch n := g.IntN(100); {
	case n < 8 && len(faults) > 0:
		return faults[g.IntN(len(faults))]
	case n < 20 && len(passing) > 0:
		return passing[g.IntN(len(passing))]
	}
	if g.rank == nil {
		return plain[g.IntN(len(plain))]
	}
	// Whoever ranks first goes on until, rarely, the ranks change: what needs one actor
	// to stand still for long is found so.
	for _, i := range plain {
		if _, ok := g.rank[options[i].step.actor]; !ok || g.IntN(12) == 0 {
			g.rank[options[i].step.actor] = g.IntN(1 << 20)
		}
	}
	first := slices.MinFunc(plain, func(a, b int) int { return g.rank[options[a].step.actor] - g.rank[options[b].step.actor] })
	plain = slices.DeleteFunc(plain, func(i int) bool { return options[i].step.actor != options[first].step.actor })
	return plain[g.IntN(len(plain))]
}

// A search decides everything in turn, up to a depth: the executions that it guides are
// all that there are. What comes to a state that was seen before is not followed again.
type search struct {
	depth  int
	path   []int // decisions of this execution
	widths []int // and how many options each had
	at     int
	seen   map[uint64]int // the depths of states
	worlds int
	again  int  // times in a row that an execution did not go as before
	lost   int  // executions that did not, however often
	cut    bool // something could have been decided beyond the depth
}

func (g *search) tells() bool { return false }

func (g *search) choose(w *world, options []option) int {
	if g.at >= g.depth {
		g.cut = true
		return 0
	}
	if g.at < len(g.path) {
		if len(options) != g.widths[g.at] {
			g.again++
			return -1
		}
		g.at++
		return g.path[g.at-1]
	}
	g.again = 0
	state := w.state()
	if depth, ok := g.seen[state]; ok && depth <= g.at {
		return -1
	}
	g.seen[state] = g.at
	g.path, g.widths = append(g.path, 0), append(g.widths, len(options))
	g.at++
	return 0
}

// next moves on to the next execution, and reports false if there is none.
func (g *search) next() bool {
	g.worlds++
	g.at = 0
	switch {
	case g.again > 3:
		g.again = 0
		g.lost++
	case g.again > 0:
		return true
	}
	for n := len(g.path) - 1; n >= 0; n-- {
		if g.path[n]+1 < g.widths[n] {
			g.path, g.widths = g.path[:n+1], g.widths[:n+1]
			g.path[n]++
			return true
		}
	}
	return false
}

// A replay decides as an earlier execution of a search did.
type replay struct {
	path []int
	at   int
}

func (g *replay) tells() bool { return true }

func (g *replay) choose(_ *world, options []option) int {
	if g.at++; g.at > len(g.path) {
		return 0
	}
	return min(g.path[g.at-1], len(options)-1)
}

// A script decides what its next line says, as soon as that is possible, and until then
// the first that is. What happens without a decision counts, too.
type script struct {
	lines []string
	seen  int // what has happened until the last decision
}

func (g *script) tells() bool { return true }

func (g *script) choose(w *world, options []option) int {
	g.follow(w)
	if len(g.lines) == 0 {
		return 0
	}
	return max(0, slices.IndexFunc(options, func(o option) bool { return o.String() == g.lines[0] }))
}

// follow drops the lines that have happened.
func (g *script) follow(w *world) {
	for ; g.seen < len(w.happened); g.seen++ {
		if len(g.lines) > 0 && w.happened[g.seen] == g.lines[0] {
			g.lines = g.lines[1:]
		}
	}
}
