package api

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// AcceptsGzip reports whether the client takes a body packed by gzip (RFC 9110, 12.5.3).
func AcceptsGzip(r *http.Request) bool {
	accepted := false
	for item := range strings.SplitSeq(strings.Join(r.Header.Values("Accept-Encoding"), ","), ",") {
		coding, parameters, _ := strings.Cut(item, ";")
		weight := 1.0
		if value, ok := strings.CutPrefix(strings.ReplaceAll(parameters, " ", ""), "q="); ok {
			weight, _ = strconv.ParseFloat(value, 64) // what cannot be read is 0: not taken
		}
		switch strings.ToLower(strings.TrimSpace(coding)) {
		case "gzip":
			return weight > 0
		case "*":
			accepted = weight > 0
		}
	}
	return accepted
}

// Holds reports whether the client has a copy with this entity tag, quotes
// included, as its If-None-Match says (RFC 9110, 13.1.2): the answer is 304 then.
func Holds(r *http.Request, etag string) bool {
	tags := strings.Split(strings.Join(r.Header.Values("If-None-Match"), ","), ",")
	return slices.ContainsFunc(tags, func(tag string) bool {
		tag = strings.TrimSpace(tag)
		return tag == "*" || strings.TrimPrefix(tag, "W/") == etag
	})
}
