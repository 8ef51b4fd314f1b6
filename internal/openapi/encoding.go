package openapi

import (
	"net/http"
	"strconv"
	"strings"
)

// acceptsGzip reads Accept-Encoding (RFC 9110, 12.5.3), as far as gzip goes.
func acceptsGzip(r *http.Request) bool {
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
