// Package caller holds who a request comes from, for whom it asks, and whose
// sessions it is about. The middleware finds it out and puts it into the request's
// context; every layer may read it there.
package caller

import (
	"context"
	"strconv"

	"example.com/gatehouse/session"
)

// The values of [Principal.Method], as in the variable AUTH.
const (
	MethodIAM    = "iam"
	MethodOIDC   = "oidc"
	MethodAPIKey = "api_key"
	MethodNone   = "none"
)

// A Principal is a verified identity.
type Principal struct {
	// Issuer vouches for Subject, which is unique with that issuer only. For an
	// API key they are "api_key" and the key's name.
	Issuer, Subject string

	// Tenant is the tenant of the issuer that Subject belongs to, "" where there is
	// none. Two tenants may have one subject, of two people.
	Tenant string

	// Email is the principal's address where the issuer vouches for it, else empty.
	Email string

	// Service principals may name end users with X-End-User.
	Service bool

	// Method is how the principal was verified: one of the modes of AUTH.
	Method string

	// RatePerMinute is the principal's own limit of calls a minute, 0 where the
	// service's holds.
	RatePerMinute int
}

// ID identifies the principal: equal for the same issuer, tenant and subject, different
// for any others, and stable, so that it can be stored.
func (p Principal) ID() string {
	// The length shows where the issuer ends, for all characters that may be in it.
	id := strconv.Itoa(len(p.Issuer)) + ":" + p.Issuer + ":" + p.Subject
	if p.Tenant != "" { // which no id without a tenant begins like
		id = "tenant:" + strconv.Itoa(len(p.Tenant)) + ":" + p.Tenant + ":" + id
	}
	return id
}

// Owner returns the owner of what the principal does for no end user.
func (p Principal) Owner() session.Owner { return session.OwnerOf(p.ID(), "") }

// A Caller is the verified caller of a request and the end user it calls for. The
// zero Caller is of a request without a credential.
type Caller struct {
	Principal Principal
	EndUser   string        // from X-End-User; "" without
	Owner     session.Owner // of the sessions that the request can reach
	Operator  bool          // may see what OPERATORS may
}

// New returns the caller that p is when it calls for endUser, which may be "".
func New(p Principal, endUser string) Caller {
	return Caller{Principal: p, EndUser: endUser, Owner: session.OwnerOf(p.ID(), endUser)}
}

// Whole returns the owner of what the caller does for no end user, in whose name its
// limits over all end users are kept.
func (c Caller) Whole() session.Owner {
	if c.EndUser == "" && c.Owner != "" { // the same, and known
		return c.Owner
	}
	return c.Principal.Owner()
}

type contextKey struct{}

// NewContext returns a context that carries c.
func NewContext(ctx context.Context, c Caller) context.Context {
	at := &c
	return Expect(ctx, &at)
}

// Expect returns a context that carries the caller that at points to, and none while that
// is nil: the request's context is made before its credential is verified. At must not
// change any more once several goroutines have the context.
func Expect(ctx context.Context, at **Caller) context.Context {
	return context.WithValue(ctx, contextKey{}, at)
}

type assumedKey struct{}

// Await returns a context in which [Assume] may set who the request works for, and the
// Caller that it sets.
func Await(ctx context.Context) (context.Context, *Caller) {
	c := new(Caller)
	return context.WithValue(ctx, assumedKey{}, c), c
}

// Assume returns a context that carries c, for whom a request of the queue works. The
// request's entry in the audit is c's then. It must not be called by two goroutines.
func Assume(ctx context.Context, c Caller) context.Context {
	if at, ok := ctx.Value(assumedKey{}).(*Caller); ok {
		*at = c
	}
	return NewContext(ctx, c)
}

// FromContext returns the caller of the request that ctx belongs to, and whether
// there is one.
func FromContext(ctx context.Context) (Caller, bool) {
	at, ok := ctx.Value(contextKey{}).(**Caller)
	if !ok || *at == nil {
		return Caller{}, false
	}
	return **at, true
}

// Owner returns the owner of the sessions that the request of ctx can reach: ""
// without a caller, which owns nothing.
func Owner(ctx context.Context) session.Owner {
	c, _ := FromContext(ctx)
	return c.Owner
}

type tokenKey struct{}

// WithToken returns a context that carries the token by which the caller of its request
// was verified. It is no part of [Caller], which is logged and stored.
func WithToken(ctx context.Context, token string) context.Context {
	return context.WithValue(ctx, tokenKey{}, token)
}

// Token returns the token of [WithToken], "" without one.
func Token(ctx context.Context) string {
	token, _ := ctx.Value(tokenKey{}).(string)
	return token
}
