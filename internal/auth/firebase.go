package auth

import (
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"example.com/gatehouse/internal/access"
)

// A signIn is how a user of Firebase or Identity Platform signed in.
type signIn struct{ tenant, provider string }

// anonymous reports whether the user is whoever asked for a token.
func (s signIn) anonymous() bool { return s.provider == anonymousProvider }

const (
	providerClaim     = "firebase.sign_in_provider"
	anonymousProvider = "anonymous"
)

// signIn reads the member firebase of an ID token
// (https://firebase.google.com/docs/rules/rules-and-auth), which in IAP's assertions
// lies in the member gcip. Of a token without it all is empty.
func (c claims) signIn() signIn {
	type firebase struct {
		Tenant   string `json:"tenant"`
		Provider string `json:"sign_in_provider"`
	}
	var gcip struct {
		Firebase jsontext.Value `json:"firebase"`
	}
	member := c.Firebase
	if c.GCIP.Kind() == '{' && json.Unmarshal(c.GCIP, &gcip) == nil && gcip.Firebase != nil {
		member = gcip.Firebase
	}
	var f firebase
	if member.Kind() != '{' || json.Unmarshal(member, &f) != nil {
		return signIn{}
	}
	return signIn{tenant: f.Tenant, provider: f.Provider}
}

// admitsAnonymous reports whether the entry asks for anonymous users.
func admitsAnonymous(i access.Issuer) bool {
	return slices.Contains(i.Claims, access.Claim{Name: providerClaim, Value: anonymousProvider}) ||
		slices.Contains(i.Claims, access.Claim{Name: "gcip." + providerClaim, Value: anonymousProvider})
}
