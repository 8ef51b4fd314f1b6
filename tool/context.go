package tool

import "context"

// A Context is for whom a tool works. All of it is verified by the service; none of
// it is the model's word.
type Context struct {
	// Caller is the verified identity that made the request.
	Caller Caller

	// EndUser is the person that the caller asks for, as a service that may do so
	// names it in X-End-User; "" without.
	EndUser string

	// SessionID is the session's id, and Turn the number of the turn that is being
	// made, 1 for the session's first. A turn that another one overtakes is stored
	// under a later number.
	SessionID string
	Turn      int

	// RequestID identifies the request, in the log too.
	RequestID string

	// EffectID identifies this call of a tool that is marked by [Effect]: it is the same
	// whenever the call is tried again, on any instance. It is "" for other tools.
	EffectID string

	// Locale is the language that the client prefers, a BCP 47 tag such as "de-CH",
	// from Accept-Language; "" when it names none.
	Locale string

	// Operator reports whether the caller may see the details of the service, as
	// OPERATORS has it.
	Operator bool
}

// A Caller is a verified identity.
type Caller struct {
	// Method is how it was verified: "iam", "oidc", "api_key" or "none".
	Method string

	// Issuer vouches for Subject, which is unique with that issuer only. For an API
	// key they are "api_key" and the key's name.
	Issuer, Subject string

	// Email is the address that the issuer has verified, else empty.
	Email string
}

type contextKey struct{}

// From returns for whom the call of a tool works that has the context ctx. It is the
// zero Context where no service has set it.
func From(ctx context.Context) Context {
	c, _ := ctx.Value(contextKey{}).(Context)
	return c
}

// NewContext returns a context in which tools work for c. The service does this for
// each turn; tests of tools do it for themselves.
func NewContext(ctx context.Context, c Context) context.Context {
	return context.WithValue(ctx, contextKey{}, c)
}

type tokenKey struct{}

// CallerToken returns the OIDC token by which the caller of the call of a tool was
// verified, for a tool that acts as the caller at another service. It is "" where the
// caller was verified otherwise, and where the caller is not present, as when a run goes
// on without its request. It must not be logged, stored, or sent to any other service.
func CallerToken(ctx context.Context) string {
	token, _ := ctx.Value(tokenKey{}).(string)
	return token
}

// WithCallerToken returns a context in which [CallerToken] returns token, for tests of
// tools.
func WithCallerToken(ctx context.Context, token string) context.Context {
	return context.WithValue(ctx, tokenKey{}, token)
}
