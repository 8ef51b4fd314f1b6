package auth

import (
	"net/http"
	"strings"
	"time"

	"example.com/gatehouse/internal/caller"
)

const googleIssuer = "https://accounts.google.com"

// IAM takes callers from the token that Cloud Run's invoker check has verified.
// Cloud Run passes it on with its signature replaced, so there is nothing left to
// verify: this method is safe only where that check is on for every request
// (https://cloud.google.com/run/docs/authenticating/service-to-service).
type IAM struct {
	now func() time.Time
}

// NewIAM makes the method. A nil now is time.Now.
func NewIAM(now func() time.Time) *IAM {
	return &IAM{now: clock(now)}
}

// header is where the token is that Cloud Run has verified: when both headers
// are sent it checks only X-Serverless-Authorization, and Authorization belongs
// to the application.
func (m *IAM) header(r *http.Request) string {
	if len(r.Header[headerServerless]) > 0 {
		return headerServerless
	}
	return headerAuthorization
}

// Authenticate implements [Method]. A service account is recognized by its address.
func (m *IAM) Authenticate(r *http.Request) (Principal, bool, error) {
	raw, ok, err := bearer(r, m.header(r))
	if !ok || err != nil {
		return Principal{}, ok, err
	}
	t, err := parseToken(raw)
	if err != nil {
		return Principal{}, true, err
	}
	c := t.claims
	if c.Issuer != googleIssuer && c.Issuer != "accounts.google.com" {
		return Principal{}, true, invalid("the token is not Google's")
	}
	if c.Subject == "" {
		return Principal{}, true, invalid("the token names no subject")
	}
	// Cloud Run has checked the time too; this stands if it ever does not.
	if err := c.checkTimes(m.now()); err != nil {
		return Principal{}, true, err
	}
	p := Principal{Issuer: googleIssuer, Subject: c.Subject, Method: caller.MethodIAM}
	if v := string(c.EmailVerified); v == "" || v == "true" {
		p.Email = c.Email
		p.Service = strings.HasSuffix(c.Email, ".gserviceaccount.com")
	}
	return p, true, nil
}

func clock(now func() time.Time) func() time.Time {
	if now == nil {
		return time.Now
	}
	return now
}
