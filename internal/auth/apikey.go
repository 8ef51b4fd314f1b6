package auth

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"example.com/gatehouse/internal/access"
	"example.com/gatehouse/internal/caller"
)

// APIKeys verifies the key in X-API-Key, or in Authorization as a bearer token without a
// dot, which no JWT is, against the SHA-256 of those known.
type APIKeys struct {
	keys func() *access.KeySet
	now  func() time.Time
}

// NewAPIKeys makes the method. It asks keys at each request, so that the set can
// be replaced at run time; nil means that the keys are not known yet. A nil now
// is time.Now.
func NewAPIKeys(keys func() *access.KeySet, now func() time.Time) *APIKeys {
	return &APIKeys{keys: keys, now: clock(now)}
}

// Authenticate implements [Method]. It takes the same time whichever key matches
// and however much of it does. If both headers have a key, both must verify.
func (m *APIKeys) Authenticate(r *http.Request) (Principal, bool, error) {
	key, ok, err := credential(r, headerAPIKey)
	if err != nil {
		return Principal{}, true, err
	}
	token, isKey := bearerKey(r)
	if !ok && !isKey {
		return Principal{}, false, nil
	}
	if ok && isKey {
		if _, _, err := m.verify(token); err != nil {
			return Principal{}, true, err
		}
	}
	if !ok {
		key = token
	}
	return m.verify(key)
}

// bearerKey returns the bearer token in Authorization, and true if it can only be an API
// key.
func bearerKey(r *http.Request) (string, bool) {
	token, ok, err := bearer(r, headerAuthorization)
	return token, ok && err == nil && token != "" && !strings.Contains(token, ".")
}

func (m *APIKeys) verify(key string) (Principal, bool, error) {
	set := m.keys()
	if set == nil {
		return Principal{}, true, fmt.Errorf("%w: no API keys are known", ErrUnavailable)
	}
	entry, ok := set.Find(key)
	if !ok {
		return Principal{}, true, invalid("unknown API key")
	}
	if entry.Expired(m.now()) {
		return Principal{}, true, invalid("the API key %s has expired", entry.Name)
	}
	return Principal{
		Issuer:        "api_key",
		Subject:       entry.Name,
		Service:       entry.EndUsers,
		Method:        caller.MethodAPIKey,
		RatePerMinute: entry.RatePerMinute,
	}, true, nil
}

// holds reports whether a key of this name is accepted now. While the keys are not known
// nobody is refused for it: a request would be answered 503.
func (m *APIKeys) holds(name string) bool {
	set := m.keys()
	return set == nil || set.Holds(name, m.now())
}
