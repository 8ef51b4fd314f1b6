package webhook

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Secrets are those that sign, immutable. A nil *Secrets has none.
type Secrets struct {
	entries []secret
}

type secret struct {
	key     []byte
	expires time.Time // zero: never
}

// Prefix is what a secret begins with, before its base64.
const Prefix = "whsec_"

// The length of a secret in bytes, as Standard Webhooks has it.
const (
	minSecret = 24
	maxSecret = 64
)

// maxSecrets bounds how many sign each event: one that is in use, and those that a
// rotation puts beside it.
const maxSecrets = 5

// Len is the number of secrets, those that have expired among them.
func (s *Secrets) Len() int {
	if s == nil {
		return 0
	}
	return len(s.entries)
}

// at returns the keys of the secrets that have not expired.
func (s *Secrets) at(now time.Time) [][]byte {
	if s == nil {
		return nil
	}
	var keys [][]byte
	for _, e := range s.entries {
		if e.expires.IsZero() || now.Before(e.expires) {
			keys = append(keys, e.key)
		}
	}
	return keys
}

// ParseSecrets reads a JSON list of
//
//	{"name": "2026-11", "secret": "whsec_<base64 of 24 to 64 bytes>", "expires": "2027-01-01T00:00:00Z"}
//
// of which the last may be left out. All that have not expired sign, so that a receiver
// that knows one of them can change to another in its own time. The error names every
// entry at fault, by its place, and repeats nothing of the text.
//
// An empty list is valid and signs nothing: it withdraws all secrets, and [Sender.Send] then
// fails with [ErrNoSecret].
func ParseSecrets(text []byte) (*Secrets, error) {
	// Entries are decoded one by one, so that the error can name each that is at fault.
	var list []jsontext.Value
	if err := json.Unmarshal(text, &list); err != nil || list == nil {
		return nil, errors.New("webhook secrets: not a JSON list, or with a key twice in one object")
	}
	if len(list) > maxSecrets {
		return nil, fmt.Errorf("webhook secrets: %d entries, more than %d", len(list), maxSecrets)
	}
	all := &Secrets{}
	var errs []error
	for i, raw := range list {
		e, err := parseSecret(raw)
		if err != nil {
			errs = append(errs, fmt.Errorf("webhook secrets: entry %d: %w", i+1, err))
			continue
		}
		all.entries = append(all.entries, e)
	}
	return all, errors.Join(errs...)
}

func parseSecret(raw jsontext.Value) (secret, error) {
	var in struct {
		Name    string     `json:"name"`
		Secret  string     `json:"secret"`
		Expires *time.Time `json:"expires"`
	}
	if err := json.Unmarshal(raw, &in, json.RejectUnknownMembers(true)); err != nil {
		return secret{}, errors.New("want an object with only name, secret and expires, each in its form")
	}
	if in.Name == "" {
		return secret{}, errors.New("name: want one, to identify it")
	}
	encoded, ok := strings.CutPrefix(in.Secret, Prefix)
	// Strict, and without the line breaks that the decoder passes over: two texts of one key
	// would look like two secrets. A URL-safe alphabet is refused, since the libraries of
	// Standard Webhooks read only this one.
	key, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if !ok || err != nil || strings.ContainsAny(encoded, "\r\n") || len(key) < minSecret || len(key) > maxSecret {
		return secret{}, fmt.Errorf("secret: want %s and the base64 of %d to %d bytes", Prefix, minSecret, maxSecret)
	}
	e := secret{key: key}
	if in.Expires != nil {
		// The zero time stands for a secret that never expires.
		if in.Expires.IsZero() {
			return secret{}, errors.New("expires: want a time such as 2027-01-01T00:00:00Z")
		}
		e.expires = *in.Expires
	}
	return e, nil
}
