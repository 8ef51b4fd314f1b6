package middleware

import (
	"io"
	"net/http"
	"sync"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/session"
)

// admit takes what a request of a known caller needs, in turn: a permit, its body,
// and a place. Until it has its place it counts among those that are entering, so
// that what they hold is bounded.
func (m *middleware) admit(route api.Route, state *requestState, w http.ResponseWriter, r *http.Request) error {
	owner := state.caller.Owner
	if !m.entering.Take(owner) {
		return api.Fail(api.Overloaded, nil)
	}
	entry := &entry{m: m, owner: owner}
	defer entry.leave()
	return m.limited(route, state, w, r, &entry.body, func() error {
		if readsBody(r) {
			entry.body.ReadCloser, entry.body.entry = r.Body, entry
			r.Body = &entry.body
		} else if err := entry.admit(); err != nil {
			return err
		}
		return route.Handler(w, r)
	})
}

// An entry is a request that has a place, or is on its way to one.
type entry struct {
	m       *middleware
	owner   session.Owner
	body    gatedBody
	entered sync.Once // and is none of those that are entering
	placed  bool
}

// admit takes the request's place.
func (e *entry) admit() error {
	if !e.m.places.Take(e.owner) {
		return api.Fail(api.Overloaded, nil)
	}
	e.placed = true
	e.leaveEntering()
	return nil
}

func (e *entry) leaveEntering() { e.entered.Do(func() { e.m.entering.Leave(e.owner) }) }

func (e *entry) leave() {
	if e.placed {
		e.m.places.Leave(e.owner)
	}
	e.leaveEntering()
}

// A gatedBody is the body of a request that has no place yet. Its end comes only
// with one: who cannot have it reads that as an error of the body, before
// anything is done with what was sent.
type gatedBody struct {
	io.ReadCloser
	entry *entry
	err   error
	bytes int64 // read
}

func (b *gatedBody) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.ReadCloser.Read(p)
	b.bytes += int64(n)
	if err == io.EOF {
		if refused := b.entry.admit(); refused != nil {
			err = refused
		}
	}
	b.err = err
	return n, err
}

// readsBody reports whether the handler of r reads its body, and so has to wait for
// the client.
func readsBody(r *http.Request) bool {
	return r.ContentLength != 0 && (r.Method == http.MethodPost || r.Method == http.MethodPut)
}
