// Package middleware stands before every route. A request passes, in this order:
//
//	middleware.go  the request's id and state, and what ends with it
//	recover.go     a panic becomes a 500
//	requestid.go   the size of its headers
//	cors.go        the origin of the page that sent it
//	identify.go    who is calling, and for whom
//	ratelimit.go   how often
//	admit.go       a place among the requests that are worked on
//
// The caller is in the context of the routes, as package caller has it. Once the
// client has its answer, access_log.go writes the line that sums the request up and
// the audit's entry, and lets telemetry be exported.
package middleware

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"example.com/gatehouse/internal/access"
	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/auth"
	"example.com/gatehouse/internal/caller"
	"example.com/gatehouse/internal/drain"
	"example.com/gatehouse/internal/figures"
	"example.com/gatehouse/internal/limit"
	"example.com/gatehouse/internal/loopback"
	"example.com/gatehouse/internal/telemetry"
)

// A Config is what the middleware is made of.
type Config struct {
	Log           *slog.Logger
	Authenticator *auth.Authenticator // nil while the service is not ready
	Challenge     string              // WWW-Authenticate of a 401
	Tasks         *auth.Authenticator // of the queue's routes; nil where there are none
	Gate          *drain.Gate
	Proxied       bool // behind Cloud Run's front end, whose X-Forwarded-For ends with the client
	Now           func() time.Time

	// Loopback admits only requests whose Host is this machine: a page elsewhere
	// could otherwise reach the service by a name of its own that it lets point
	// here (DNS rebinding).
	Loopback bool

	// Origins are those whose pages may call, exactly as browsers send them; false
	// when that cannot be known now. It is asked at each request of a page from
	// elsewhere; nil: there are none.
	Origins func() ([]string, bool)

	// MaxConcurrent is how many requests are worked on at once, over all handlers
	// that share the Gate; 0: as many as come. Three quarters are anybody's, the
	// last quarter is for owners that hold less than an eighth. A request whose body
	// is still coming is not counted. Public routes are not, either.
	MaxConcurrent int

	Operators access.Operators // may see the details of the service

	// Limiter counts what callers ask for against Limits; nil: nothing is counted.
	Limiter *limit.Limiter
	Limits  limit.Limits

	Observer *telemetry.Observer // nil: no traces and metrics
	Audit    *Audit              // nil: no audit
	Figures  *figures.Counter    // nil: nothing is counted for health
}

// New puts the middleware before routes. It is safe for concurrent use.
func New(c Config, routes []api.Route) http.Handler {
	m := &middleware{Config: c, probes: map[string]bool{}}
	m.entering, m.places = c.Gate.Bound(c.MaxConcurrent)
	for _, route := range routes {
		if route.Probe {
			m.probes[route.Path] = true
		}
	}
	m.routes = api.NewRoutes(routes, func(route api.Route) api.Handler { return recordFailure(m.serveRoute(route)) })
	m.routes.Refuse = func(r *http.Request, err error) error { return failed(r, m.refuse(r, err)) }
	m.next = m.checkOrigin(m.routes)
	return m
}

type middleware struct {
	Config
	entering *drain.Places   // of requests that have no place yet; nil: no bound
	places   *drain.Places   // nil: no bound
	probes   map[string]bool // the paths of the platform's probes
	routes   *api.Routes
	next     http.Handler // the routes, for whom they are open
}

// requestState carries what the middleware learns about a request.
type requestState struct {
	begin         time.Time
	id            string // of the request
	probe         bool   // of the platform's
	record        *telemetry.Record
	span          telemetry.Request
	admitted      bool // not while shutting down
	authenticated bool
	caller        caller.Caller
	known         *caller.Caller                                             // to the route, in its context; nil: none
	action        string                                                     // of the route, for the audit
	fail          func(http.ResponseWriter, *http.Request, *api.Error) error // of the route; nil: the envelope
	uncounted     bool                                                       // excluded from request and error counts
}

type stateKey struct{}

func stateOf(ctx context.Context) *requestState {
	state, _ := ctx.Value(stateKey{}).(*requestState) // ServeHTTP has set it
	return state
}

