package auth

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"example.com/gatehouse/internal/access"
	"example.com/gatehouse/internal/caller"
)

// iapKeysURL is where the keys are of IAP's tokens
// (https://cloud.google.com/iap/docs/signed-headers-howto).
const iapKeysURL = "https://www.gstatic.com/iap/verify/public_key-jwk"

// OIDC verifies ID tokens of OpenID Connect issuers, or of IAP. [NewOIDC] makes
// it.
//
// A token is accepted when one of the entries of its issuer names its audience
// and all the entry's claims hold, its times hold with 60 seconds of leeway (exp
// is required), it has a subject, and a key that the issuer publishes verifies
// its signature by an asymmetric algorithm that the issuer announces. A token
// without a key id is tried with each of the issuer's keys. Tokens of Firebase's
// anonymous users are accepted only by an entry that asks for the claim
// firebase.sign_in_provider=anonymous.
type OIDC struct {
	header    string
	now       func() time.Time
	providers map[string]*provider // by issuer
}

// OIDCOptions are settings of [NewOIDC]; the zero value is right for a service.
type OIDCOptions struct {
	// Now is the clock, nil for time.Now.
	Now func() time.Time

	// Transport reaches the issuers, nil for one of its own.
	Transport http.RoundTripper

	// IAPKeysURL is where IAP's keys are, empty for Google's own place.
	IAPKeysURL string
}

// NewOIDC makes the methods that verify tokens of the issuers: one that reads
// Authorization, and one that reads X-Goog-IAP-JWT-Assertion when IAP is among
// them, in the order in which the issuers name them first. Issuers come from
// [ParseIssuers].
func NewOIDC(issuers []access.Issuer, options OIDCOptions) []Method {
	transport := options.Transport
	if transport == nil {
		// Fetches are rare: a connection kept open would only idle.
		transport = &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DisableKeepAlives:      true,
			MaxResponseHeaderBytes: 64 << 10,
		}
	}
	now := clock(options.Now)
	var methods []Method
	byHeader := map[string]*OIDC{}
	for _, issuer := range issuers {
		header := headerAuthorization
		if issuer.URL == access.IAPIssuer {
			header = headerIAP
		}
		m := byHeader[header]
		if m == nil {
			m = &OIDC{header: header, now: now, providers: map[string]*provider{}}
			byHeader[header] = m
			methods = append(methods, m)
		}
		p := m.providers[issuer.URL]
		if p == nil {
			p = newProvider(issuer.URL, transport, now)
			if header == headerIAP {
				// IAP publishes no discovery document.
				p.published = &publication{keysURL: cmp.Or(options.IAPKeysURL, iapKeysURL), algorithms: []string{oidc.ES256}}
			}
			m.providers[issuer.URL] = p
		}
		p.entries = append(p.entries, issuer)
	}
	return methods
}

// Authenticate implements [Method]. It waits for the network only when the
// issuer's keys are not known or do not verify the token, and then at most 5
// seconds for each.
func (m *OIDC) Authenticate(r *http.Request) (Principal, bool, error) {
	read := bearer
	if m.header == headerIAP {
		read = credential
	}
	raw, ok, err := read(r, m.header)
	if !ok || err != nil {
		return Principal{}, ok, err
	}
	c, entry, err := m.verify(r.Context(), raw)
	if err != nil {
		return Principal{}, true, err
	}
	p := Principal{Issuer: c.Issuer, Subject: c.Subject, Tenant: c.signIn().tenant, Method: caller.MethodOIDC, Service: entry.Service}
	// IAP's tokens hold only addresses that it has verified.
	if string(c.EmailVerified) == "true" || m.header == headerIAP {
		p.Email = c.Email
	}
	return p, true, nil
}

