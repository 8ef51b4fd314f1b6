package auth_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"example.com/gatehouse/internal/access"
	"example.com/gatehouse/internal/auth"
	"example.com/gatehouse/internal/auth/authtest"
	"example.com/gatehouse/internal/testclock"
)

// newOIDC makes the method for one header.
func newOIDC(t testing.TB, clock *testclock.Clock, issuers ...access.Issuer) auth.Method {
	t.Helper()
	methods := auth.NewOIDC(issuers, auth.OIDCOptions{Now: clock.Now})
	if len(methods) != 1 {
		t.Fatalf("%d methods, want 1", len(methods))
	}
	return methods[0]
}

func authenticate(t testing.TB, m auth.Method, token string) (auth.Principal, error) {
	t.Helper()
	p, ok, err := m.Authenticate(request(t, "Authorization", "Bearer "+token))
	if !ok {
		t.Error("the credential was not seen")
	}
	return p, err
}

// hmacSigned is a token whose secret is what everybody can read.
func hmacSigned(t testing.TB, key jose.JSONWebKey, claims map[string]any) []string {
	t.Helper()
	public := key.Public()
	der, err := x509.MarshalPKIXPublicKey(public.Key)
	if err != nil {
		t.Fatal(err)
	}
	document, err := public.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	input := encode(`{"alg":"HS256","kid":"`+public.KeyID+`"}`) + "." + encode(string(payload))
	var tokens []string
	for _, secret := range [][]byte{der, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), document} {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(input))
		tokens = append(tokens, input+"."+encode(string(mac.Sum(nil))))
	}
	return tokens
}

