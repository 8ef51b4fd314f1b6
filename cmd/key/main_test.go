package main

import (
	"bytes"
	"fmt"
	"net/http/httptest"
	"testing"

	"example.com/gatehouse/internal/access"
	"example.com/gatehouse/internal/auth"
	"example.com/gatehouse/internal/webhook"
)

func TestAKeyFitsItsEntry(t *testing.T) {
	key, entry, err := make256("backend")
	if err != nil {
		t.Fatal(err)
	}
	other, _, err := make256("backend")
	if err != nil || other == key {
		t.Fatalf("a second key is %q, %v", other, err)
	}
	set, err := access.ParseKeys(fmt.Appendf(nil, "[%s]", entry))
	if err != nil {
		t.Fatal(err)
	}
	method := auth.NewAPIKeys(func() *access.KeySet { return set }, nil)
	for sent, want := range map[string]bool{key: true, other: false} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("X-API-Key", sent)
		p, _, err := method.Authenticate(r)
		if (err == nil) != want || want && p.Subject != "backend" {
			t.Errorf("%+v, %v; want it taken: %v", p, err, want)
		}
	}
	if _, _, err := make256("a name with spaces"); err == nil {
		t.Error("a name that no entry may have is taken")
	}
}

func TestASecretFitsItsEntry(t *testing.T) {
	secret, entry, err := makeSecret("2026-11")
	if err != nil {
		t.Fatal(err)
	}
	if other, _, err := makeSecret("2026-11"); err != nil || other == secret {
		t.Fatalf("a second secret is %q, %v", other, err)
	}
	if set, err := webhook.ParseSecrets(fmt.Appendf(nil, "[%s]", entry)); err != nil || set.Len() != 1 || !bytes.Contains(entry, []byte(secret)) {
		t.Errorf("%s: %v", entry, err)
	}
	if _, _, err := makeSecret(""); err == nil {
		t.Error("a secret without a name was made")
	}
}
