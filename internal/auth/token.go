package auth

import (
	"encoding/base64"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// leeway is how far the clocks of an issuer and of this service may be apart.
const leeway = 60 * time.Second

// A token is a JSON Web Token (RFC 7519) taken apart, its signature not checked.
type token struct {
	algorithm string
	claims    claims
	payload   []byte // the JSON that claims was decoded from
}

// claims are the members of a token's payload that mean something here.
type claims struct {
	Issuer        string         `json:"iss"`
	Subject       string         `json:"sub"`
	Audience      audience       `json:"aud"`
	Expiry        *float64       `json:"exp"` // seconds since 1970, as the two below
	NotBefore     *float64       `json:"nbf"`
	IssuedAt      *float64       `json:"iat"`
	Email         string         `json:"email"`
	EmailVerified jsontext.Value `json:"email_verified"`
	Events        jsontext.Value `json:"events"`
	Firebase      jsontext.Value `json:"firebase"`
	GCIP          jsontext.Value `json:"gcip"` // of IAP's tokens, for people of Identity Platform
}

// audience is one string or a list of them.
type audience []string

// UnmarshalJSON implements the two forms of RFC 7519, section 4.1.3.
func (a *audience) UnmarshalJSON(data []byte) error {
	if jsontext.Value(data).Kind() == '"' {
		*a = audience{""}
		return json.Unmarshal(data, &(*a)[0])
	}
	return json.Unmarshal(data, (*[]string)(a))
}

// parseToken takes a token in compact form apart. Members that occur twice and
// text that is not UTF-8 are refused, at any depth, so that nobody else can read
// another meaning in the same token.
func parseToken(raw string) (token, error) {
	if strings.Count(raw, ".") != 2 {
		return token{}, invalid("not one signed token")
	}
	// The decoder skips line ends, and IAM's signatures are not decoded at all.
	for i := range len(raw) {
		if c := raw[i]; !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.') {
			return token{}, invalid("not one token in base64url")
		}
	}
	parts := strings.Split(raw, ".")
	if slices.Contains(parts, "") {
		return token{}, invalid("a part of the token is empty")
	}
	var t token
	var header struct {
		Algorithm string         `json:"alg"`
		Critical  jsontext.Value `json:"crit"`
	}
	if _, err := decodePart(parts[0], &header); err != nil {
		return token{}, invalid("the token's header is malformed")
	}
	if header.Critical != nil { // RFC 7515, section 4.1.11: none is understood here
		return token{}, invalid("the token has an extension that must be understood")
	}
	payload, err := decodePart(parts[1], &t.claims)
	if err != nil {
		return token{}, invalid("the token's claims are malformed")
	}
	t.algorithm, t.payload = header.Algorithm, payload
	return t, nil
}

func decodePart(part string, v any) ([]byte, error) {
	data, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil {
		return nil, err
	}
	return data, json.Unmarshal(data, v)
}

// checkTimes reports whether now lies in the time of the claims. A claim
// that is absent sets no bound.
func (c claims) checkTimes(now time.Time) error {
	seconds := float64(now.UnixNano()) / 1e9
	switch {
	case c.Expiry != nil && seconds >= *c.Expiry+leeway.Seconds():
		return invalid("the token has expired")
	case c.NotBefore != nil && seconds < *c.NotBefore-leeway.Seconds():
		return invalid("the token is not valid yet")
	case c.IssuedAt != nil && seconds < *c.IssuedAt-leeway.Seconds():
		return invalid("the token was issued in the future")
	}
	return nil
}
