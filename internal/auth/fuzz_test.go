package auth_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"example.com/gatehouse/internal/auth"
	"example.com/gatehouse/internal/auth/authtest"
	"example.com/gatehouse/internal/testclock"
)

// FuzzAuthorization sends arbitrary values of Authorization: whatever is in them,
// the outcome is a whole principal or a refusal, and only what the issuer has
// signed is its token.
func FuzzAuthorization(f *testing.F) {
	clock := testclock.New(start)
	issuer := authtest.Start(f, "")
	claims := issuer.Claims("app", start)
	good := issuer.Sign(claims)
	iam := auth.NewIAM(clock.Now)
	oidc := newOIDC(f, clock, auth.Issuer{URL: issuer.URL, Audiences: []string{"app"}})
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

func FuzzParseKeys(f *testing.F) {
	f.Add([]byte(`[{"name": "a", "sha256": "` + hash("a") + `", "expires": "2027-01-01T00:00:00Z", "rate_limit_per_minute": 1, "end_users": true}]`))
	f.Add([]byte(`[{"name": "a", "sha256": "` + hash("a") + `"}, {"name": "a"}]`))
	f.Add([]byte(`[{`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		set, err := auth.ParseKeys(text)
		// Only the empty list is nobody.
		empty := strings.Join(strings.Fields(string(text)), "") == "[]"
		if (set == nil) == (err == nil) || err == nil && (set.Len() == 0) != empty {
			t.Fatalf("ParseKeys = %v, %v", set, err)
		}
	})
}

func FuzzParseIssuers(f *testing.F) {
	f.Add("https://a.example|app|hd=example.com,https://b.example", "app", true)
	f.Add("http://127.0.0.1:1|x", "", true)
	f.Fuzz(func(t *testing.T, list, audience string, loopback bool) {
		issuers, err := auth.ParseIssuers(list, []string{audience}, loopback)
		if err != nil {
			return
		}
		for _, i := range issuers {
			if len(i.Audiences) == 0 || i.Audiences[0] == "" || !strings.HasPrefix(strings.ToLower(i.URL), "http") {
				t.Fatalf("accepted %+v", i)
			}
			if !loopback && !strings.HasPrefix(strings.ToLower(i.URL), "https://") {
				t.Fatalf("accepted %+v", i)
			}
		}
	})
}
