package auth

import (
	"crypto/sha256"
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
	entries []keyEntry
}

type keyEntry struct {
	name          string
	sum           [sha256.Size]byte
	expires       time.Time // zero: never
	ratePerMinute int       // 0: the service's limit
	endUsers      bool
}

// Len is the number of keys, those that have expired among them.
func (s *KeySet) Len() int { return len(s.entries) }

// maxRatePerMinute keeps a mistyped limit from meaning none.
const maxRatePerMinute = 1_000_000

// keyName is what logs, limits and sessions know the caller by.
// As part of the expression, the length would unroll into as many states at every
// start.
var keyName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]*$`)

const maxKeyName = 64

// keyJSON is an entry as it is written. Pointers tell what is absent from what is
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
// its caller stays the same. A list without an entry admits nobody. The error tells of every entry at fault and
// repeats nothing of the text but the names of its known fields: a hash, or a key
// put there by mistake, never gets into a log.
func ParseKeys(text []byte) (*KeySet, error) {
	var list []jsontext.Value
	if err := json.Unmarshal(text, &list); err != nil || list == nil {
		return nil, errors.New("API keys: not a JSON list, or with a key twice in one object")
	}
	set := &KeySet{entries: make([]keyEntry, 0, len(list))}
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

func parseKey(raw jsontext.Value) (keyEntry, error) {
	var in keyJSON
	if raw.Kind() != '{' {
		return keyEntry{}, errors.New("not an object")
	}
	if err := json.Unmarshal(raw, &in, json.RejectUnknownMembers(true)); err != nil {
		return keyEntry{}, fieldError(err)
	}
	out := keyEntry{name: in.Name, endUsers: in.EndUsers}
	if len(in.Name) > maxKeyName || !keyName.MatchString(in.Name) {
		return keyEntry{}, errors.New("name: want 1 to 64 letters, digits, dots, dashes, underscores or at signs, the first a letter or digit")
	}
	sum, err := hex.DecodeString(in.SHA256)
	if err != nil || len(sum) != len(out.sum) {
		return keyEntry{}, errors.New("sha256: want 64 hexadecimal digits")
	}
	copy(out.sum[:], sum)
	if in.Expires != nil {
		if in.Expires.IsZero() {
			return keyEntry{}, errors.New("expires: want a time such as 2027-01-01T00:00:00Z")
		}
		out.expires = *in.Expires
	}
	if in.RatePerMinute != nil {
		if *in.RatePerMinute < 1 || *in.RatePerMinute > maxRatePerMinute {
			return keyEntry{}, fmt.Errorf("rate_limit_per_minute: want 1 to %d", maxRatePerMinute)
		}
		out.ratePerMinute = *in.RatePerMinute
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

func (s *KeySet) add(entry keyEntry) error {
	for _, other := range s.entries {
		if other.sum == entry.sum {
			return errors.New("sha256: another entry has the same")
		}
	}
	s.entries = append(s.entries, entry)
	return nil
}
