// Package jws signs JSON documents beside their text: JSON Web Signatures (RFC 7515) whose
// payload is the document in its canonical form (RFC 8785), so that who verifies one needs
// the document's values and not its bytes.
//
// A signature depends on nothing but the key and the document: ECDSA has no random number
// here (RFC 6979). So all instances serve the same bytes, and one entity tag.
package jws

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// maxKeys bounds what one document costs: a rotation needs two.
const maxKeys = 5

// Keys are private keys, each of which signs. They are safe for concurrent use.
type Keys struct {
	keys []key
	id   string
}

// A key is a private key with what the headers of its signatures have.
type key struct {
	id        string
	algorithm jose.SignatureAlgorithm
	private   any
}

// A Signature is a JWS without its payload, both members in base64url.
type Signature struct {
	Protected string `json:"protected"`
	Signature string `json:"signature"`
}

// ParseKeys reads a JWK set (RFC 7517) of private keys, each with its kid: of the curves
// P-256 (ES256) and P-384 (ES384), and Ed25519 (EdDSA). An error names each entry at fault,
// and never what is in it.
func ParseKeys(text []byte) (*Keys, error) {
	var set struct {
		Keys []jsontext.Value `json:"keys"`
	}
	if err := json.Unmarshal(text, &set, json.RejectUnknownMembers(true)); err != nil || set.Keys == nil {
		return nil, errors.New(`keys: want a JWK set, {"keys": […]}, with no key twice in one object`)
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("keys: %d entries, more than %d", len(set.Keys), maxKeys)
	}
	all, errs := &Keys{}, []error(nil)
	for i, raw := range set.Keys {
		k, thumbprint, err := parseKey(raw)
		if err == nil && slices.ContainsFunc(all.keys, func(other key) bool { return other.id == k.id }) {
			err = errors.New("kid: another entry has the same")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("keys: entry %d: %w", i+1, err))
			continue
		}
		all.keys = append(all.keys, k)
		all.id += " " + k.id + " " + base64.RawURLEncoding.EncodeToString(thumbprint)
	}
	return all, errors.Join(errs...)
}

// parseKey reads a JWK and returns its thumbprint (RFC 7638), too.
func parseKey(raw jsontext.Value) (k key, thumbprint []byte, err error) {
	var in jose.JSONWebKey
	if err := in.UnmarshalJSON(raw); err != nil || !in.Valid() {
		return key{}, nil, errors.New("want a private key as a JWK (RFC 7517)")
	}
	k = key{id: in.KeyID, private: in.Key}
	switch private := in.Key.(type) {
	case *ecdsa.PrivateKey:
		switch private.Curve.Params().BitSize {
		case 256:
			k.algorithm = jose.ES256
		case 384:
			k.algorithm = jose.ES384
		}
	case ed25519.PrivateKey:
		k.algorithm = jose.EdDSA
	}
	switch {
	case k.algorithm == "":
		return key{}, nil, errors.New("want a private key of the curve P-256 or P-384, or of Ed25519")
	case in.Algorithm != "" && in.Algorithm != string(k.algorithm):
		return key{}, nil, fmt.Errorf("alg: the key is one for %s", k.algorithm)
	case k.id == "" || len(k.id) > 128 || strings.ContainsFunc(k.id, func(r rune) bool { return r <= ' ' || r > '~' }):
		return key{}, nil, errors.New("kid: want 1 to 128 printable ASCII characters without a space, by which who verifies finds the public key")
	}
	// A pair whose halves do not belong together signs what nobody can verify.
	signed, err := k.sign(nil, "")
	if err == nil {
		_, err = signed.Verify(in.Public())
	}
	if err != nil {
		return key{}, nil, errors.New("the public half is not that of the private one")
	}
	thumbprint, err = in.Thumbprint(crypto.SHA256)
	return k, thumbprint, err
}

// Len returns the number of keys, 0 of nil.
func (k *Keys) Len() int {
	if k == nil {
		return 0
	}
	return len(k.keys)
}

// ID returns a text that differs for other keys, and holds nothing secret: "" without any.
func (k *Keys) ID() string {
	if k == nil {
		return ""
	}
	return k.id
}

// Sign returns a signature of the document by each key. It changes document to its
// canonical form. Where url is not "", it is the signatures' jku: where the public keys are.
func (k *Keys) Sign(document jsontext.Value, url string) ([]Signature, error) {
	if err := document.Canonicalize(); err != nil {
		return nil, fmt.Errorf("canonical form: %w", err)
	}
	signatures := make([]Signature, 0, k.Len())
	for _, key := range k.keys {
		signed, err := key.sign(document, url)
		if err != nil {
			return nil, fmt.Errorf("signing: %w", err)
		}
		compact, err := signed.DetachedCompactSerialize()
		if err != nil {
			return nil, fmt.Errorf("signing: %w", err)
		}
		protected, signature, _ := strings.Cut(compact, "..")
		signatures = append(signatures, Signature{protected, signature})
	}
	return signatures, nil
}

// sign returns the payload signed.
func (k key) sign(payload []byte, url string) (*jose.JSONWebSignature, error) {
	private := k.private
	if k.algorithm != jose.EdDSA {
		private = deterministic{k}
	}
	options := (&jose.SignerOptions{}).WithType("JOSE")
	if url != "" {
		options.WithHeader("jku", url)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: k.algorithm, Key: jose.JSONWebKey{Key: private, KeyID: k.id}}, options)
	if err != nil {
		return nil, err
	}
	return signer.Sign(payload)
}

// deterministic signs by ECDSA as RFC 6979 has it, where go-jose takes random numbers. It
// implements [jose.OpaqueSigner].
type deterministic struct{ key }

func (d deterministic) Public() *jose.JSONWebKey {
	return &jose.JSONWebKey{Key: d.private.(*ecdsa.PrivateKey).Public(), KeyID: d.id}
}

func (d deterministic) Algs() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{d.algorithm}
}

func (d deterministic) SignPayload(payload []byte, _ jose.SignatureAlgorithm) ([]byte, error) {
	hash := crypto.SHA256
	if d.algorithm == jose.ES384 {
		hash = crypto.SHA384
	}
	h := hash.New()
	h.Write(payload)
	private := d.private.(*ecdsa.PrivateKey)
	encoded, err := private.Sign(nil, h.Sum(nil), hash) // nil: no random number
	if err != nil {
		return nil, err
	}
	// JWS has the two numbers side by side, each as long as the curve's (RFC 7518, 3.4).
	var pair struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(encoded, &pair); err != nil {
		return nil, err
	}
	size := hash.Size() // which is the curve's, of the two that are taken
	signature := make([]byte, 2*size)
	pair.R.FillBytes(signature[:size])
	pair.S.FillBytes(signature[size:])
	return signature, nil
}
