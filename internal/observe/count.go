package observe

import "context"

// A BreakerState is what agent.breaker.state shows.
type BreakerState int

// The states of a breaker.
const (
	BreakerClosed BreakerState = iota
	BreakerHalfOpen
	BreakerOpen
)

// Breaker tells the state of a model's breaker.
func (o *Observer) Breaker(ctx context.Context, model string, state BreakerState) {
	if o == nil || o.metrics == nil {
		return
	}
	m := o.metrics
	m.breaker.Record(ctx, int64(state), m.breakerSets.of(modelLabel{o.labels.model(model)}).record...)
}

// A Limit is one that refuses requests; its text is the label.
type Limit string

// The limits.
const (
	LimitRequests       Limit = "requests"        // of an end user, a minute
	LimitCallerRequests Limit = "caller_requests" // of a verified caller, a minute
	LimitTokens         Limit = "tokens"          // of an end user, a day
	LimitCallerTokens   Limit = "caller_tokens"   // of a verified caller, a day
	LimitServiceTokens  Limit = "service_tokens"  // of the whole service, a day
	LimitConcurrency    Limit = "concurrency"     // of this instance
)

// RateLimited counts a request that a limit refused.
func (o *Observer) RateLimited(ctx context.Context, limit Limit) {
	if o == nil || o.metrics == nil {
		return
	}
	switch limit {
	case LimitRequests, LimitCallerRequests, LimitTokens, LimitCallerTokens, LimitServiceTokens, LimitConcurrency:
	default:
		limit = other
	}
	m := o.metrics
	m.limited.Add(ctx, 1, m.limitSets.of(limitLabels{string(limit)}).add...)
}

// Feedback counts an opinion on a turn: below, at or above 0.
func (o *Observer) Feedback(ctx context.Context, score int) {
	if o == nil || o.metrics == nil {
		return
	}
	m := o.metrics
	m.feedback.Add(ctx, 1, m.scoreSets.of(scoreLabels{max(-1, min(1, score))}).add...)
}
