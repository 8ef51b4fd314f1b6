package auth

import "github.com/coreos/go-oidc/v3/oidc"

// IAP's tokens are as https://cloud.google.com/iap/docs/signed-headers-howto
// describes; it publishes no discovery document.
const iapKeysURL = "https://www.gstatic.com/iap/verify/public_key-jwk"

// iapKeys returns the publication of IAP's keys, at url if there is one.
func iapKeys(url string) *publication {
	if url == "" {
		url = iapKeysURL
	}
	return &publication{keysURL: url, algorithms: []string{oidc.ES256}}
}
