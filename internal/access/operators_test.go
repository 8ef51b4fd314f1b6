package access_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/gatehouse/internal/access"
	"example.com/gatehouse/internal/auth"
)

const someIssuer = "https://issuer.example"

func TestParseOperators(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		entry string
		want  access.Operator
	}{
		{"email:ops@example.com@https://issuer.example", access.Operator{Kind: "email", Value: "ops@example.com", Issuer: someIssuer}},
		{"email:ops@example.com@https://issuer.example/path#acme", access.Operator{Kind: "email", Value: "ops@example.com", Issuer: someIssuer + "/path", Tenant: "acme"}},
		{"sub:1234@https://issuer.example", access.Operator{Kind: "sub", Value: "1234", Issuer: someIssuer}},
		{"sub:a@https://b@https://issuer.example", access.Operator{Kind: "sub", Value: "a@https://b", Issuer: someIssuer}},
		{"sub:1234@http://127.0.0.1:8085", access.Operator{Kind: "sub", Value: "1234", Issuer: "http://127.0.0.1:8085"}},
		{"key:backend", access.Operator{Kind: "key", Value: "backend"}},
		{"account:ops@p.iam.gserviceaccount.com", access.Operator{Kind: "account", Value: "ops@p.iam.gserviceaccount.com"}},
	} {
		got, err := access.ParseOperators([]string{tt.entry}, true)
		if diff := cmp.Diff(access.Operators{tt.want}, got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", tt.entry, err, diff)
		}
	}
	for _, entry := range []string{
		"ops@example.com", "backend", "", "email:", "sub:", "key:", "account:", "email:ops@example.com", "sub:1234", "sub:@https://issuer.example",
		"email:ops@https://issuer.example", "email:@example.com@https://issuer.example", "email:a@b@c@https://issuer.example",
		"sub:1234@http://issuer.example", "sub:1234@https://issuer.example?x", "sub:1234@https://", "sub:1234@https://issuer.example#", "sub:1@https://i.example#a#b",
		"key:-x", "key:a b", "key:" + strings.Repeat("a", 65), "account:ops", "account:ops@p/x", "Key:backend", "user:ann@example.com",
	} {
		if got, err := access.ParseOperators([]string{"key:good", entry}, true); err == nil || !strings.Contains(err.Error(), "entry 2: ") {
			t.Errorf("%q is %v, %v; want an error that tells of entry 2", entry, got, err)
		}
	}
	if _, err := access.ParseOperators([]string{"sub:1234@http://127.0.0.1:8085"}, false); err == nil {
		t.Error("an issuer in plaintext passes in production")
	}
}

func TestOperators(t *testing.T) {
	t.Parallel()
	const method, other = "oidc", "https://other.example"
	for _, tt := range []struct {
		name      string
		operators []string
		p         auth.Principal
		want      bool
	}{
		{"nobody named, a key", nil, auth.Principal{Method: "api_key", Issuer: "api_key", Subject: "backend"}, true},
		{"nobody named, an account", nil, auth.Principal{Method: "iam", Subject: "1", Email: "a@p.iam.gserviceaccount.com"}, true},
		{"nobody named, a person's token", nil, auth.Principal{Method: method, Issuer: someIssuer, Subject: "1", Email: "ops@example.com"}, false},
		{"no authentication", []string{"key:backend"}, auth.Principal{Method: "none"}, true},
		{"the address", []string{"email:ops@example.com@" + someIssuer}, auth.Principal{Method: method, Issuer: someIssuer, Subject: "1", Email: "ops@example.com"}, true},
		{"a subject that looks like the address", []string{"email:ops@example.com@" + someIssuer}, auth.Principal{Method: method, Issuer: someIssuer, Subject: "ops@example.com"}, false},
		{"the address by another issuer", []string{"email:ops@example.com@" + someIssuer}, auth.Principal{Method: method, Issuer: other, Subject: "1", Email: "ops@example.com"}, false},
		{"the address in a tenant", []string{"email:ops@example.com@" + someIssuer}, auth.Principal{Method: method, Issuer: someIssuer, Subject: "1", Email: "ops@example.com", Tenant: "acme"}, false},
		{"the address in the named tenant", []string{"email:ops@example.com@" + someIssuer + "#acme"}, auth.Principal{Method: method, Issuer: someIssuer, Subject: "1", Email: "ops@example.com", Tenant: "acme"}, true},
		{"the address in another tenant", []string{"email:ops@example.com@" + someIssuer + "#acme"}, auth.Principal{Method: method, Issuer: someIssuer, Subject: "1", Email: "ops@example.com", Tenant: "evil"}, false},
		{"the subject", []string{"sub:1234@" + someIssuer}, auth.Principal{Method: method, Issuer: someIssuer, Subject: "1234"}, true},
		{"the subject by another issuer", []string{"sub:1234@" + someIssuer}, auth.Principal{Method: method, Issuer: other, Subject: "1234"}, false},
		{"a subject that is a key's name", []string{"key:backend"}, auth.Principal{Method: method, Issuer: someIssuer, Subject: "backend"}, false},
		{"a subject that is an account", []string{"account:ops@p.example"}, auth.Principal{Method: method, Issuer: someIssuer, Subject: "ops@p.example", Email: "ops@p.example"}, false},
		{"a key named like an address", []string{"email:ops@example.com@" + someIssuer}, auth.Principal{Method: "api_key", Issuer: "api_key", Subject: "ops@example.com"}, false},
		{"a key named like an account", []string{"account:ops@p.example"}, auth.Principal{Method: "api_key", Issuer: "api_key", Subject: "ops@p.example"}, false},
		{"the key", []string{"key:other", "key:backend"}, auth.Principal{Method: "api_key", Issuer: "api_key", Subject: "backend"}, true},
		{"another key", []string{"key:other"}, auth.Principal{Method: "api_key", Issuer: "api_key", Subject: "backend"}, false},
		{"the account", []string{"account:ops@p.example"}, auth.Principal{Method: "iam", Issuer: "https://accounts.google.com", Subject: "1", Email: "ops@p.example"}, true},
		{"an account that is not named", []string{"key:backend"}, auth.Principal{Method: "iam", Issuer: "https://accounts.google.com", Subject: "backend"}, false},
	} {
		operators, err := access.ParseOperators(slices.Clone(tt.operators), false)
		if err != nil {
			t.Fatal(err)
		}
		if got := operators.Include(tt.p); got != tt.want {
			t.Errorf("%s: %t, want %t", tt.name, got, tt.want)
		}
	}
}
