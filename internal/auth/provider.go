package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/time/rate"

	"example.com/gatehouse/internal/access"
	"example.com/gatehouse/internal/loopback"
	"example.com/gatehouse/internal/refresh"
)

const (
	maxDocumentBytes = 256 << 10

	// How often keys may be fetched because a token is not verified by those
	// known: anybody can send such tokens.
	refreshEvery = 10 * time.Second
	refreshBurst = 2
)

// algorithms are those by which a token may be signed: all asymmetric, so that a
// published key can never serve as a secret.
var algorithms = []string{
	oidc.RS256, oidc.RS384, oidc.RS512,
	oidc.PS256, oidc.PS384, oidc.PS512,
	oidc.ES256, oidc.ES384, oidc.ES512,
	oidc.EdDSA,
}

var (
	errTooOften = errors.New("not fetched again so soon")

	// errNoKeys means that the issuer has no keys, or is no more.
	errNoKeys = errors.New("the issuer publishes no key that can verify a token")
)

// A provider is an issuer and what is known of its keys. They are fetched by the
// requests that need them, as the package refresh has it.
type provider struct {
	issuer    string
	entries   []access.Issuer
	published *publication // nil: discovered
	client    *http.Client
	now       func() time.Time
	schedule  *refresh.Schedule
	unknown   *rate.Limiter // of fetches for tokens that no known key verifies

	keys    atomic.Pointer[keys]  // nil before the first fetch that succeeded
	failure atomic.Pointer[error] // the last fetch's; nil: it went well
	refusal refresh.Refusal       // only touched by who fetches
}

// A publication is where an issuer's keys are and how it signs with them.
type publication struct {
	keysURL    string
	algorithms []string
}

func newProvider(issuer string, transport http.RoundTripper, now func() time.Time) *provider {
	p := &provider{
		issuer:   issuer,
		now:      now,
		schedule: refresh.NewSchedule(now),
		unknown:  rate.NewLimiter(rate.Every(refreshEvery), refreshBurst),
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

// current returns the keys that are known, fetched first if there are none or they
// are old. Keys that could not be fetched again for an hour are not used.
func (p *provider) current(ctx context.Context) (*keys, error) {
	p.schedule.Refresh(ctx, p.update)
	switch have := p.keys.Load(); {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case have == nil, !p.schedule.Usable():
		return nil, p.trouble()
	default:
		return have, nil
	}
}

// newer returns other keys than those that the caller has: another request's by
// now, or fetched by this call or by the one that it waits for.
func (p *provider) newer(ctx context.Context, have *keys) (*keys, error) {
	tooOften := false
	if p.keys.Load() == have {
		p.schedule.Now(ctx, func() bool {
			tooOften = !p.unknown.AllowN(p.now(), 1)
			return !tooOften
		}, p.update)
	}
	switch newer := p.keys.Load(); {
	case newer != have:
		return newer, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case tooOften:
		return nil, errTooOften
	default:
		return nil, p.trouble()
	}
}

// trouble is why the last fetch failed.
func (p *provider) trouble() error {
	if failure := p.failure.Load(); failure != nil {
		return *failure
	}
	return errors.New("its keys were not fetched")
}

// Troubles returns a sentence for each issuer whose keys could not be fetched when
// they were last asked for.
func (a *Authenticator) Troubles() []string {
	var troubles []string
	for _, m := range a.methods {
		if o, ok := m.(*OIDC); ok {
			for _, p := range o.providers {
				if failure := p.failure.Load(); failure != nil {
					troubles = append(troubles, fmt.Sprintf("The keys of %s could not be fetched: %v.", p.issuer, *failure))
				}
			}
		}
	}
	slices.Sort(troubles)
	return troubles
}

// update is a fetch of the schedule. The last good keys stay when it failed; when
// the issuer has published none for ten seconds, those that were are withdrawn.
func (p *provider) update(ctx context.Context) refresh.Outcome {
	fetched, err := p.fetch(ctx)
	switch {
	case err == nil:
		p.refusal.Clear()
		p.failure.Store(nil)
		p.keys.Store(fetched)
		return refresh.Known
	case !errors.Is(err, errNoKeys) || p.keys.Load() == nil:
		p.failure.Store(&err)
		return refresh.Failed
	}
	p.failure.Store(&err)
	if !p.refusal.Confirmed(p.now()) {
		return refresh.Refused
	}
	p.keys.Store(&keys{algorithms: algorithms}) // nobody's token is verified
	return refresh.Known
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
// on loopback where the issuer itself is there, which access.ParseIssuers allows only
// in development.
func (p *provider) trusts(u *url.URL) bool {
	base := p.issuer
	if p.published != nil {
		base = p.published.keysURL
	}
	plain, err := url.Parse(base)
	return u.Scheme == "https" && u.Host != "" || err == nil && loopback.HTTP(plain) && loopback.HTTP(u)
}

// brief cuts an error's text, in which a whole document may be quoted.
func brief(err error) error {
	const most = 300
	text := err.Error()
	switch {
	case len(text) <= most:
		return err
	case errors.Is(err, errNoKeys):
		return fmt.Errorf("%w: %.*q…", errNoKeys, most, text)
	}
	return fmt.Errorf("%.*q…", most, text)
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
	switch {
	case resp.StatusCode == http.StatusNotFound, resp.StatusCode == http.StatusGone:
		_ = resp.Body.Close()
		return nil, fmt.Errorf("%w: answered %d", errNoKeys, resp.StatusCode)
	case resp.StatusCode != http.StatusOK && resp.StatusCode/100 != 3:
		_ = resp.Body.Close()
		return nil, fmt.Errorf("answered %d", resp.StatusCode)
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{http.MaxBytesReader(nil, resp.Body, maxDocumentBytes), resp.Body}
	return resp, nil
}
