package webhook_test

import (
	"strings"
	"testing"

	"example.com/gatehouse/internal/webhook"
)

// FuzzParseSecrets checks that a secret's text is read or refused, and never repeated in an error.
func FuzzParseSecrets(f *testing.F) {
	secret := webhook.Prefix + strings.Repeat("QUJD", 8)
	for _, seed := range []string{
		`[]`, `null`, `{}`, `[{"name":"n","secret":"` + secret + `"}]`, `[{"name":"n","secret":"` + secret + `","expires":"2027-01-01T00:00:00Z"}]`,
		`[{"name":"n","secret":"` + secret + `","expires":"0001-01-01T00:00:00Z"},{"name":"n","secret":"whsec_x"}]`,
		`[{"name":"","secret":"` + secret + `"}]`, `[{"name":"n","secret":"` + secret + `","x":1}]`, `[1]`, `[{"name":"n","name":"m"}]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		secrets, err := webhook.ParseSecrets(text)
		if err != nil {
			if strings.Contains(err.Error(), "QUJDQUJD") {
				t.Errorf("the error repeats a secret: %v", err)
			}
			return
		}
		if n := secrets.Len(); n > strings.Count(string(text), "{") {
			t.Errorf("%d secrets in %s", n, text)
		}
	})
}
