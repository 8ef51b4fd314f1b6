// Package figurestest holds what every store of figures must pass.
package figurestest

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/gatehouse/internal/figures"
	"example.com/gatehouse/internal/testclock"
)

// Start is the minute that the tests count from.
var Start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// TestStore tests the stores that open returns, each of which must be empty.
func TestStore(t *testing.T, open func(testing.TB) figures.Store) {
	type states = map[string]map[string]string
	minute := func(instance string, n int, requests, judged, errors int64, breakers map[string]string) figures.Minute {
		return figures.Minute{
			Instance: instance, Start: Start.Add(time.Duration(n) * time.Minute), Breakers: breakers,
			Figures: figures.Figures{Requests: requests, Judged: judged, Errors: errors},
		}
	}
	closed, open1 := map[string]string{"m": "closed"}, map[string]string{"m": "open", "n": "closed"}
	tests := []struct {
		name    string
		minutes []figures.Minute
		since   int // minutes after Start
		want    figures.Figures
		states  states
	}{
		{"nothing", nil, 0, figures.Figures{}, states{}},
		{"a minute", []figures.Minute{minute("a", 0, 9, 8, 7, open1)}, 0, figures.Figures{Requests: 9, Judged: 8, Errors: 7}, states{"a": open1}},
		{"without breakers", []figures.Minute{minute("a", 0, 1, 1, 0, nil)}, 0, figures.Figures{Requests: 1, Judged: 1}, states{}},
		{"a minute written again", []figures.Minute{
			minute("a", 0, 1, 1, 1, open1), minute("a", 0, 5, 4, 1, closed), minute("a", 0, 5, 4, 1, closed),
		}, 0, figures.Figures{Requests: 5, Judged: 4, Errors: 1}, states{"a": closed}},
		{"instances apart", []figures.Minute{
			minute("a", 0, 1, 1, 1, open1), minute("b", 0, 10, 10, 10, closed), minute("c", 1, 100, 90, 0, nil),
		}, 0, figures.Figures{Requests: 111, Judged: 101, Errors: 11}, states{"a": open1, "b": closed}},
		{"what is before is not seen", []figures.Minute{
			minute("a", -1, 1000, 1000, 1000, open1), minute("a", 0, 1, 1, 0, closed), minute("b", -1, 1, 1, 1, open1),
		}, 0, figures.Figures{Requests: 1, Judged: 1}, states{"a": closed}},
		{"the newest minute tells the breakers' states", []figures.Minute{
			minute("a", 1, 1, 1, 0, closed), minute("a", 0, 1, 1, 0, open1),
			minute("b", 0, 1, 1, 0, closed), minute("b", 2, 1, 1, 0, open1), minute("b", 1, 1, 1, 0, closed),
		}, 0, figures.Figures{Requests: 5, Judged: 5}, states{"a": closed, "b": open1}},
		{"breakers that are gone", []figures.Minute{
			minute("a", 0, 1, 1, 0, open1), minute("a", 1, 1, 1, 0, nil),
		}, 0, figures.Figures{Requests: 2, Judged: 2}, states{}},
		{"a model's name with dots, slashes and quotes", []figures.Minute{
			minute("a", 0, 1, 1, 0, map[string]string{"models/gemini-2.5`\"": "open"}),
		}, 0, figures.Figures{Requests: 1, Judged: 1}, states{"a": {"models/gemini-2.5`\"": "open"}}},
		{"from a later minute on", []figures.Minute{
			minute("a", 0, 1, 1, 1, closed), minute("a", 4, 2, 2, 2, closed),
		}, 4, figures.Figures{Requests: 2, Judged: 2, Errors: 2}, states{"a": closed}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			store := open(t)
			for _, m := range tt.minutes {
				if err := store.Write(t.Context(), m); err != nil {
					t.Fatal(err)
				}
			}
			got, err := store.Sum(t.Context(), Start.Add(time.Duration(tt.since)*time.Minute))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(got.Figures, tt.want); diff != "" {
				t.Errorf("figures (-got +want):\n%s", diff)
			}
			if diff := cmp.Diff(got.Breakers, tt.states); diff != "" {
				t.Errorf("breakers (-got +want):\n%s", diff)
			}
		})
	}
	t.Run("the agent's name", func(t *testing.T) {
		t.Parallel()
		store := open(t)
		for i, name := range []string{"before", "", "now"} {
			m := minute("a", i, 1, 1, 0, nil)
			m.Agent = name
			if err := store.Write(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := store.Sum(t.Context(), Start); err != nil || got.Agent != "now" {
			t.Errorf("%q, error %v, want that of the newest minute", got.Agent, err)
		}
		if got, err := store.Sum(t.Context(), Start.Add(time.Hour)); err != nil || got.Agent != "" {
			t.Errorf("without minutes: %q, error %v", got.Agent, err)
		}
	})
	t.Run("counters of several instances at once", func(t *testing.T) {
		t.Parallel()
		testCounters(t, open(t))
	})
}

// testCounters has instances count and flush as requests do, and looks for what
// they counted together.
func testCounters(t *testing.T, store figures.Store) {
	const instances, requests = 4, 25
	clock := testclock.New(Start)
	states := []string{"closed", "half_open", "open", "closed"}
	counters := make([]*figures.Counter, instances)
	for i := range counters {
		counters[i] = New(store, clock, func() map[string]string { return map[string]string{"m": states[i], fmt.Sprint(i): "closed"} })
	}
	var group sync.WaitGroup
	for _, c := range counters {
		for range requests {
			group.Go(func() {
				c.Count(200, "")
				c.Flush(t.Context())
				c.Count(500, "internal")
				c.Flush(t.Context())
			})
		}
	}
	group.Wait()
	for _, c := range counters {
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	reader := New(store, clock, nil)
	got, err := reader.Sum(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := figures.Sum{
		Figures:  figures.Figures{Requests: 2 * instances * requests, Judged: 2 * instances * requests, Errors: instances * requests},
		Breakers: map[string]string{"m": "open", "0": "closed", "1": "closed", "2": "closed", "3": "closed"},
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("(-got +want):\n%s", diff)
	}
	clock.Advance(figures.Minutes * time.Minute)
	if got, err := reader.Sum(t.Context()); err != nil || got.Figures != (figures.Figures{}) || len(got.Breakers) > 0 {
		t.Errorf("five minutes later: %+v, error %v", got, err)
	}
}

// New makes a counter on this clock that logs nothing.
func New(store figures.Store, clock *testclock.Clock, breakers func() map[string]string) *figures.Counter {
	return figures.New(figures.Config{Store: store, Breakers: breakers, Log: slog.New(slog.DiscardHandler), Now: clock.Now})
}

// Faulty is a store that calls Before ahead of each call, which fails with the
// error that it returns.
type Faulty struct {
	figures.Store
	Before func(context.Context) error
}

// Write implements figures.Store.
func (f *Faulty) Write(ctx context.Context, m figures.Minute) error {
	if err := f.Before(ctx); err != nil {
		return err
	}
	return f.Store.Write(ctx, m)
}

// Sum implements figures.Store.
func (f *Faulty) Sum(ctx context.Context, since time.Time) (figures.Stored, error) {
	if err := f.Before(ctx); err != nil {
		return figures.Stored{}, err
	}
	return f.Store.Sum(ctx, since)
}
