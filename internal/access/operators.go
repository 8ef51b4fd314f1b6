package access

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"example.com/gatehouse/internal/caller"
)

// The kinds of an [Operator].
const (
	operatorEmail   = "email"
	operatorSubject = "sub"
	operatorKey     = "key"
	operatorAccount = "account"
)

// An Operator is a caller who may see the details of the service. What identifies it
// belongs to one kind of credential, and of tokens to one issuer and tenant: a
// subject that looks like an address is nobody's address.
type Operator struct {
	Kind   string // email, sub, key or account
	Value  string // the address, the subject or the key's name
	Issuer string // of email and sub
	Tenant string // of email and sub; "" is a token without a tenant
}

// Operators are those of the variable OPERATORS.
type Operators []Operator

// ParseOperators reads OPERATORS, of which each entry is one of
//
//	email:ops@example.com@https://issuer
//	sub:1234@https://issuer
//	key:backend
//	account:ops@project.iam.gserviceaccount.com
//
// for an address that the issuer has verified, a token's subject, an API key's name,
// and an account by iam. An issuer may be followed by #tenant. The error names
// every entry at fault.
func ParseOperators(entries []string, allowLoopbackHTTP bool) (Operators, error) {
	var operators Operators
	var errs []error
	for i, entry := range entries {
		o, err := parseOperator(entry, allowLoopbackHTTP)
		if err != nil {
			errs = append(errs, fmt.Errorf("entry %d: %w", i+1, err))
			continue
		}
		operators = append(operators, o)
	}
	return operators, errors.Join(errs...)
}

func parseOperator(entry string, allowLoopbackHTTP bool) (Operator, error) {
	kind, value, _ := strings.Cut(entry, ":")
	o := Operator{Kind: kind, Value: value}
	switch kind {
	case operatorEmail, operatorSubject:
		at := max(strings.LastIndex(value, "@https://"), strings.LastIndex(value, "@http://"))
		if at < 0 {
			return Operator{}, fmt.Errorf("no issuer: want %s:…@https://issuer", kind)
		}
		o.Value = value[:at]
		o.Issuer, o.Tenant, _ = strings.Cut(value[at+1:], "#")
		if strings.HasSuffix(value, "#") || strings.Contains(o.Tenant, "#") {
			return Operator{}, errors.New("the tenant after # is empty or holds another #")
		}
		if err := checkIssuerURL(o.Issuer, allowLoopbackHTTP); err != nil {
			return Operator{}, err
		}
		if kind == operatorEmail && !isAddress(o.Value) {
			return Operator{}, errors.New("not an e-mail address before the issuer: want email:ops@example.com@https://issuer")
		}
	case operatorKey:
		if len(value) > maxKeyName || !keyName.MatchString(value) {
			return Operator{}, errors.New("not the name of an API key: want key:NAME")
		}
	case operatorAccount:
		if !isAddress(value) {
			return Operator{}, errors.New("not an account's address: want account:NAME@PROJECT.iam.gserviceaccount.com")
		}
	default:
		return Operator{}, errors.New("no kind: want email:ADDRESS@https://issuer, sub:SUBJECT@https://issuer, key:NAME or account:ADDRESS")
	}
	if o.Value == "" {
		return Operator{}, fmt.Errorf("nothing follows the kind %s", kind)
	}
	return o, nil
}

// isAddress is about what separates an address from a name that was put in its
// place.
func isAddress(s string) bool {
	name, domain, ok := strings.Cut(s, "@")
	return ok && name != "" && domain != "" && !strings.ContainsAny(domain, "@/:") && !strings.ContainsAny(s, " \t")
}

// Include reports whether p is an operator. Where none is named those are all
// callers by iam and api_key; a person's token only when it is named.
func (os Operators) Include(p caller.Principal) bool {
	switch {
	case p.Method == caller.MethodNone:
		return true
	case len(os) == 0:
		return p.Method == caller.MethodIAM || p.Method == caller.MethodAPIKey
	}
	return slices.ContainsFunc(os, func(o Operator) bool { return o.is(p) })
}

func (o Operator) is(p caller.Principal) bool {
	switch o.Kind {
	case operatorEmail:
		return p.Method == caller.MethodOIDC && p.Issuer == o.Issuer && p.Tenant == o.Tenant && p.Email != "" && p.Email == o.Value
	case operatorSubject:
		return p.Method == caller.MethodOIDC && p.Issuer == o.Issuer && p.Tenant == o.Tenant && p.Subject == o.Value
	case operatorKey:
		return p.Method == caller.MethodAPIKey && p.Subject == o.Value
	case operatorAccount:
		return p.Method == caller.MethodIAM && p.Email != "" && p.Email == o.Value
	}
	return false
}
