// Package guard stands before every route: it gives the request its id, catches
// panics, refuses what comes while the service is not ready or shutting down,
// asks who is calling, and writes the line that sums the request up. What it
// finds out about the caller, [Owner] gives to the routes.
package guard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"runtime/debug"
	"strings"
	"time"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/auth"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/session"
)

// A Config says what stands before the routes.
type Config struct {
	Log           *slog.Logger
	Authenticator *auth.Authenticator // nil while the service is not ready
	Challenge     string              // WWW-Authenticate of a 401
	Gate          *Gate
	Proxied       bool // behind Cloud Run's front end, whose X-Forwarded-For ends with the client
	Now           func() time.Time
}

// New puts a guard before routes. It is safe for concurrent use.
func New(c Config, routes []api.Route) http.Handler {
	g := &guard{Config: c}
	g.next = api.NewRoutes(routes, g.wrap)
	return g
}

type guard struct {
	Config
	next http.Handler
}

var requestID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,128}$`)

// ServeHTTP is the way of every request.
func (g *guard) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	begin := g.Now()
	w := &recorder{ResponseWriter: rw}
	id := r.Header.Get("X-Request-ID")
	if !requestID.MatchString(id) {
		id = session.NewID()
	}
	h := w.Header()
	h.Set("X-Request-ID", id)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")

	record := &telemetry.Record{}
	ctx := telemetry.WithRecord(api.WithRequestID(r.Context(), id), record)
	r = r.WithContext(ctx)
	defer func() {
		record.Log(ctx, g.Log, telemetry.Summary{
			Method: r.Method, Path: r.URL.Path, UserAgent: r.UserAgent(), RemoteIP: g.remoteIP(r),
			RequestID: id, Status: w.outcome(record), Bytes: w.bytes, Latency: g.Now().Sub(begin),
		})
	}()
	defer g.recover(w, r)
	g.next.ServeHTTP(w, r)
}

// recover turns a panic into a 500, unless an answer has begun.
func (g *guard) recover(w *recorder, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(p) // the server's own way to drop a connection
	}
	g.Log.LogAttrs(r.Context(), slog.LevelError, "A handler panicked.",
		slog.String("request_id", api.RequestID(r.Context())),
		slog.String("stack_trace", fmt.Sprintf("panic: %v\n%s", p, debug.Stack())))
	e := api.Fail(api.Internal, fmt.Errorf("panic: %v", p))
	telemetry.Fail(r.Context(), string(e.Code), e.Cause)
	if w.status == 0 {
		_ = api.WriteError(w, r, e)
	}
}

// remoteIP is the address the request came from, as far as it can be believed.
func (g *guard) remoteIP(r *http.Request) string {
	if g.Proxied {
		hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
		if ip := net.ParseIP(strings.TrimSpace(hops[len(hops)-1])); ip != nil {
			return ip.String()
		}
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	return host
}

// wrap is what every route goes through, and its handler last. The platform's
// probes are let through whatever the service's state.
func (g *guard) wrap(route api.Route) api.Handler {
	pattern := route.Pattern()
	return func(w http.ResponseWriter, r *http.Request) error {
		telemetry.SetRoute(r.Context(), pattern)
		if route.Probe {
			return route.Handler(w, r)
		}
		if !g.Gate.enter() {
			return api.Fail(api.ShuttingDown, nil)
		}
		defer g.Gate.leave()
		if json, stream, _ := api.Negotiate(r); !json && !stream {
			return api.Fail(api.NotAcceptable, nil)
		}
		if g.Authenticator == nil { // not ready: nobody can be told from anybody
			return route.Handler(w, r)
		}
		ctx, err := g.identify(r)
		if err != nil && !route.Public {
			return err
		}
		return route.Handler(w, r.WithContext(ctx))
	}
}

type callerKey struct{}

// A caller is who a request comes from.
type caller struct {
	principal auth.Principal
	owner     session.Owner
}

// Owner is whose sessions the request is about. It is "" only on public routes,
// without a credential.
func Owner(ctx context.Context) session.Owner {
	c, _ := ctx.Value(callerKey{}).(caller)
	return c.owner
}

// Caller is the verified caller; false without a credential.
func Caller(ctx context.Context) (auth.Principal, bool) {
	c, ok := ctx.Value(callerKey{}).(caller)
	return c.principal, ok
}

// identify finds out who is calling, and for whom.
func (g *guard) identify(r *http.Request) (context.Context, error) {
	ctx := r.Context()
	principal, err := g.Authenticator.Authenticate(r)
	switch {
	case errors.Is(err, auth.ErrUnavailable):
		return ctx, api.Fail(api.NotReady, err)
	case err != nil:
		e := api.Fail(api.Unauthenticated, err)
		if g.Challenge != "" {
			e.Header = http.Header{"Www-Authenticate": {g.Challenge}}
		}
		return ctx, e
	}
	endUser, err := endUser(r, principal)
	if err != nil {
		return ctx, err
	}
	c := caller{principal: principal, owner: session.OwnerOf(principal.ID(), endUser)}
	telemetry.Note(ctx, slog.String("principal", string(session.OwnerOf(principal.ID(), ""))))
	return context.WithValue(ctx, callerKey{}, c), nil
}

const headerEndUser = "X-End-User"

// endUser reads whom a service calls for. It splits the caller's own sessions
// further, and so can never reach another caller's.
func endUser(r *http.Request, p auth.Principal) (string, error) {
	values := r.Header.Values(headerEndUser)
	if len(values) == 0 {
		return "", nil
	}
	if !p.Service || r.Header.Get("Origin") != "" && !sameOrigin(r) {
		return "", &api.Error{Code: api.PermissionDenied, Message: "Only a service that calls for its users may name one in X-End-User."}
	}
	value := values[0]
	if len(values) > 1 || !api.Printable(value, 128) {
		return "", api.Malformed("X-End-User must be one value of 1 to 128 printable ASCII characters.")
	}
	return value, nil
}

// sameOrigin reports whether the page that sent r is the service's own.
func sameOrigin(r *http.Request) bool {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	if proto := r.Header.Get("X-Forwarded-Proto"); proto != "" {
		scheme = proto
	}
	return r.Header.Get("Origin") == scheme+"://"+r.Host
}
