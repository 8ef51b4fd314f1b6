package auth

import (
	"errors"
	"testing"
)

// FuzzParseKeySet checks that of an issuer's keys only public ones for signatures are used, that
// what is not understood is skipped, and that no token of nobody's is verified by them.
func FuzzParseKeySet(f *testing.F) {
	const rsa = `{"kty":"RSA","kid":"k","alg":"RS256","use":"sig","n":"sXchDaQebHnPiGvyDOAT4saGEUetSyo9MKLOoWFsueri23bOdgWp4Dy1WlUzewbgBHod5pcM9H95GQRV3JDXboIRROSBigeC5yjU1hGzHHyXss8UDprecbAYxknTcQkhslANGRUZmdTOQ5qTRsLAt6BTYuyvVRdhS8exSZEy_c4gs_7svlJJQ4H9_NxsiIoLwAEk7-Q3UXERGYw_75IDrGA84-lA_-Ct4eTlXHBIY2EaV7t7LjJaynVJCpkv4LKjTTAumiGUIuQhrNhZLuF_RJLqHpM2kgWFLU7-VTdL1VbC2tejvcI2BlMkEpk1BzBZI0KQB0GaDWFLN-aEAw3vRw","e":"AQAB"}`
	for _, seed := range []string{
		`{"keys":[` + rsa + `]}`, `{"keys":[{"kty":"oct","k":"eA"},` + rsa + `]}`, `{"keys":[{"kty":"RSA","n":"","e":""}]}`, `{"keys":[{"kty":"EC","crv":"P-256","x":"","y":""}]}`,
		`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`, `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AA","d":"AA"}]}`, `{"keys":[null,7,"x",{}]}`, `{"keys":{}}`, `[]`, ``,
		`{"keys":[{"kty":"RSA","use":"enc","n":"AQAB","e":"AQAB"}]}`, `{"keys":[],"keys":[` + rsa + `]}`,
	} {
		f.Add([]byte(seed))
	}
	const jwt = "eyJhbGciOiJSUzI1NiIsImtpZCI6ImsifQ.e30.AAAA"
	f.Fuzz(func(t *testing.T, document []byte) {
		set, err := parseKeySet(document)
		if err != nil {
			if len(set) > 0 {
				t.Errorf("%d keys, %v", len(set), err)
			}
			return
		}
		if len(set) == 0 {
			t.Error("no keys and no error")
		}
		for _, key := range set {
			if !key.IsPublic() || !key.Valid() || key.Use == "enc" {
				t.Errorf("the key %+v", key)
			}
		}
		k := &keys{set: set, algorithms: []string{"RS256", "ES256", "EdDSA"}}
		if payload, err := k.verify(jwt); err == nil || payload != nil || errors.Is(err, errNoKeys) {
			t.Errorf("a signature of nobody's is verified: %q, %v", payload, err)
		}
	})
}
