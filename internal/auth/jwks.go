package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// keys are the public keys of an issuer at one time, immutable.
type keys struct {
	set        []jose.JSONWebKey
	algorithms []string
}

// fetchKeys reads a JSON Web Key Set (RFC 7517).
func fetchKeys(ctx context.Context, client *http.Client, from *publication) (*keys, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from.keysURL, nil)
	if err != nil {
		return nil, err
	}
	// What is asked for is what has changed.
	req.Header.Set("Cache-Control", "no-cache")
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("answered %d", resp.StatusCode)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	set, err := parseKeySet(body)
	if err != nil {
		return nil, err
	}
	return &keys{set: set, algorithms: from.algorithms}, nil
}

// parseKeySet skips keys that are of no use here or not understood, as RFC 7517,
// section 5, asks. A set of which nothing is left is errNoKeys.
func parseKeySet(document []byte) ([]jose.JSONWebKey, error) {
	var set struct {
		Keys []jsontext.Value `json:"keys"`
	}
	if err := json.Unmarshal(document, &set); err != nil {
		return nil, errors.New("not a set of keys")
	}
	var usable []jose.JSONWebKey
	for _, raw := range set.Keys {
		var key jose.JSONWebKey
		if err := key.UnmarshalJSON(raw); err != nil || !key.Valid() || !key.IsPublic() || key.Use == "enc" {
			continue
		}
		usable = append(usable, key)
	}
	if len(usable) == 0 {
		return nil, errNoKeys
	}
	return usable, nil
}

// verify returns the payload of the token that one of the keys verifies: the one
// that the token names, or any when it names none.
func (k *keys) verify(jwt string) ([]byte, error) {
	allowed := make([]jose.SignatureAlgorithm, len(k.algorithms))
	for i, a := range k.algorithms {
		allowed[i] = jose.SignatureAlgorithm(a)
	}
	jws, err := jose.ParseSignedCompact(jwt, allowed)
	if err != nil {
		return nil, err
	}
	header := jws.Signatures[0].Header
	for _, key := range k.set {
		if header.KeyID != "" && header.KeyID != key.KeyID {
			continue
		}
		if key.Algorithm != "" && key.Algorithm != header.Algorithm {
			continue
		}
		if payload, err := jws.Verify(key.Key); err == nil {
			return payload, nil
		}
	}
	return nil, errors.New("no key verifies the signature")
}
