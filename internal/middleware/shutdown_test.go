package middleware_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/gatehouse/internal/api"
)

func TestShuttingWaitsForThoseInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		d := newDoor(t, anybody(), nil, api.Route{Method: "GET", Path: "/slow", Handler: func(w http.ResponseWriter, r *http.Request) error {
			<-release
			return api.WriteSuccess(w, r, "slow", nil)
		}})
		var requests sync.WaitGroup
		for range 3 {
			requests.Go(func() {
				if w := d.get(t, "/slow"); w.Code != 200 {
					t.Errorf("in flight, and cut off: %d %s", w.Code, w.Body)
				}
			})
		}
		synctest.Wait()

		// One that stops waiting.
		ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
		defer cancel()
		begin := time.Now()
		if err := d.gate.Shut(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != 8*time.Second {
			t.Errorf("%v after %v", err, time.Since(begin))
		}

		// One that waits, and another.
		shut := make(chan error, 2)
		for range 2 {
			go func() { shut <- d.gate.Shut(t.Context()) }()
		}
		synctest.Wait()
		if len(shut) > 0 {
			t.Error("Shut did not wait")
		}
		for _, path := range []string{"/private/x", "/public", "/slow"} {
			w := d.get(t, path)
			refused(t, w, 503, "shutting_down")
			if w.Header().Get("Retry-After") == "" {
				t.Errorf("%s: no Retry-After", path)
			}
		}
		if w := d.get(t, "/probe"); w.Code != 200 {
			t.Errorf("a probe is refused: %d", w.Code)
		}
		close(release)
		requests.Wait()
		for range 2 {
			if err := <-shut; err != nil {
				t.Error(err)
			}
		}
		refused(t, d.get(t, "/public"), 503, "shutting_down")
	})
}

func TestAPanicLeavesTheGate(t *testing.T) {
	t.Parallel()
	d := newDoor(t, anybody(), nil)
	d.get(t, "/panic")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := d.gate.Shut(ctx); err != nil {
		t.Error(err)
	}
}

// Whoever comes while the gate is shut is answered or refused, and none that was
// let in is running once Shut has returned.
func TestShuttingAmongMany(t *testing.T) {
	t.Parallel()
	var running, answered, turnedAway atomic.Int64
	var shut atomic.Bool
	d := newDoor(t, anybody(), nil, api.Route{Method: "GET", Path: "/work", Handler: func(w http.ResponseWriter, r *http.Request) error {
		running.Add(1)
		defer running.Add(-1)
		if shut.Load() {
			t.Error("let in after Shut has returned")
		}
		return api.WriteSuccess(w, r, "worked", nil)
	}})
	var callers sync.WaitGroup
	for range 32 {
		callers.Go(func() {
			for turnedAway.Load() < 32 {
				switch w := d.get(t, "/work"); w.Code {
				case 200:
					answered.Add(1)
				case 503:
					turnedAway.Add(1)
				default:
					t.Errorf("%d %s", w.Code, w.Body)
				}
			}
		})
	}
	for answered.Load() < 100 { // the callers are at it
		d.get(t, "/probe")
	}
	if err := d.gate.Shut(t.Context()); err != nil {
		t.Error(err)
	}
	shut.Store(true)
	if n := running.Load(); n != 0 {
		t.Errorf("%d are running after Shut has returned", n)
	}
	callers.Wait()
}
