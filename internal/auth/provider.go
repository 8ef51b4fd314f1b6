package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/time/rate"
)

const (
	fetchTimeout     = 5 * time.Second
	maxDocumentBytes = 256 << 10

	// How long keys are used before they are fetched again although they still
	// verify, so that one that was withdrawn is not accepted for ever; and how
	// long they are used on when that fails.
	keysMaxAge    = time.Hour
	keysRetryWait = 5 * time.Minute

	// How often keys may be fetched because a token is not verified by those
	// known: anybody can send such tokens.
	refreshEvery = 10 * time.Second
	refreshBurst = 2

	// How long a first fetch that failed is not tried again: this, then doubled.
	firstBackoff = time.Second
	maxBackoff   = 15 * time.Second
)

// algorithms are those by which a token may be signed: all asymmetric, so that a
// published key can never serve as a secret.
var algorithms = []string{
	oidc.RS256, oidc.RS384, oidc.RS512,
	oidc.PS256, oidc.PS384, oidc.PS512,
	oidc.ES256, oidc.ES384, oidc.ES512,
	oidc.EdDSA,
}

var errTooOften = errors.New("not fetched again so soon")

// A provider is an issuer and what is known of its keys. They are fetched by the
// requests that need them, one at a time, while the others wait for it.
type provider struct {
	issuer    string
	entries   []Issuer
	published *publication // nil: discovered
	client    *http.Client
	now       func() time.Time

	mu      sync.Mutex
	keys    *keys         // nil before the first fetch that succeeded
	staleAt time.Time     // when keys are to be fetched again
	flight  chan struct{} // closed when the fetch under way has ended; nil: none is
	failure error         // the last fetch's
	failed  int           // fetches in a row
	retryAt time.Time     // when a first fetch may be tried again
	refresh *rate.Limiter
}

// A publication is where an issuer's keys are and how it signs with them.
type publication struct {
	keysURL    string
	algorithms []string
}

func newProvider(issuer string, transport http.RoundTripper, now func() time.Time) *provider {
	p := &provider{
		issuer:  issuer,
		now:     now,
		refresh: rate.NewLimiter(rate.Every(refreshEvery), refreshBurst),
	}
	p.client = &http.Client{
		Transport: bounded{transport},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) > 3 || !p.trusts(r.URL) {
				return errors.New("redirected too often or to an address that is not https")
			}
			return nil
		},
	}
	return p
}

// current returns the keys that are known, fetched first if there are none. One
// request fetches them again when they have become old, while the others go on
// with those that are there.
func (p *provider) current(ctx context.Context) (*keys, error) {
	p.mu.Lock()
	have := p.keys
	fresh := have != nil && (p.flight != nil || p.now().Before(p.staleAt))
	p.mu.Unlock()
	if fresh {
		return have, nil
	}
	newer, err := p.newer(ctx, have)
	if err != nil && have != nil {
		return have, nil
	}
	return newer, err
}

// newer returns other keys than those the caller has, which may be none: known
// meanwhile, or fetched by this call or by the one that it waits for.
func (p *provider) newer(ctx context.Context, have *keys) (*keys, error) {
	p.mu.Lock()
	flight := p.flight
	if p.keys == have && flight != nil {
		p.mu.Unlock()
		select {
		case <-flight:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		p.mu.Lock()
		if p.keys == have {
			defer p.mu.Unlock()
			return nil, p.failure
		}
	}
	if p.keys != have {
		defer p.mu.Unlock()
		return p.keys, nil
	}
	if err := p.mayFetch(); err != nil {
		p.mu.Unlock()
		return nil, err
	}
	p.flight = make(chan struct{})
	p.mu.Unlock()

	fetched, err := (*keys)(nil), errors.New("panicked")
	defer func() { p.land(fetched, err) }()
	// Others wait for it, so it does not end with this request.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTimeout)
	defer cancel()
	fetched, err = p.fetch(ctx)
	return fetched, err
}

// mayFetch tells whether a fetch may begin now, and counts it.
func (p *provider) mayFetch() error {
	switch now := p.now(); {
	case p.keys == nil && now.Before(p.retryAt):
		return fmt.Errorf("%w: %w", errTooOften, p.failure)
	case p.keys != nil && !p.refresh.AllowN(now, 1):
		return errTooOften
	}
	return nil
}

// land ends the flight with its outcome. The last good keys stay when it failed.
func (p *provider) land(fetched *keys, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if err == nil {
		p.keys, p.staleAt = fetched, now.Add(keysMaxAge)
		p.failed, p.failure = 0, nil
	} else {
		p.retryAt = now.Add(min(firstBackoff<<min(p.failed, 10), maxBackoff))
		p.staleAt = now.Add(keysRetryWait)
		p.failed++
		p.failure = err
	}
	close(p.flight)
	p.flight = nil
}

func (p *provider) fetch(ctx context.Context) (*keys, error) {
	published := p.published
	if published == nil {
		var err error
		if published, err = p.discover(ctx); err != nil {
			return nil, fmt.Errorf("discovery: %w", brief(err))
		}
	}
	keys, err := fetchKeys(ctx, p.client, published)
	if err != nil {
		return nil, fmt.Errorf("keys: %w", brief(err))
	}
	return keys, nil
}

// discover reads the issuer's discovery document (OpenID Connect Discovery 1.0,
// section 4). Algorithms that are not allowed here are dropped; RS256 is meant
// when none is left, as every issuer must support it.
func (p *provider) discover(ctx context.Context) (*publication, error) {
	document, err := oidc.NewProvider(oidc.ClientContext(ctx, p.client), p.issuer)
	if err != nil {
		return nil, err
	}
	var metadata struct {
		KeysURL    string   `json:"jwks_uri"`
		Algorithms []string `json:"id_token_signing_alg_values_supported"`
	}
	if err := document.Claims(&metadata); err != nil {
		return nil, err
	}
	keysURL, err := url.Parse(metadata.KeysURL)
	if err != nil || !p.trusts(keysURL) {
		return nil, errors.New("jwks_uri is not an https address")
	}
	allowed := slices.DeleteFunc(metadata.Algorithms, func(a string) bool { return !slices.Contains(algorithms, a) })
	if len(allowed) == 0 {
		allowed = []string{oidc.RS256}
	}
	return &publication{keysURL: metadata.KeysURL, algorithms: allowed}, nil
}

// trusts reports whether u may be fetched for this issuer: by https, or in plain
// on loopback where the issuer itself is there, which ParseIssuers allows only
// in development.
func (p *provider) trusts(u *url.URL) bool {
	base := p.issuer
	if p.published != nil {
		base = p.published.keysURL
	}
	plain, err := url.Parse(base)
	return isHTTPS(u) || err == nil && isLoopbackHTTP(plain) && isLoopbackHTTP(u)
}

// brief cuts an error's text, in which a whole document may be quoted.
func brief(err error) error {
	const most = 300
	if text := err.Error(); len(text) > most {
		return fmt.Errorf("%.*q…", most, text)
	}
	return err
}

// bounded makes answers that are not 200 errors, and bodies that are too long
// end in one. Redirects pass.
type bounded struct{ http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode/100 != 3 {
		_ = resp.Body.Close()
		return nil, fmt.Errorf("answered %d", resp.StatusCode)
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{http.MaxBytesReader(nil, resp.Body, maxDocumentBytes), resp.Body}
	return resp, nil
}
