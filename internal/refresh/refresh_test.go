package refresh_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/gatehouse/internal/refresh"
)

// Each step lets time pass and then sends a request; fetched is whether that request
// fetches.
func TestWhenSomethingIsFetched(t *testing.T) {
	t.Parallel()
	type step struct {
		pass    time.Duration
		outcome refresh.Outcome
		fetched bool
	}
	const known, failed, refused = refresh.Known, refresh.Failed, refresh.Refused
	for _, tt := range []struct {
		name  string
		steps []step
	}{
		{"at first, then when five minutes old", []step{
			{0, known, true}, {4*time.Minute + 59*time.Second, known, false}, {time.Second, known, true}, {time.Second, known, false},
		}},
		{"a first fetch that fails, with growing pauses", []step{
			{0, failed, true}, {0, known, false}, {time.Second, failed, true}, {time.Second, known, false}, {time.Second, failed, true},
			{4 * time.Second, failed, true}, {8 * time.Second, failed, true}, {14 * time.Second, known, false}, {time.Second, known, true},
		}},
		{"a failure at five minutes: again at ten, then twice a minute", []step{
			{0, known, true}, {5 * time.Minute, failed, true}, {4*time.Minute + 59*time.Second, known, false}, {time.Second, failed, true},
			{29 * time.Second, known, false}, {time.Second, failed, true}, {30 * time.Second, known, true}, {30 * time.Second, known, false},
		}},
		{"a refusal: again ten seconds later", []step{
			{0, known, true}, {5 * time.Minute, refused, true}, {9 * time.Second, known, false}, {time.Second, known, true}, {10 * time.Second, known, false},
		}},
		{"a refusal and a failure: half a minute later", []step{
			{0, known, true}, {5 * time.Minute, refused, true}, {10 * time.Second, failed, true}, {29 * time.Second, known, false}, {time.Second, known, true},
		}},
		{"after a day without a request", []step{{0, known, true}, {24 * time.Hour, known, true}, {0, known, false}}},
		{"after the clock was set back", []step{{0, known, true}, {-time.Hour, known, true}, {0, known, false}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			now := time.Date(2026, 11, 26, 9, 0, 0, 0, time.UTC)
			s := refresh.NewSchedule(func() time.Time { return now })
			for i, step := range tt.steps {
				now = now.Add(step.pass)
				fetched := false
				s.Refresh(t.Context(), func(context.Context) refresh.Outcome { fetched = true; return step.outcome })
				if fetched != step.fetched {
					t.Errorf("step %d: fetched %t", i, fetched)
				}
			}
		})
	}
}

func TestUsableForAnHour(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 26, 9, 0, 0, 0, time.UTC)
	s := refresh.NewSchedule(func() time.Time { return now })
	if s.Usable() {
		t.Error("usable before anything was fetched")
	}
	s.Refresh(t.Context(), func(context.Context) refresh.Outcome { return refresh.Known })
	for _, outcome := range []refresh.Outcome{refresh.Failed, refresh.Refused, refresh.Failed} {
		now = now.Add(19 * time.Minute)
		s.Refresh(t.Context(), func(context.Context) refresh.Outcome { return outcome })
		if !s.Usable() {
			t.Error("not usable within the hour")
		}
	}
	now = now.Add(3 * time.Minute)
	if s.Usable() {
		t.Error("usable an hour after it was last known")
	}
}

// While one request fetches, the others use values younger than ten minutes, and wait
// if they are older.
func TestWhoWaits(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		age  time.Duration
		want time.Duration // of the other requests
	}{
		{"what is there is young enough", 6 * time.Minute, 0},
		{"what is there is two hours old", 2 * time.Hour, refresh.Timeout},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := refresh.NewSchedule(nil)
				s.Refresh(t.Context(), func(context.Context) refresh.Outcome { return refresh.Known })
				time.Sleep(tt.age)
				var calls atomic.Int32
				hangs := func(ctx context.Context) refresh.Outcome { calls.Add(1); <-ctx.Done(); return refresh.Failed }
				var requests sync.WaitGroup
				requests.Go(func() { s.Refresh(t.Context(), hangs) })
				synctest.Wait()
				for range 10 {
					requests.Go(func() {
						begin := time.Now()
						s.Refresh(t.Context(), hangs)
						if got := time.Since(begin); got != tt.want {
							t.Errorf("a request waited %v, want %v", got, tt.want)
						}
					})
				}
				requests.Wait()
				begin := time.Now()
				s.Refresh(t.Context(), hangs) // too soon after a failure
				if got := time.Since(begin); got != 0 {
					t.Errorf("the next request waited %v", got)
				}
				if got := calls.Load(); got != 1 {
					t.Errorf("%d fetches, want 1", got)
				}
			})
		})
	}
}

func TestAPanicEndsTheFetch(t *testing.T) {
	t.Parallel()
	s := refresh.NewSchedule(nil)
	func() {
		defer func() { _ = recover() }()
		s.Refresh(t.Context(), func(context.Context) refresh.Outcome { panic("in the fetch") })
	}()
	fetched := false
	s.Now(t.Context(), func() bool { return true }, func(context.Context) refresh.Outcome { fetched = true; return refresh.Known })
	if !fetched || !s.Usable() {
		t.Error("nothing was fetched after a panic")
	}
}

func TestARefusalIsConfirmedTenSecondsLater(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 26, 9, 0, 0, 0, time.UTC)
	var r refresh.Refusal
	if r.Confirmed(now) || r.Confirmed(now.Add(9*time.Second)) {
		t.Error("confirmed too soon")
	}
	if !r.Confirmed(now.Add(10 * time.Second)) {
		t.Error("not confirmed")
	}
	r.Clear()
	if r.Confirmed(now.Add(time.Minute)) {
		t.Error("confirmed after it was had again")
	}
}
