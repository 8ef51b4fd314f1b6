package drain_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"example.com/gatehouse/internal/drain"
)

// A gate with no request behind it is shut at once, also the second time.
func TestShutWithoutRequests(t *testing.T) {
	t.Parallel()
	var g drain.Gate
	for range 2 {
		if err := g.Shut(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// Whoever comes while the gate is shut is let in or refused, and nobody who was let
// in is behind it once Shut has returned.
func TestShutAmongMany(t *testing.T) {
	t.Parallel()
	var g drain.Gate
	var behind, entered atomic.Int64
	var callers sync.WaitGroup
	for range 32 {
		callers.Go(func() {
			for g.Enter() {
				behind.Add(1)
				entered.Add(1)
				behind.Add(-1)
				g.Leave()
			}
		})
	}
	for entered.Load() < 1000 { // the callers are at it
		if g.Enter() {
			g.Leave()
		}
	}
	if err := g.Shut(t.Context()); err != nil {
		t.Error(err)
	}
	if n := behind.Load(); n != 0 {
		t.Errorf("%d are behind the gate after Shut has returned", n)
	}
	callers.Wait()
}

// Work that goes on without its client ends with the instance.
func TestDetach(t *testing.T) {
	t.Parallel()
	type key struct{}
	synctest.Test(t, func(t *testing.T) {
		var gate drain.Gate
		client, leave := context.WithCancel(context.WithValue(t.Context(), key{}, "value"))
		ctx, release := gate.Bind(client)
		on := drain.Detach(ctx, time.Second)
		leave()
		release()
		if time.Sleep(time.Hour); on.Err() != nil || on.Value(key{}) != "value" {
			t.Errorf("with its client gone: %v, value %v", on.Err(), on.Value(key{}))
		}
		begin := time.Now()
		gate.Cut()
		if <-on.Done(); time.Since(begin) != time.Second || !errors.Is(context.Cause(on), drain.ErrCut) {
			t.Errorf("cut off after %v by %v", time.Since(begin), context.Cause(on))
		}
	})
}

// Whoever is in flight is cut off, and nobody before; all may leave while others are cut off.
func TestCut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var gate drain.Gate
		for range 1000 {
			ctx, release := gate.Bind(t.Context())
			if ctx.Err() != nil {
				t.Error("cut off before the end")
			}
			go func() {
				defer release()
				if <-ctx.Done(); !errors.Is(context.Cause(ctx), drain.ErrCut) {
					t.Errorf("cut off by %v", context.Cause(ctx))
				}
			}()
		}
		synctest.Wait()
		gate.Cut()
	})
}

// However many go on without their clients, each has its own grace; without one it ends at once.
func TestDetachedTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var gate drain.Gate
		ctx, release := gate.Bind(t.Context())
		defer release()
		graces := []time.Duration{0, 1, time.Second, time.Second, time.Minute}
		var detached []context.Context
		for _, grace := range graces {
			detached = append(detached, drain.Detach(ctx, grace))
		}
		begin := time.Now()
		gate.Cut()
		for i, on := range detached {
			if (on.Err() != nil) != (graces[i] == 0) {
				t.Errorf("with a grace of %v, at once: %v", graces[i], on.Err())
			}
		}
		for i, on := range detached {
			if <-on.Done(); time.Since(begin) != graces[i] {
				t.Errorf("with a grace of %v, cut off after %v", graces[i], time.Since(begin))
			}
		}
		if drain.Detach(ctx, 0).Err() == nil {
			t.Error("without a grace, after the end: it goes on")
		}
	})
}

// Behind no gate, as in a test of a tool, work goes on without its client, too.
func TestDetachedWithoutAGate(t *testing.T) {
	t.Parallel()
	client, leave := context.WithCancel(t.Context())
	on := drain.Detach(client, time.Second)
	if leave(); on.Err() != nil {
		t.Errorf("ended with its client: %v", on.Err())
	}
}

// What detached work is derived from ends with the gate alone, and knows why.
func TestDetachedFromACanceledContext(t *testing.T) {
	t.Parallel()
	var gate drain.Gate
	client, leave := context.WithCancelCause(t.Context())
	ctx, release := gate.Bind(client)
	defer release()
	on := drain.Detach(ctx, 0)
	child, cancel := context.WithTimeout(on, time.Hour)
	defer cancel()
	leave(errors.New("the client has gone"))
	if on.Err() != nil || context.Cause(on) != nil || child.Err() != nil || context.Cause(child) != nil {
		t.Errorf("ended with its client: %v, %v", context.Cause(on), context.Cause(child))
	}
	gate.Cut()
	if <-child.Done(); !errors.Is(context.Cause(child), drain.ErrCut) || !errors.Is(context.Cause(on), drain.ErrCut) {
		t.Errorf("cut off by %v, %v", context.Cause(on), context.Cause(child))
	}
}

// A request that was let in just before the end, and comes to its context after it, is cut
// off like the others.
func TestBoundAfterTheCut(t *testing.T) {
	t.Parallel()
	var gate drain.Gate
	gate.Cut()
	ctx, release := gate.Bind(t.Context())
	defer release()
	if !errors.Is(context.Cause(ctx), drain.ErrCut) {
		t.Errorf("ended by %v", context.Cause(ctx))
	}
}

// What a request that was cut off still has to store has its whole grace, even if that of
// another one, which began before, is over.
func TestDetachedAfterTheCut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var gate drain.Gate
		ctx, release := gate.Bind(t.Context())
		defer release()
		before := drain.Detach(ctx, time.Second)
		gate.Cut()
		<-before.Done()
		begin := time.Now()
		after := drain.Detach(ctx, time.Second)
		if <-after.Done(); time.Since(begin) != time.Second || !errors.Is(context.Cause(after), drain.ErrCut) {
			t.Errorf("cut off after %v by %v", time.Since(begin), context.Cause(after))
		}
	})
}

// A gate keeps nothing of a request that has ended, nor of what was detached from it.
func TestEndedRequestsAreForgotten(t *testing.T) {
	t.Parallel()
	type key struct{}
	var gate drain.Gate
	request := func() weak.Pointer[[1024]byte] {
		value := new([1024]byte)
		ctx, release := gate.Bind(context.WithValue(t.Context(), key{}, value))
		defer release()
		_, cancel := context.WithTimeout(drain.Detach(ctx, time.Second), time.Hour)
		defer cancel()
		return weak.Make(value)
	}
	ended := request()
	for range 3 {
		runtime.GC()
	}
	if ended.Value() != nil {
		t.Error("the gate keeps a request that has ended")
	}
	runtime.KeepAlive(&gate)
}
