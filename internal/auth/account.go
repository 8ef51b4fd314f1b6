package auth

import (
	"cmp"
	"net/http"
	"slices"
	"time"

	"example.com/gatehouse/internal/access"
)

// AccountIssuer returns the entry by which ID tokens of a Google service account for
// audience are accepted. issuer is Google's own where it is empty.
func AccountIssuer(issuer, account, audience string) access.Issuer {
	return access.Issuer{
		URL: cmp.Or(issuer, googleIssuer), Audiences: []string{audience}, Service: true,
		Claims: []access.Claim{{Name: "email", Value: account}, {Name: "email_verified", Value: "true"}},
	}
}

// IAMAccount is [IAM] for one service account and one audience, whoever else may call
// the service. [NewIAMAccount] makes it.
type IAMAccount struct {
	iam               *IAM
	account, audience string
}

// NewIAMAccount makes the method. It is safe only where Cloud Run's check is on. A nil
// now is time.Now.
func NewIAMAccount(account, audience string, now func() time.Time) *IAMAccount {
	return &IAMAccount{NewIAM(now), account, audience}
}

// Authenticate implements [Method].
func (m *IAMAccount) Authenticate(r *http.Request) (Principal, bool, error) {
	p, ok, err := m.iam.Authenticate(r)
	if !ok || err != nil {
		return Principal{}, ok, err
	}
	raw, _, _ := bearer(r, m.iam.header(r))
	t, err := parseToken(raw) // which the other has accepted
	switch {
	case err != nil:
		return Principal{}, true, err
	case p.Email != m.account || string(t.claims.EmailVerified) != "true":
		return Principal{}, true, invalid("the token is another account's")
	case !slices.Contains(t.claims.Audience, m.audience):
		return Principal{}, true, invalid("the token is not for this service")
	}
	return p, true, nil
}
