package main

import (
	"fmt"
	"net/http/httptest"
	"testing"

	"example.com/gatehouse/internal/auth"
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
	set, err := auth.ParseKeys(fmt.Appendf(nil, "[%s]", entry))
	if err != nil {
		t.Fatal(err)
	}
	method := auth.NewAPIKeys(func() *auth.KeySet { return set }, nil)
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
