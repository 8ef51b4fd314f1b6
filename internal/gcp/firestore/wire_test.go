package firestore_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"cloud.google.com/go/firestore/apiv1/firestorepb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/gatehouse/internal/gcp/emulator"
)

// A wire records what a client sends to Firestore, and loses the answers to as many
// commits that were done as it is asked to.
type wire struct {
	mu      sync.Mutex
	lose    int
	calls   []string                       // the methods called, each one round trip
	reads   int                            // documents asked for by name
	writes  int                            // documents written
	bytes   int                            // of the fields written, as text
	queries []*firestorepb.StructuredQuery // of queries and of aggregations
	sums    []string                       // the fields that aggregations add up
}

func (w *wire) options() []option.ClientOption {
	lose := func(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
		err := invoke(ctx, method, request, reply, conn, options...)
		w.mu.Lock()
		defer w.mu.Unlock()
		if err == nil && w.lose > 0 && strings.HasSuffix(method, "/Commit") {
			w.lose--
			return status.Error(codes.Unavailable, "the answer was lost")
		}
		return err
	}
	return append(emulator.Tap(w.note), option.WithGRPCDialOption(grpc.WithChainUnaryInterceptor(lose)))
}

func (w *wire) note(method string, request any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, method[strings.LastIndex(method, "/")+1:])
	switch r := request.(type) {
	case *firestorepb.BatchGetDocumentsRequest:
		w.reads += len(r.Documents)
	case *firestorepb.CommitRequest:
		w.writes += len(r.Writes)
		for _, write := range r.Writes {
			for _, value := range write.GetUpdate().GetFields() {
				w.bytes += len(value.String())
			}
		}
	case *firestorepb.RunQueryRequest:
		w.queries = append(w.queries, r.GetStructuredQuery())
	case *firestorepb.RunAggregationQueryRequest:
		q := r.GetStructuredAggregationQuery()
		w.queries = append(w.queries, q.GetStructuredQuery())
		for _, a := range q.Aggregations {
			w.sums = append(w.sums, a.GetSum().GetField().GetFieldPath())
		}
	}
}

// loseAnswers makes the answers to the next n commits get lost.
func (w *wire) loseAnswers(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lose = n
}

// A cost is what some calls to Firestore took.
type cost struct {
	calls         []string // sorted
	reads, writes int
	bytes         int
}

// take returns the calls since the last take or cost, in order.
func (w *wire) take() string { return strings.Join(w.reset().calls, " ") }

// cost returns what the calls since the last take or cost took.
func (w *wire) cost() cost {
	c := w.reset()
	slices.Sort(c.calls)
	return c
}

func (w *wire) reset() cost {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := cost{w.calls, w.reads, w.writes, w.bytes}
	w.calls, w.reads, w.writes, w.bytes = nil, 0, 0, 0
	return c
}

// expect fails t unless the calls since the last take or cost took so much.
func (w *wire) expect(t *testing.T, what string, trips, reads, writes int) {
	t.Helper()
	if c := w.cost(); len(c.calls) != trips || c.reads != reads || c.writes != writes {
		t.Errorf("%s: %d reads, %d writes, calls %v, want %d, %d, %d calls", what, c.reads, c.writes, c.calls, reads, writes, trips)
	}
}
