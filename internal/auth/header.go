package auth

import (
	"net/http"
	"strings"
)

// maxCredentialBytes bounds what is looked at: longer credentials are refused
// unread.
const maxCredentialBytes = 16 << 10

// credential returns the value of a header that carries a credential, and false
// when the request has no such header.
func credential(r *http.Request, header string) (string, bool, error) {
	values := r.Header[header]
	switch {
	case len(values) == 0:
		return "", false, nil
	case len(values) > 1:
		return "", true, invalid("%s was sent more than once", header)
	case values[0] == "":
		return "", true, invalid("%s is empty", header)
	case len(values[0]) > maxCredentialBytes:
		return "", true, invalid("%s is longer than %d bytes", header, maxCredentialBytes)
	}
	return values[0], true, nil
}

// bearer returns the token of a header in the form of RFC 6750, section 2.1.
func bearer(r *http.Request, header string) (string, bool, error) {
	value, ok, err := credential(r, header)
	if !ok || err != nil {
		return "", ok, err
	}
	scheme, token, _ := strings.Cut(value, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", true, invalid("%s is not a bearer token", header)
	}
	return strings.TrimLeft(token, " "), true, nil
}
