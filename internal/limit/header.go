package limit

import (
	"net/http"
	"strconv"
	"time"
)

// A State is the state of one limit as far as this instance knows. What other
// instances have leased and not used yet counts as used.
type State struct {
	Name     string
	Daily    bool  // tokens in a UTC day; else calls in a clock minute
	Limit    int64 // calls or tokens
	Left     int64
	ResetsAt time.Time
}

// fields returns the values of RateLimit-Policy and RateLimit for states, structured
// fields of draft-ietf-httpapi-ratelimit-headers-10: quota, window, remaining quota
// and seconds until the reset.
func fields(states []State, now time.Time) (policy, left string) {
	// Room for an end user and a caller, so that each value is copied once.
	p, r := make([]byte, 0, 64), make([]byte, 0, 64)
	for i, s := range states {
		if i > 0 {
			p, r = append(p, ", "...), append(r, ", "...)
		}
		length := int64(secondsOfMinute)
		if s.Daily {
			length = secondsOfDay
		}
		p = strconv.AppendInt(append(appendQuoted(p, s.Name), ";q="...), s.Limit, 10)
		p = strconv.AppendInt(append(p, ";w="...), length, 10)
		r = strconv.AppendInt(append(appendQuoted(r, s.Name), ";r="...), s.Left, 10)
		r = strconv.AppendInt(append(r, ";t="...), int64(wholeSeconds(s.ResetsAt.Sub(now))/time.Second), 10)
	}
	return string(p), string(r)
}

// appendQuoted appends s as a string of structured fields (RFC 9651, section 4.1.6).
func appendQuoted(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return append(b, '"')
}

// wholeSeconds rounds d up to whole seconds, at least one, so that a client that waits
// as long is not early.
func wholeSeconds(d time.Duration) time.Duration {
	return max(time.Second, (d + time.Second - 1).Truncate(time.Second))
}

// The headers in the form that [http.Header] has them in, so that none is brought into it
// for each answer.
const (
	headerPolicy = "Ratelimit-Policy"
	headerLeft   = "Ratelimit"
)

// Header sets RateLimit-Policy and RateLimit to the current state of the rules.
func (p *Permit) Header(h http.Header) {
	if len(p.claims) == 0 {
		return
	}
	var room [2]State // of an end user and a caller
	policy, left := fields(appendStates(room[:0], p.claims), p.limiter.now())
	values := []string{policy, left}
	h[headerPolicy], h[headerLeft] = values[:1:1], values[1:]
}

// Header adds RateLimit-Policy and RateLimit as they were at the refusal: h has those of the
// rules when a budget refuses. Retry-After is left to the caller.
func (r *Refusal) Header(h http.Header) {
	if len(r.States) == 0 { // refused for want of room, before any limit applied
		return
	}
	policy, left := fields(r.States, r.at)
	h[headerPolicy] = append(h[headerPolicy], policy)
	h[headerLeft] = append(h[headerLeft], left)
}
