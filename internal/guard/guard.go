// Package guard stands before every route: it gives the request its id, catches
// panics, refuses pages of origins that are not on the list and what comes while
// the service is shutting down or has too much to do, and asks who is calling.
// The caller that it finds is in the context of the routes, as the package caller
// has it. Once the client
// has its answer it writes the line that sums the request up and the audit, and
// lets telemetry be exported.
package guard

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/auth"
	"example.com/gatehouse/internal/caller"
	"example.com/gatehouse/internal/drain"
	"example.com/gatehouse/internal/figures"
	"example.com/gatehouse/internal/gcp/audit"
	"example.com/gatehouse/internal/limit"
	"example.com/gatehouse/internal/loopback"
	"example.com/gatehouse/internal/rescue"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/session"
)

// A Config says what stands before the routes.
type Config struct {
	Log           *slog.Logger
	Authenticator *auth.Authenticator // nil while the service is not ready
	Challenge     string              // WWW-Authenticate of a 401
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

	// MaxConcurrent is how many requests are worked on at once, over all guards
	// that share the Gate; 0: as many as come. Three quarters are anybody's, the
	// last quarter is for owners that hold less than an eighth. A request whose body
	// is still coming is not counted. Public routes are not, either.
	MaxConcurrent int

	Operators auth.Operators // may see the details of the service

	// Limiter counts what callers ask for against Limits; nil: nothing is counted.
	Limiter *limit.Limiter
	Limits  limit.Limits

	Observer *telemetry.Observer // nil: no traces and metrics
	Audit    *Audit              // nil: no audit
	Figures  *figures.Counter    // nil: nothing is counted for health
}

// New puts a guard before routes. It is safe for concurrent use.
func New(c Config, routes []api.Route) http.Handler {
	g := &guard{Config: c, probes: map[string]bool{}}
	g.entering, g.places = c.Gate.Bound(c.MaxConcurrent)
	for _, route := range routes {
		if route.Probe {
			g.probes[route.Path] = true
		}
	}
	known := api.NewRoutes(routes, g.wrap)
	known.Refuse = g.refuse
	g.next = g.cross(known)
	return g
}

type guard struct {
	Config
	entering *drain.Places   // of requests that have no place yet; nil: no bound
	places   *drain.Places   // nil: no bound
	probes   map[string]bool // the paths of the platform's probes
	next     http.Handler
}

// requestState carries what the middleware learns about a request.
type requestState struct {
	record        *telemetry.Record
	admitted      bool
	authenticated bool
	caller        caller.Caller
	action        string // of the route, for the audit
	uncounted     bool   // excluded from request and error counts
}

type stateKey struct{}

func stateOf(ctx context.Context) *requestState {
	if v, ok := ctx.Value(stateKey{}).(*requestState); ok {
		return v
	}
	return &requestState{}
}

// requestID is the form of an X-Request-ID of at most maxRequestID bytes. As part
// of the expression, the length would unroll into as many states at every start.
var requestID = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)

const maxRequestID = 128

// ServeHTTP is the way of every request.
func (g *guard) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	begin := g.Now()
	w := &recorder{ResponseWriter: rw}
	id := r.Header.Get("X-Request-ID")
	if len(id) > maxRequestID || !requestID.MatchString(id) {
		id = session.NewID()
	}
	h := w.Header()
	h.Set("X-Request-ID", id)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Vary", "Origin")

	record := &telemetry.Record{}
	v := &requestState{record: record, admitted: g.Gate.Enter()}
	if v.admitted {
		defer g.Gate.Leave() // last: who waits for it may end the process
	}
	ctx, observed := r.Context(), telemetry.Request{}
	probe := g.probes[r.URL.Path]
	if !probe {
		ctx, observed = g.Observer.StartRequest(r, g.scheme(r) == "https")
	}
	ctx = telemetry.WithRecord(api.WithRequestID(ctx, id), record)
	ctx = context.WithValue(ctx, stateKey{}, v)
	working, release := g.Gate.Bind(ctx)
	defer release()
	r = r.WithContext(working)
	if r.Body != nil && r.ContentLength != 0 && r.ProtoMajor == 1 {
		w.body = &trackedBody{ReadCloser: r.Body}
		r.Body = w.body
	}
	defer func() {
		w.flush() // the client has its answer; what follows costs it nothing
		status := w.outcome(record)
		observed.End(ctx, record.Route(), status, record.Code())
		if failure := record.Failure(); failure.Code != "" {
			if limit := limitOf(api.Code(failure.Code), failure.Cause); limit != "" {
				g.Observer.RateLimited(ctx, limit)
			}
		}
		record.Log(ctx, g.Log, telemetry.Summary{
			Method: r.Method, Path: g.path(record, r), UserAgent: r.UserAgent(), RemoteIP: g.remoteIP(r),
			RequestID: id, Status: status, Bytes: w.bytes, Latency: g.Now().Sub(begin),
		})
		if !probe {
			if !v.uncounted {
				g.Figures.Count(status, record.Code())
			}
			g.deliver(ctx, g.entries(ctx, v, record, status))
		}
	}()
	defer g.recover(w, r)
	if g.Loopback && !loopback.HostPort(r.Host) {
		api.Answer(w, r, func(http.ResponseWriter, *http.Request) error {
			return &api.Error{Code: api.PermissionDenied, Message: "The local service answers only to localhost and 127.0.0.1."}
		})
		return
	}
	if headerBytes(r) > maxHeaderBytes {
		http.Error(w, http.StatusText(http.StatusRequestHeaderFieldsTooLarge), http.StatusRequestHeaderFieldsTooLarge)
		return
	}
	g.next.ServeHTTP(w, r)
}

