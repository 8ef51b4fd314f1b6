// Package drain counts requests in flight, refuses new ones once the instance shuts
// down, cancels those that take too long, and bounds how many run at once.
package drain

import (
	"context"
	"errors"
	"sync"
	"time"
)

// A Gate counts the requests in flight and can be shut. The zero Gate is open.
// Handlers that share a Gate share its bound. It is safe for concurrent use.
type Gate struct {
	mu       sync.Mutex
	inFlight int
	shut     bool
	empty    chan struct{} // closed when shut is set and no request is in flight
	entering *Places       // requests that wait for a place
	places   *Places

	cutting sync.Once
	cut     context.Context // ends when requests in flight are cut off
	cutNow  context.CancelFunc
}

// ErrCut is the cause of the cancellation of a request that was cut off.
var ErrCut = errors.New("the instance is shutting down")

// Bind returns a context for a request that also ends, with [ErrCut], when the gate
// cuts requests off. release must be called.
func (g *Gate) Bind(ctx context.Context) (_ context.Context, release func()) {
	end := g.end()
	ctx, cancel := context.WithCancelCause(context.WithValue(ctx, endKey{}, end))
	stop := context.AfterFunc(end, func() { cancel(ErrCut) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

type endKey struct{}

// End returns a context that ends when the gate of ctx's request cuts requests off,
// even if ctx itself ended earlier because the client disconnected. It never ends if
// ctx is not from [Gate.Bind].
func End(ctx context.Context) context.Context {
	if end, ok := ctx.Value(endKey{}).(context.Context); ok {
		return end
	}
	return context.Background()
}

// Detach returns a context with the values of ctx, for work that goes on when the client
// has gone: it ends only grace after the gate of ctx's request cuts requests off, with
// [ErrCut]. The returned function must be called.
func Detach(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	on, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(End(ctx), func() {
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel(ErrCut)
		case <-on.Done():
		}
	})
	return on, func() {
		stop()
		cancel(nil)
	}
}

func (g *Gate) end() context.Context {
	g.cutting.Do(func() { g.cut, g.cutNow = context.WithCancel(context.Background()) })
	return g.cut
}

// Cut ends the contexts of the requests in flight with [ErrCut].
func (g *Gate) Cut() {
	g.end()
	g.cutNow()
}

// enteringFor is how many requests may wait for a permit or read their body, per
// place. It bounds the memory for bodies.
const enteringFor = 2

// Bound returns the places for requests that run and for those that wait for a place;
// nil means no bound. The first nonzero most determines both.
func (g *Gate) Bound(most int) (entering, working *Places) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.places == nil && most > 0 {
		g.entering, g.places = NewPlaces(enteringFor*most), NewPlaces(most)
	}
	return g.entering, g.places
}

// Enter counts a request, and reports false if the gate is shut.
func (g *Gate) Enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		return false
	}
	g.inFlight++
	return true
}

// Leave ends a request that [Gate.Enter] counted.
func (g *Gate) Leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inFlight--
	if g.shut && g.inFlight == 0 {
		close(g.empty)
	}
}

// Shut refuses new requests and waits until those in flight have ended or ctx ends.
func (g *Gate) Shut(ctx context.Context) error {
	g.mu.Lock()
	if !g.shut {
		g.shut = true
		g.empty = make(chan struct{})
		if g.inFlight == 0 {
			close(g.empty)
		}
	}
	empty := g.empty
	g.mu.Unlock()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
