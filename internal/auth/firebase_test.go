package auth_test

import (
	"testing"

	"example.com/gatehouse/internal/access"
	"example.com/gatehouse/internal/auth"
	"example.com/gatehouse/internal/auth/authtest"
	"example.com/gatehouse/internal/caller"
	"example.com/gatehouse/internal/testclock"
)

// Tokens as Firebase and Identity Platform make them.
func TestFirebaseTenantsAndAnonymousUsers(t *testing.T) {
	t.Parallel()
	firebase := func(tenant, provider string) any {
		member := map[string]any{"identities": map[string]any{}, "sign_in_provider": provider}
		if tenant != "" {
			member["tenant"] = tenant
		}
		return member
	}
	issuer := authtest.Start(t, "")
	entry := func(claims ...string) string {
		text := issuer.URL + "|app"
		for _, c := range claims {
			text += "|" + c
		}
		return text
	}
	const anonymous = "firebase.sign_in_provider=anonymous"
	for _, tt := range []struct {
		name     string
		issuers  string
		firebase any // nil: no such member
		want     error
	}{
		{"the tenant that is demanded", entry("firebase.tenant=acme"), firebase("acme", "password"), nil},
		{"another tenant", entry("firebase.tenant=acme"), firebase("evil", "password"), auth.ErrInvalid},
		{"no tenant", entry("firebase.tenant=acme"), firebase("", "password"), auth.ErrInvalid},
		{"no Firebase token", entry("firebase.tenant=acme"), nil, auth.ErrInvalid},
		{"the member is text", entry("firebase.tenant=acme"), "acme", auth.ErrInvalid},
		{"the member is a list", entry("firebase.tenant=acme"), []any{map[string]any{"tenant": "acme"}}, auth.ErrInvalid},
		{"one of two tenants", entry("firebase.tenant=acme") + "," + entry("firebase.tenant=globex"), firebase("globex", "password"), nil},
		{"any tenant, where none is demanded", entry(), firebase("acme", "password"), nil},
		{"an anonymous user", entry(), firebase("", "anonymous"), auth.ErrInvalid},
		{"an anonymous user of the tenant", entry("firebase.tenant=acme"), firebase("acme", "anonymous"), auth.ErrInvalid},
		{"an anonymous user where they are asked for", entry() + "," + entry(anonymous), firebase("", "anonymous"), nil},
		{"a known user where anonymous ones are asked for too", entry() + "," + entry(anonymous), firebase("", "password"), nil},
		{"a known user where only anonymous ones are asked for", entry(anonymous), firebase("", "password"), auth.ErrInvalid},
		{"an anonymous user of another tenant than is asked for", entry("firebase.tenant=acme", anonymous), firebase("evil", "anonymous"), auth.ErrInvalid},
		{"no Firebase token, where none is demanded", entry(), nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			issuers, err := access.ParseIssuers(tt.issuers, nil, true)
			if err != nil {
				t.Fatal(err)
			}
			m := newOIDC(t, testclock.New(start), issuers...)
			_, err = authenticate(t, m, issuer.Sign(authtest.With(issuer.Claims("app", start), "firebase", tt.firebase)))
			checkError(t, err, tt.want)
		})
	}

	// A claim of the developer's, whose name is the path of Firebase's own.
	issuers, _ := access.ParseIssuers(entry("firebase.tenant=acme"), nil, true)
	m := newOIDC(t, testclock.New(start), issuers...)
	_, err := authenticate(t, m, issuer.Sign(authtest.With(issuer.Claims("app", start), "firebase.tenant", "acme")))
	checkError(t, err, auth.ErrInvalid)
	// A name that is an address has its dots for itself.
	issuers, _ = access.ParseIssuers(entry("https://example.com/role=admin"), nil, true)
	m = newOIDC(t, testclock.New(start), issuers...)
	_, err = authenticate(t, m, issuer.Sign(authtest.With(issuer.Claims("app", start), "https://example.com/role", "admin")))
	checkError(t, err, nil)
	for _, bad := range []string{"firebase.=a", ".tenant=a", "a..b=c"} {
		if _, err := access.ParseIssuers(entry(bad), nil, true); err == nil {
			t.Errorf("the claim %s is accepted", bad)
		}
	}
}

// One uid in two tenants is two people; what was stored for callers without a
// tenant stays theirs.
func TestATenantIsPartOfTheOwner(t *testing.T) {
	t.Parallel()
	issuer := authtest.Start(t, "")
	m := newOIDC(t, testclock.New(start), access.Issuer{URL: issuer.URL, Audiences: []string{"app"}})
	ids := map[string]string{}
	for _, tenant := range []string{"", "acme", "globex"} {
		member := map[string]any{"sign_in_provider": "password"}
		if tenant != "" {
			member["tenant"] = tenant
		}
		p, err := authenticate(t, m, issuer.Sign(authtest.With(issuer.Claims("app", start), "firebase", member)))
		checkError(t, err, nil)
		if p.Tenant != tenant {
			t.Errorf("the tenant %q is %q", tenant, p.Tenant)
		}
		if other, ok := ids[p.ID()]; ok {
			t.Errorf("the tenants %q and %q have one owner", tenant, other)
		}
		ids[p.ID()] = tenant
	}
	before := caller.Principal{Issuer: issuer.URL, Subject: "user-1"}
	if tenant, ok := ids[before.ID()]; !ok || tenant != "" {
		t.Error("a user without a tenant has another owner than before there were tenants")
	}
	if got := (caller.Principal{Issuer: "i", Subject: "s"}).ID(); got != "1:i:s" {
		t.Errorf("the id of a caller without a tenant is %q", got)
	}
}

// In IAP's assertions what Firebase knows lies one member deeper.
func TestIAPForPeopleOfIdentityPlatform(t *testing.T) {
	t.Parallel()
	iap := authtest.Start(t, "ES256")
	m := auth.NewOIDC([]access.Issuer{{URL: access.IAPIssuer, Audiences: []string{"app"}}}, auth.OIDCOptions{Now: testclock.New(start).Now, IAPKeysURL: iap.KeysURL()})[0]
	for provider, want := range map[string]error{"password": nil, "anonymous": auth.ErrInvalid} {
		claims := authtest.With(iap.Claims("app", start), "iss", access.IAPIssuer)
		claims["gcip"] = map[string]any{"firebase": map[string]any{"sign_in_provider": provider, "tenant": "acme"}}
		p, _, err := m.Authenticate(request(t, "X-Goog-IAP-JWT-Assertion", iap.Sign(claims)))
		checkError(t, err, want)
		if want == nil && p.Tenant != "acme" {
			t.Errorf("the tenant is %q", p.Tenant)
		}
	}
}
