package access

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// A KeySet is the API keys that are accepted, immutable.
type KeySet struct {
	keys []Key
}

// A Key is what is known of an API key, of which only the hash is stored.
type Key struct {
	Name          string    // of the caller; several keys may have it
	Expires       time.Time // zero: never
	RatePerMinute int       // calls; 0: the service's limit
	EndUsers      bool      // its caller may name end users

	sum [sha256.Size]byte
}

// Expired reports whether the key is no longer accepted at this time.
func (k Key) Expired(now time.Time) bool { return !k.Expires.IsZero() && !now.Before(k.Expires) }

// Find returns the entry of a key, and false for one that is not in the set. It takes the
// same time whichever entry matches and however much of it does.
func (s *KeySet) Find(key string) (Key, bool) {
	sum, match := sha256.Sum256([]byte(key)), -1
	for i := range s.keys {
		equal := subtle.ConstantTimeCompare(sum[:], s.keys[i].sum[:])
		match = subtle.ConstantTimeSelect(equal, i, match)
	}
	if match < 0 {
		return Key{}, false
	}
	return s.keys[match], true
}

// Holds reports whether a key of this name is accepted at this time.
func (s *KeySet) Holds(name string, now time.Time) bool {
	return slices.ContainsFunc(s.keys, func(k Key) bool { return k.Name == name && !k.Expired(now) })
}

// Len is the number of keys, those that have expired among them.
func (s *KeySet) Len() int { return len(s.keys) }

// maxRatePerMinute keeps a mistyped limit from meaning none.
const maxRatePerMinute = 1_000_000

// keyName is what logs, limits and sessions know the caller by. As part of the expression,
// the length would unroll into as many states at every start.
var keyName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]*$`)

const maxKeyName = 64

// keyJSON is an entry as it is written. Pointers distinguish what is absent from what is
// zero.
type keyJSON struct {
	Name          string     `json:"name"`
	SHA256        string     `json:"sha256"`
	Expires       *time.Time `json:"expires"`
	RatePerMinute *int       `json:"rate_limit_per_minute"`
	EndUsers      bool       `json:"end_users"`
}

var keyFields = []string{"name", "sha256", "expires", "rate_limit_per_minute", "end_users"}

// ParseKeys reads API_KEYS, a JSON list of
//
//	{"name": "backend", "sha256": "<64 hexadecimal digits>",
//	 "expires": "2027-01-01T00:00:00Z", "rate_limit_per_minute": 600, "end_users": true}
//
// of which the last three may be left out. Hashes are unique; a name may have
// several, so that a key can be replaced while the old one is still in use and
// its caller stays the same. A list without an entry admits nobody. The error names every
// entry at fault and repeats nothing of the text but the names of its known fields: a
// hash, or a key put there by mistake, never gets into a log.
func ParseKeys(text []byte) (*KeySet, error) {
	var list []jsontext.Value
	if err := json.Unmarshal(text, &list); err != nil || list == nil {
		return nil, errors.New("API keys: not a JSON list, or with a key twice in one object")
	}
	set := &KeySet{keys: make([]Key, 0, len(list))}
	var errs []error
	for i, raw := range list {
		entry, err := parseKey(raw)
		if err == nil {
			err = set.add(entry)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("API keys: entry %d: %w", i+1, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return set, nil
}

func parseKey(raw jsontext.Value) (Key, error) {
	var in keyJSON
	if raw.Kind() != '{' {
		return Key{}, errors.New("not an object")
	}
	if err := json.Unmarshal(raw, &in, json.RejectUnknownMembers(true)); err != nil {
		return Key{}, fieldError(err)
	}
	out := Key{Name: in.Name, EndUsers: in.EndUsers}
	if len(in.Name) > maxKeyName || !keyName.MatchString(in.Name) {
		return Key{}, errors.New("name: want 1 to 64 letters, digits, dots, dashes, underscores or at signs, the first a letter or digit")
	}
	sum, err := hex.DecodeString(in.SHA256)
	if err != nil || len(sum) != len(out.sum) {
		return Key{}, errors.New("sha256: want 64 hexadecimal digits")
	}
	copy(out.sum[:], sum)
	if in.Expires != nil {
		if in.Expires.IsZero() {
			return Key{}, errors.New("expires: want a time such as 2027-01-01T00:00:00Z")
		}
		out.Expires = *in.Expires
	}
	if in.RatePerMinute != nil {
		if *in.RatePerMinute < 1 || *in.RatePerMinute > maxRatePerMinute {
			return Key{}, fmt.Errorf("rate_limit_per_minute: want 1 to %d", maxRatePerMinute)
		}
		out.RatePerMinute = *in.RatePerMinute
	}
	return out, nil
}

// fieldError names the field that could not be read, if it is one of ours.
func fieldError(err error) error {
	if e, ok := errors.AsType[*json.SemanticError](err); ok {
		if name := e.JSONPointer.LastToken(); slices.Contains(keyFields, name) {
			return fmt.Errorf("%s: wrong type or form", name)
		}
	}
	return errors.New("unknown field: want only " + strings.Join(keyFields, ", "))
}

func (s *KeySet) add(entry Key) error {
	for _, other := range s.keys {
		if other.sum == entry.sum {
			return errors.New("sha256: another entry has the same")
		}
	}
	s.keys = append(s.keys, entry)
	return nil
}
