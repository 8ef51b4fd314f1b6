package auth_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/gatehouse/internal/auth"
	"example.com/gatehouse/internal/auth/authtest"
	"example.com/gatehouse/internal/testclock"
)

func TestIAM(t *testing.T) {
	t.Parallel()
	claims := map[string]any{
		"iss": "https://accounts.google.com", "sub": "112233", "aud": "https://invoke.example",
		"email": "ann@example.com", "email_verified": true, "exp": start.Add(time.Hour).Unix(),
	}
	with := func(name string, value any) string { return unsigned(t, authtest.With(claims, name, value)) }
	ann := auth.Principal{Issuer: "https://accounts.google.com", Subject: "112233", Email: "ann@example.com", Method: "iam"}
	service, nameless := ann, ann
	service.Email, service.Service = "app@p-1.iam.gserviceaccount.com", true
	nameless.Email = ""
	address := func(email string) auth.Principal { p := ann; p.Email = email; return p }
	good := unsigned(t, claims)

	tests := []struct {
		name    string
		headers []string
		want    auth.Principal
		wantErr error
	}{
		{"a person", []string{"Authorization", "Bearer " + good}, ann, nil},
		{"scheme in other case, more spaces", []string{"Authorization", "bEARER   " + good}, ann, nil},
		{"a service account", []string{"Authorization", "Bearer " + with("email", service.Email)}, service, nil},
		{"the issuer without its scheme is the same caller", []string{"Authorization", "Bearer " + with("iss", "accounts.google.com")}, ann, nil},
		{"no address", []string{"Authorization", "Bearer " + with("email", nil)}, nameless, nil},
		{"an address that is not verified", []string{"Authorization", "Bearer " + unsigned(t, authtest.With(authtest.With(claims, "email", service.Email), "email_verified", false))}, nameless, nil},
		{"an address that only resembles a service account's", []string{"Authorization", "Bearer " + with("email", "a@evilgserviceaccount.com")}, address("a@evilgserviceaccount.com"), nil},
		{"an address below a service account's domain", []string{"Authorization", "Bearer " + with("email", "a@x.gserviceaccount.com.evil.example")}, address("a@x.gserviceaccount.com.evil.example"), nil},
		{"no expiry", []string{"Authorization", "Bearer " + with("exp", nil)}, ann, nil},
		{"expired within the leeway", []string{"Authorization", "Bearer " + with("exp", start.Add(-59*time.Second).Unix())}, ann, nil},
		{"expired", []string{"Authorization", "Bearer " + with("exp", start.Add(-60*time.Second).Unix())}, auth.Principal{}, auth.ErrInvalid},
		{"another issuer", []string{"Authorization", "Bearer " + with("iss", "https://issuer.example")}, auth.Principal{}, auth.ErrInvalid},
		{"no issuer", []string{"Authorization", "Bearer " + with("iss", nil)}, auth.Principal{}, auth.ErrInvalid},
		{"no subject", []string{"Authorization", "Bearer " + with("sub", nil)}, auth.Principal{}, auth.ErrInvalid},
		{"a subject that is a number", []string{"Authorization", "Bearer " + with("sub", 112233)}, auth.Principal{}, auth.ErrInvalid},
		{"the subject twice", []string{"Authorization", "Bearer " + unsigned(t, `{"iss":"https://accounts.google.com","sub":"1","sub":"2"}`)}, auth.Principal{}, auth.ErrInvalid},
		{"a claim twice, deep inside", []string{"Authorization", "Bearer " + unsigned(t, `{"iss":"https://accounts.google.com","sub":"1","x":[{"a":1,"a":2}]}`)}, auth.Principal{}, auth.ErrInvalid},
		{"the subject in other case is another claim", []string{"Authorization", "Bearer " + unsigned(t, `{"iss":"https://accounts.google.com","Sub":"1"}`)}, auth.Principal{}, auth.ErrInvalid},
		{"claims with more behind them", []string{"Authorization", "Bearer " + unsigned(t, `{"iss":"https://accounts.google.com","sub":"1"} {}`)}, auth.Principal{}, auth.ErrInvalid},
		{"claims that are not UTF-8", []string{"Authorization", "Bearer " + unsigned(t, "{\"iss\":\"https://accounts.google.com\",\"sub\":\"\xff\"}")}, auth.Principal{}, auth.ErrInvalid},
		{"claims that are a list", []string{"Authorization", "Bearer " + unsigned(t, `[]`)}, auth.Principal{}, auth.ErrInvalid},
		{"two headers", []string{"Authorization", "Bearer " + good, "Authorization", "Bearer " + good}, auth.Principal{}, auth.ErrInvalid},
		{"two tokens in one header", []string{"Authorization", "Bearer " + good + ", Bearer " + good}, auth.Principal{}, auth.ErrInvalid},
		{"a token and a word in one header", []string{"Authorization", "Bearer " + good + ", Bearer x"}, auth.Principal{}, auth.ErrInvalid},
		{"two parts", []string{"Authorization", "Bearer " + good[:strings.LastIndex(good, ".")]}, auth.Principal{}, auth.ErrInvalid},
		{"four parts", []string{"Authorization", "Bearer " + good + ".x"}, auth.Principal{}, auth.ErrInvalid},
		{"no signature", []string{"Authorization", "Bearer " + good[:strings.LastIndex(good, ".")+1]}, auth.Principal{}, auth.ErrInvalid},
		{"an opaque token", []string{"Authorization", "Bearer ya29.opaque"}, auth.Principal{}, auth.ErrInvalid},
		{"a scheme alone", []string{"Authorization", "Bearer"}, auth.Principal{}, auth.ErrInvalid},
		{"no scheme", []string{"Authorization", good}, auth.Principal{}, auth.ErrInvalid},
		{"100 KB", []string{"Authorization", "Bearer " + with("x", strings.Repeat("x", 100<<10))}, auth.Principal{}, auth.ErrInvalid},
		{"X-Serverless-Authorization alone", []string{"X-Serverless-Authorization", "Bearer " + good}, ann, nil},
		{"X-Serverless-Authorization before Authorization", []string{"X-Serverless-Authorization", "Bearer " + good, "Authorization", "Bearer other"}, ann, nil},
		{"X-Serverless-Authorization bad, Authorization good", []string{"X-Serverless-Authorization", "Bearer other", "Authorization", "Bearer " + good}, auth.Principal{}, auth.ErrInvalid},
		{"X-Serverless-Authorization twice", []string{"X-Serverless-Authorization", "Bearer " + good, "X-Serverless-Authorization", "Bearer " + good}, auth.Principal{}, auth.ErrInvalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, ok, err := auth.NewIAM(testclock.New(start).Now).Authenticate(request(t, tt.headers...))
			if !ok {
				t.Error("the credential was not seen")
			}
			checkError(t, err, tt.wantErr, good)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("principal (-want +got):\n%s", diff)
			}
		})
	}
}
