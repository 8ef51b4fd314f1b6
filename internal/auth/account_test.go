package auth_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/gatehouse/internal/access"
	"example.com/gatehouse/internal/auth"
	"example.com/gatehouse/internal/auth/authtest"
	"example.com/gatehouse/internal/caller"
	"example.com/gatehouse/internal/testclock"
)

// One account is admitted for one audience, whether the service verifies the token or
// Cloud Run has.
func TestOneAccountForOneAudience(t *testing.T) {
	t.Parallel()
	const account, audience = "gatehouse-tasks@p-1.iam.gserviceaccount.com", "https://invoke-1.us-central1.run.app"
	issuer := authtest.Start(t, "RS256")
	other := authtest.Start(t, "RS256")
	claims := issuer.Claims(audience, start)
	claims["email"], claims["email_verified"] = account, true
	with := func(name string, value any) map[string]any { return authtest.With(claims, name, value) }
	byGoogle := func(claims map[string]any) map[string]any {
		return authtest.With(claims, "iss", "https://accounts.google.com")
	}
	verifying := newOIDC(t, testclock.New(start), auth.AccountIssuer(issuer.URL, account, audience))
	behindIAM := auth.NewIAMAccount(account, audience, testclock.New(start).Now)
	for _, tt := range []struct {
		name   string
		claims map[string]any
		want   error
	}{
		{"its token", claims, nil},
		{"another account's", with("email", "app@p-1.iam.gserviceaccount.com"), auth.ErrInvalid},
		{"a person's", with("email", "ada@example.com"), auth.ErrInvalid},
		{"an account that only begins alike", with("email", account+".evil.example"), auth.ErrInvalid},
		{"the address is not verified", with("email_verified", false), auth.ErrInvalid},
		{"nothing says that the address is verified", with("email_verified", nil), auth.ErrInvalid},
		{"no address", with("email", nil), auth.ErrInvalid},
		{"for another service", with("aud", "https://health-1.us-central1.run.app"), auth.ErrInvalid},
		{"for the service and its path", with("aud", audience+"/tasks"), auth.ErrInvalid},
		{"for nobody", with("aud", nil), auth.ErrInvalid},
		{"no subject", with("sub", nil), auth.ErrInvalid},
		{"expired", with("exp", start.Add(-time.Hour).Unix()), auth.ErrInvalid},
		{"not valid yet", with("nbf", start.Add(time.Hour).Unix()), auth.ErrInvalid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, _, err := verifying.Authenticate(request(t, "Authorization", "Bearer "+issuer.Sign(tt.claims)))
			checkError(t, err, tt.want)
			want := auth.Principal{Issuer: issuer.URL, Subject: "user-1", Email: account, Service: true, Method: caller.MethodOIDC}
			if diff := cmp.Diff(want, p); err == nil && diff != "" {
				t.Errorf("verified here (-want +got):\n%s", diff)
			}
			p, _, err = behindIAM.Authenticate(request(t, "Authorization", "Bearer "+unsigned(t, byGoogle(tt.claims))))
			checkError(t, err, tt.want)
			want.Issuer, want.Method = "https://accounts.google.com", caller.MethodIAM
			if diff := cmp.Diff(want, p); err == nil && diff != "" {
				t.Errorf("verified by Cloud Run (-want +got):\n%s", diff)
			}
		})
	}
	good := issuer.Sign(claims)
	cut := strings.LastIndex(good, ".")
	for name, token := range map[string]string{
		"signed by another":       other.Sign(claims),
		"another's signature":     good[:cut] + other.Sign(claims)[strings.LastIndex(other.Sign(claims), "."):],
		"not signed":              unsigned(t, claims),
		"signed, and of Google's": issuer.Sign(byGoogle(claims)),
		"no token":                "x",
	} {
		if _, _, err := verifying.Authenticate(request(t, "Authorization", "Bearer "+token)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for _, method := range []auth.Method{verifying, behindIAM} {
		if _, ok, err := method.Authenticate(request(t)); ok || err != nil {
			t.Errorf("without a token: %v, %v", ok, err)
		}
	}
}

// An entry for an account stands before others of its issuer, and only its own callers
// may name end users.
func TestAnAccountBesideItsIssuersPeople(t *testing.T) {
	t.Parallel()
	const account = "gatehouse-schedules@p-1.iam.gserviceaccount.com"
	issuer := authtest.Start(t, "")
	m := newOIDC(t, testclock.New(start), auth.AccountIssuer(issuer.URL, account, "app"), access.Issuer{URL: issuer.URL, Audiences: []string{"app"}})
	for email, service := range map[string]bool{account: true, "ada@example.com": false} {
		claims := issuer.Claims("app", start)
		claims["email"], claims["email_verified"] = email, true
		p, _, err := m.Authenticate(request(t, "Authorization", "Bearer "+issuer.Sign(claims)))
		if err != nil || p.Service != service || p.Email != email {
			t.Errorf("%s: %+v, %v", email, p, err)
		}
	}
}
