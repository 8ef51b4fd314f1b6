package limit

import (
	"container/heap"
	"time"
)

// A queue is a heap of subjects with something to report, by due time. A subject is in
// it at most once. The Limiter's mu guards it, and its subjects' due, queued and
// place.
type queue []*subject

// add inserts s, or moves it forward if due is earlier than before.
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

// due reports whether a subject is due.
func (q *queue) due(now time.Time) bool { return len(*q) > 0 && !now.Before((*q)[0].due) }

// take removes and returns the first subject if it is due, else nil.
func (q *queue) take(now time.Time) *subject {
	if !q.due(now) {
		return nil
	}
	s := (*q)[0]
	q.drop(s)
	return s
}

// drop removes s if it is in the queue.
func (q *queue) drop(s *subject) {
	if s.queued {
		s.queued = false
		heap.Remove((*byDue)(q), s.place)
	}
}

// byDue implements [heap.Interface] for a queue.
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
