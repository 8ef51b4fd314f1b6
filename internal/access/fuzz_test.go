package access_test

import (
	"strings"
	"testing"

	"example.com/gatehouse/internal/access"
	"example.com/gatehouse/internal/caller"
)

// FuzzParseOperators checks that an entry is refused, or is the one caller that it names.
func FuzzParseOperators(f *testing.F) {
	for _, seed := range []string{
		"email:ops@example.com@https://issuer.example", "sub:1234@https://issuer.example#t-1", "key:backend", "account:ops@p.iam.gserviceaccount.com",
		"sub:a@https://b@https://c", "email:@https://issuer.example", "sub:x@https://issuer.example#", "key:", "other:x", "", "sub:@http://localhost:1",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, entry string) {
		operators, err := access.ParseOperators([]string{entry}, false)
		if err != nil {
			if len(operators) != 0 {
				t.Errorf("%q is refused and kept: %v, %+v", entry, err, operators)
			}
			return
		}
		if len(operators) != 1 {
			t.Fatalf("%q: %d operators", entry, len(operators))
		}
		o := operators[0]
		p := caller.Principal{Issuer: o.Issuer, Tenant: o.Tenant, Subject: o.Value, Email: o.Value, Method: map[string]string{
			"email": caller.MethodOIDC, "sub": caller.MethodOIDC, "key": caller.MethodAPIKey, "account": caller.MethodIAM,
		}[o.Kind]}
		if !operators.Include(p) || o.Value == "" || !strings.Contains(entry, o.Value) {
			t.Errorf("%q is %+v", entry, o)
		}
		other := p
		other.Subject, other.Email = p.Subject+"x", p.Email+"x"
		if operators.Include(other) || operators.Include(caller.Principal{Method: p.Method}) {
			t.Errorf("%q lets others in", entry)
		}
		if p.Method == caller.MethodOIDC {
			other = p
			if other.Issuer += "x"; operators.Include(other) {
				t.Errorf("%q lets another issuer's in", entry)
			}
			other = p
			if other.Tenant += "x"; operators.Include(other) {
				t.Errorf("%q lets another tenant's in", entry)
			}
		}
	})
}
