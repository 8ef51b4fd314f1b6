package guard

import (
	"context"
	"errors"
	"net/http"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/limit"
	"example.com/gatehouse/internal/observe"
	"example.com/gatehouse/session"
)

// Limits are how much callers may ask for.
type Limits struct {
	PerMinute       int   // calls of an end user, or of a caller that names none
	CallerPerMinute int   // calls of a caller, over all its end users
	PerDay          int64 // tokens of an end user; 0: no budget
	CallerPerDay    int64 // tokens of a caller; 0: no budget
	ServicePerDay   int64 // tokens of everybody; 0: no budget
}

// The names of the limits, in headers and answers.
const (
	person   = "person"
	everyone = "caller"
	service  = "service"
)

// Rules are the rates of whom ctx's request comes from. An API key's own rate
// takes the place of the caller's, and of the person's where it names none.
func (l Limits) Rules(ctx context.Context) []limit.Rule {
	c := visitOf(ctx).caller
	all := session.OwnerOf(c.principal.ID(), "")
	one, every := l.PerMinute, l.CallerPerMinute
	if own := c.principal.RatePerMinute; own > 0 {
		every = own
		if c.owner == all {
			one = own
		}
	}
	return []limit.Rule{{Name: person, Who: string(c.owner), PerMinute: one}, {Name: everyone, Who: string(all), PerMinute: every}}
}

// Budgets are the tokens a day that a turn of ctx's request draws on.
func (l Limits) Budgets(ctx context.Context) []limit.Budget {
	c := visitOf(ctx).caller
	var budgets []limit.Budget
	for _, b := range []limit.Budget{
		{Name: person, Who: string(c.owner), PerDay: l.PerDay},
		{Name: everyone, Who: string(session.OwnerOf(c.principal.ID(), "")), PerDay: l.CallerPerDay},
		{Name: service, Who: "everybody", PerDay: l.ServicePerDay},
	} {
		if b.PerDay > 0 {
			budgets = append(budgets, b)
		}
	}
	return budgets
}

// limited answers by route's handler if the caller's rates let the call
// through. One that was the caller's own mistake, or an earlier answer again,
// is not counted.
func (g *guard) limited(route api.Route, w http.ResponseWriter, r *http.Request) error {
	cost := limit.Get
	if route.Method == http.MethodPost {
		cost = limit.Turn
	}
	permit, err := g.Limiter.Take(r.Context(), g.Limits.Rules(r.Context()), cost)
	if err != nil {
		return Refused(err)
	}
	permit.Header(w.Header())
	err = route.Handler(w, r)
	mistake := err != nil && api.AsError(err).Status() < 499 // not a client that went away: its tokens are spent
	if mistake || w.Header().Get("Idempotency-Replayed") != "" {
		permit.Refund()
	}
	return err
}

// limitOf is the limit that refused a request with err, "" for none.
func limitOf(code api.Code, err error) observe.Limit {
	if code == api.Overloaded {
		return observe.LimitConcurrency
	}
	refusal, ok := errors.AsType[*limit.Refusal](err)
	switch {
	case !ok:
		return ""
	case refusal.Rule == service:
		return observe.LimitServiceTokens
	case refusal.Rule == everyone && refusal.Daily:
		return observe.LimitCallerTokens
	case refusal.Rule == everyone:
		return observe.LimitCallerRequests
	case refusal.Daily:
		return observe.LimitTokens
	}
	return observe.LimitRequests
}

// Refused is the answer to a call that a limit does not let through.
func Refused(err error) error {
	refusal, ok := errors.AsType[*limit.Refusal](err)
	if !ok {
		return api.Fail(api.ClientClosedRequest, err) // it left while it waited
	}
	e := api.Fail(api.RateLimited, err)
	if refusal.Daily {
		e.Code = api.QuotaExceeded
	}
	e.RetryAfter = refusal.RetryAfter
	e.Header = http.Header{}
	refusal.Header(e.Header)
	return e
}
