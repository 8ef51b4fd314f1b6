package main

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"slices"
)

// A runner is runs in the background: a queue delivers them to instances that end without
// warning, and delivers them again.
type runner struct {
	rate       float64                  // runs a second
	takes      func(*rand.Rand) float64 // seconds of work
	steps      int                      // of a run, equally long; what is finished is not done again
	instances  int
	life       float64 // mean seconds of an instance; 0 for no end
	dispatches float64 // a second, of the queue
	concurrent int     // deliveries at once, of the queue
	lease      float64 // seconds without a sign of life until another may take a run over
	backoff    float64 // seconds until the first delivery again, each further one twice as long
}

// ran is what simulated runs came to.
type ran struct {
	wait       waited  // from being accepted to the first delivery
	takenOver  float64 // the share of runs that another instance had to go on with
	gap        float64 // seconds in which such a run did not go on, mean of all gaps
	deliveries float64 // of a run
	again      float64 // the share of the work that was done twice
	atWork     float64 // runs, mean
}

// A task is a run that the queue has to deliver.
type task struct {
	at    float64 // when it may be
	left  float64 // seconds of work
	step  float64 // seconds of a step
	died  float64 // when its instance ended; 0 before the first delivery
	tries int     // deliveries since then
	count bool
	taken bool
}

// simulate lets n runs through, the first tenth uncounted. The same seed returns the same
// figures.
func (r runner) simulate(n int, seed uint64) ran {
	random := rand.New(rand.NewPCG(seed, 2))
	ends := make([]float64, r.instances) // when each instance ends; another takes its place
	next := func(i int, now float64) float64 {
		if r.life == 0 {
			return math.Inf(1)
		}
		for ends[i] <= now {
			ends[i] += random.ExpFloat64() * r.life
		}
		return ends[i]
	}
	var (
		out                                         ran
		waits                                       []float64
		free                                        = make(times, r.concurrent)
		waiting                                     tasks
		arrival, dispatched                         float64
		counted, gaps, lost, deliveries, work, done float64
	)
	arrived := 0
	arrive := func() {
		arrival += random.ExpFloat64() / r.rate
		takes := r.takes(random)
		heap.Push(&waiting, &task{at: arrival, left: takes, step: takes / float64(r.steps), count: arrived >= n/10})
		arrived++
	}
	for arrive(); waiting.Len() > 0; {
		t := heap.Pop(&waiting).(*task)
		if t.died == 0 && arrived < n {
			arrive()
		}
		now := max(t.at, dispatched, free[0])
		dispatched = now + 1/r.dispatches
		t.tries++
		if t.count {
			deliveries++
		}
		switch {
		case t.died == 0:
			if t.count {
				counted++
				waits = append(waits, now-t.at)
			}
		case now-t.died < r.lease: // refused: the dead holder's lease has not lapsed
			t.at = now + r.backoff*math.Pow(2, float64(t.tries))
			heap.Push(&waiting, t)
			continue
		default:
			if t.count {
				out.gap += now - t.died
				gaps++
			}
		}
		dies := next(random.IntN(r.instances), now)
		end := min(dies, now+t.left)
		free[0] = end
		heap.Fix(&free, 0)
		work += end - now
		if end < dies {
			if t.count {
				done += t.left
			}
			continue
		}
		finished := math.Floor((dies-now)/t.step) * t.step
		if t.count {
			done += finished
			lost += dies - now - finished
			if !t.taken {
				out.takenOver++
			}
		}
		t.left, t.died, t.tries, t.taken = t.left-finished, dies, 0, true
		t.at = dies + r.backoff
		heap.Push(&waiting, t)
	}
	slices.Sort(waits)
	for _, w := range waits {
		out.wait.mean += w / counted
		if w > 0 {
			out.wait.delayed += 1 / counted
		}
	}
	out.wait.p99 = waits[len(waits)*99/100]
	out.takenOver /= counted
	out.deliveries = deliveries / counted
	out.again = lost / (done + lost)
	out.gap /= max(1, gaps)
	out.atWork = work / arrival
	out.wait.busy = out.atWork / float64(r.concurrent)
	return out
}

// tasks are a heap, the one that may be delivered first first.
type tasks []*task

func (t tasks) Len() int           { return len(t) }
func (t tasks) Less(i, j int) bool { return t[i].at < t[j].at }
func (t tasks) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *tasks) Push(x any)        { *t = append(*t, x.(*task)) }
func (t *tasks) Pop() any {
	last := (*t)[len(*t)-1]
	*t = (*t)[:len(*t)-1]
	return last
}