// verify returns the claims of a token, and the entry that accepts it. It checks the
// cheap things first: a token that fails them costs neither arithmetic nor a fetch.
func (m *OIDC) verify(ctx context.Context, raw string) (_ claims, accepts access.Issuer, _ error) {
	t, err := parseToken(raw)
	if err != nil {
		return claims{}, access.Issuer{}, err
	}
	p := m.providers[t.claims.Issuer]
	switch {
	case p == nil:
		return claims{}, access.Issuer{}, invalid("the token's issuer is not one of those configured")
	case !slices.Contains(algorithms, t.algorithm):
		return claims{}, access.Issuer{}, invalid("the token is signed by an algorithm that is not allowed")
	case t.claims.Subject == "":
		return claims{}, access.Issuer{}, invalid("the token names no subject")
	case t.claims.Expiry == nil:
		return claims{}, access.Issuer{}, invalid("the token never expires")
	case t.claims.Events != nil:
		// A logout or security event token is about a person, not from one.
		return claims{}, access.Issuer{}, invalid("not a token that identifies a caller")
	}
	if err := t.claims.checkTimes(m.now()); err != nil {
		return claims{}, access.Issuer{}, err
	}
	entry := slices.IndexFunc(p.entries, t.matches)
	if entry < 0 {
		return claims{}, access.Issuer{}, invalid("the token is not for this service, or lacks a required claim")
	}
	payload, err := p.verify(ctx, raw)
	if err != nil {
		return claims{}, access.Issuer{}, err
	}
	// What was checked above must be what was signed.
	if !bytes.Equal(payload, t.payload) {
		return claims{}, access.Issuer{}, invalid("the token has two meanings")
	}
	return t.claims, p.entries[entry], nil
}

// matches reports whether the token has the entry's audience and claims, and is
// nobody's only if the entry asks for that.
func (t token) matches(entry access.Issuer) bool {
	if !slices.ContainsFunc(entry.Audiences, func(a string) bool { return slices.Contains(t.claims.Audience, a) }) {
		return false
	}
	if t.claims.signIn().anonymous() && !admitsAnonymous(entry) {
		return false
	}
	if len(entry.Claims) == 0 {
		return true
	}
	var all map[string]jsontext.Value
	if err := json.Unmarshal(t.payload, &all); err != nil {
		return false
	}
	for _, want := range entry.Claims {
		if !want.In(all) {
			return false
		}
	}
	return true
}

// verify returns the payload of a token that one of the issuer's keys verifies.
// Keys that are known are tried first; if they do not verify it, the issuer may
// have new ones.
func (p *provider) verify(ctx context.Context, raw string) ([]byte, error) {
	keys, err := p.current(ctx)
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	case err != nil:
		// As text: a timeout of the fetch is not one of the request.
		return nil, fmt.Errorf("%w: %s: %v", ErrUnavailable, p.issuer, err)
	}
	payload, err := p.verifyWith(ctx, keys, raw)
	if !errors.Is(err, errNoKey) {
		return payload, err
	}
	newer, fetchErr := p.newer(ctx, keys)
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	case fetchErr != nil:
		return nil, fmt.Errorf("%w; fetching newer ones: %v", err, fetchErr)
	}
	return p.verifyWith(ctx, newer, raw)
}

// errNoKey means that a token is well-formed and no key at hand verifies it.
var errNoKey = fmt.Errorf("%w: no key of the issuer verifies the token", ErrInvalid)

func (p *provider) verifyWith(ctx context.Context, keys *keys, raw string) ([]byte, error) {
	attempt := &attempt{keys: keys}
	// The verifier's own time check allows five minutes; ours was made.
	verifier := oidc.NewVerifier(p.issuer, attempt, &oidc.Config{
		SupportedSigningAlgs: keys.algorithms,
		SkipClientIDCheck:    true,
		SkipExpiryCheck:      true,
	})
	// Its errors quote the token, so they are distinguished but not passed on.
	if _, err := verifier.Verify(ctx, raw); err != nil {
		if attempt.noKey {
			return nil, errNoKey
		}
		return nil, invalid("the token is malformed or signed by an algorithm that its issuer does not announce")
	}
	return attempt.payload, nil
}

// An attempt is one use of the keys as an oidc.KeySet, whose outcome the verifier
// does not hand out.
type attempt struct {
	keys    *keys
	payload []byte
	noKey   bool
}

// VerifySignature implements [oidc.KeySet].
func (a *attempt) VerifySignature(_ context.Context, jwt string) ([]byte, error) {
	payload, err := a.keys.verify(jwt)
	a.payload, a.noKey = payload, err != nil
	return payload, err
}
