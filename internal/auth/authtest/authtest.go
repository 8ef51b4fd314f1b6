// Package authtest is an OpenID Connect issuer for tests: an HTTP server on
// loopback that publishes its keys and signs what a test asks for.
package authtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// An Issuer signs tokens. Its methods are safe for concurrent use, also while it
// serves.
type Issuer struct {
	// URL is the issuer's name and address, http on loopback.
	URL string

	t         testing.TB
	algorithm jose.SignatureAlgorithm

	mu          sync.Mutex
	key         jose.JSONWebKey
	published   []jose.JSONWebKey
	rotations   int
	discovery   map[string]any
	keysBody    []byte
	status      int
	delay       time.Duration
	discoveries int
	fetches     int
}

// Start starts an issuer that signs by algorithm, ES256 when it is empty, and
// lives as long as the test.
func Start(t testing.TB, algorithm string) *Issuer {
	t.Helper()
	return StartBeside(t, algorithm, http.NotFoundHandler())
}

// StartBeside is Start for an issuer that has its address in common with other, which
// answers all else that is asked there, also by HTTP/2 without TLS, as gRPC in plaintext
// does.
func StartBeside(t testing.TB, algorithm string, other http.Handler) *Issuer {
	t.Helper()
	if algorithm == "" {
		algorithm = "ES256"
	}
	i := &Issuer{t: t, algorithm: jose.SignatureAlgorithm(algorithm)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", i.serveDiscovery)
	mux.HandleFunc("GET /keys", i.serveKeys)
	mux.Handle("/", other)
	server := httptest.NewUnstartedServer(mux)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	i.URL = server.URL
	i.discovery = map[string]any{
		"issuer":                                i.URL,
		"jwks_uri":                              i.KeysURL(),
		"id_token_signing_alg_values_supported": []string{algorithm, "HS256", "none"},
	}
	i.Rotate()
	return i
}

// KeysURL is where the issuer's keys are published.
func (i *Issuer) KeysURL() string { return i.URL + "/keys" }

// Claims are those of a good token for the audience, valid for an hour from now
// on; a test changes them as it likes.
func (i *Issuer) Claims(audience string, now time.Time) map[string]any {
	return map[string]any{
		"iss": i.URL,
		"aud": audience,
		"sub": "user-1",
		"iat": now.Unix(),
		"exp": now.Add(time.Hour).Unix(),
	}
}

// With returns a copy of the claims with one changed, or removed when value is
// nil.
func With(claims map[string]any, name string, value any) map[string]any {
	c := maps.Clone(claims)
	c[name] = value
	if value == nil {
		delete(c, name)
	}
	return c
}

// Sign returns a token with the claims, which may also be JSON text, signed by
// the present key and naming it.
func (i *Issuer) Sign(claims any) string {
	i.t.Helper()
	return i.sign(i.Key(), claims)
}

// SignWithKeyID returns a token signed by the present key that names another, or
// none when id is empty.
func (i *Issuer) SignWithKeyID(id string, claims any) string {
	i.t.Helper()
	key := i.Key()
	key.KeyID = id
	return i.sign(key, claims)
}

func (i *Issuer) sign(key jose.JSONWebKey, claims any) string {
	i.t.Helper()
	payload, ok := claims.(string)
	if !ok {
		data, err := json.Marshal(claims)
		if err != nil {
			i.t.Fatalf("authtest: %v", err)
		}
		payload = string(data)
	}
	var signing any = key
	if key.KeyID == "" {
		signing = key.Key
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: i.algorithm, Key: signing}, nil)
	if err != nil {
		i.t.Fatalf("authtest: %v", err)
	}
	signed, err := signer.Sign([]byte(payload))
	if err != nil {
		i.t.Fatalf("authtest: %v", err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		i.t.Fatalf("authtest: %v", err)
	}
	return token
}

// Key is the present signing key.
func (i *Issuer) Key() jose.JSONWebKey {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.key
}

// Rotate makes a new signing key and publishes it beside the others.
func (i *Issuer) Rotate() {
	i.t.Helper()
	key, err := newKey(i.algorithm)
	if err != nil {
		i.t.Fatalf("authtest: %v", err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.rotations++
	i.key = jose.JSONWebKey{Key: key, KeyID: fmt.Sprintf("key-%d", i.rotations), Use: "sig"}
	i.published = append(i.published, i.key.Public())
}

// Withdraw publishes none but the present key from now on.
func (i *Issuer) Withdraw() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.published = []jose.JSONWebKey{i.key.Public()}
}

func newKey(algorithm jose.SignatureAlgorithm) (crypto.Signer, error) {
	switch algorithm {
	case jose.ES256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case jose.RS256, jose.PS256:
		return rsa.GenerateKey(rand.Reader, 2048)
	}
	return nil, fmt.Errorf("no key for %s", algorithm)
}

// Announce changes a member of the discovery document.
func (i *Issuer) Announce(name string, value any) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.discovery[name] = value
}

// PublishKeys serves body in place of the issuer's keys; nil ends it.
func (i *Issuer) PublishKeys(body []byte) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keysBody = body
}

// Fail answers every request with status; 0 ends it.
func (i *Issuer) Fail(status int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.status = status
}

// Delay makes every request take at least d.
func (i *Issuer) Delay(d time.Duration) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.delay = d
}

// Discoveries is how often the discovery document was asked for.
func (i *Issuer) Discoveries() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.discoveries
}

// Fetches is how often the keys were asked for.
func (i *Issuer) Fetches() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.fetches
}

func (i *Issuer) serveDiscovery(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	i.discoveries++
	document := maps.Clone(i.discovery)
	i.mu.Unlock()
	i.serve(w, r, document)
}

func (i *Issuer) serveKeys(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	i.fetches++
	var document any = jose.JSONWebKeySet{Keys: i.published}
	if i.keysBody != nil {
		document = json.RawMessage(i.keysBody)
	}
	i.mu.Unlock()
	i.serve(w, r, document)
}

func (i *Issuer) serve(w http.ResponseWriter, r *http.Request, document any) {
	i.mu.Lock()
	status, delay := i.status, i.delay
	i.mu.Unlock()
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-r.Context().Done():
			return
		}
	}
	if status != 0 {
		w.WriteHeader(status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if raw, ok := document.(json.RawMessage); ok {
		_, _ = w.Write(raw)
		return
	}
	_ = json.NewEncoder(w).Encode(document)
}
