package auth_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"example.com/gatehouse/internal/access"
	"example.com/gatehouse/internal/auth"
	"example.com/gatehouse/internal/auth/authtest"
	"example.com/gatehouse/internal/testclock"
)

// FuzzAuthorization sends arbitrary values of Authorization:
// the outcome is a whole principal or a refusal, and only what the issuer has
// signed is its token.
func FuzzAuthorization(f *testing.F) {
	clock := testclock.New(start)
	issuer := authtest.Start(f, "")
	claims := issuer.Claims("app", start)
	good := issuer.Sign(claims)
	iam := auth.NewIAM(clock.Now)
	oidc := newOIDC(f, clock, access.Issuer{URL: issuer.URL, Audiences: []string{"app"}})
	for _, seed := range []string{
		"", "Bearer", "Bearer ", "bearer x", "Basic dTpw", good,
		"Bearer " + good,
		"Bearer " + good[:len(good)-1],
		"Bearer " + good + "." + good,
		"Bearer " + unsigned(f, map[string]any{"iss": "https://accounts.google.com", "sub": "1", "email": "a@p.iam.gserviceaccount.com", "exp": start.Add(time.Hour).Unix()}),
		"Bearer " + unsigned(f, `{"iss":"https://accounts.google.com","sub":"1","aud":["a",null],"exp":1e400}`),
		"Bearer " + unsigned(f, `{"iss":"`+issuer.URL+`","sub":"1","sub":"2"}`),
		"Bearer " + encode(`{"alg":"none"}`) + "." + strings.Split(good, ".")[1] + ".x",
		"Bearer " + unsigned(f, strings.Repeat(`[`, 2000)),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		r := &http.Request{Header: http.Header{"Authorization": {value}}}
		r = r.WithContext(t.Context())
		for _, m := range []auth.Method{iam, oidc} {
			p, ok, err := m.Authenticate(r)
			switch {
			case !ok:
				t.Fatal("the credential was not seen")
			case err != nil && !errors.Is(err, auth.ErrInvalid):
				t.Fatalf("error %v, want one that wraps %v", err, auth.ErrInvalid)
			case err != nil && p != auth.Principal{}:
				t.Fatalf("%+v beside the error %v", p, err)
			case err == nil && (p.Issuer == "" || p.Subject == "" || p.Method == ""):
				t.Fatalf("incomplete: %+v", p)
			case err == nil && m == oidc && !strings.HasSuffix(value, good):
				t.Fatalf("accepted what was not signed: %q", value)
			}
		}
	})
}
