package api

import (
	"net/http"
	"slices"
	"strings"

	"example.com/gatehouse/internal/telemetry"
)

// A Handler answers a request or says why it can't.
type Handler func(http.ResponseWriter, *http.Request) error

// AuditTurn is what the audit calls a turn of a session.
const AuditTurn = "session.turn"

// A Route is one method and path of the contract.
type Route struct {
	Method  string
	Path    string // as http.ServeMux's patterns write it, without the method
	Summary string // for GET / and the OpenAPI document
	Audit   string // the action's name in the audit; "" when only refusals are audited
	Media   string // of an answer without the envelope, for which Accept is not checked
	Public  bool   // answers without a credential
	Probe   bool   // the platform's: answered regardless of Accept and of load
	Handler Handler
	Doc     Doc

	// Uncounted routes are excluded from request and error counts.
	Uncounted bool
	// Unrefused routes cost a permit and are never refused for lack of one: a
	// deletion, a stop.
	Unrefused bool
}

// Pattern is the route's name in logs, metrics and the mux: bounded, and never
// what a caller sent.
func (r Route) Pattern() string { return r.Method + " " + r.Path }

// Routes serves a fixed list of routes. Unknown paths and methods get the
// contract's errors. It is safe for concurrent use.
type Routes struct {
	mux *http.ServeMux

	// Refuse is asked for the answer to a request that no route takes, which would be
	// the given error; nil: that is the answer.
	Refuse func(*http.Request, error) error
}

// NewRoutes makes a router. Each route is wrapped by wrap, which sees the whole
// route and so can ask for a credential or count.
func NewRoutes(routes []Route, wrap func(Route) Handler) *Routes {
	mux := http.NewServeMux()
	for _, route := range routes {
		handler := wrap(route)
		path := route.Path
		if path == "/" {
			path = "/{$}"
		}
		mux.HandleFunc(route.Method+" "+path, func(w http.ResponseWriter, r *http.Request) {
			Answer(w, r, handler)
		})
	}
	return &Routes{mux: mux}
}

// Answer runs h and turns the error it returns into the answer.
func Answer(w http.ResponseWriter, r *http.Request, h Handler) {
	if err := h(w, r); err != nil {
		e := AsError(err)
		telemetry.Fail(r.Context(), e.Failure())
		if e.Code == ClientClosedRequest {
			return // nobody is there to read it
		}
		_ = WriteError(w, r, e)
	}
}

// ServeHTTP answers r by its route.
func (rs *Routes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h, pattern := rs.mux.Handler(r)
	if pattern != "" {
		rs.mux.ServeHTTP(w, r) // again by the mux, which sets the path's values
		return
	}
	// The mux's own answer tells an unknown path from an unknown method, and
	// holds the Allow header of the latter; its plain text is thrown away.
	var probe statusProbe
	h.ServeHTTP(&probe, r)
	e := Fail(NotFound, nil)
	switch {
	case probe.status == http.StatusMethodNotAllowed:
		e = Fail(MethodNotAllowed, nil)
		e.Header = http.Header{"Allow": {allow(probe.header)}}
	case probe.status >= 300 && probe.status < 400: // a path that is not clean: the mux redirects
		rs.mux.ServeHTTP(w, r)
		return
	}
	Answer(w, r, func(http.ResponseWriter, *http.Request) error {
		if rs.Refuse != nil {
			return rs.Refuse(r, e)
		}
		return e
	})
}

// allow lists the methods of an Allow header in one line, sorted.
func allow(h http.Header) string {
	methods := strings.Split(strings.Join(h.Values("Allow"), ","), ",")
	for i := range methods {
		methods[i] = strings.TrimSpace(methods[i])
	}
	slices.Sort(methods)
	return strings.Join(slices.Compact(methods), ", ")
}

// A statusProbe remembers the status and headers written to it, not the body.
type statusProbe struct {
	header http.Header
	status int
}

func (p *statusProbe) Header() http.Header {
	if p.header == nil {
		p.header = http.Header{}
	}
	return p.header
}

func (p *statusProbe) Write(b []byte) (int, error) { return len(b), nil }

func (p *statusProbe) WriteHeader(status int) { p.status = status }