func TestOIDCTokens(t *testing.T) {
	t.Parallel()
	issuer, stranger := authtest.Start(t, ""), authtest.Start(t, "")
	claims := issuer.Claims("app", start)
	with := func(name string, value any) string { return issuer.Sign(authtest.With(claims, name, value)) }
	at := func(d time.Duration) int64 { return start.Add(d).Unix() }
	good := issuer.Sign(claims)
	parts := strings.Split(good, ".")
	hs := hmacSigned(t, issuer.Key(), claims)
	user := auth.Principal{Issuer: issuer.URL, Subject: "user-1", Method: "oidc"}
	mail := user
	mail.Email = "ann@example.com"
	robot := user
	robot.Email = "app@p-1.iam.gserviceaccount.com"
	stranger2 := stranger.Key()
	stranger2.KeyID = issuer.Key().KeyID
	inHeader := func(header map[jose.HeaderKey]any) string {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: issuer.Key().Key}, &jose.SignerOptions{ExtraHeaders: header})
		if err != nil {
			t.Fatal(err)
		}
		payload, _ := json.Marshal(claims)
		signed, err := signer.Sign(payload)
		if err != nil {
			t.Fatal(err)
		}
		token, err := signed.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	// A key that comes with the token proves nothing.
	embedded := func() string {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: stranger2}, &jose.SignerOptions{EmbedJWK: true})
		if err != nil {
			t.Fatal(err)
		}
		payload, _ := json.Marshal(claims)
		signed, _ := signer.Sign(payload)
		token, _ := signed.CompactSerialize()
		return token
	}()

	tests := []struct {
		name  string
		token string
		want  auth.Principal // zero: refused
	}{
		{"good", good, user},
		{"an audience among several", with("aud", []string{"other", "app"}), user},
		{"a verified address", issuer.Sign(authtest.With(authtest.With(claims, "email", "ann@example.com"), "email_verified", true)), mail},
		{"an address that is not verified", issuer.Sign(authtest.With(authtest.With(claims, "email", "ann@example.com"), "email_verified", false)), user},
		{"an address that says nothing of it", with("email", "ann@example.com"), user},
		{"an address verified in words", issuer.Sign(authtest.With(authtest.With(claims, "email", "ann@example.com"), "email_verified", "true")), user},
		{"a service account's address makes no service", issuer.Sign(authtest.With(authtest.With(claims, "email", robot.Email), "email_verified", true)), robot},
		{"no key id", issuer.SignWithKeyID("", claims), user},

		{"expired", with("exp", at(-time.Hour)), auth.Principal{}},
		{"expired at the edge of the leeway", with("exp", at(-60*time.Second)), auth.Principal{}},
		{"expired just within the leeway", with("exp", at(-59*time.Second)), user},
		{"expires in the middle of a second within the leeway", with("exp", float64(at(-60*time.Second))+0.5), user},
		{"not valid yet", with("nbf", at(time.Hour)), auth.Principal{}},
		{"not valid yet, just outside the leeway", with("nbf", at(61*time.Second)), auth.Principal{}},
		{"valid at the edge of the leeway", with("nbf", at(60*time.Second)), user},
		{"issued in the future", with("iat", at(61*time.Second)), auth.Principal{}},
		{"issued in the future within the leeway", with("iat", at(60*time.Second)), user},
		{"no time of issue", with("iat", nil), user},
		{"no expiry", with("exp", nil), auth.Principal{}},
		{"an expiry in words", with("exp", "2099-01-01T00:00:00Z"), auth.Principal{}},
		{"an expiry that no float holds", issuer.Sign(`{"iss":"` + issuer.URL + `","aud":"app","sub":"user-1","exp":1e999}`), auth.Principal{}},

		{"wrong audience", with("aud", "other"), auth.Principal{}},
		{"an audience that begins alike", with("aud", "app-2"), auth.Principal{}},
		{"an audience in other case", with("aud", "APP"), auth.Principal{}},
		{"no audience", with("aud", nil), auth.Principal{}},
		{"an empty list of audiences", with("aud", []string{}), auth.Principal{}},
		{"a numeric audience", with("aud", 7), auth.Principal{}},
		{"wrong issuer", with("iss", "https://issuer.example"), auth.Principal{}},
		{"the issuer with a slash more", with("iss", issuer.URL+"/"), auth.Principal{}},
		{"no issuer", with("iss", nil), auth.Principal{}},
		{"no subject", with("sub", nil), auth.Principal{}},
		{"an empty subject", with("sub", ""), auth.Principal{}},
		{"a numeric subject", with("sub", 7), auth.Principal{}},
		{"a logout token", with("events", map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}}), auth.Principal{}},
		{"a claim twice", issuer.Sign(fmt.Sprintf(`{"iss":%q,"aud":"app","sub":"user-1","sub":"user-2","exp":%d}`, issuer.URL, at(time.Hour))), auth.Principal{}},
		{"the audience twice", issuer.Sign(fmt.Sprintf(`{"iss":%q,"aud":"other","aud":"app","sub":"user-1","exp":%d}`, issuer.URL, at(time.Hour))), auth.Principal{}},
		{"claims in other case", issuer.Sign(fmt.Sprintf(`{"iss":%q,"AUD":"app","Sub":"user-1","exp":%d}`, issuer.URL, at(time.Hour))), auth.Principal{}},

		{"another's key under the same id", stranger.Sign(claims), auth.Principal{}},
		{"another's key, no key id", stranger.SignWithKeyID("", claims), auth.Principal{}},
		{"a key that comes with the token", embedded, auth.Principal{}},
		{"an unknown key id", issuer.SignWithKeyID("other", claims), auth.Principal{}},
		{"an extension that must be understood", inHeader(map[jose.HeaderKey]any{"crit": []string{"x"}, "x": 1}), auth.Principal{}},
		{"a payload that is not encoded", inHeader(map[jose.HeaderKey]any{"crit": []string{"b64"}, "b64": false}), auth.Principal{}},
		{"algorithm none", encode(`{"alg":"none"}`) + "." + parts[1] + ".", auth.Principal{}},
		{"algorithm none, the signature left", encode(`{"alg":"none","kid":"key-1"}`) + "." + parts[1] + "." + parts[2], auth.Principal{}},
		{"algorithm nOnE", encode(`{"alg":"nOnE"}`) + "." + parts[1] + "." + parts[2], auth.Principal{}},
		{"no algorithm", encode(`{}`) + "." + parts[1] + "." + parts[2], auth.Principal{}},
		{"the algorithm twice", encode(`{"alg":"ES256","alg":"ES256","kid":"key-1"}`) + "." + parts[1] + "." + parts[2], auth.Principal{}},
		{"the public key as HMAC's secret, DER", hs[0], auth.Principal{}},
		{"the public key as HMAC's secret, PEM", hs[1], auth.Principal{}},
		{"the public key as HMAC's secret, JWK", hs[2], auth.Principal{}},
		{"the signature removed by Google", unsigned(t, claims), auth.Principal{}},
		{"the signature of another token", parts[0] + "." + strings.Split(with("sub", "user-2"), ".")[1] + "." + parts[2], auth.Principal{}},
		{"cut", good[:len(good)-2], auth.Principal{}},
		{"cut in the middle", good[:len(good)/2], auth.Principal{}},
		{"without its signature", parts[0] + "." + parts[1], auth.Principal{}},
		{"an empty signature", parts[0] + "." + parts[1] + ".", auth.Principal{}},
		{"padded", good + "=", auth.Principal{}},
		{"a fourth part", good + ".x", auth.Principal{}},
		{"100 KB", with("x", strings.Repeat("x", 100<<10)), auth.Principal{}},
		{"two in one header", good + ", Bearer " + good, auth.Principal{}},
		{"as JSON", `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`, auth.Principal{}},
		{"empty", "", auth.Principal{}},
	}
	m := newOIDC(t, testclock.New(start), access.Issuer{URL: issuer.URL, Audiences: []string{"app"}})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := authenticate(t, m, tt.token)
			wantErr := error(nil)
			if tt.want == (auth.Principal{}) {
				wantErr = auth.ErrInvalid
			}
			checkError(t, err, wantErr, tt.token)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("principal (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("two headers", func(t *testing.T) {
		t.Parallel()
		_, _, err := m.Authenticate(request(t, "Authorization", "Bearer "+good, "Authorization", "Bearer "+good))
		checkError(t, err, auth.ErrInvalid, good)
	})
}

