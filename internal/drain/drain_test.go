package drain_test

import (
	"sync"
	"sync/atomic"
	"testing"

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
