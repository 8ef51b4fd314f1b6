package telemetry

import (
	"context"
	"sync"
	"sync/atomic"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// A queue holds ended spans until a flush takes them. When it is full the
// oldest go: after a collector's long absence an operator asks about now. It is
// a span processor, and safe for concurrent use.
type queue struct {
	most    int
	dropped atomic.Int64 // spans, for the tests: the queue was full, or the collector refused them

	mu    sync.Mutex
	spans []sdktrace.ReadOnlySpan
	head  int // spans[:head] are gone
}

func newQueue(most int) *queue { return &queue{most: most} }

// OnStart does nothing.
func (q *queue) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

// OnEnd keeps s if it is sampled.
func (q *queue) OnEnd(s sdktrace.ReadOnlySpan) {
	if !s.SpanContext().IsSampled() {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.spans)-q.head >= q.most {
		q.spans[q.head] = nil
		q.head++
		q.dropped.Add(1)
	}
	if q.head > 0 && len(q.spans) == cap(q.spans) { // make room at the front instead of growing
		n := copy(q.spans, q.spans[q.head:])
		clear(q.spans[n:])
		q.spans, q.head = q.spans[:n], 0
	}
	q.spans = append(q.spans, s)
}

// take removes the n oldest spans, or as many as there are.
func (q *queue) take(n int) []sdktrace.ReadOnlySpan {
	q.mu.Lock()
	defer q.mu.Unlock()
	n = min(n, len(q.spans)-q.head)
	if n == 0 {
		return nil
	}
	taken := make([]sdktrace.ReadOnlySpan, n)
	copy(taken, q.spans[q.head:])
	clear(q.spans[q.head : q.head+n])
	q.head += n
	if q.head == len(q.spans) {
		q.spans, q.head = nil, 0 // what a burst needed is not kept
	}
	return taken
}

// giveBack puts back what take returned and was not exported, as far as there is
// room.
func (q *queue) giveBack(taken []sdktrace.ReadOnlySpan) {
	q.mu.Lock()
	defer q.mu.Unlock()
	held := q.spans[q.head:]
	lost := max(0, len(taken)+len(held)-q.most)
	lost = min(lost, len(taken))
	q.dropped.Add(int64(lost))
	q.spans = append(taken[lost:len(taken):len(taken)], held...)
	q.head = 0
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.spans) - q.head
}

// Shutdown and ForceFlush do nothing: a [lane] exports.
func (q *queue) Shutdown(context.Context) error   { return nil }
func (q *queue) ForceFlush(context.Context) error { return nil }
