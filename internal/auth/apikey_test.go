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

	"example.com/gatehouse/internal/access"
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

func keySet(t testing.TB) func() *access.KeySet {
	t.Helper()
	return func() *access.KeySet {
		return mustParseKeys(t, fmt.Sprintf(`[
			{"name": "backend", "sha256": %q, "rate_limit_per_minute": 600, "end_users": true},
			{"name": "reports", "sha256": %q, "expires": "2027-01-15T09:00:00Z"}]`,
			hash(backendKey), strings.ToUpper(hash(reportsKey))))
	}
}

func mustParseKeys(t testing.TB, text string) *access.KeySet {
	t.Helper()
	set, err := access.ParseKeys([]byte(text))
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
	var current atomic.Pointer[access.KeySet]
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
	set, err := access.ParseKeys(fmt.Appendf(nil, `[{"name": "a", "sha256": %q}, {"name": "a", "sha256": %q}]`, hash("old"), hash("new")))
	if err != nil {
		t.Fatal(err)
	}
	method := auth.NewAPIKeys(func() *access.KeySet { return set }, nil)
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
