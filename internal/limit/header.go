package limit

import (
	"net/http"
	"strconv"
	"strings"
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
	var p, r strings.Builder
	for i, s := range states {
		if i > 0 {
			p.WriteString(", ")
			r.WriteString(", ")
		}
		length := secondsOfMinute
		if s.Daily {
			length = secondsOfDay
		}
		name := quote(s.Name)
		p.WriteString(name)
		p.WriteString(";q=")
		p.WriteString(strconv.FormatInt(s.Limit, 10))
		p.WriteString(";w=")
		p.WriteString(strconv.Itoa(length))
		r.WriteString(name)
		r.WriteString(";r=")
		r.WriteString(strconv.FormatInt(s.Left, 10))
		r.WriteString(";t=")
		r.WriteString(strconv.FormatInt(int64(wholeSeconds(s.ResetsAt.Sub(now))/time.Second), 10))
	}
	return p.String(), r.String()
}

var escape = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// quote returns s as a string of structured fields (RFC 9651, section 4.1.6).
func quote(s string) string { return `"` + escape.Replace(s) + `"` }

// wholeSeconds rounds d up to whole seconds, at least one, so that a client that waits
// as long is not early.
func wholeSeconds(d time.Duration) time.Duration {
	return max(time.Second, (d + time.Second - 1).Truncate(time.Second))
}

// Header sets RateLimit-Policy and RateLimit to the current state of the rules.
func (p *Permit) Header(h http.Header) {
	if len(p.claims) == 0 {
		return
	}
	policy, left := fields(states(p.claims), p.limiter.now())
	h.Set("RateLimit-Policy", policy)
	h.Set("RateLimit", left)
}

// Header adds RateLimit-Policy and RateLimit as they were at the refusal: h has those of the
// rules when a budget refuses. Retry-After is left to the caller.
func (r *Refusal) Header(h http.Header) {
	if len(r.States) == 0 { // refused for want of room, before any limit applied
		return
	}
	policy, left := fields(r.States, r.at)
	h.Add("RateLimit-Policy", policy)
	h.Add("RateLimit", left)
}
