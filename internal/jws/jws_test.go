package jws_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"example.com/gatehouse/internal/jws"
)

// jwk returns a key as a JWK.
func jwk(t testing.TB, id string, key any) string {
	t.Helper()
	encoded, err := jose.JSONWebKey{Key: key, KeyID: id}.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return string(encoded)
}

func set(keys ...string) []byte { return []byte(`{"keys":[` + strings.Join(keys, ",") + `]}`) }

func curve(t testing.TB, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestSign(t *testing.T) {
	t.Parallel()
	p256, p384 := curve(t, elliptic.P256()), curve(t, elliptic.P384())
	public, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := jws.ParseKeys(set(jwk(t, "a", p256), jwk(t, "b", p384), jwk(t, "c", ed)))
	if err != nil || keys.Len() != 3 {
		t.Fatal(err)
	}
	document := `{"b": 1.0, "a": "<ünïcode>\u0001", "€": [ ]}`
	const canonical = `{"a":"<ünïcode>\u0001","b":1,"€":[]}`
	signatures, err := keys.Sign([]byte(document), "https://keys.example/jwks.json")
	if err != nil {
		t.Fatal(err)
	}
	again, err := keys.Sign([]byte(canonical), "https://keys.example/jwks.json")
	if err != nil || fmt.Sprint(again) != fmt.Sprint(signatures) {
		t.Errorf("a signature that another instance does not make: %v, %v", again, err)
	}
	for i, want := range []struct {
		header string
		key    any
	}{
		{`{"alg":"ES256","jku":"https://keys.example/jwks.json","kid":"a","typ":"JOSE"}`, p256.Public()},
		{`{"alg":"ES384","jku":"https://keys.example/jwks.json","kid":"b","typ":"JOSE"}`, p384.Public()},
		{`{"alg":"EdDSA","jku":"https://keys.example/jwks.json","kid":"c","typ":"JOSE"}`, public},
	} {
		s := signatures[i]
		header, err := base64.RawURLEncoding.DecodeString(s.Protected)
		if err != nil || string(header) != want.header {
			t.Errorf("%s, want %s", header, want.header)
		}
		for payload, valid := range map[string]bool{canonical: true, document: false, strings.Replace(canonical, "1", "2", 1): false} {
			signed, err := jose.ParseDetached(s.Protected+".."+s.Signature, []byte(payload), []jose.SignatureAlgorithm{jose.ES256, jose.ES384, jose.EdDSA})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := signed.Verify(want.key); (err == nil) != valid {
				t.Errorf("key %d, %s: %v", i+1, payload, err)
			}
		}
	}
	if none, err := keys.Sign([]byte(`{"a":1,"a":2}`), ""); err == nil {
		t.Errorf("a name twice is signed: %v", none)
	}
}

// What differs by its keys has another id, which holds nothing secret.
func TestID(t *testing.T) {
	t.Parallel()
	one, other := jwk(t, "a", curve(t, elliptic.P256())), jwk(t, "a", curve(t, elliptic.P256()))
	ids := map[string]bool{(*jws.Keys)(nil).ID(): true}
	for _, text := range [][]byte{set(one), set(other), set(one, jwk(t, "b", curve(t, elliptic.P256())))} {
		keys, err := jws.ParseKeys(text)
		if err != nil {
			t.Fatal(err)
		}
		ids[keys.ID()] = true
		var private struct{ Keys []struct{ D string } }
		if err := json.Unmarshal(text, &private); err != nil || private.Keys[0].D == "" || strings.Contains(keys.ID(), private.Keys[0].D) {
			t.Errorf("%s, %v", keys.ID(), err)
		}
	}
	if len(ids) != 4 {
		t.Errorf("%v", ids)
	}
}

func TestBadKeys(t *testing.T) {
	t.Parallel()
	private := curve(t, elliptic.P256())
	good := jwk(t, "a", private)
	forRSA, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	mixed := *private
	mixed.PublicKey = curve(t, elliptic.P256()).PublicKey
	tests := []struct {
		name, text, want string
	}{
		{"no JSON", "key", "JWK set"},
		{"a key and no set", good, "JWK set"},
		{"no keys", "{}", "JWK set"},
		{"a member twice", `{"keys":[],"keys":[]}`, "JWK set"},
		{"too many", string(set(good, good, good, good, good, good)), "more than 5"},
		{"the same twice", string(set(good, good)), "entry 2: kid"},
		{"a public key", string(set(jwk(t, "a", private.Public()))), "entry 1: want a private key"},
		{"RSA", string(set(jwk(t, "a", forRSA))), "entry 1: want a private key of the curve"},
		{"P-521", string(set(jwk(t, "a", curve(t, elliptic.P521())))), "entry 1: want a private key of the curve"},
		{"a shared secret", string(set(jwk(t, "a", []byte("a secret of 32 bytes, as of HS256")))), "entry 1: want a private key"},
		{"no kid", string(set(jwk(t, "", private))), "entry 1: kid"},
		{"a kid of several lines", string(set(jwk(t, "a\nb", private))), "entry 1: kid"},
		{"another algorithm", string(set(strings.Replace(good, "{", `{"alg":"RS256",`, 1))), "entry 1: alg"},
		{"halves of two keys", string(set(jwk(t, "a", &mixed))), "entry 1: "},
		{"the second is wrong", string(set(good, `{"kty":"EC"}`)), "entry 2: want a private key"},
	}
	var secret struct{ D string }
	if err := json.Unmarshal([]byte(good), &secret); err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := jws.ParseKeys([]byte(tt.text))
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), secret.D) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
	if keys, err := jws.ParseKeys(set()); err != nil || keys.Len() != 0 {
		t.Errorf("an empty set, by which somebody signs no longer: %v", err)
	}
}

func FuzzParseKeys(f *testing.F) {
	f.Add(set(jwk(f, "a", curve(f, elliptic.P256()))))
	f.Add([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","d":"","x":""}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, err := jws.ParseKeys(text)
		if err != nil {
			return
		}
		if signatures, err := keys.Sign([]byte(`{}`), ""); err != nil || len(signatures) != keys.Len() {
			t.Errorf("keys that do not sign: %v", err)
		}
	})
}
