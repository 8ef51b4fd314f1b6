package firefigures_test

import (
	"context"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/firestore/apiv1/firestorepb"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/gatehouse/internal/figures"
	"example.com/gatehouse/internal/figures/figurestest"
	"example.com/gatehouse/internal/gcp/emulator"
	"example.com/gatehouse/internal/gcp/firefigures"
)

func TestMain(m *testing.M) { os.Exit(emulator.Main(m)) }

func TestStore(t *testing.T) {
	t.Parallel()
	figurestest.TestStore(t, func(t testing.TB) figures.Store { return firefigures.New(emulator.Client(t)) })
}

// wire notes the calls of a client, the documents written and the queries, and
// loses the answers to writes that were done as long as lose is positive.
type wire struct {
	mu        sync.Mutex
	calls     []string
	documents []string
	queries   []*firestorepb.StructuredQuery
	sums      []string
	lose      int
}

func (w *wire) options() []option.ClientOption {
	lose := func(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
		err := invoke(ctx, method, request, reply, conn, options...)
		w.mu.Lock()
		defer w.mu.Unlock()
		if err == nil && w.lose > 0 {
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
	case *firestorepb.CommitRequest:
		for _, write := range r.Writes {
			w.documents = append(w.documents, write.GetUpdate().GetName())
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

// take gives the calls since it was called last, sorted.
func (w *wire) take() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.Sort(w.calls)
	calls := strings.Join(w.calls, " ")
	w.calls = nil
	return calls
}

func TestTheDocument(t *testing.T) {
	t.Parallel()
	client := emulator.Client(t)
	c := figurestest.New(firefigures.New(client), figurestest.NewClock(figurestest.Start.Add(40*time.Second)),
		func() map[string]string { return map[string]string{"gemini-2.5-flash": "half_open"} })
	c.Count(200, "")
	c.Count(401, "unauthenticated")
	c.Count(500, "internal")
	c.Flush(t.Context())
	documents, err := client.Collection("figures").Documents(t.Context()).GetAll()
	if err != nil || len(documents) != 1 {
		t.Fatalf("%d documents, error %v", len(documents), err)
	}
	got := documents[0].Data()
	instance, _ := got["instance"].(string)
	if len(instance) < 16 || documents[0].Ref.ID != fmt.Sprintf("%s-%d", instance, figurestest.Start.Unix()) {
		t.Errorf("the document %s is of instance %q", documents[0].Ref.ID, instance)
	}
	delete(got, "instance")
	want := map[string]any{
		"minute": figurestest.Start, "requests": int64(3), "judged": int64(2), "errors": int64(1),
		"breakers": map[string]any{"gemini-2.5-flash": "half_open"}, "expires_at": figurestest.Start.Add(time.Hour),
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("(-got +want):\n%s", diff)
	}
}

// What figures cost: at a steady load a write in 10 s, each one document in one
// round trip; a sum four queries.
func TestWhatFiguresCost(t *testing.T) {
	t.Parallel()
	var w wire
	clock := figurestest.NewClock(figurestest.Start)
	c := figurestest.New(firefigures.New(emulator.Client(t, w.options()...)), clock, nil)
	const whole = 5 * time.Minute
	for passed := time.Duration(0); passed < whole; passed += 500 * time.Millisecond {
		c.Count(200, "")
		c.Flush(t.Context())
		clock.Advance(500 * time.Millisecond)
	}
	calls := strings.Fields(w.take())
	most := int(whole / (10 * time.Second))
	if n := len(calls); n > most || n < most-5 || len(w.documents) != n || slices.ContainsFunc(calls, func(c string) bool { return c != "Commit" }) {
		t.Errorf("%d calls, %d documents written, want %d to %d of both: %v", n, len(w.documents), most-5, most, calls)
	}
	if _, err := c.Sum(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := w.take(), "RunAggregationQuery RunAggregationQuery RunAggregationQuery RunQuery"; got != want {
		t.Errorf("a sum is %s, want %s", got, want)
	}
}

// The indexes that are asked for are those that the queries need.
func TestIndexes(t *testing.T) {
	t.Parallel()
	var w wire
	if _, err := firefigures.New(emulator.Client(t, w.options()...)).Sum(t.Context(), figurestest.Start); err != nil {
		t.Fatal(err)
	}
	for _, q := range w.queries {
		filter := q.GetWhere().GetFieldFilter()
		if field, op := filter.GetField().GetFieldPath(), filter.GetOp(); field != "minute" || op != firestorepb.StructuredQuery_FieldFilter_GREATER_THAN_OR_EQUAL {
			t.Errorf("a query filters by %s %s", field, op)
		}
		for _, order := range q.GetOrderBy() {
			if order.GetField().GetFieldPath() != "minute" || q.GetLimit().GetValue() != 500 {
				t.Errorf("a query is ordered by %s, limit %v", order, q.GetLimit())
			}
		}
	}
	var need [][]string
	for _, field := range w.sums {
		need = append(need, []string{"minute", field})
	}
	order := func(a, b []string) int { return slices.Compare(a, b) }
	have := slices.Clone(firefigures.Indexes)
	slices.SortFunc(need, order)
	slices.SortFunc(have, order)
	if !reflect.DeepEqual(need, have) {
		t.Errorf("Indexes are %v, the sums need %v", have, need)
	}
}

// A write whose answer is lost is repeated, and counts once.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	var w wire
	c := figurestest.New(firefigures.New(emulator.Client(t, w.options()...)), figurestest.NewClock(figurestest.Start), nil)
	for range 7 {
		c.Count(500, "internal")
	}
	w.mu.Lock()
	w.lose = 2
	w.mu.Unlock()
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(w.take(), "Commit"); n != 3 {
		t.Errorf("%d writes, want 3", n)
	}
	if got, err := c.Sum(t.Context()); err != nil || got.Errors != 7 {
		t.Errorf("%+v, error %v", got, err)
	}
}

// With Firestore away nobody waits longer than a flush may take, and a sum is an
// error, not 0.
func TestAway(t *testing.T) {
	t.Parallel()
	c := figurestest.New(firefigures.New(emulator.Connect(t, "127.0.0.1:1", emulator.Project())), figurestest.NewClock(figurestest.Start), nil)
	c.Count(200, "")
	begin := time.Now()
	c.Flush(t.Context())
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("a flush took %v", took)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if got, err := c.Sum(ctx); err == nil {
		t.Errorf("a sum of what cannot be read: %+v", got)
	}
}

// Beyond the documents that a sum reads for the states of breakers, the newest
// count.
func TestManyInstances(t *testing.T) {
	t.Parallel()
	store := firefigures.New(emulator.Client(t))
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(16)
	for i := range 600 {
		group.Go(func() error {
			return store.Write(ctx, figures.Minute{
				Instance: fmt.Sprint(i), Start: figurestest.Start.Add(time.Duration(i%2) * time.Minute),
				Figures:  figures.Figures{Requests: 1, Judged: 1, Errors: int64(i % 2)},
				Breakers: map[string]string{"m": "open"},
			})
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	sum, err := store.Sum(t.Context(), figurestest.Start)
	if err != nil || sum.Figures != (figures.Figures{Requests: 600, Judged: 600, Errors: 300}) {
		t.Errorf("%+v, error %v", sum, err)
	}
	newest := 0
	for instance := range sum.Breakers {
		if strings.ContainsAny(instance[len(instance)-1:], "13579") {
			newest++
		}
	}
	if len(sum.Breakers) != 500 || newest != 300 {
		t.Errorf("the states of %d instances, of %d whose minute is the newest; want 500 and 300", len(sum.Breakers), newest)
	}
}

var _ figures.Store = (*firefigures.Store)(nil)
