package auth_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"example.com/gatehouse/internal/access"
	"example.com/gatehouse/internal/auth"
	"example.com/gatehouse/internal/auth/authtest"
	"example.com/gatehouse/internal/testclock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start is when tests begin by their own clocks.
var start = time.Date(2027, 1, 15, 8, 0, 0, 0, time.UTC)

// request has the headers given as name, value, name, value, …; a name that
// occurs twice is sent twice.
func request(t testing.TB, headers ...string) *http.Request {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/invoke", nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

// unsigned is a token as Cloud Run passes it on.
func unsigned(t testing.TB, claims any) string {
	t.Helper()
	payload, ok := claims.(string)
	if !ok {
		data, err := json.Marshal(claims)
		if err != nil {
			t.Fatal(err)
		}
		payload = string(data)
	}
	return encode(`{"alg":"RS256","kid":"1","typ":"JWT"}`) + "." + encode(payload) + ".SIGNATURE_REMOVED_BY_GOOGLE"
}

func encode(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// checkError fails the test unless err is want and contains none of the secrets.
func checkError(t testing.TB, err, want error, secrets ...string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
	if err == nil {
		return
	}
	if len(err.Error()) > 1000 {
		t.Errorf("an error of %d bytes", len(err.Error()))
	}
	for _, s := range secrets {
		if len(s) > 8 && strings.Contains(err.Error(), s) {
			t.Errorf("the error holds the credential: %.300s", err)
		}
		for _, part := range strings.Split(s, ".") {
			if len(part) > 16 && strings.Contains(err.Error(), part) {
				t.Errorf("the error holds a part of the credential: %.300s", err)
			}
		}
	}
}

var scheduler = auth.Principal{
	Issuer: "https://accounts.google.com", Subject: "112233",
	Email: "scheduler@p-1.iam.gserviceaccount.com", Service: true, Method: "iam",
}

func schedulerToken(t testing.TB) string {
	return unsigned(t, map[string]any{
		"iss": scheduler.Issuer, "sub": scheduler.Subject, "aud": "https://health.example",
		"email": scheduler.Email, "email_verified": true, "exp": start.Add(time.Hour).Unix(),
	})
}

var backend = auth.Principal{
	Issuer: "api_key", Subject: "backend", Service: true, Method: "api_key", RatePerMinute: 600,
}

var anonymous = auth.Principal{Issuer: "none", Subject: "anonymous", Service: true, Method: "none"}

// What the request as a whole comes to, by the methods that are configured.
func TestAuthenticator(t *testing.T) {
	t.Parallel()
	clock := testclock.New(start)
	issuer := authtest.Start(t, "")
	iap := authtest.Start(t, "")
	iam := auth.NewIAM(clock.Now)
	keys := auth.NewAPIKeys(keySet(t), clock.Now)
	none := &auth.None{}
	oidc := auth.NewOIDC([]access.Issuer{{URL: issuer.URL, Audiences: []string{"app"}}}, auth.OIDCOptions{Now: clock.Now})[0]
	behindIAP := auth.NewOIDC([]access.Issuer{{URL: "https://cloud.google.com/iap", Audiences: []string{"app"}}},
		auth.OIDCOptions{Now: clock.Now, IAPKeysURL: iap.KeysURL()})[0]

	token := issuer.Sign(issuer.Claims("app", start))
	expired := issuer.Sign(issuer.Claims("app", start.Add(-2*time.Hour)))
	assertion := iap.Sign(authtest.With(iap.Claims("app", start), "iss", "https://cloud.google.com/iap"))
	platform := schedulerToken(t)
	user := auth.Principal{Issuer: issuer.URL, Subject: "user-1", Method: "oidc"}
	proxied := auth.Principal{Issuer: "https://cloud.google.com/iap", Subject: "user-1", Method: "oidc"}

	tests := []struct {
		name    string
		methods []auth.Method
		headers []string
		want    auth.Principal
		wantErr error
	}{
		{"nothing sent", []auth.Method{iam, oidc, keys}, nil, auth.Principal{}, auth.ErrNoCredential},
		{"nothing sent, none configured", []auth.Method{keys, none}, nil, anonymous, nil},
		{"no method at all", nil, nil, auth.Principal{}, auth.ErrNoCredential},
		{"one is enough: a key", []auth.Method{oidc, keys}, []string{"X-API-Key", backendKey}, backend, nil},
		{"one is enough: a token", []auth.Method{keys, oidc}, []string{"Authorization", "Bearer " + token}, user, nil},
		{"two verify, the token's method is first", []auth.Method{oidc, keys}, []string{"Authorization", "Bearer " + token, "X-API-Key", backendKey}, user, nil},
		{"two verify, the key's method is first", []auth.Method{keys, oidc}, []string{"Authorization", "Bearer " + token, "X-API-Key", backendKey}, backend, nil},
		{"a good token and a bad key", []auth.Method{oidc, keys}, []string{"Authorization", "Bearer " + token, "X-API-Key", "wrong"}, auth.Principal{}, auth.ErrInvalid},
		{"a good key and an expired token", []auth.Method{keys, oidc}, []string{"Authorization", "Bearer " + expired, "X-API-Key", backendKey}, auth.Principal{}, auth.ErrInvalid},
		{"a good key and a token that no method reads", []auth.Method{keys}, []string{"Authorization", "Bearer " + token, "X-API-Key", backendKey}, auth.Principal{}, auth.ErrInvalid},
		{"a good token and a key that no method reads", []auth.Method{oidc}, []string{"Authorization", "Bearer " + token, "X-API-Key", backendKey}, auth.Principal{}, auth.ErrInvalid},
		{"a good key and a password", []auth.Method{oidc, keys}, []string{"Authorization", "Basic dTpw", "X-API-Key", backendKey}, auth.Principal{}, auth.ErrInvalid},
		{"a good key and an empty token", []auth.Method{keys, oidc}, []string{"Authorization", "", "X-API-Key", backendKey}, auth.Principal{}, auth.ErrInvalid},
		{"none, and a bad key", []auth.Method{none, keys}, []string{"X-API-Key", "wrong"}, auth.Principal{}, auth.ErrInvalid},
		{"none listed first, and a good key", []auth.Method{none, keys}, []string{"X-API-Key", backendKey}, backend, nil},
		{"none alone reads nothing", []auth.Method{none}, []string{"Authorization", "Bearer x", "X-API-Key", "wrong"}, anonymous, nil},

		{"a key as the bearer token", []auth.Method{keys}, []string{"Authorization", "Bearer " + backendKey}, backend, nil},
		{"a key as the bearer token, where issuers' are read too", []auth.Method{oidc, keys}, []string{"Authorization", "Bearer " + backendKey}, backend, nil},
		{"a key as the bearer token, where IAM's are read too", []auth.Method{iam, keys}, []string{"Authorization", "Bearer " + backendKey}, backend, nil},
		{"a key as the bearer token beside IAM's", []auth.Method{iam, keys}, []string{"X-Serverless-Authorization", "Bearer " + platform, "Authorization", "Bearer " + backendKey}, scheduler, nil},
		{"a key as the bearer token beside IAP's assertion", []auth.Method{behindIAP, keys}, []string{"X-Goog-IAP-JWT-Assertion", assertion, "Authorization", "Bearer " + backendKey}, proxied, nil},
		{"a wrong key as the bearer token", []auth.Method{oidc, keys}, []string{"Authorization", "Bearer nonsense"}, auth.Principal{}, auth.ErrInvalid},
		{"a key, and a wrong one as the bearer token", []auth.Method{keys}, []string{"X-API-Key", backendKey, "Authorization", "Bearer nonsense"}, auth.Principal{}, auth.ErrInvalid},
		{"a wrong key, and one as the bearer token", []auth.Method{keys}, []string{"X-API-Key", "nonsense", "Authorization", "Bearer " + backendKey}, auth.Principal{}, auth.ErrInvalid},
		{"a key as the bearer token where there are none", []auth.Method{oidc}, []string{"Authorization", "Bearer " + backendKey}, auth.Principal{}, auth.ErrInvalid},

		{"IAM's token in Authorization", []auth.Method{iam}, []string{"Authorization", "Bearer " + platform}, scheduler, nil},
		{"IAM's token is not taken for an issuer's", []auth.Method{oidc, iam}, []string{"Authorization", "Bearer " + platform}, scheduler, nil},
		{"IAM's token apart, the application's beside it", []auth.Method{iam, oidc}, []string{"X-Serverless-Authorization", "Bearer " + platform, "Authorization", "Bearer " + token}, scheduler, nil},
		{"the same, the application's method first", []auth.Method{oidc, iam}, []string{"X-Serverless-Authorization", "Bearer " + platform, "Authorization", "Bearer " + token}, user, nil},
		{"IAM's token apart, the application's expired", []auth.Method{iam, oidc}, []string{"X-Serverless-Authorization", "Bearer " + platform, "Authorization", "Bearer " + expired}, auth.Principal{}, auth.ErrInvalid},
		{"IAM's token apart, the application's read by nobody", []auth.Method{iam}, []string{"X-Serverless-Authorization", "Bearer " + platform, "Authorization", "Bearer " + token}, scheduler, nil},
		{"IAM's token apart and malformed, the application's good", []auth.Method{iam, oidc}, []string{"X-Serverless-Authorization", "Bearer x", "Authorization", "Bearer " + token}, auth.Principal{}, auth.ErrInvalid},
		{"IAM's header where IAM is off", []auth.Method{oidc}, []string{"X-Serverless-Authorization", "Bearer " + platform}, auth.Principal{}, auth.ErrNoCredential},
		{"IAM's token and a good key", []auth.Method{iam, keys}, []string{"Authorization", "Bearer " + platform, "X-API-Key", backendKey}, scheduler, nil},
		{"IAM's token and a bad key", []auth.Method{iam, keys}, []string{"Authorization", "Bearer " + platform, "X-API-Key", "wrong"}, auth.Principal{}, auth.ErrInvalid},

		{"IAP's assertion", []auth.Method{behindIAP}, []string{"X-Goog-IAP-JWT-Assertion", assertion}, proxied, nil},
		{"IAP's assertion, and what was sent to IAP", []auth.Method{behindIAP}, []string{"X-Goog-IAP-JWT-Assertion", assertion, "Authorization", "Bearer for-iap"}, proxied, nil},
		{"only what was sent to IAP", []auth.Method{behindIAP}, []string{"Authorization", "Bearer for-iap"}, auth.Principal{}, auth.ErrNoCredential},
		{"IAP's assertion in Authorization", []auth.Method{oidc, behindIAP}, []string{"Authorization", "Bearer " + assertion}, auth.Principal{}, auth.ErrInvalid},
		{"an issuer's token as IAP's assertion", []auth.Method{oidc, behindIAP}, []string{"X-Goog-IAP-JWT-Assertion", token}, auth.Principal{}, auth.ErrInvalid},
		{"IAP's assertion and an expired token", []auth.Method{behindIAP, oidc}, []string{"X-Goog-IAP-JWT-Assertion", assertion, "Authorization", "Bearer " + expired}, auth.Principal{}, auth.ErrInvalid},
		{"IAP's assertion and a good token", []auth.Method{behindIAP, oidc}, []string{"X-Goog-IAP-JWT-Assertion", assertion, "Authorization", "Bearer " + token}, proxied, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := auth.New(tt.methods...).Authenticate(request(t, tt.headers...))
			checkError(t, err, tt.wantErr, token, expired, platform, assertion, backendKey)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("principal (-want +got):\n%s", diff)
			}
			wantToken := ""
			if got == user {
				wantToken = token
			}
			if got := auth.Token(request(t, tt.headers...), got); got != wantToken {
				t.Errorf("the principal's token is %.20q, want %.20q", got, wantToken)
			}
		})
	}
}