func TestOIDCAlgorithms(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, algorithm string
		announced       []string
		wantErr         error
	}{
		{"RS256", "RS256", []string{"RS256"}, nil},
		{"PS256", "PS256", []string{"PS256", "none"}, nil},
		{"ES256", "ES256", []string{"RS256", "ES256"}, nil},
		{"not announced", "ES256", []string{"RS256"}, auth.ErrInvalid},
		{"only forbidden ones announced, so RS256 is meant", "RS256", []string{"HS256", "none"}, nil},
		{"only forbidden ones announced, and another is used", "ES256", []string{"HS256"}, auth.ErrInvalid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			issuer := authtest.Start(t, tt.algorithm)
			issuer.Announce("id_token_signing_alg_values_supported", tt.announced)
			m := newOIDC(t, testclock.New(start), access.Issuer{URL: issuer.URL, Audiences: []string{"app"}})
			_, err := authenticate(t, m, issuer.Sign(issuer.Claims("app", start)))
			checkError(t, err, tt.wantErr)
		})
	}
}

func TestOIDCEntries(t *testing.T) {
	t.Parallel()
	a, b := authtest.Start(t, ""), authtest.Start(t, "")
	m := newOIDC(t, testclock.New(start),
		access.Issuer{URL: a.URL, Audiences: []string{"app-a", "app-a2"}},
		access.Issuer{URL: b.URL, Audiences: []string{"app-b"}, Claims: []access.Claim{{Name: "hd", Value: "example.com"}, {Name: "groups", Value: "ops"}}},
		access.Issuer{URL: b.URL, Audiences: []string{"open-b"}},
		access.Issuer{URL: b.URL, Audiences: []string{"level-b"}, Claims: []access.Claim{{Name: "level", Value: "2"}, {Name: "mfa", Value: "true"}}},
	)
	claim := func(i *authtest.Issuer, audience string, pairs ...any) string {
		c := i.Claims(audience, start)
		for n := 0; n < len(pairs); n += 2 {
			c[pairs[n].(string)] = pairs[n+1]
		}
		return i.Sign(c)
	}
	tests := []struct {
		name    string
		token   string
		wantErr error
	}{
		{"an issuer with its audience", claim(a, "app-a"), nil},
		{"an issuer with its other audience", claim(a, "app-a2"), nil},
		{"an issuer with another's audience", claim(a, "app-b", "hd", "example.com", "groups", []string{"ops"}), auth.ErrInvalid},
		{"the other way round", claim(b, "app-a"), auth.ErrInvalid},
		{"one issuer's key in another's name", claim(a, "app-b", "iss", b.URL, "hd", "example.com", "groups", []string{"ops"}), auth.ErrInvalid},
		{"claims that hold", claim(b, "app-b", "hd", "example.com", "groups", []string{"dev", "ops"}), nil},
		{"a claim that is absent", claim(b, "app-b", "groups", []string{"ops"}), auth.ErrInvalid},
		{"a claim that differs", claim(b, "app-b", "hd", "example.com.evil.example", "groups", []string{"ops"}), auth.ErrInvalid},
		{"a list without the value", claim(b, "app-b", "hd", "example.com", "groups", []string{"ops-2"}), auth.ErrInvalid},
		{"a claim that is an object", claim(b, "app-b", "hd", map[string]string{"example.com": "example.com"}, "groups", []string{"ops"}), auth.ErrInvalid},
		{"a claim that is null", claim(b, "app-b", "hd", json.RawMessage("null"), "groups", []string{"ops"}), auth.ErrInvalid},
		{"another entry of the issuer asks for no claim", claim(b, "open-b"), nil},
		{"claims that are a number and a boolean", claim(b, "level-b", "level", 2, "mfa", true), nil},
		{"claims that are another number and boolean", claim(b, "level-b", "level", 2, "mfa", false), auth.ErrInvalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := authenticate(t, m, tt.token)
			checkError(t, err, tt.wantErr)
		})
	}
}

