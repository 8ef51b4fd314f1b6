package access_test

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"example.com/gatehouse/internal/access"
)

func hash(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

func TestParseKeys(t *testing.T) {
	t.Parallel()
	sum, other := hash("a key"), hash("another key")
	tests := []struct {
		name, text string
		wantErr    string // empty: none
	}{
		{"name and hash", `[{"name": "a", "sha256": "` + sum + `"}]`, ""},
		{"everything", `[{"name": "a", "sha256": "` + sum + `", "expires": "2027-01-01T00:00:00Z", "rate_limit_per_minute": 1, "end_users": false}]`, ""},
		{"two live at once", `[{"name": "a-1", "sha256": "` + sum + `"}, {"name": "a-2", "sha256": "` + other + `"}]`, ""},
		{"empty text", ``, "not a JSON list"},
		{"no list", `{"name": "a", "sha256": "` + sum + `"}`, "not a JSON list"},
		{"the hash alone", `"` + sum + `"`, "not a JSON list"},
		{"null", `null`, "not a JSON list"},
		{"an entry that is null", `[null]`, "entry 1: not an object"},
		{"trailing data", `[{"name": "a", "sha256": "` + sum + `"}] ` + sum, "not a JSON list"},
		{"a field twice", `[{"name": "a", "sha256": "` + sum + `", "sha256": "` + other + `"}]`, "twice"},
		{"a field in other case", `[{"name": "a", "SHA256": "` + sum + `"}]`, "unknown field"},
		{"an unknown field", `[{"name": "a", "sha256": "` + sum + `", "scopes": []}]`, "unknown field"},
		{"the hash for a field", `[{"name": "a", "` + sum + `": 1}]`, "unknown field"},
		{"no name", `[{"sha256": "` + sum + `"}]`, "name: want"},
		{"the name null", `[{"name": null, "sha256": "` + sum + `"}]`, "name: want"},
		{"a name that would forge a log line", `[{"name": "a\nb", "sha256": "` + sum + `"}]`, "name: want"},
		{"the hash for a name", `[{"name": "` + sum + sum + `", "sha256": "` + sum + `"}]`, "name: want"},
		{"no hash", `[{"name": "a"}]`, "sha256: want"},
		{"a short hash", `[{"name": "a", "sha256": "` + sum[:62] + `"}]`, "sha256: want"},
		{"a long hash", `[{"name": "a", "sha256": "` + sum + `00"}]`, "sha256: want"},
		{"a hash of other letters", `[{"name": "a", "sha256": "` + sum[:63] + `g"}]`, "sha256: want"},
		{"the hash a list", `[{"name": "a", "sha256": ["` + sum + `"]}]`, "sha256: wrong type"},
		{"a hash twice", `[{"name": "a", "sha256": "` + sum + `"}, {"name": "b", "sha256": "` + strings.ToUpper(sum) + `"}]`, "entry 2: sha256: another"},
		{"the hash for a time", `[{"name": "a", "sha256": "` + sum + `", "expires": "` + sum + `"}]`, "expires: wrong type or form"},
		{"a time without a zone", `[{"name": "a", "sha256": "` + sum + `", "expires": "2027-01-01T00:00:00"}]`, "expires: wrong type or form"},
		{"no calls a minute", `[{"name": "a", "sha256": "` + sum + `", "rate_limit_per_minute": 0}]`, "rate_limit_per_minute: want"},
		{"half a call a minute", `[{"name": "a", "sha256": "` + sum + `", "rate_limit_per_minute": 0.5}]`, "rate_limit_per_minute: wrong type"},
		{"end users in words", `[{"name": "a", "sha256": "` + sum + `", "end_users": "yes"}]`, "end_users: wrong type"},
		{"two entries at fault", `[{"name": "a"}, {"name": "b", "sha256": "` + sum + `"}, {"sha256": "` + other + `"}]`, "entry 3: name"},
	}
	if set, err := access.ParseKeys([]byte(`[]`)); err != nil || set.Len() != 0 {
		t.Errorf("an empty list is %v, %v; want nobody", set, err)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			set, err := access.ParseKeys([]byte(tt.text))
			if tt.wantErr == "" {
				if err != nil || set.Len() == 0 {
					t.Errorf("ParseKeys = %v, %v", set, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
				t.Fatalf("error %v, want one with %q", err, tt.wantErr)
			}
			for _, s := range []string{sum[:62], other[:62]} {
				if strings.Contains(strings.ToLower(err.Error()), s) {
					t.Errorf("the error holds the hash: %v", err)
				}
			}
		})
	}
}

func FuzzParseKeys(f *testing.F) {
	f.Add([]byte(`[{"name": "a", "sha256": "` + hash("a") + `", "expires": "2027-01-01T00:00:00Z", "rate_limit_per_minute": 1, "end_users": true}]`))
	f.Add([]byte(`[{"name": "a", "sha256": "` + hash("a") + `"}, {"name": "a"}]`))
	f.Add([]byte(`[{`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		set, err := access.ParseKeys(text)
		// Only the empty list is nobody.
		empty := strings.Join(strings.Fields(string(text)), "") == "[]"
		if (set == nil) == (err == nil) || err == nil && (set.Len() == 0) != empty {
			t.Fatalf("ParseKeys = %v, %v", set, err)
		}
	})
}
