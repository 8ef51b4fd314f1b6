package api

import (
	"net/http"
	"strings"
)

// maxLocale bounds a language tag, in bytes; RFC 5646, 4.4.1, asks for at least 35.
const maxLocale = 35

// Locale returns the language tag that the client likes best in Accept-Language
// (RFC 9110, 12.5.4), the first of several that it likes alike; "" when it names
// none. Items without the form of a tag are skipped.
func Locale(r *http.Request) string {
	best, bestQ := "", 0.0
	for _, value := range r.Header.Values("Accept-Language") {
		for item := range strings.SplitSeq(value, ",") {
			tag, params, _ := strings.Cut(item, ";")
			tag = strings.TrimSpace(tag)
			if q := weight(params); q > bestQ && isLanguageTag(tag) {
				best, bestQ = tag, q
			}
		}
	}
	return best
}

// isLanguageTag reports whether tag has the form of a language tag (RFC 5646, 2.1):
// a language of 2 to 8 letters, and subtags of 1 to 8 letters and digits.
func isLanguageTag(tag string) bool {
	if len(tag) > maxLocale {
		return false
	}
	language, rest, more := strings.Cut(tag, "-")
	if len(language) < 2 || !isAlphanumeric(language) || strings.ContainsAny(language, "0123456789") {
		return false
	}
	for more {
		var subtag string
		subtag, rest, more = strings.Cut(rest, "-")
		if !isAlphanumeric(subtag) {
			return false
		}
	}
	return true
}

// isAlphanumeric reports whether s is 1 to 8 ASCII letters and digits.
func isAlphanumeric(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return 1 <= len(s) && len(s) <= 8
}
