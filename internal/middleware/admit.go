package middleware

import (
	"io"
	"net/http"
	"sync"

	"example.com/gatehouse/internal/api"
)

// admit takes what a request of a known caller needs, in turn: a permit, its body,
// and a place. Until it has its place it counts among those that are entering, so
// that what they hold is bounded.
func (m *middleware) admit(route api.Route, state *requestState, w http.ResponseWriter, r *http.Request) error {
	owner := state.caller.Owner
	if !m.entering.Take(owner) {
		return api.Fail(api.Overloaded, nil)
	}
	entered := sync.OnceFunc(func() { m.entering.Leave(owner) })
	defer entered()
	placed := false
	admit := func() error {
		if !m.places.Take(owner) {
			return api.Fail(api.Overloaded, nil)
		}
		placed = true
		entered()
		return nil
	}
	defer func() {
		if placed {
			m.places.Leave(owner)
		}
	}()
	return m.limited(route, state, w, r, func(body *gatedBody) error {
		if readsBody(r) {
			body.ReadCloser, body.admit = r.Body, admit
			r.Body = body
		} else if err := admit(); err != nil {
			return err
		}
		return route.Handler(w, r)
	})
}

// A gatedBody is the body of a request that has no place yet. Its end comes only
// with one: who cannot have it reads that as an error of the body, before
// anything is done with what was sent.
type gatedBody struct {
	io.ReadCloser
	admit func() error
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
		if refused := b.admit(); refused != nil {
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
