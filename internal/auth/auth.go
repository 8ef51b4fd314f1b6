// Package auth finds out who is calling.
//
// A [Method] verifies one kind of credential: [IAM] takes what Cloud Run has
// already verified, OIDC and IAP tokens are verified against their issuers'
// published keys ([NewOIDC]), [APIKeys] compares hashes, and [None] takes
// everybody for one caller. An [Authenticator] joins the configured methods by its
// rules, and returns the one [Principal] that limits, sessions and logs go by.
//
// Nothing here runs in the background: keys are fetched by the request that
// needs them. No error holds any part of a credential.
package auth

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"example.com/gatehouse/internal/access"
	"example.com/gatehouse/internal/caller"
)

var (
	// ErrNoCredential means that the request carries no credential that a
	// configured method reads.
	ErrNoCredential = errors.New("no credential")

	// ErrInvalid means that a credential was sent that does not verify.
	ErrInvalid = errors.New("invalid credential")

	// ErrUnavailable means that a credential can be neither accepted nor refused,
	// because what it must be verified against could not be fetched at all. It is
	// the service's trouble, not the caller's.
	ErrUnavailable = errors.New("credentials cannot be verified now")
)

// A Principal is a verified caller.
type Principal = caller.Principal

// A Method verifies one kind of credential. It is safe for concurrent use.
type Method interface {
	// Authenticate looks for the method's credential in r's headers. It returns
	// false when there is none, and an error that wraps [ErrInvalid] or
	// [ErrUnavailable] when there is one that was not verified.
	Authenticate(r *http.Request) (Principal, bool, error)
}

// The headers that carry credentials, in canonical form.
const (
	headerAuthorization = "Authorization"
	headerServerless    = "X-Serverless-Authorization"
	headerIAP           = "X-Goog-Iap-Jwt-Assertion"
	headerAPIKey        = "X-Api-Key"
)

// An Authenticator verifies requests by several methods. It is safe for
// concurrent use.
type Authenticator struct {
	methods []Method
	iam     *IAM
	none    *None
	// Whether a method reads these headers.
	readsAuthorization, readsAPIKey bool
	// Whether Authorization may hold what is meant for IAP, which passes it on.
	behindIAP bool
}

// New makes an authenticator of the methods, in the order of AUTH.
func New(methods ...Method) *Authenticator {
	a := &Authenticator{}
	for _, m := range methods {
		switch m := m.(type) {
		case *None:
			a.none = m
			continue
		case *IAM:
			a.iam = m
		case *APIKeys:
			a.readsAPIKey = true
		case *OIDC:
			if m.header == headerAuthorization {
				a.readsAuthorization = true
			} else {
				a.behindIAP = true
			}
		default:
			a.readsAuthorization, a.readsAPIKey = true, true
		}
		a.methods = append(a.methods, m)
	}
	return a
}

// Authenticate returns who sent r.
//
// One credential is enough, several must all verify, and the principal is that
// of the method listed first. A credential that does not verify makes the whole
// request [ErrInvalid], also one in Authorization or X-API-Key that no configured
// method can verify. Three exceptions: behind IAP, Authorization may hold what IAP
// itself was sent; beside X-Serverless-Authorization it is the application's; and where
// None is configured, a request without a credential for the other methods is its.
// Credentials are read only from headers.
func (a *Authenticator) Authenticate(r *http.Request) (Principal, error) {
	var first Principal
	var found bool
	var unavailable error
	takenByIAM := a.iam != nil && a.iam.header(r) == headerAuthorization
	takenByKey := false // Authorization
	if a.readsAPIKey {
		_, takenByKey = bearerKey(r)
	}
	for _, m := range a.methods {
		if takenByKey && readsJWT(m, r) {
			continue
		}
		if o, ok := m.(*OIDC); ok && takenByIAM && o.header == headerAuthorization {
			continue // what is there is the token that Cloud Run has verified
		}
		p, ok, err := m.Authenticate(r)
		switch {
		case errors.Is(err, ErrUnavailable):
			unavailable = err
		case err != nil:
			return Principal{}, err
		case ok && !found:
			first, found = p, true
		}
	}
	if a.none == nil {
		// Beside IAM's own token in X-Serverless-Authorization, Authorization is
		// the application's, whoever reads it there.
		readsAuthorization := a.readsAuthorization || a.behindIAP || a.iam != nil || takenByKey
		if len(r.Header[headerAuthorization]) > 0 && !readsAuthorization {
			return Principal{}, invalid("no configured method verifies %s", headerAuthorization)
		}
		if len(r.Header[headerAPIKey]) > 0 && !a.readsAPIKey {
			return Principal{}, invalid("no configured method verifies X-API-Key")
		}
	}
	switch {
	case unavailable != nil:
		return Principal{}, unavailable
	case found:
		return first, nil
	case a.none != nil:
		p, _, err := a.none.Authenticate(r)
		return p, err
	}
	return Principal{}, ErrNoCredential
}

// readsJWT reports whether m would read Authorization of r as a JWT.
func readsJWT(m Method, r *http.Request) bool {
	switch m := m.(type) {
	case *OIDC:
		return m.header == headerAuthorization
	case *IAM:
		return m.header(r) == headerAuthorization
	}
	return false
}

// Token returns the token in r's Authorization by which p was verified; "" where p was
// verified by another credential.
func Token(r *http.Request, p Principal) string {
	if p.Method != caller.MethodOIDC || p.Issuer == access.IAPIssuer {
		return ""
	}
	token, _, err := bearer(r, headerAuthorization)
	if err != nil {
		return ""
	}
	return token
}

// Challenge is the value of WWW-Authenticate for a 401 of a service that takes
// these methods, empty when none of them has a scheme. API keys have no
// registered scheme and are called ApiKey.
func Challenge(methods ...Method) string {
	var bearer, key bool
	for _, m := range methods {
		switch m.(type) {
		case *IAM, *OIDC:
			bearer = true
		case *APIKeys:
			key = true
		}
	}
	var challenges []string
	if bearer {
		challenges = append(challenges, `Bearer realm="gatehouse"`)
	}
	if key {
		challenges = append(challenges, `ApiKey realm="gatehouse"`)
	}
	return strings.Join(challenges, ", ")
}

// invalid returns an error that wraps ErrInvalid. What it formats must not come
// from a credential that was not verified.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

// Admits reports whether p, who was verified at some time, could still be: its method is
// configured, its key is there and has not expired, its issuer is among those that are.
// Of a token it cannot be known whether its issuer would sign another; what Cloud Run's
// check admits is Cloud Run's to decide.
func (a *Authenticator) Admits(p Principal) bool {
	if p.Method == caller.MethodNone {
		return a.none != nil
	}
	for _, m := range a.methods {
		switch m := m.(type) {
		case *IAM:
			if p.Method == caller.MethodIAM {
				return true
			}
		case *APIKeys:
			if p.Method == caller.MethodAPIKey && m.holds(p.Subject) {
				return true
			}
		case *OIDC:
			if p.Method == caller.MethodOIDC && m.providers[p.Issuer] != nil {
				return true
			}
		}
	}
	return false
}