func TestOIDCFetchesKeysOnce(t *testing.T) {
	t.Parallel()
	issuer := authtest.Start(t, "")
	issuer.Delay(20 * time.Millisecond)
	m := newOIDC(t, testclock.New(start), access.Issuer{URL: issuer.URL, Audiences: []string{"app"}}, access.Issuer{URL: issuer.URL, Audiences: []string{"app-2"}})
	token := issuer.Sign(issuer.Claims("app", start))
	if issuer.Discoveries() != 0 {
		t.Error("asked before the first use")
	}
	var wait sync.WaitGroup
	for range 50 {
		wait.Go(func() {
			if _, err := authenticate(t, m, token); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if d, f := issuer.Discoveries(), issuer.Fetches(); d != 1 || f != 1 {
		t.Errorf("%d discoveries and %d fetches of keys, want one each", d, f)
	}
}

func TestOIDCRefusesWithoutTheNetwork(t *testing.T) {
	t.Parallel()
	issuer := authtest.Start(t, "")
	m := newOIDC(t, testclock.New(start), access.Issuer{URL: issuer.URL, Audiences: []string{"app"}})
	for _, token := range []string{
		issuer.Sign(issuer.Claims("app", start.Add(-24*time.Hour))),
		issuer.Sign(issuer.Claims("other", start)),
		issuer.Sign(authtest.With(issuer.Claims("app", start), "iss", "https://issuer.example")),
		encode(`{"alg":"HS256"}`) + "." + strings.Split(issuer.Sign(issuer.Claims("app", start)), ".")[1] + ".x",
		"x.y.z",
	} {
		_, err := authenticate(t, m, token)
		checkError(t, err, auth.ErrInvalid, token)
	}
	if got := issuer.Discoveries(); got != 0 {
		t.Errorf("%d discoveries, want none", got)
	}
}

func TestOIDCRotation(t *testing.T) {
	t.Parallel()
	clock := testclock.New(start)
	issuer := authtest.Start(t, "")
	m := newOIDC(t, clock, access.Issuer{URL: issuer.URL, Audiences: []string{"app"}})
	good := func() {
		t.Helper()
		_, err := authenticate(t, m, issuer.Sign(issuer.Claims("app", clock.Now())))
		checkError(t, err, nil)
	}
	good()
	old := issuer.Sign(issuer.Claims("app", start.Add(24*time.Hour)))

	issuer.Rotate()
	good() // picked up at once
	issuer.Delay(20 * time.Millisecond)
	issuer.Rotate()
	var wait sync.WaitGroup
	token := issuer.Sign(issuer.Claims("app", clock.Now()))
	for range 50 {
		wait.Go(func() { // also by calls side by side
			if _, err := authenticate(t, m, token); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if got := issuer.Fetches(); got != 3 {
		t.Errorf("%d fetches of keys, want 3", got)
	}
	issuer.Delay(0)

	clock.Advance(time.Minute)
	issuer.Rotate()
	_, err := authenticate(t, m, issuer.SignWithKeyID("", issuer.Claims("app", clock.Now())))
	checkError(t, err, nil) // a token that names no key finds the new one too

	clock.Advance(30 * time.Minute)
	issuer.Withdraw()
	_, err = authenticate(t, m, old)
	checkError(t, err, auth.ErrInvalid) // not valid for another 23 hours
	clock.Advance(24 * time.Hour)
	_, err = authenticate(t, m, old)
	checkError(t, err, auth.ErrInvalid, old)
	good()
}

// A key that an issuer has withdrawn: the token would be valid for days.
func TestOIDCForgetsWithdrawnKeys(t *testing.T) {
	t.Parallel()
	type step struct {
		pass time.Duration
		want error
	}
	replaced := func(i *authtest.Issuer) { i.Rotate(); i.Withdraw() }
	for _, tt := range []struct {
		name     string
		withdraw func(*authtest.Issuer)
		steps    []step
	}{
		{"replaced by another", replaced, []step{{4*time.Minute + 59*time.Second, nil}, {time.Second, auth.ErrInvalid}}},
		{"replaced, on an instance without a request for 30 hours", replaced, []step{{30 * time.Hour, auth.ErrInvalid}}},
		{
			"an empty set, confirmed ten seconds later", func(i *authtest.Issuer) { i.PublishKeys([]byte(`{"keys":[]}`)) },
			[]step{{5 * time.Minute, nil}, {9 * time.Second, nil}, {time.Second, auth.ErrInvalid}, {time.Hour, auth.ErrInvalid}},
		},
		{
			"an issuer that is no more", func(i *authtest.Issuer) { i.Fail(http.StatusNotFound) },
			[]step{{5 * time.Minute, nil}, {10 * time.Second, auth.ErrInvalid}},
		},
		{
			"an empty set, on an instance without a request for 30 hours", func(i *authtest.Issuer) { i.PublishKeys([]byte(`{"keys":[]}`)) },
			[]step{{30 * time.Hour, auth.ErrUnavailable}, {10 * time.Second, auth.ErrInvalid}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			clock := testclock.New(start)
			issuer := authtest.Start(t, "")
			m := newOIDC(t, clock, access.Issuer{URL: issuer.URL, Audiences: []string{"app"}})
			claims := issuer.Claims("app", start)
			claims["exp"] = start.Add(1000 * time.Hour).Unix()
			old := issuer.Sign(claims)
			_, err := authenticate(t, m, old)
			checkError(t, err, nil)
			tt.withdraw(issuer)
			for _, step := range tt.steps {
				clock.Advance(step.pass)
				_, err := authenticate(t, m, old)
				checkError(t, err, step.want, old)
			}
		})
	}
}

// An instance that was frozen for hours gets several requests at once: none of them
// goes on with the keys of then.
func TestOIDCRequestsAtOnceWaitForKeysThatAreHoursOld(t *testing.T) {
	t.Parallel()
	clock := testclock.New(start)
	issuer := authtest.Start(t, "")
	m := newOIDC(t, clock, access.Issuer{URL: issuer.URL, Audiences: []string{"app"}})
	claims := issuer.Claims("app", start)
	claims["exp"] = start.Add(24 * time.Hour).Unix()
	stolen := issuer.Sign(claims)
	_, err := authenticate(t, m, stolen)
	checkError(t, err, nil)
	issuer.Rotate()
	issuer.Withdraw()
	issuer.Delay(100 * time.Millisecond)
	clock.Advance(2 * time.Hour)
	var requests sync.WaitGroup
	for range 10 {
		requests.Go(func() {
			_, err := authenticate(t, m, stolen)
			if !errors.Is(err, auth.ErrInvalid) {
				t.Errorf("error %v, want %v", err, auth.ErrInvalid)
			}
		})
	}
	requests.Wait()
}

func TestOIDCKeepsKeysForAnHourWhileTheIssuerIsDown(t *testing.T) {
	t.Parallel()
	clock := testclock.New(start)
	issuer := authtest.Start(t, "")
	m := newOIDC(t, clock, access.Issuer{URL: issuer.URL, Audiences: []string{"app"}})
	token := func() string { return issuer.Sign(issuer.Claims("app", clock.Now())) }
	_, err := authenticate(t, m, token())
	checkError(t, err, nil)

	issuer.Fail(http.StatusInternalServerError)
	clock.Advance(59 * time.Minute)
	for range 10 {
		_, err = authenticate(t, m, token())
		checkError(t, err, nil)
	}
	if got := issuer.Discoveries(); got != 2 {
		t.Errorf("%d discoveries, want one more than the first", got)
	}
	// A key that is not known is refused, not unavailable: anybody can name one.
	_, err = authenticate(t, m, issuer.SignWithKeyID("other", issuer.Claims("app", clock.Now())))
	checkError(t, err, auth.ErrInvalid)

	clock.Advance(time.Minute)
	for range 10 { // whose token it is cannot be known any more, which is nobody's fault here
		_, err = authenticate(t, m, token())
		checkError(t, err, auth.ErrUnavailable)
	}
	issuer.Fail(0)
	clock.Advance(30 * time.Second)
	_, err = authenticate(t, m, token())
	checkError(t, err, nil)
}

func TestOIDCFloodOfUnknownKeys(t *testing.T) {
	t.Parallel()
	clock := testclock.New(start)
	issuer := authtest.Start(t, "")
	m := newOIDC(t, clock, access.Issuer{URL: issuer.URL, Audiences: []string{"app"}})
	good := issuer.Sign(issuer.Claims("app", start))
	_, err := authenticate(t, m, good)
	checkError(t, err, nil)

	var refused atomic.Int32
	flood := func(n int) {
		var wait sync.WaitGroup
		for worker := range 10 {
			wait.Go(func() {
				for i := range n / 10 {
					token := issuer.SignWithKeyID(fmt.Sprintf("unknown-%d-%d", worker, i), issuer.Claims("app", start))
					if _, err := authenticate(t, m, token); errors.Is(err, auth.ErrInvalid) {
						refused.Add(1)
					}
				}
			})
		}
		wait.Wait()
	}
	flood(1000)
	if got := refused.Load(); got != 1000 {
		t.Errorf("%d refused, want 1000", got)
	}
	if got := issuer.Fetches(); got > 3 {
		t.Errorf("%d fetches of keys, want the first and a burst of 2", got)
	}
	clock.Advance(10 * time.Second)
	flood(100)
	if got := issuer.Fetches(); got > 4 {
		t.Errorf("%d fetches of keys 10 seconds later, want one more", got)
	}
	_, err = authenticate(t, m, good)
	checkError(t, err, nil) // those who are known don't notice

	// A rotation during the flood waits for the next fetch, and no longer.
	issuer.Rotate()
	rotated := issuer.Sign(issuer.Claims("app", start))
	_, err = authenticate(t, m, rotated)
	checkError(t, err, auth.ErrInvalid)
	clock.Advance(10 * time.Second)
	_, err = authenticate(t, m, rotated)
	checkError(t, err, nil)
}

func TestOIDCIssuerDown(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		arrange func(*authtest.Issuer)
	}{
		{"answers 500", func(i *authtest.Issuer) { i.Fail(http.StatusInternalServerError) }},
		{"answers 404", func(i *authtest.Issuer) { i.Fail(http.StatusNotFound) }},
		{"answers 204", func(i *authtest.Issuer) { i.Fail(http.StatusNoContent) }},
		{"answers 300", func(i *authtest.Issuer) { i.Fail(http.StatusMultipleChoices) }},
		{"keys that are no JSON", func(i *authtest.Issuer) { i.PublishKeys([]byte("<html>")) }},
		{"keys that are too many bytes", func(i *authtest.Issuer) {
			i.PublishKeys([]byte(`{"keys":[],"x":"` + strings.Repeat("x", 10<<20) + `"}`))
		}},
		{"no keys", func(i *authtest.Issuer) { i.PublishKeys([]byte(`{"keys":[]}`)) }},
		{"only keys of no use", func(i *authtest.Issuer) {
			i.PublishKeys([]byte(`{"keys":[{"kty":"oct","k":"c2VjcmV0","kid":"key-1"},{"kty":"new"},7]}`))
		}},
		{"a private key published", func(i *authtest.Issuer) {
			raw, _ := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{i.Key()}})
			i.PublishKeys(raw)
		}},
		{"another issuer's document", func(i *authtest.Issuer) { i.Announce("issuer", "https://issuer.example") }},
		{"a document that is too long", func(i *authtest.Issuer) { i.Announce("x", strings.Repeat("x", 10<<20)) }},
		{"an issuer in the document that is very long", func(i *authtest.Issuer) { i.Announce("issuer", strings.Repeat("x", 100<<10)) }},
		{"keys in plain http elsewhere", func(i *authtest.Issuer) { i.Announce("jwks_uri", "http://issuer.example/keys") }},
		{"keys in a file", func(i *authtest.Issuer) { i.Announce("jwks_uri", "file:///etc/passwd") }},
		{"no place for keys", func(i *authtest.Issuer) { i.Announce("jwks_uri", nil) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			clock := testclock.New(start)
			issuer := authtest.Start(t, "")
			tt.arrange(issuer)
			m := newOIDC(t, clock, access.Issuer{URL: issuer.URL, Audiences: []string{"app"}})
			token := issuer.Sign(issuer.Claims("app", start))
			for range 20 {
				_, err := authenticate(t, m, token)
				checkError(t, err, auth.ErrUnavailable, token)
				if errors.Is(err, auth.ErrInvalid) {
					t.Errorf("error %v blames the caller", err)
				}
			}
			if got := issuer.Discoveries(); got != 1 {
				t.Errorf("%d discoveries, want 1 until the backoff is over", got)
			}
			clock.Advance(time.Second)
			_, _ = authenticate(t, m, token)
			_, _ = authenticate(t, m, token)
			clock.Advance(time.Second)
			_, _ = authenticate(t, m, token)
			if got := issuer.Discoveries(); got != 2 {
				t.Errorf("%d discoveries after 2 seconds, want 2: the backoff grows", got)
			}
		})
	}
}

func TestOIDCIssuerComesBack(t *testing.T) {
	t.Parallel()
	clock := testclock.New(start)
	issuer := authtest.Start(t, "")
	issuer.Fail(http.StatusBadGateway)
	m := newOIDC(t, clock, access.Issuer{URL: issuer.URL, Audiences: []string{"app"}})
	token := issuer.Sign(issuer.Claims("app", start))
	for range 20 {
		_, err := authenticate(t, m, token)
		checkError(t, err, auth.ErrUnavailable)
		clock.Advance(15 * time.Second) // the longest wait
	}
	if got := issuer.Discoveries(); got != 20 {
		t.Errorf("%d discoveries, want 20: the backoff has an end", got)
	}
	issuer.Fail(0)
	_, err := authenticate(t, m, token)
	checkError(t, err, nil)
}

func TestOIDCIssuerUnreachable(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	issuer := authtest.Start(t, "")
	m := newOIDC(t, testclock.New(start), access.Issuer{URL: gone.URL, Audiences: []string{"app"}})
	_, err := authenticate(t, m, issuer.Sign(authtest.With(issuer.Claims("app", start), "iss", gone.URL)))
	checkError(t, err, auth.ErrUnavailable)
}

func TestOIDCSlowIssuer(t *testing.T) {
	t.Parallel()
	issuer := authtest.Start(t, "")
	issuer.Delay(time.Minute)
	m := newOIDC(t, testclock.New(start), access.Issuer{URL: issuer.URL, Audiences: []string{"app"}})
	token := issuer.Sign(issuer.Claims("app", start))
	begin := time.Now()
	var wait sync.WaitGroup
	for range 10 {
		wait.Go(func() {
			_, err := authenticate(t, m, token)
			if !errors.Is(err, auth.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v, want the issuer's trouble and not the request's", err)
			}
		})
	}
	// Who has gone away does not wait for the others' fetch.
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	for issuer.Discoveries() == 0 && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	_, _, err := m.Authenticate(request(t, "Authorization", "Bearer "+token).WithContext(ctx))
	checkError(t, err, context.DeadlineExceeded)
	checkError(t, err, auth.ErrUnavailable)
	if took := time.Since(begin); took >= 5*time.Second { // the fetch's bound
		t.Errorf("took %v though the request had 100 ms", took)
	}
	wait.Wait()
	if took := time.Since(begin); took > 20*time.Second { // one after the other they would take 50
		t.Errorf("took %v, want about 5 seconds", took)
	}
	if got := issuer.Discoveries(); got != 1 {
		t.Errorf("%d discoveries, want 1", got)
	}
}

func TestOIDCFetchOutlivesTheRequestThatBeganIt(t *testing.T) {
	t.Parallel()
	issuer := authtest.Start(t, "")
	issuer.Delay(200 * time.Millisecond)
	m := newOIDC(t, testclock.New(start), access.Issuer{URL: issuer.URL, Audiences: []string{"app"}})
	token := issuer.Sign(issuer.Claims("app", start))
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error)
	go func() {
		_, _, err := m.Authenticate(request(t, "Authorization", "Bearer "+token).WithContext(ctx))
		first <- err
	}()
	for issuer.Discoveries() == 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	_, err := authenticate(t, m, token) // waits for the fetch that the first began
	checkError(t, err, nil)
	checkError(t, <-first, context.Canceled)
	if d, f := issuer.Discoveries(), issuer.Fetches(); d != 1 || f != 1 {
		t.Errorf("%d discoveries and %d fetches of keys, want one each", d, f)
	}
}

func TestOIDCRedirects(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, location string
		wantErr        error
	}{
		{"on loopback", "/keys", nil},
		{"to plain http", "http://issuer.example/keys", auth.ErrUnavailable},
		{"in a circle", "/moved", auth.ErrUnavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			issuer := authtest.Start(t, "")
			location := tt.location
			if location == "/keys" {
				location = issuer.KeysURL()
			}
			moved := httptest.NewServer(http.RedirectHandler(location, http.StatusFound))
			defer moved.Close()
			issuer.Announce("jwks_uri", moved.URL)
			m := newOIDC(t, testclock.New(start), access.Issuer{URL: issuer.URL, Audiences: []string{"app"}})
			_, err := authenticate(t, m, issuer.Sign(issuer.Claims("app", start)))
			checkError(t, err, tt.wantErr)
		})
	}
}