func TestUnavailableIsNotInvalid(t *testing.T) {
	t.Parallel()
	issuer := authtest.Start(t, "")
	issuer.Fail(http.StatusServiceUnavailable)
	oidc := auth.NewOIDC([]access.Issuer{{URL: issuer.URL, Audiences: []string{"app"}}}, auth.OIDCOptions{Now: testclock.New(start).Now})
	a := auth.New(append(oidc, auth.NewAPIKeys(keySet(t), testclock.New(start).Now))...)
	token := "Bearer " + issuer.Sign(issuer.Claims("app", start))

	_, err := a.Authenticate(request(t, "Authorization", token, "X-API-Key", backendKey))
	checkError(t, err, auth.ErrUnavailable)
	// With any token, this is the caller's fault.
	_, err = a.Authenticate(request(t, "Authorization", token, "X-API-Key", "wrong"))
	checkError(t, err, auth.ErrInvalid)
}

func TestQueryStringIsNeverRead(t *testing.T) {
	t.Parallel()
	issuer := authtest.Start(t, "")
	clock := testclock.New(start)
	methods := auth.NewOIDC([]access.Issuer{{URL: issuer.URL, Audiences: []string{"app"}}}, auth.OIDCOptions{Now: clock.Now})
	methods = append(methods, auth.NewIAM(clock.Now), auth.NewAPIKeys(keySet(t), clock.Now))
	a := auth.New(methods...)
	token := issuer.Sign(issuer.Claims("app", start))
	for _, query := range []string{
		"access_token=" + token, "token=" + token, "id_token=" + token, "Authorization=Bearer%20" + token,
		"key=" + backendKey, "api_key=" + backendKey, "X-API-Key=" + backendKey, "x-api-key=" + backendKey,
	} {
		r := request(t)
		r.URL.RawQuery = query
		_, err := a.Authenticate(r)
		checkError(t, err, auth.ErrNoCredential, token, backendKey)
	}
}

