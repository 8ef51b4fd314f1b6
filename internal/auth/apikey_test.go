package auth_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/gatehouse/internal/auth"
	"example.com/gatehouse/internal/testclock"
)

const (
	backendKey = "gk_Zk3vQ0pT9xYbR7sLwN2eHc5uJ8aMdF1g"
	reportsKey = "gk_Ab4cD8eF2gH6iJ0kL5mN9oP3qR7sT1uV"
)

func hash(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

func keySet(t testing.TB) func() *auth.KeySet {
	t.Helper()
	return func() *auth.KeySet {
		return mustParseKeys(t, fmt.Sprintf(`[
			{"name": "backend", "sha256": %q, "rate_limit_per_minute": 600, "end_users": true},
			{"name": "reports", "sha256": %q, "expires": "2027-01-15T09:00:00Z"}]`,
			hash(backendKey), strings.ToUpper(hash(reportsKey))))
	}
}

func mustParseKeys(t testing.TB, text string) *auth.KeySet {
	t.Helper()
	set, err := auth.ParseKeys([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestAPIKeys(t *testing.T) {
	t.Parallel()
	reports := auth.Principal{Issuer: "api_key", Subject: "reports", Method: "api_key"}
	tests := []struct {
		name    string
		after   time.Duration
		keys    []string
		want    auth.Principal
		wantErr error
	}{
		{name: "a key", keys: []string{backendKey}, want: backend},
		{name: "another that is live beside it", keys: []string{reportsKey}, want: reports},
		{name: "a moment before it expires", after: time.Hour - 1, keys: []string{reportsKey}, want: reports},
		{name: "expired", after: time.Hour, keys: []string{reportsKey}, wantErr: auth.ErrInvalid},
		{name: "a prefix", keys: []string{backendKey[:len(backendKey)-1]}, wantErr: auth.ErrInvalid},
		{name: "a suffix", keys: []string{backendKey[1:]}, wantErr: auth.ErrInvalid},
		{name: "one character more", keys: []string{backendKey + "x"}, wantErr: auth.ErrInvalid},
		{name: "other case", keys: []string{strings.ToLower(backendKey)}, wantErr: auth.ErrInvalid},
		{name: "its hash", keys: []string{hash(backendKey)}, wantErr: auth.ErrInvalid},
		{name: "its name", keys: []string{"backend"}, wantErr: auth.ErrInvalid},
		{name: "empty", keys: []string{""}, wantErr: auth.ErrInvalid},
		{name: "10 KB", keys: []string{strings.Repeat("k", 10<<10)}, wantErr: auth.ErrInvalid},
		{name: "100 KB", keys: []string{strings.Repeat("k", 100<<10)}, wantErr: auth.ErrInvalid},
		{name: "sent twice", keys: []string{backendKey, backendKey}, wantErr: auth.ErrInvalid},
		{name: "two in one header", keys: []string{backendKey + ", " + reportsKey}, wantErr: auth.ErrInvalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			clock := testclock.New(start)
			clock.Advance(tt.after)
			var headers []string
			for _, k := range tt.keys {
				headers = append(headers, "X-API-Key", k)
			}
			got, ok, err := auth.NewAPIKeys(keySet(t), clock.Now).Authenticate(request(t, headers...))
			if !ok {
				t.Error("the credential was not seen")
			}
			checkError(t, err, tt.wantErr, tt.keys...)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("principal (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAPIKeysAreReplacedAtRunTime(t *testing.T) {
	t.Parallel()
	var current atomic.Pointer[auth.KeySet]
	m := auth.NewAPIKeys(current.Load, testclock.New(start).Now)
	try := func(key string) error {
		_, _, err := m.Authenticate(request(t, "X-API-Key", key))
		return err
	}
	checkError(t, try(backendKey), auth.ErrUnavailable, backendKey)
	current.Store(mustParseKeys(t, fmt.Sprintf(`[{"name": "old", "sha256": %q}]`, hash(backendKey))))
	checkError(t, try(backendKey), nil)
	checkError(t, try(reportsKey), auth.ErrInvalid)
	current.Store(mustParseKeys(t, fmt.Sprintf(`[{"name": "old", "sha256": %q}, {"name": "new", "sha256": %q}]`, hash(backendKey), hash(reportsKey))))
	checkError(t, try(backendKey), nil)
	checkError(t, try(reportsKey), nil)
	current.Store(mustParseKeys(t, fmt.Sprintf(`[{"name": "new", "sha256": %q}]`, hash(reportsKey))))
	checkError(t, try(backendKey), auth.ErrInvalid, backendKey)
	checkError(t, try(reportsKey), nil)
}

func TestAKeyIsRotatedUnderItsName(t *testing.T) {
	t.Parallel()
	hash := func(key string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(key))) }
	set, err := auth.ParseKeys(fmt.Appendf(nil, `[{"name": "a", "sha256": %q}, {"name": "a", "sha256": %q}]`, hash("old"), hash("new")))
	if err != nil {
		t.Fatal(err)
	}
	method := auth.NewAPIKeys(func() *auth.KeySet { return set }, nil)
	var ids []string
	for _, key := range []string{"old", "new"} {
		p, ok, err := method.Authenticate(request(t, "X-API-Key", key))
		if err != nil || !ok {
			t.Fatalf("the %s key: %v", key, err)
		}
		ids = append(ids, p.ID())
	}
	if ids[0] != ids[1] {
		t.Errorf("the old key's caller is %q, the new one's %q", ids[0], ids[1])
	}
}

func TestParseKeys(t *testing.T) {
	t.Parallel()
	sum, other := hash(backendKey), hash(reportsKey)
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
	if set, err := auth.ParseKeys([]byte(`[]`)); err != nil || set.Len() != 0 {
		t.Errorf("an empty list is %v, %v; want nobody", set, err)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			set, err := auth.ParseKeys([]byte(tt.text))
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
