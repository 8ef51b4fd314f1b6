package middleware

import (
	"errors"
	"log/slog"
	"net/http"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/auth"
	"example.com/gatehouse/internal/caller"
	"example.com/gatehouse/internal/telemetry"
)

// refuse returns the answer to a request that is refused for another reason than
// who sent it, which is err. Who sent it is looked at nevertheless, for the audit
// and the limits: a credential that does not verify is the first thing to report.
func (m *middleware) refuse(r *http.Request, err error) error {
	state := stateOf(r.Context())
	if m.Authenticator == nil || !state.admitted {
		return err
	}
	if wrong := m.identify(r, state); wrong != nil && !isUnknown(wrong) {
		err = wrong
	}
	return m.charge(r, state, err)
}

// isUnknown reports whether err leaves the caller unknown, which a public route
// does not mind; a credential that does not verify it does.
func isUnknown(err error) bool {
	return errors.Is(err, auth.ErrNoCredential) || errors.Is(err, auth.ErrUnavailable)
}

// identify finds out who is calling, and for whom, and records it in state.
func (m *middleware) identify(r *http.Request, state *requestState) error {
	principal, err := m.Authenticator.Authenticate(r)
	switch {
	case errors.Is(err, auth.ErrUnavailable):
		return api.Fail(api.NotReady, err)
	case err != nil:
		e := api.Fail(api.Unauthenticated, err)
		if m.Challenge != "" {
			e.Header = http.Header{"Www-Authenticate": {m.Challenge}}
		}
		return e
	}
	state.caller = caller.New(principal, "")
	telemetry.Note(r.Context(), slog.String("principal", string(state.caller.Owner)))
	endUser, err := m.endUser(r, principal)
	if err != nil {
		return err
	}
	if endUser != "" {
		state.caller = caller.New(principal, endUser)
	}
	state.authenticated = true
	state.caller.Operator = m.Operators.Include(principal)
	return nil
}

const headerEndUser = "X-End-User"

// endUser reads whom a service calls for. It splits the caller's own sessions
// further, and so can never reach another caller's.
func (m *middleware) endUser(r *http.Request, p caller.Principal) (string, error) {
	values := r.Header.Values(headerEndUser)
	if len(values) == 0 {
		return "", nil
	}
	if !p.Service || m.crossOrigin(r) {
		return "", &api.Error{Code: api.PermissionDenied, Details: []api.Detail{{Field: "X-End-User", Issue: "is only for services that call for their users"}}}
	}
	value := values[0]
	if len(values) > 1 || !api.Printable(value, 128) {
		return "", api.Malformed("X-End-User", "must be one value of 1 to 128 printable ASCII characters")
	}
	return value, nil
}

// task answers a request of the queue. It has no place and no permit yet: both are of the
// run that it names, which only the route can look up.
func (m *middleware) task(route api.Route, state *requestState, w http.ResponseWriter, r *http.Request) error {
	principal, err := m.Tasks.Authenticate(r)
	switch {
	case errors.Is(err, auth.ErrUnavailable):
		return api.Fail(api.NotReady, err)
	case err != nil:
		return api.Fail(api.Unauthenticated, err)
	}
	state.caller, state.authenticated = caller.New(principal, ""), true
	ctx, worksFor := caller.Await(r.Context())
	defer func() {
		if worksFor.Owner != "" {
			state.caller = *worksFor
		}
		telemetry.Note(ctx, slog.String("principal", string(state.caller.Principal.Owner())))
	}()
	return route.Handler(w, r.WithContext(ctx))
}
