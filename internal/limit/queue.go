package limit

import (
	"container/heap"
	"time"
)

// A queue holds the subjects that have something to report, the one first that is due
// first. Each is in it once at most. It is guarded by the Limiter's mu, as are the due
// and place of its subjects.
type queue []*subject

// add puts s in, to be due at due, or sooner where it is in already.
func (q *queue) add(s *subject, due time.Time) {
	switch {
	case !s.queued:
		s.queued, s.due = true, due
		heap.Push((*byDue)(q), s)
	case due.Before(s.due):
		s.due = due
		heap.Fix((*byDue)(q), s.place)
	}
}

// due reports whether there is one to be taken.
func (q *queue) due(now time.Time) bool { return len(*q) > 0 && !now.Before((*q)[0].due) }

// take takes out the one that is due first, nil if none is at now.
func (q *queue) take(now time.Time) *subject {
	if !q.due(now) {
		return nil
	}
	s := (*q)[0]
	q.drop(s)
	return s
}

// drop takes s out, if it is in.
func (q *queue) drop(s *subject) {
	if s.queued {
		s.queued = false
		heap.Remove((*byDue)(q), s.place)
	}
}

// byDue is the heap of a queue.
type byDue []*subject

func (h byDue) Len() int           { return len(h) }
func (h byDue) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h byDue) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

func (h *byDue) Push(x any) {
	s, _ := x.(*subject)
	s.place = len(*h)
	*h = append(*h, s)
}

func (h *byDue) Pop() any {
	last := len(*h) - 1
	s := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return s
}
