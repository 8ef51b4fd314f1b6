package drain

import (
	"sync"

	"example.com/gatehouse/session"
)

// Places is a number of requests that may be somewhere at once. Three quarters of
// them are anybody's; the last quarter is for owners that hold less than an
// eighth, so that nobody shuts the others out. It is safe for concurrent use, and
// nil has no bound.
type Places struct {
	most int

	mu    sync.Mutex
	taken int
	by    map[session.Owner]int // only of those who hold any
}

// NewPlaces returns most places, all free.
func NewPlaces(most int) *Places {
	return &Places{most: most, by: map[session.Owner]int{}}
}

// Full reports whether there is no place for anybody.
func (p *Places) Full() bool {
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.taken >= p.most
}

// Take takes a place for owner, who has to leave it; false: there is none.
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

// Leave gives a place up that owner has taken.
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
