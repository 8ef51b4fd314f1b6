package firestore_test

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/firestore/apiv1/firestorepb"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"example.com/gatehouse/internal/figures"
	"example.com/gatehouse/internal/figures/figurestest"
	"example.com/gatehouse/internal/gcp/emulator"
	"example.com/gatehouse/internal/gcp/firestore"
	"example.com/gatehouse/internal/testclock"
)

func TestTraffic(t *testing.T) {
	t.Parallel()
	figurestest.TestStore(t, func(t testing.TB) figures.Store { return firestore.NewTraffic(emulator.Client(t)) })
}

func TestTrafficDocument(t *testing.T) {
	t.Parallel()
	client := emulator.Client(t)
	c := figurestest.New(firestore.NewTraffic(client), testclock.New(figurestest.Start.Add(40*time.Second)),
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
	clock := testclock.New(figurestest.Start)
	c := figurestest.New(firestore.NewTraffic(emulator.Client(t, w.options()...)), clock, nil)
	const whole = 5 * time.Minute
	for passed := time.Duration(0); passed < whole; passed += 500 * time.Millisecond {
		c.Count(200, "")
		c.Flush(t.Context())
		clock.Advance(500 * time.Millisecond)
	}
	cost := w.cost()
	most := int(whole / (10 * time.Second))
	if n := len(cost.calls); n > most || n < most-5 || cost.writes != n || slices.ContainsFunc(cost.calls, func(c string) bool { return c != "Commit" }) {
		t.Errorf("%d calls, %d documents written, want %d to %d of both: %v", n, cost.writes, most-5, most, cost.calls)
	}
	if _, err := c.Sum(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(w.cost().calls, " "), "RunAggregationQuery RunAggregationQuery RunAggregationQuery RunQuery"; got != want {
		t.Errorf("a sum is %s, want %s", got, want)
	}
}

// The indexes that are asked for are those that the queries need.
func TestIndexes(t *testing.T) {
	t.Parallel()
	var w wire
	if _, err := firestore.NewTraffic(emulator.Client(t, w.options()...)).Sum(t.Context(), figurestest.Start); err != nil {
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
	have := slices.Clone(firestore.TrafficIndexes)
	slices.SortFunc(need, order)
	slices.SortFunc(have, order)
	if !reflect.DeepEqual(need, have) {
		t.Errorf("Indexes are %v, the sums need %v", have, need)
	}
}

// A write whose answer is lost is repeated, and counts once.
func TestALostAnswerOfTraffic(t *testing.T) {
	t.Parallel()
	var w wire
	c := figurestest.New(firestore.NewTraffic(emulator.Client(t, w.options()...)), testclock.New(figurestest.Start), nil)
	for range 7 {
		c.Count(500, "internal")
	}
	w.loseAnswers(2)
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
func TestTrafficAway(t *testing.T) {
	t.Parallel()
	c := figurestest.New(firestore.NewTraffic(emulator.Connect(t, "127.0.0.1:1", emulator.Project())), testclock.New(figurestest.Start), nil)
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
	store := firestore.NewTraffic(emulator.Client(t))
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

var _ figures.Store = (*firestore.Traffic)(nil)
