// Package access reads who may call the service and who operates it, as the variables
// OIDC_ISSUERS, API_KEYS and OPERATORS state it: their form, and what an entry means. Package
// config checks them with it at the start, package auth verifies requests by the result.
package access

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"example.com/gatehouse/internal/loopback"
)

// IAPIssuer is the [Issuer.URL] of IAP's tokens, which come in a header of their own.
const IAPIssuer = "https://cloud.google.com/iap"

// An Issuer is an issuer of tokens and what a token of it must claim to be
// accepted. Several entries may name one issuer; a token needs to satisfy one.
type Issuer struct {
	// URL is the issuer exactly as its tokens name it.
	URL string

	// Audiences are those of which the token must name one.
	Audiences []string

	// Claims must all hold.
	Claims []Claim

	// Service is of an entry for service accounts, which may name end users.
	Service bool
}

// A Claim is a member that a token must have: a string, number or boolean that
// reads as Value, or a list of strings with Value among them. Dots in its Name lead
// into objects (firebase.tenant), unless there is a slash in it, as in names that are
// addresses (https://example.com/role).
type Claim struct{ Name, Value string }

// ParseIssuers reads OIDC_ISSUERS: entries issuer|audience or
// issuer|audience|claim=value|…, separated by commas. An entry whose audience is
// missing or empty takes the audiences given beside the list. Issuers are https
// addresses, or http ones on loopback where that is allowed. The error names every entry
// at fault.
func ParseIssuers(list string, audiences []string, allowLoopbackHTTP bool) ([]Issuer, error) {
	if strings.TrimSpace(list) == "" {
		return nil, errors.New("no issuer")
	}
	var issuers []Issuer
	var errs []error
	for i, entry := range strings.Split(list, ",") {
		issuer, err := parseIssuer(entry, audiences, allowLoopbackHTTP)
		if err != nil {
			errs = append(errs, fmt.Errorf("entry %d: %w", i+1, err))
			continue
		}
		issuers = append(issuers, issuer)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return issuers, nil
}

func parseIssuer(entry string, audiences []string, allowLoopbackHTTP bool) (Issuer, error) {
	fields := strings.Split(entry, "|")
	for i := range fields {
		fields[i] = strings.TrimSpace(fields[i])
	}
	issuer := Issuer{URL: fields[0]}
	if err := checkIssuerURL(issuer.URL, allowLoopbackHTTP); err != nil {
		return Issuer{}, err
	}
	switch {
	case len(fields) > 1 && strings.Contains(fields[1], "="):
		return Issuer{}, errors.New("a claim where the audience belongs: want issuer|audience|claim=value, or issuer||claim=value for the common audiences")
	case len(fields) > 1 && fields[1] != "":
		issuer.Audiences = fields[1:2:2]
	case len(audiences) == 0 || slices.Contains(audiences, ""):
		return Issuer{}, errors.New("no audience: want issuer|audience")
	default:
		issuer.Audiences = slices.Clone(audiences)
	}
	for _, field := range fields[min(2, len(fields)):] {
		name, value, _ := strings.Cut(field, "=")
		if name == "" || value == "" || slices.Contains(Claim{Name: name}.path(), "") {
			return Issuer{}, errors.New("a claim is not of the form name=value")
		}
		issuer.Claims = append(issuer.Claims, Claim{name, value})
	}
	return issuer, nil
}

func checkIssuerURL(issuer string, allowLoopbackHTTP bool) error {
	u, err := url.Parse(issuer)
	switch {
	case err != nil || u.Host == "":
		return errors.New("the issuer is not an https address")
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || strings.Contains(issuer, "#"):
		return errors.New("the issuer's address has a user, query or fragment")
	case u.Scheme == "https", allowLoopbackHTTP && loopback.HTTP(u):
		return nil
	case loopback.HTTP(u):
		return errors.New("the issuer is not an https address (http is for loopback in development)")
	}
	return errors.New("the issuer is not an https address")
}

// path is where in a token the claim's member is.
func (c Claim) path() []string {
	if strings.Contains(c.Name, "/") {
		return []string{c.Name}
	}
	return strings.Split(c.Name, ".")
}

// In reports whether a token with these members has the claim.
func (c Claim) In(members map[string]jsontext.Value) bool {
	path := c.path()
	for _, name := range path[:len(path)-1] {
		inner := map[string]jsontext.Value{}
		if members[name].Kind() != '{' || json.Unmarshal(members[name], &inner) != nil {
			return false
		}
		members = inner
	}
	return c.holds(members[path[len(path)-1]])
}

// holds reports whether a token's member is what the claim asks for. A member
// that is absent is not.
func (c Claim) holds(member jsontext.Value) bool {
	switch member.Kind() {
	case '"':
		var s string
		return json.Unmarshal(member, &s) == nil && s == c.Value
	case '0', 't', 'f':
		return string(member) == c.Value
	case '[':
		var list []string
		return json.Unmarshal(member, &list) == nil && slices.Contains(list, c.Value)
	}
	return false
}
