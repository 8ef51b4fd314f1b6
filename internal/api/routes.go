package api

import (
	"net/http"
	"slices"
	"strings"
)

// A Handler answers a request, or returns why it cannot.
type Handler func(http.ResponseWriter, *http.Request) error

// AuditTurn is what the audit calls a turn of a session.
const AuditTurn = "session.turn"

// AuditTool is what the audit calls a tool that a client calls itself.
const AuditTool = "tool.call"

// What the audit calls a run that is read or watched, one that is stopped, and a list of
// runs, by any door.
const (
	AuditRunRead = "run.read"
	AuditRunStop = "run.stop"
	AuditRunList = "run.list"
)

// A Route is one method and path of the contract.
type Route struct {
	Method  string
	Path    string // as http.ServeMux's patterns write it, without the method
	Summary string // for GET / and the OpenAPI document
	Audit   string // the action's name in the audit; "" when only refusals are audited
	Media   string // of an answer without the envelope, for which Accept is not checked
	Public  bool   // answers without a credential
	Probe   bool   // answered regardless of Accept, of load and of any credential: the platform's probes, a protocol's public metadata
	Handler Handler
	Doc     Doc

	// Fail answers with an error in the route's own form; nil: in the envelope.
	Fail func(http.ResponseWriter, *http.Request, *Error) error

	// Tasks routes are the queue's: they take its credential and no other, and who comes
	// by them is no caller, whom limits would count.
	Tasks bool
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
	mux   *http.ServeMux
	fails map[string]func(http.ResponseWriter, *http.Request, *Error) error // by the mux's pattern

	// Refuse is asked for the answer to a request that no route takes, which would be
	// the given error; nil: that is the answer.
	Refuse func(*http.Request, error) error
}

// NewRoutes makes a router. Each route is wrapped by wrap, which sees the whole
// route and so can ask for a credential or count.
func NewRoutes(routes []Route, wrap func(Route) Handler) *Routes {
	mux := http.NewServeMux()
	rs := &Routes{mux: mux, fails: map[string]func(http.ResponseWriter, *http.Request, *Error) error{}}
	methods := map[string][]string{} // by path
	for _, route := range routes {
		handler, path := wrap(route), pattern(route.Path)
		methods[path] = append(methods[path], route.Method)
		rs.fails[route.Method+" "+path] = route.Fail
		mux.HandleFunc(route.Method+" "+path, func(w http.ResponseWriter, r *http.Request) {
			answer(w, r, handler, route.Fail)
		})
	}
	for path, served := range methods {
		if slices.Contains(served, http.MethodGet) {
			served = append(served, http.MethodHead) // which the mux answers by GET
		}
		slices.Sort(served)
		e := Fail(MethodNotAllowed, nil)
		e.Header = http.Header{"Allow": {strings.Join(served, ", ")}}
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) { Answer(w, r, rs.refusal(e)) })
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { Answer(w, r, rs.refusal(Fail(NotFound, nil))) })
	return rs
}

// pattern returns the mux's pattern of a path: "/" is no prefix of others.
func pattern(path string) string {
	if path == "/" {
		return "/{$}"
	}
	return path
}

// refusal answers what no route takes.
func (rs *Routes) refusal(e *Error) Handler {
	return func(_ http.ResponseWriter, r *http.Request) error {
		if rs.Refuse != nil {
			return rs.Refuse(r, e)
		}
		return e
	}
}

// Fail answers r with err instead of its route, and in the form of that.
func (rs *Routes) Fail(w http.ResponseWriter, r *http.Request, err error) {
	_, pattern := rs.mux.Handler(r)
	answer(w, r, func(http.ResponseWriter, *http.Request) error { return err }, rs.fails[pattern])
}

// Answer runs h and turns the error it returns into the answer.
func Answer(w http.ResponseWriter, r *http.Request, h Handler) { answer(w, r, h, nil) }

func answer(w http.ResponseWriter, r *http.Request, h Handler, fail func(http.ResponseWriter, *http.Request, *Error) error) {
	if err := h(w, r); err != nil {
		if fail == nil {
			fail = WriteError
		}
		// Also if the client has left: one that closed only its own direction still reads,
		// and without an answer the server would send an empty 200.
		_ = fail(w, r, AsError(err))
	}
}

// ServeHTTP answers r by its route.
func (rs *Routes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.HasPrefix(r.URL.Path, "/") { // of CONNECT; the mux answers it in plain text
		Answer(w, r, rs.refusal(Fail(NotFound, nil)))
		return
	}
	rs.mux.ServeHTTP(w, r)
}
