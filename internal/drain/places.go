package drain

import (
	"sync"

	"example.com/gatehouse/session"
)

// Places bounds how many requests are somewhere at once. The last quarter of the
// places is reserved for owners that hold less than an eighth of them, so that one
// owner cannot exclude the others. Places is safe for concurrent use. A nil *Places
// has no bound.
type Places struct {
	most int

	mu    sync.Mutex
	taken int
	by    map[session.Owner]int // only owners that hold a place
}

// NewPlaces returns most free places.
func NewPlaces(most int) *Places {
	return &Places{most: most, by: map[session.Owner]int{}}
}

// Full reports whether no place is free.
func (p *Places) Full() bool {
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.taken >= p.most
}

// Take takes a place for owner, and reports whether there was one. It must be returned
// by Leave.
func (p *Places) Take(owner session.Owner) bool {
	if p == nil {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.taken >= p.most || p.taken >= p.most-p.most/4 && p.by[owner]*8 >= p.most {
		return false
	}
	p.taken++
	p.by[owner]++
	return true
}

// Leave returns a place that owner holds.
func (p *Places) Leave(owner session.Owner) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken--
	if p.by[owner]--; p.by[owner] == 0 {
		delete(p.by, owner)
	}
}
