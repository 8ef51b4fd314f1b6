package auth_test

import (
	"fmt"
	"strings"
	"testing"

	"example.com/gatehouse/internal/access"
	"example.com/gatehouse/internal/auth"
	"example.com/gatehouse/internal/auth/authtest"
	"example.com/gatehouse/internal/testclock"
)

// What it costs to accept and, above all, to refuse: anybody can ask for that.

func BenchmarkAPIKey(b *testing.B) {
	entries := []string{`{"name": "backend", "sha256": "` + hash(backendKey) + `"}`}
	for i := range 50 {
		entries = append(entries, fmt.Sprintf(`{"name": "k%d", "sha256": %q}`, i, hash(fmt.Sprint(i))))
	}
	set := mustParseKeys(b, "["+strings.Join(entries, ",")+"]")
	m := auth.NewAPIKeys(func() *access.KeySet { return set }, testclock.New(start).Now)
	for name, key := range map[string]string{"good": backendKey, "bad": "wrong", "bad, 10 KB": strings.Repeat("k", 10<<10)} {
		b.Run(name, func(b *testing.B) {
			r := request(b, "X-API-Key", key)
			for b.Loop() {
				_, _, _ = m.Authenticate(r)
			}
		})
	}
}

func BenchmarkOIDC(b *testing.B) {
	for _, algorithm := range []string{"RS256", "ES256"} {
		issuer := authtest.Start(b, algorithm)
		m := newOIDC(b, testclock.New(start), access.Issuer{URL: issuer.URL, Audiences: []string{"app"}})
		good := issuer.Sign(issuer.Claims("app", start))
		cut := strings.LastIndex(good, ".")
		for _, bb := range []struct{ name, token string }{
			{"good", good},
			{"bad signature", good[:cut] + "." + strings.Split(issuer.Sign(issuer.Claims("other", start)), ".")[2]},
			{"unknown key", issuer.SignWithKeyID("other", issuer.Claims("app", start))},
			{"expired", issuer.Sign(authtest.With(issuer.Claims("app", start), "exp", 1))},
			{"15 KB, wrong audience", issuer.Sign(authtest.With(issuer.Claims("other", start), "x", strings.Repeat("x", 11<<10)))},
		} {
			b.Run(algorithm+"/"+bb.name, func(b *testing.B) {
				r := request(b, "Authorization", "Bearer "+bb.token)
				for b.Loop() {
					_, _, _ = m.Authenticate(r)
				}
			})
		}
	}
}

func BenchmarkIAM(b *testing.B) {
	m := auth.NewIAM(testclock.New(start).Now)
	r := request(b, "Authorization", "Bearer "+schedulerToken(b))
	for b.Loop() {
		_, _, _ = m.Authenticate(r)
	}
}