// A worldwide transport reaches one issuer under every address, and notes which.
type worldwide struct {
	issuer *authtest.Issuer
	mu     sync.Mutex
	asked  []string
}

func (w *worldwide) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	w.asked = append(w.asked, r.URL.String())
	w.mu.Unlock()
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host = "http", strings.TrimPrefix(w.issuer.URL, "http://")
	return http.DefaultTransport.RoundTrip(r)
}

func TestOIDCKeysAreFetchedOnlyFromTrustedAddresses(t *testing.T) {
	t.Parallel()
	t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
	for _, tt := range []struct {
		name, issuer, keys string
		wantErr            error
	}{
		{"https elsewhere", "https://issuer.example", "https://keys.example/keys", nil},
		{"plain http elsewhere", "https://issuer.example", "http://keys.example/keys", auth.ErrUnavailable},
		{"loopback, for an issuer elsewhere", "https://issuer.example", "http://127.0.0.1/keys", auth.ErrUnavailable},
		{"loopback, for an issuer on loopback", "http://127.0.0.1", "http://localhost/keys", nil},
		{"plain http elsewhere, for an issuer on loopback", "http://127.0.0.1", "http://keys.example/keys", auth.ErrUnavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			issuer := authtest.Start(t, "")
			issuer.Announce("issuer", tt.issuer)
			issuer.Announce("jwks_uri", tt.keys)
			transport := &worldwide{issuer: issuer}
			m := auth.NewOIDC([]access.Issuer{{URL: tt.issuer, Audiences: []string{"app"}}},
				auth.OIDCOptions{Now: testclock.New(start).Now, Transport: transport})[0]
			_, err := authenticate(t, m, issuer.Sign(authtest.With(issuer.Claims("app", start), "iss", tt.issuer)))
			checkError(t, err, tt.wantErr)
			want := []string{tt.issuer + "/.well-known/openid-configuration"}
			if tt.wantErr == nil {
				want = append(want, tt.keys)
			}
			if diff := cmp.Diff(want, transport.asked); diff != "" {
				t.Errorf("asked for (-want +got):\n%s", diff)
			}
		})
	}
}

