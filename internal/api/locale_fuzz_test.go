package api_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"example.com/gatehouse/internal/api"
)

// FuzzLocale checks that a tag is one of the header's, has no more than 35 bytes, and is what a
// header of only it means.
func FuzzLocale(f *testing.F) {
	for _, seed := range []string{"de-CH, de;q=0.9, en;q=0.8, *;q=0.5", "en;q=0", "en;q=1.0001", "en;Q=0.5", "*", "", "x-private", "e\x00n", "de;q=0.5;q=1", "zh-Hant-TW", strings.Repeat("a-", 40)} {
		f.Add(seed, "")
	}
	f.Add("de;q=0.1", "fr")
	f.Fuzz(func(t *testing.T, first, second string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header["Accept-Language"] = []string{first, second}
		tag := api.Locale(r)
		if tag == "" {
			return
		}
		if len(tag) > 35 || !strings.Contains(first+","+second, tag) {
			t.Errorf("%q and %q mean %q", first, second, tag)
		}
		r.Header["Accept-Language"] = []string{tag}
		if again := api.Locale(r); again != tag {
			t.Errorf("%q means %q", tag, again)
		}
	})
}