// deliver writes the audit and lets telemetry be exported, side by side: what an
// instance does not do before its handler returns may never be done. Each has a
// bound of its own, and none ends with the client's connection.
func (g *guard) deliver(ctx context.Context, entries []audit.Entry) {
	ctx = context.WithoutCancel(ctx)
	var group sync.WaitGroup
	// Both are due every few seconds alone: waking another thread at each request
	// would be a tenth of what a turn costs.
	if g.Figures.Due() {
		group.Go(func() { g.runAfter(ctx, func() { g.Figures.Flush(ctx) }) })
	}
	if g.Limiter != nil && g.Limiter.Due() {
		group.Go(func() { g.runAfter(ctx, func() { g.Limiter.Flush(ctx) }) })
	}
	if g.Observer.Due() {
		group.Go(func() { g.runAfter(ctx, func() { g.Observer.Flush(ctx) }) })
	}
	if len(entries) > 0 {
		g.runAfter(ctx, func() { g.Audit.write(ctx, entries) })
	}
	group.Wait()
}

// runAfter runs f once the response has been sent; a panic can no longer become a
// 500 and is only logged.
func (g *guard) runAfter(ctx context.Context, f func()) {
	err := rescue.Call(func() error { f(); return nil })
	if p, ok := errors.AsType[*rescue.Panic](err); ok {
		api.LogPanic(ctx, g.Log, "Panic in post-response work.", p.Stack)
	}
}

// maxHeaderBytes bounds a request's headers; the framework's server takes 1 MiB.
const maxHeaderBytes = 32 << 10

// headerBytes is about the size of r's headers as they were sent.
func headerBytes(r *http.Request) int {
	n := 0
	for name, values := range r.Header {
		for _, value := range values {
			n += len(name) + len(value) + len(": \r\n")
		}
	}
	return n
}

// recover turns a panic into a 500, or cuts the connection when an answer has
// begun.
func (g *guard) recover(w *recorder, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(p) // the server's own way to drop a connection
	}
	e := api.Panicked(r.Context(), g.Log, p)
	telemetry.Fail(r.Context(), e.Failure())
	if w.status == 0 {
		_ = api.WriteError(w, r, e)
		return
	}
	panic(http.ErrAbortHandler) // or what was cut would end like an answer that is whole
}