// A redirected transport sends who asks one address to another.
type redirected struct {
	worldwide
	from, to string
}

func (r *redirected) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.URL.String() != r.from {
		return r.worldwide.RoundTrip(request)
	}
	w := httptest.NewRecorder()
	http.Redirect(w, request, r.to, http.StatusFound)
	response := w.Result()
	response.Request = request
	return response, nil
}

// Keys that anybody on the way could exchange are not fetched, wherever the way to them
// begins.
func TestOIDCIsNotRedirectedToUntrustedAddresses(t *testing.T) {
	t.Parallel()
	t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
	const from = "https://keys.example/keys"
	for to, wantErr := range map[string]error{
		"https://other.example/keys": nil, "http://other.example/keys": auth.ErrUnavailable, "http://127.0.0.1/keys": auth.ErrUnavailable, from: auth.ErrUnavailable,
	} {
		issuer := authtest.Start(t, "")
		issuer.Announce("issuer", "https://issuer.example")
		issuer.Announce("jwks_uri", from)
		transport := &redirected{worldwide: worldwide{issuer: issuer}, from: from, to: to}
		m := auth.NewOIDC([]access.Issuer{{URL: "https://issuer.example", Audiences: []string{"app"}}},
			auth.OIDCOptions{Now: testclock.New(start).Now, Transport: transport})[0]
		_, err := authenticate(t, m, issuer.Sign(authtest.With(issuer.Claims("app", start), "iss", "https://issuer.example")))
		checkError(t, err, wantErr)
		if asked := slices.Contains(transport.asked, to); asked != (wantErr == nil) {
			t.Errorf("%s is asked: %t", to, asked)
		}
	}
}

