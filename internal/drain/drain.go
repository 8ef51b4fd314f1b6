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

	cut   bool                      // requests in flight have been cut off
	bound map[*binding]struct{}     // contexts of requests in flight
	ends  map[time.Duration]*ending // of detached contexts, by their grace
}

// ErrCut is the cause of the cancellation of a request that was cut off.
var ErrCut = errors.New("the instance is shutting down")

// A binding is the context of a request.
type binding struct {
	context.Context
	cancel context.CancelCauseFunc
	gate   *Gate
}

type gateKey struct{}

// Value implements [context.Context].
func (b *binding) Value(key any) any {
	if key == (gateKey{}) {
		return b.gate
	}
	return b.Context.Value(key)
}

// Bind returns a context for a request that also ends, with [ErrCut], when the gate
// cuts requests off. release must be called.
func (g *Gate) Bind(ctx context.Context) (_ context.Context, release func()) {
	b := &binding{gate: g}
	b.Context, b.cancel = context.WithCancelCause(ctx)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cut {
		b.cancel(ErrCut)
	} else {
		if g.bound == nil {
			g.bound = map[*binding]struct{}{}
		}
		g.bound[b] = struct{}{}
	}
	return b, b.release
}

func (b *binding) release() {
	b.gate.mu.Lock()
	delete(b.gate.bound, b)
	b.gate.mu.Unlock()
	b.cancel(nil)
}

// A detached context has the values of one context and ends with another. All of them
// with the same grace end with one context of their gate, so that none costs a timer or
// a cancellation of its own.
type detached struct {
	context.Context // its end
	values          context.Context
}

// Value implements [context.Context]. The end has no values but how package context
// finds it, which is not that of values.
func (d *detached) Value(key any) any {
	if value := d.Context.Value(key); value != nil {
		return value
	}
	return d.values.Value(key)
}

// Detach returns a context with the values of ctx, for work that goes on when the client
// has gone: it ends only grace after the gate of ctx's request cuts requests off, or after
// now if it has, with [ErrCut]. It never ends if ctx is not from [Gate.Bind].
func Detach(ctx context.Context, grace time.Duration) context.Context {
	gate, ok := ctx.Value(gateKey{}).(*Gate)
	if !ok {
		return context.WithoutCancel(ctx)
	}
	return &detached{gate.end(grace), ctx}
}

// An ending is a context that ends grace after it was begun, with [ErrCut].
type ending struct {
	context.Context
	cancel context.CancelCauseFunc
	grace  time.Duration
}

func (e *ending) begin() {
	if e.grace > 0 {
		time.AfterFunc(e.grace, func() { e.cancel(ErrCut) })
		return
	}
	e.cancel(ErrCut)
}

// end returns the ending that Cut begins, or after it, one that has begun now.
func (g *Gate) end(grace time.Duration) *ending {
	g.mu.Lock()
	defer g.mu.Unlock()
	if e := g.ends[grace]; e != nil {
		return e
	}
	e := &ending{grace: grace}
	e.Context, e.cancel = context.WithCancelCause(context.Background())
	if g.cut {
		e.begin()
		return e
	}
	if g.ends == nil {
		g.ends = map[time.Duration]*ending{}
	}
	g.ends[grace] = e // few: their graces are constants
	return e
}

// Cut ends the contexts of the requests in flight with [ErrCut].
func (g *Gate) Cut() {
	g.mu.Lock()
	g.cut = true
	bound, ends := g.bound, g.ends
	g.bound, g.ends = nil, nil // released requests look into none, and whoever detaches later begins another ending
	g.mu.Unlock()
	for b := range bound {
		b.cancel(ErrCut)
	}
	for _, e := range ends {
		e.begin()
	}
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
