package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"pgregory.net/rapid"
)

// span is an ended span with a number for a name.
func span(n int, sampled bool) sdktrace.ReadOnlySpan {
	flags := trace.TraceFlags(0)
	if sampled {
		flags = trace.FlagsSampled
	}
	return tracetest.SpanStub{
		Name:        fmt.Sprint(n),
		SpanContext: trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}, TraceFlags: flags}),
	}.Snapshot()
}

func names(spans []sdktrace.ReadOnlySpan) string {
	var b strings.Builder
	for _, s := range spans {
		b.WriteString(s.Name() + " ")
	}
	return strings.TrimSpace(b.String())
}

func TestQueue(t *testing.T) {
	t.Parallel()
	q := newQueue(4)
	q.OnEnd(span(0, false))
	for n := range 6 {
		q.OnEnd(span(n+1, true))
	}
	taken := q.take(3)
	if got := names(taken); got != "3 4 5" || q.dropped.Load() != 2 {
		t.Fatalf("took %s, dropped %d; want the oldest dropped", got, q.dropped.Load())
	}
	q.OnEnd(span(7, true))
	q.giveBack(taken) // 3 is the oldest of five
	if got := names(q.take(9)); got != "4 5 6 7" || q.dropped.Load() != 3 {
		t.Errorf("took %s, dropped %d", got, q.dropped.Load())
	}
	if q.take(1) != nil || q.len() != 0 {
		t.Error("not empty")
	}
}

// In any order of operations, a queue holds the newest in their order, and every
// span is held, taken or counted as dropped.
func TestQueueAlways(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.IntRange(1, 8).Draw(t, "most")
		q := newQueue(most)
		made, gone, taken := 0, 0, []sdktrace.ReadOnlySpan(nil)
		t.Repeat(map[string]func(*rapid.T){
			"end":  func(*rapid.T) { made++; q.OnEnd(span(made, true)) },
			"take": func(t *rapid.T) { gone += len(taken); taken = q.take(rapid.IntRange(1, 9).Draw(t, "n")) },
			"give back": func(*rapid.T) {
				q.giveBack(taken)
				taken = nil
			},
			"": func(t *rapid.T) {
				if q.len() > most || cap(q.spans) > 4*most+8 {
					t.Fatalf("holds %d in room for %d", q.len(), cap(q.spans))
				}
				if sum := q.len() + gone + len(taken) + int(q.dropped.Load()); sum != made {
					t.Fatalf("%d of %d", sum, made)
				}
				last := 0
				for _, s := range q.spans[q.head:] {
					var n int
					_, _ = fmt.Sscan(s.Name(), &n)
					if n <= last {
						t.Fatalf("order: %s", names(q.spans[q.head:]))
					}
					last = n
				}
			},
		})
	})
}

// An answers exporter answers each call in turn. It is safe for concurrent use: an
// export may outlast the flush that began it.
type answers struct {
	mu   sync.Mutex
	errs []error
	got  []string
}

// sent returns what was exported, a string for each call.
func (a *answers) sent() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.got)
}

func (a *answers) ExportSpans(_ context.Context, spans []sdktrace.ReadOnlySpan) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.got = append(a.got, names(spans))
	if len(a.errs) == 0 {
		return nil
	}
	err := a.errs[0]
	a.errs = a.errs[1:]
	return err
}

func (a *answers) Shutdown(context.Context) error { return nil }

// newSpanSender sends what q has to e.
func newSpanSender(q *queue, res *source, e sdktrace.SpanExporter) *spanSender {
	return &spanSender{lazy[sdktrace.SpanExporter]{
		build: func(context.Context) (sdktrace.SpanExporter, func() error, error) { return e, nil, nil }, resource: res,
	}, q}
}

func TestSpanSender(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		err     error
		kept    int
		dropped int64
	}{
		{"taken", nil, 0, 0},
		{"no answer over HTTP", &url.Error{Op: "Post", Err: errors.New("connection reset")}, 2, 0},
		{"no answer over gRPC", status.Error(codes.Unavailable, "connection reset"), 2, 0},
		{"given up", context.Canceled, 2, 0},
		{"a role that is not there yet", fmt.Errorf("traces export: %w", status.Error(codes.PermissionDenied, "no")), 2, 0},
		{"refused over gRPC", fmt.Errorf("traces export: %w", status.Error(codes.InvalidArgument, "bad")), 0, 2},
		{"not to be encoded for gRPC", fmt.Errorf("traces export: %w", status.Error(codes.Internal, "grpc: error while marshaling")), 0, 2},
		{"refused over HTTP", errors.New("400 Bad Request"), 0, 2},
		{"taken in part", errors.New("1 spans rejected"), 0, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			q := newQueue(10)
			a := &answers{errs: []error{tt.err}}
			s := newSpanSender(q, newResource(Settings{}, Config{}), a)
			if err := s.send(t.Context()); err != nil || len(a.sent()) != 0 {
				t.Fatalf("sent nothing as %q: %v", a.sent(), err)
			}
			q.OnEnd(span(1, true))
			q.OnEnd(span(2, true))
			err := s.send(t.Context())
			if (err != nil) != (tt.err != nil) || s.pending() != tt.kept || q.dropped.Load() != tt.dropped {
				t.Errorf("%v: kept %d, dropped %d", err, s.pending(), q.dropped.Load())
			}
		})
	}
}

func TestSpanSenderSendsInBatches(t *testing.T) {
	t.Parallel()
	q := newQueue(3 * batchSize)
	for n := range 2*batchSize + 1 {
		q.OnEnd(span(n, true))
	}
	a := &answers{errs: []error{nil, context.DeadlineExceeded}}
	s := newSpanSender(q, newResource(Settings{}, Config{}), a)
	if err := s.send(t.Context()); err == nil || s.pending() != batchSize+1 {
		t.Errorf("%v, %d kept", err, s.pending())
	}
	if err := s.send(t.Context()); err != nil || s.pending() != 0 || len(a.sent()) != 4 {
		t.Errorf("%v, %d kept, %d calls", err, s.pending(), len(a.sent()))
	}
}

func TestSpanSenderBuildsAgain(t *testing.T) {
	t.Parallel()
	q := newQueue(1)
	q.OnEnd(span(1, true))
	tries := 0
	a := &answers{}
	s := newSpanSender(q, newResource(Settings{}, Config{}), a)
	s.build = func(context.Context) (sdktrace.SpanExporter, func() error, error) {
		if tries++; tries == 1 {
			return nil, nil, errors.New("no credentials")
		}
		return a, nil, nil
	}
	if err := s.send(t.Context()); err == nil || s.pending() != 1 {
		t.Errorf("%v", err)
	}
	if err := s.send(t.Context()); err != nil || s.pending() != 0 {
		t.Errorf("%v", err)
	}
}