// Operators are told which issuer's keys could not be fetched, and not any more once
// they were.
func TestTroublesWithIssuers(t *testing.T) {
	t.Parallel()
	clock := testclock.New(start)
	up, down := authtest.Start(t, ""), authtest.Start(t, "")
	down.Fail(http.StatusBadGateway)
	a := auth.New(append(auth.NewOIDC([]access.Issuer{{URL: up.URL, Audiences: []string{"app"}}, {URL: down.URL, Audiences: []string{"app"}}}, auth.OIDCOptions{Now: clock.Now}), auth.NewAPIKeys(keySet(t), clock.Now))...)
	ask := func(issuer *authtest.Issuer) error {
		_, err := a.Authenticate(request(t, "Authorization", "Bearer "+issuer.Sign(issuer.Claims("app", clock.Now()))))
		return err
	}
	if got := a.Troubles(); len(got) != 0 {
		t.Errorf("before anything was fetched: %q", got)
	}
	checkError(t, ask(up), nil)
	checkError(t, ask(down), auth.ErrUnavailable)
	if got := a.Troubles(); len(got) != 1 || !strings.HasPrefix(got[0], "The keys of "+down.URL+" could not be fetched: ") {
		t.Errorf("one issuer is down: %q", got)
	}
	down.Fail(0)
	clock.Advance(time.Minute)
	checkError(t, ask(down), nil)
	if got := a.Troubles(); len(got) != 0 {
		t.Errorf("it is back: %q", got)
	}
}