func TestChallenge(t *testing.T) {
	t.Parallel()
	oidc := auth.NewOIDC([]access.Issuer{{URL: "https://issuer.example", Audiences: []string{"app"}}}, auth.OIDCOptions{})[0]
	for _, tt := range []struct {
		name    string
		methods []auth.Method
		want    string
	}{
		{"tokens", []auth.Method{auth.NewIAM(nil), oidc}, `Bearer realm="gatehouse"`},
		{"keys", []auth.Method{auth.NewAPIKeys(nil, nil)}, `ApiKey realm="gatehouse"`},
		{"both", []auth.Method{auth.NewAPIKeys(nil, nil), oidc}, `Bearer realm="gatehouse", ApiKey realm="gatehouse"`},
		{"none", []auth.Method{&auth.None{}}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := auth.Challenge(tt.methods...); got != tt.want {
				t.Errorf("Challenge = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestPrincipalID(t *testing.T) {
	t.Parallel()
	if got, want := scheduler.ID(), "27:https://accounts.google.com:112233"; got != want {
		t.Errorf("ID = %q, want %q: it is stored and must not change", got, want)
	}
	t.Run("never two alike", rapid.MakeCheck(func(t *rapid.T) {
		text := rapid.StringOfN(rapid.SampledFrom([]rune("0123:/a")), 0, 6, -1)
		p := auth.Principal{Issuer: text.Draw(t, "issuer"), Subject: text.Draw(t, "subject"), Method: "oidc"}
		q := auth.Principal{Issuer: text.Draw(t, "issuer"), Subject: text.Draw(t, "subject"), Method: "iam"}
		same := p.Issuer == q.Issuer && p.Subject == q.Subject
		if (p.ID() == q.ID()) != same {
			t.Fatalf("%+v and %+v have the ids %q and %q", p, q, p.ID(), q.ID())
		}
	}))
}

// Whoever started a run may be refused before it goes on elsewhere.
func TestAdmits(t *testing.T) {
	t.Parallel()
	clock := testclock.New(start)
	oidc := auth.NewOIDC([]access.Issuer{{URL: "https://issuer.example", Audiences: []string{"app"}}}, auth.OIDCOptions{Now: clock.Now})[0]
	keys := auth.NewAPIKeys(keySet(t), clock.Now)
	unknown := auth.NewAPIKeys(func() *access.KeySet { return nil }, clock.Now)
	expired := auth.NewAPIKeys(keySet(t), func() time.Time { return start.AddDate(1, 0, 0) })
	key := func(name string) auth.Principal {
		return auth.Principal{Issuer: "api_key", Subject: name, Method: "api_key"}
	}
	person := auth.Principal{Issuer: "https://issuer.example", Subject: "ada", Method: "oidc"}
	for _, tt := range []struct {
		name    string
		methods []auth.Method
		p       auth.Principal
		want    bool
	}{
		{"a key that is there", []auth.Method{keys}, key("reports"), true},
		{"a key that has expired", []auth.Method{expired}, key("reports"), false},
		{"a key that is gone", []auth.Method{keys}, key("other"), false},
		{"a key while none is known", []auth.Method{unknown}, key("reports"), true},
		{"a key where keys are off", []auth.Method{oidc}, key("reports"), false},
		{"a person of an issuer", []auth.Method{keys, oidc}, person, true},
		{"a person where their issuer is gone", []auth.Method{keys}, person, false},
		{"a caller by iam", []auth.Method{auth.NewIAM(nil)}, scheduler, true},
		{"a caller by iam where it is off", []auth.Method{oidc}, scheduler, false},
		{"nobody where that is admitted", []auth.Method{&auth.None{}}, auth.Principal{Method: "none"}, true},
		{"nobody elsewhere", []auth.Method{keys}, auth.Principal{Method: "none"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := auth.New(tt.methods...).Admits(tt.p); got != tt.want {
				t.Errorf("Admits(%+v) = %t", tt.p, got)
			}
		})
	}
}
