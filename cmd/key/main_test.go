package main

import (
	"bytes"
	"fmt"
	"net/http/httptest"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"example.com/gatehouse/internal/access"
	"example.com/gatehouse/internal/auth"
	"example.com/gatehouse/internal/jws"
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

func TestACardKeyFitsItsEntry(t *testing.T) {
	public, entry, err := makeCardKey("2026-11")
	if err != nil {
		t.Fatal(err)
	}
	keys, err := jws.ParseKeys(fmt.Appendf(nil, `{"keys": [%s]}`, entry))
	if err != nil {
		t.Fatal(err)
	}
	document := []byte(`{"name":"keeper"}`)
	signatures, err := keys.Sign(document, "")
	if err != nil || len(signatures) != 1 {
		t.Fatalf("%v, %v", signatures, err)
	}
	signed, err := jose.ParseDetached(signatures[0].Protected+".."+signatures[0].Signature, document, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	var key jose.JSONWebKey
	if err := key.UnmarshalJSON([]byte(public)); err != nil || !key.IsPublic() {
		t.Fatalf("%s: %v", public, err)
	}
	if _, err := signed.Verify(key); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"", "a name with spaces"} {
		if _, _, err := makeCardKey(name); err == nil {
			t.Errorf("a key without a kid was made: %q", name)
		}
	}
}