// ServeHTTP takes every request from its id to its line in the log.
func (m *middleware) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w := &recorder{ResponseWriter: rw}
	state := &requestState{
		begin: m.Now(), id: requestID(r), probe: m.probes[r.URL.Path],
		record: &telemetry.Record{}, admitted: m.Gate.Enter(),
	}
	if state.admitted {
		defer m.Gate.Leave() // last: whoever waits for it may end the process
	}
	setCommonHeaders(w.Header(), state.id)
	ctx := r.Context()
	if !state.probe {
		growStack(false)
		ctx, state.span = m.Observer.StartRequest(r, m.scheme(r) == "https")
	}
	ctx = telemetry.WithRecord(api.WithRequestID(ctx, state.id), state.record)
	ctx = caller.Expect(context.WithValue(ctx, stateKey{}, state), &state.known)
	working, release := m.Gate.Bind(ctx)
	defer release()
	r = w.track(r.WithContext(working))
	defer m.finish(context.WithoutCancel(working), w, r, state) // also of a request that was cut off
	defer m.recover(w, r)
	if m.Loopback && !loopback.HostPort(r.Host) {
		m.answerError(w, r, &api.Error{Code: api.PermissionDenied, Message: "The local service answers only to localhost and 127.0.0.1."})
		return
	}
	if headerBytes(r) > maxHeaderBytes {
		http.Error(w, http.StatusText(http.StatusRequestHeaderFieldsTooLarge), http.StatusRequestHeaderFieldsTooLarge)
		return
	}
	m.next.ServeHTTP(w, r)
}

// recordFailure returns h with its error in the request's record, for the log and the
// audit.
func recordFailure(h api.Handler) api.Handler {
	return func(w http.ResponseWriter, r *http.Request) error { return failed(r, h(w, r)) }
}

// failed records how r failed and returns it; nil if err is nil. A request that the
// shutdown cut off has a client, which may send it again.
func failed(r *http.Request, err error) error {
	if err == nil {
		return nil
	}
	e := api.AsError(err)
	if e.Code == api.ClientClosedRequest && errors.Is(context.Cause(r.Context()), drain.ErrCut) {
		e = api.Fail(api.ShuttingDown, e.Cause)
	}
	telemetry.Fail(r.Context(), e)
	return e
}

// answerError answers r, which does not get as far as its route, with e.
func (m *middleware) answerError(w http.ResponseWriter, r *http.Request, e *api.Error) {
	m.routes.Fail(w, r, failed(r, e))
}

// serveRoute returns what every route goes through, and its handler last. The platform's
// probes are let through in every state of the service.
func (m *middleware) serveRoute(route api.Route) api.Handler {
	pattern := route.Pattern()
	return func(w http.ResponseWriter, r *http.Request) error {
		ctx := r.Context()
		telemetry.SetRoute(ctx, pattern)
		if route.Probe {
			return route.Handler(w, r)
		}
		state := stateOf(ctx)
		state.action, state.uncounted, state.fail = route.Audit, route.Uncounted, route.Fail
		if !state.admitted {
			return api.Fail(api.ShuttingDown, nil)
		}
		if json, stream, _ := api.Negotiate(r); route.Media == "" && !json && !stream {
			return m.refuse(r, api.Fail(api.NotAcceptable, nil))
		}
		if !route.Public && m.places.Full() {
			return api.Fail(api.Overloaded, nil) // before anything is spent on it
		}
		if m.Authenticator == nil { // not ready: no caller can be identified
			return route.Handler(w, r)
		}
		if route.Tasks {
			return m.task(route, state, w, r)
		}
		err := m.identify(r, state)
		if state.authenticated {
			state.known = &state.caller
			if token := auth.Token(r, state.caller.Principal); token != "" {
				r = r.WithContext(caller.WithToken(ctx, token))
			}
		}
		switch {
		case err != nil && route.Public && isUnknown(err):
			return route.Handler(w, r)
		case err != nil:
			return m.charge(r, state, err)
		case route.Public:
			return route.Handler(w, r)
		}
		return m.admit(route, state, w, r)
	}
}
