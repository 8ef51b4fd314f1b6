package main

import (
	"container/heap"
	"math/rand/v2"
	"slices"
)

// A queue is work that comes independently of each other to servers that take
// it in order: M/G/c in Kendall's notation.
type queue struct {
	rate    float64 // arrivals a second
	servers int
	service func(*rand.Rand) float64 // seconds
}

// waited is what a simulated queue came to, in seconds.
type waited struct {
	mean, p99 float64
	delayed   float64 // the share that waited at all
	busy      float64 // the share of the servers' time
}

// simulate lets n arrivals through, the first tenth uncounted. The same seed
// returns the same figures.
func (q queue) simulate(n int, seed uint64) waited {
	random := rand.New(rand.NewPCG(seed, 1))
	free := make(times, q.servers) // when each server is
	now, work, total := 0.0, 0.0, 0.0
	var w waited
	var waits []float64
	for i := range n {
		now += random.ExpFloat64() / q.rate
		begin := max(now, free[0])
		took := q.service(random)
		free[0] = begin + took
		heap.Fix(&free, 0)
		work += took
		if i < n/10 {
			continue
		}
		waits = append(waits, begin-now)
		total += begin - now
		if begin > now {
			w.delayed++
		}
	}
	slices.Sort(waits)
	counted := float64(len(waits))
	w.mean, w.delayed, w.p99 = total/counted, w.delayed/counted, waits[len(waits)*99/100]
	w.busy = work / (now * float64(q.servers))
	return w
}

// exponential service has this mean.
func exponential(mean float64) func(*rand.Rand) float64 {
	return func(r *rand.Rand) float64 { return r.ExpFloat64() * mean }
}

// constant service always takes as long.
func constant(seconds float64) func(*rand.Rand) float64 {
	return func(*rand.Rand) float64 { return seconds }
}

// times is a heap, the earliest first.
type times []float64

func (t times) Len() int           { return len(t) }
func (t times) Less(i, j int) bool { return t[i] < t[j] }
func (t times) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *times) Push(x any)        { *t = append(*t, x.(float64)) }
func (t *times) Pop() any {
	last := (*t)[len(*t)-1]
	*t = (*t)[:len(*t)-1]
	return last
}
