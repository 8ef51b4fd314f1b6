package api

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Negotiate reads the Accept header (RFC 9110, 12.5.1). json and stream report
// which of application/json and text/event-stream the client accepts;
// preferStream, that it named the event stream and prefers it to JSON. Without the
// header everything is accepted.
func Negotiate(r *http.Request) (json, stream, preferStream bool) {
	values := r.Header["Accept"]
	if strings.TrimSpace(strings.Join(values, "")) == "" {
		return true, true, false
	}
	if len(values) == 1 { // what most clients send
		switch values[0] {
		case "*/*":
			return true, true, false
		case "application/json":
			return true, false, false
		}
	}
	j, s := accepted(r, "application/*", "application/json"), accepted(r, "text/*", "text/event-stream")
	better := s.q > j.q || s.q == j.q && j.specificity < 2
	return j.q > 0, s.q > 0, s.named() && better
}

// PrefersHTML reports whether the client named text/html in its Accept header and
// likes it no less than JSON, as browsers do for a page. One that takes
// everything, as curl does, did not.
func PrefersHTML(r *http.Request) bool {
	html := accepted(r, "text/*", "text/html")
	return html.named() && html.q >= accepted(r, "application/*", "application/json").q
}

// A quality is the weight of the most specific range that matched a type.
type quality struct {
	q           float64
	specificity int // 2: type/subtype, 1: type/*, 0: */*, -1: nothing matched
}

// accepted returns how the Accept header weighs a type, of the given kind.
func accepted(r *http.Request, kind, typ string) quality {
	best := quality{specificity: -1}
	ranges := []string{"*/*", kind, typ} // by their specificity
	for _, value := range r.Header.Values("Accept") {
		for item := range strings.SplitSeq(value, ",") {
			mediaRange, params, _ := strings.Cut(item, ";")
			specificity, q := slices.Index(ranges, strings.ToLower(strings.TrimSpace(mediaRange))), weight(params)
			if specificity > best.specificity || specificity >= 0 && specificity == best.specificity && q > best.q {
				best = quality{q, specificity}
			}
		}
	}
	return best
}

// named reports whether the type itself is accepted, and not just a range of types.
func (c quality) named() bool { return c.specificity == 2 && c.q > 0 }

// weight is the q of a media range's parameters, 1 without one, 0 when it
// cannot be read.
func weight(params string) float64 {
	for p := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(p), "=")
		if strings.EqualFold(strings.TrimSpace(name), "q") {
			q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil || !(q >= 0 && q <= 1) {
				return 0
			}
			return q
		}
	}
	return 1
}