func TestOIDCKeySets(t *testing.T) {
	t.Parallel()
	issuer := authtest.Start(t, "")
	signing := issuer.Key()
	public := signing.Public()
	for _, tt := range []struct {
		name    string
		change  func(*jose.JSONWebKey)
		beside  string
		wantErr error
	}{
		{"beside keys that are not understood", func(*jose.JSONWebKey) {}, `{"kty":"new","kid":"key-1"},{"kty":"EC","crv":"P-999","x":"","y":""},`, nil},
		{"behind more than a MiB", func(*jose.JSONWebKey) {}, `{"kty":"` + strings.Repeat("x", 2<<20) + `"},`, auth.ErrUnavailable},
		{"for signatures", func(k *jose.JSONWebKey) { k.Use = "sig" }, ``, nil},
		{"for encryption", func(k *jose.JSONWebKey) { k.Use = "enc" }, ``, auth.ErrUnavailable},
		{"for the algorithm", func(k *jose.JSONWebKey) { k.Algorithm = "ES256" }, ``, nil},
		{"for another algorithm", func(k *jose.JSONWebKey) { k.Algorithm = "ES384" }, ``, auth.ErrInvalid},
		{"without an id, though the token names one", func(k *jose.JSONWebKey) { k.KeyID = "" }, ``, auth.ErrInvalid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			issuer2 := authtest.Start(t, "")
			key := public
			tt.change(&key)
			raw, err := key.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			issuer2.PublishKeys([]byte(`{"keys":[` + tt.beside + string(raw) + `]}`))
			m := newOIDC(t, testclock.New(start), access.Issuer{URL: issuer2.URL, Audiences: []string{"app"}})
			_, err = authenticate(t, m, issuer.Sign(issuer2.Claims("app", start)))
			checkError(t, err, tt.wantErr)
		})
	}
}

func TestIAP(t *testing.T) {
	t.Parallel()
	const audience = "/projects/123/locations/europe-west1/services/invoke"
	iap := authtest.Start(t, "ES256")
	claims := authtest.With(iap.Claims(audience, start), "iss", "https://cloud.google.com/iap")
	claims["sub"], claims["email"] = "accounts.google.com:112233", "ann@example.com"
	ann := auth.Principal{Issuer: "https://cloud.google.com/iap", Subject: "accounts.google.com:112233", Email: "ann@example.com", Method: "oidc"}
	other := authtest.Start(t, "RS256")

	m := auth.NewOIDC([]access.Issuer{{URL: "https://cloud.google.com/iap", Audiences: []string{audience}}},
		auth.OIDCOptions{Now: testclock.New(start).Now, IAPKeysURL: iap.KeysURL()})[0]
	tests := []struct {
		name    string
		headers []string
		want    auth.Principal
		wantErr error
	}{
		{"its assertion", []string{"X-Goog-IAP-JWT-Assertion", iap.Sign(claims)}, ann, nil},
		{"another audience", []string{"X-Goog-IAP-JWT-Assertion", iap.Sign(authtest.With(claims, "aud", "/projects/123/global/backendServices/4"))}, auth.Principal{}, auth.ErrInvalid},
		{"another issuer", []string{"X-Goog-IAP-JWT-Assertion", iap.Sign(authtest.With(claims, "iss", iap.URL))}, auth.Principal{}, auth.ErrInvalid},
		{"expired", []string{"X-Goog-IAP-JWT-Assertion", iap.Sign(authtest.With(claims, "exp", start.Add(-time.Hour).Unix()))}, auth.Principal{}, auth.ErrInvalid},
		{"another algorithm", []string{"X-Goog-IAP-JWT-Assertion", other.Sign(claims)}, auth.Principal{}, auth.ErrInvalid},
		{"sent twice", []string{"X-Goog-IAP-JWT-Assertion", iap.Sign(claims), "X-Goog-IAP-JWT-Assertion", iap.Sign(claims)}, auth.Principal{}, auth.ErrInvalid},
		{"with a scheme", []string{"X-Goog-IAP-JWT-Assertion", "Bearer " + iap.Sign(claims)}, auth.Principal{}, auth.ErrInvalid},
		{"the headers that anybody can write", []string{"X-Goog-Authenticated-User-Email", "accounts.google.com:ann@example.com"}, auth.Principal{}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, _, err := m.Authenticate(request(t, tt.headers...))
			checkError(t, err, tt.wantErr, tt.headers...)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("principal (-want +got):\n%s", diff)
			}
		})
	}
	if got := iap.Discoveries(); got != 0 {
		t.Errorf("%d discoveries: IAP publishes no document", got)
	}
}
