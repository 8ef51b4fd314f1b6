// Package drain counts the requests in flight, lets no new one in once the instance
// ends, and cuts short those that take too long.
package drain

import (
	"context"
	"errors"
	"sync"
)

// A Gate counts the requests in flight and can be shut. The zero Gate is open.
// Those that share one share its bound too. It is safe for concurrent use.
type Gate struct {
	mu       sync.Mutex
	inFlight int
	shut     bool
	empty    chan struct{} // closed when shut and nothing is in flight
	entering *Places       // requests that have no place yet
	places   *Places

	cutting sync.Once
	cut     context.Context // ends when what is in flight is cut short
	cutNow  context.CancelFunc
}

// ErrCut is why the context of a request ends that is cut short.
var ErrCut = errors.New("the instance is shutting down")

// Bind returns a context of a request that also ends when the gate cuts it short.
// release must be called.
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

// End returns a context that ends when the gate of ctx's request cuts requests
// short, also where ctx has ended before, as its client has gone. It never ends
// for what is no such request.
func End(ctx context.Context) context.Context {
	if end, ok := ctx.Value(endKey{}).(context.Context); ok {
		return end
	}
	return context.Background()
}

func (g *Gate) end() context.Context {
	g.cutting.Do(func() { g.cut, g.cutNow = context.WithCancel(context.Background()) })
	return g.cut
}

// Cut ends the contexts of the requests in flight, for [ErrCut].
func (g *Gate) Cut() {
	g.end()
	g.cutNow()
}

// enteringFor is how many requests may wait for a permit or for their body, for each
// place: what is held of bodies is bounded by it.
const enteringFor = 2

// Bound returns the places for requests at once and those for requests that have no
// place yet, nil when there is no bound. The first bound that is not 0 holds.
func (g *Gate) Bound(most int) (entering, working *Places) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.places == nil && most > 0 {
		g.entering, g.places = NewPlaces(enteringFor*most), NewPlaces(most)
	}
	return g.entering, g.places
}

// Enter counts a request in, and reports whether it may go on.
func (g *Gate) Enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		return false
	}
	g.inFlight++
	return true
}

// Leave counts a request out that [Gate.Enter] let in.
func (g *Gate) Leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inFlight--
	if g.shut && g.inFlight == 0 {
		close(g.empty)
	}
}

// Shut lets no new request in, and waits until those in flight are answered or
// ctx ends.
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
