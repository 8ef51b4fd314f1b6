package middleware

import (
	"errors"
	"net/http"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/caller"
	"example.com/gatehouse/internal/limit"
	"example.com/gatehouse/internal/telemetry"
)

// limited calls next if the caller's rates let it through; body counts how much of it was
// read. A request that came to a call of the model costs a turn,
// however it ends; any other a tenth of one. Each MiB of its body costs a tenth more.
func (m *middleware) limited(route api.Route, state *requestState, w http.ResponseWriter, r *http.Request, body *gatedBody, next func() error) error {
	if m.Limiter == nil {
		return next()
	}
	rules := m.Limits.Rules(state.caller)
	if route.Unrefused {
		m.Limiter.Charge(r.Context(), rules, limit.Get)
		return next()
	}
	cost := limit.Get
	if route.Method == http.MethodPost {
		cost = limit.Turn
	}
	permit, err := m.Limiter.Take(r.Context(), rules, cost)
	if err != nil {
		return limit.Refused(err)
	}
	defer func() {
		cost := limit.Get
		if state.record.Turn().Asked {
			cost = limit.Turn
		}
		permit.Settle(cost + body.bytes>>20*limit.Get)
	}()
	permit.Header(w.Header())
	return next()
}

// charge returns err, by which r is refused before anything is done for it. It costs
// a caller that is known what other refusals do.
func (m *middleware) charge(r *http.Request, state *requestState, err error) error {
	known := state.caller.Principal
	if known == (caller.Principal{}) || m.Limiter == nil {
		return err
	}
	known.Service = true // its own limits count: the end user is none of its
	if _, refused := m.Limiter.Take(r.Context(), m.Limits.Rules(caller.New(known, "")), limit.Get); refused != nil {
		return limit.Refused(refused)
	}
	return err
}

// limitOf returns the limit that refused a request which failed with e, which may be nil;
// "" for none.
func limitOf(e *api.Error) telemetry.Limit {
	if e == nil {
		return ""
	}
	if e.Code == api.Overloaded {
		return telemetry.LimitConcurrency
	}
	refusal, ok := errors.AsType[*limit.Refusal](e)
	switch {
	case !ok:
		return ""
	case refusal.Rule == limit.Service:
		return telemetry.LimitServiceTokens
	case refusal.Rule == limit.Caller && refusal.Daily:
		return telemetry.LimitCallerTokens
	case refusal.Rule == limit.Caller:
		return telemetry.LimitCallerRequests
	case refusal.Daily:
		return telemetry.LimitTokens
	}
	return telemetry.LimitRequests
}
