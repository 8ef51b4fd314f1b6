package guard

import (
	"errors"
	"net/http"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/limit"
	"example.com/gatehouse/internal/observe"
)

// limited answers by route's handler if the caller's rates let the call
// through. One that was the caller's own mistake, or an earlier answer again,
// is not counted.
func (g *guard) limited(route api.Route, w http.ResponseWriter, r *http.Request) error {
	cost := limit.Get
	if route.Method == http.MethodPost {
		cost = limit.Turn
	}
	v := stateOf(r.Context())
	permit, err := g.Limiter.Take(r.Context(), g.Limits.Rules(v.caller), cost)
	if err != nil {
		return limit.Refused(err)
	}
	permit.Header(w.Header())
	err = route.Handler(w, r)
	mistake := err != nil && api.AsError(err).Status() < 499 // not a client that went away: its tokens are spent
	if mistake || v.record.Turn().Replayed {
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
	case refusal.Rule == limit.Service:
		return observe.LimitServiceTokens
	case refusal.Rule == limit.Caller && refusal.Daily:
		return observe.LimitCallerTokens
	case refusal.Rule == limit.Caller:
		return observe.LimitCallerRequests
	case refusal.Daily:
		return observe.LimitTokens
	}
	return observe.LimitRequests
}