// remoteIP is the address the request came from, as far as it can be believed.
func (g *guard) remoteIP(r *http.Request) string {
	if g.Proxied {
		if ip := net.ParseIP(lastOf(r, "X-Forwarded-For")); ip != nil {
			return ip.String()
		}
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	return host
}

// lastOf is the last entry of a header that proxies append to: the nearest's.
func lastOf(r *http.Request, name string) string {
	values := r.Header.Values(name)
	if len(values) == 0 {
		return ""
	}
	list := values[len(values)-1]
	return strings.TrimSpace(list[strings.LastIndexByte(list, ',')+1:])
}

// path is the request's for the log: the route's, which holds no session's id,
// or what an unknown one was.
func (g *guard) path(record *telemetry.Record, r *http.Request) string {
	if _, path, ok := strings.Cut(record.Route(), " "); ok {
		return path
	}
	return r.URL.Path
}

// wrap is what every route goes through, and its handler last. The platform's
// probes are let through whatever the service's state.
func (g *guard) wrap(route api.Route) api.Handler {
	pattern := route.Pattern()
	return func(w http.ResponseWriter, r *http.Request) error {
		ctx := r.Context()
		telemetry.SetRoute(ctx, pattern)
		if route.Probe {
			return route.Handler(w, r)
		}
		v := stateOf(ctx)
		v.action, v.uncounted = route.Audit, route.Uncounted
		if !v.admitted {
			return api.Fail(api.ShuttingDown, nil)
		}
		if json, stream, _ := api.Negotiate(r); route.Media == "" && !json && !stream {
			return g.refuse(r, api.Fail(api.NotAcceptable, nil))
		}
		if !route.Public && g.places.Full() {
			return api.Fail(api.Overloaded, nil) // before anything is spent on it
		}
		if g.Authenticator == nil { // not ready: nobody can be told from anybody
			return route.Handler(w, r)
		}
		err := g.identify(r, v)
		if v.authenticated {
			r = r.WithContext(caller.NewContext(ctx, v.caller))
		}
		switch {
		case err != nil && route.Public && nobody(err):
			return route.Handler(w, r)
		case err != nil:
			return g.charge(r, v, err)
		case route.Public:
			return route.Handler(w, r)
		}
		return g.enter(route, v, w, r)
	}
}

// enter takes what a request of a known caller needs, in turn: a permit, its body,
// and a place. Until it has its place it counts among those that are entering, so
// that what they hold is bounded.
func (g *guard) enter(route api.Route, v *requestState, w http.ResponseWriter, r *http.Request) error {
	owner := v.caller.Owner
	if !g.entering.Take(owner) {
		return api.Fail(api.Overloaded, nil)
	}
	entered := sync.OnceFunc(func() { g.entering.Leave(owner) })
	defer entered()
	placed := false
	admit := func() error {
		if !g.places.Take(owner) {
			return api.Fail(api.Overloaded, nil)
		}
		placed = true
		entered()
		return nil
	}
	defer func() {
		if placed {
			g.places.Leave(owner)
		}
	}()
	return g.limited(route, v, w, r, func(body *gatedBody) error {
		if readsBody(r) {
			body.ReadCloser, body.admit = r.Body, admit
			r.Body = body
		} else if err := admit(); err != nil {
			return err
		}
		return route.Handler(w, r)
	})
}

// refuse returns the answer to a request that is refused for another reason than
// who sent it, which is err. Who sent it is looked at nevertheless, for the audit
// and the limits: a credential that does not verify is the first thing to say.
func (g *guard) refuse(r *http.Request, err error) error {
	v := stateOf(r.Context())
	if g.Authenticator == nil || !v.admitted {
		return err
	}
	if wrong := g.identify(r, v); wrong != nil && !nobody(wrong) {
		err = wrong
	}
	return g.charge(r, v, err)
}

// nobody reports whether err leaves the caller unknown, which a public route
// does not mind; a credential that does not verify it does.
func nobody(err error) bool {
	return errors.Is(err, auth.ErrNoCredential) || errors.Is(err, auth.ErrUnavailable)
}

// identify finds out who is calling, and for whom, and tells v.
func (g *guard) identify(r *http.Request, v *requestState) error {
	principal, err := g.Authenticator.Authenticate(r)
	switch {
	case errors.Is(err, auth.ErrUnavailable):
		return api.Fail(api.NotReady, err)
	case err != nil:
		e := api.Fail(api.Unauthenticated, err)
		if g.Challenge != "" {
			e.Header = http.Header{"Www-Authenticate": {g.Challenge}}
		}
		return e
	}
	v.caller.Principal = principal
	telemetry.Note(r.Context(), slog.String("principal", string(principal.Owner())))
	endUser, err := g.endUser(r, principal)
	if err != nil {
		return err
	}
	v.caller, v.authenticated = caller.New(principal, endUser), true
	v.caller.Operator = g.Operators.Include(principal)
	return nil
}

const headerEndUser = "X-End-User"

// endUser reads whom a service calls for. It splits the caller's own sessions
// further, and so can never reach another caller's.
func (g *guard) endUser(r *http.Request, p caller.Principal) (string, error) {
	values := r.Header.Values(headerEndUser)
	if len(values) == 0 {
		return "", nil
	}
	if !p.Service || g.crossOrigin(r) {
		return "", &api.Error{Code: api.PermissionDenied, Message: "Only a service that calls for its users may name one in X-End-User."}
	}
	value := values[0]
	if len(values) > 1 || !api.Printable(value, 128) {
		return "", api.Malformed("X-End-User must be one value of 1 to 128 printable ASCII characters.")
	}
	return value, nil
}
