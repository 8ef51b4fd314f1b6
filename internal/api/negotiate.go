package api

import (
	"net/http"
	"strconv"
	"strings"
)

// Negotiate reads the Accept header (RFC 9110, 12.5.1). json and stream report
// which of application/json and text/event-stream the client accepts;
// preferStream, that it named the event stream and prefers it to JSON. Without the
// header everything is accepted.
func Negotiate(r *http.Request) (json, stream, preferStream bool) {
	values := r.Header.Values("Accept")
	if strings.TrimSpace(strings.Join(values, "")) == "" {
		return true, true, false
	}
	jsonQ := quality{specificity: -1}
	streamQ := quality{specificity: -1}
	for _, value := range values {
		for item := range strings.SplitSeq(value, ",") {
			mediaRange, params, _ := strings.Cut(item, ";")
			mediaRange = strings.ToLower(strings.TrimSpace(mediaRange))
			q := weight(params)
			jsonQ.match(mediaRange, "application", "json", q)
			streamQ.match(mediaRange, "text", "event-stream", q)
		}
	}
	named := streamQ.specificity == 2 && streamQ.q > 0
	better := streamQ.q > jsonQ.q || streamQ.q == jsonQ.q && jsonQ.specificity < 2
	return jsonQ.q > 0, streamQ.q > 0, named && better
}

// PrefersHTML reports whether the client named text/html in its Accept header and
// likes it no less than JSON, as browsers do for a page. One that takes
// everything, as curl does, did not.
func PrefersHTML(r *http.Request) bool {
	html := quality{specificity: -1}
	json := quality{specificity: -1}
	for _, value := range r.Header.Values("Accept") {
		for item := range strings.SplitSeq(value, ",") {
			mediaRange, params, _ := strings.Cut(item, ";")
			mediaRange = strings.ToLower(strings.TrimSpace(mediaRange))
			q := weight(params)
			html.match(mediaRange, "text", "html", q)
			json.match(mediaRange, "application", "json", q)
		}
	}
	return html.specificity == 2 && html.q > 0 && html.q >= json.q
}

// namesJSON reports whether the client named application/json in its Accept header.
func namesJSON(r *http.Request) bool {
	json := quality{specificity: -1}
	for _, value := range r.Header.Values("Accept") {
		for item := range strings.SplitSeq(value, ",") {
			mediaRange, params, _ := strings.Cut(item, ";")
			json.match(strings.ToLower(strings.TrimSpace(mediaRange)), "application", "json", weight(params))
		}
	}
	return json.specificity == 2 && json.q > 0
}

// A quality is the weight of the most specific range that matched a type.
type quality struct {
	q           float64
	specificity int // 2: type/subtype, 1: type/*, 0: */*, -1: nothing matched
}

func (c *quality) match(mediaRange, typ, subtype string, q float64) {
	specificity := -1
	switch mediaRange {
	case typ + "/" + subtype:
		specificity = 2
	case typ + "/*":
		specificity = 1
	case "*/*":
		specificity = 0
	}
	if specificity > c.specificity || specificity == c.specificity && specificity >= 0 && q > c.q {
		c.q, c.specificity = q, specificity
	}
}

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
