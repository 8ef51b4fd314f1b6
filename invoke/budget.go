package invoke

import (
	"context"

	"example.com/gatehouse/internal/caller"
	"example.com/gatehouse/internal/limit"
	"example.com/gatehouse/internal/model"
	"example.com/gatehouse/session"
)

// Budgets are charged before the tokens are spent. A model call reserves the most that it can
// cost, the estimate of its prompt and its max_tokens, and settles to what was really spent
// when it is over: many calls at once cannot each fit in what is left of a budget and pass it
// together. What is unknown is charged as what was reserved, so that a client that leaves, a
// panic or a lost reply never makes a call cheaper.

// A hold is the reservation of a model call in its caller's budgets. It is used by one
// goroutine; a nil hold reserves nothing.
type hold struct {
	limiter      *limit.Limiter
	budgets      []limit.Budget
	reservations []*limit.Reservation
}

// reserve reserves the most that r can spend, so that concurrent calls cannot exceed a
// budget together. It returns nil if nothing is limited.
func (s *Service) reserve(ctx context.Context, r *model.Request) (*hold, error) {
	if s.Limiter == nil {
		return nil, nil
	}
	who, _ := caller.FromContext(ctx)
	h := &hold{limiter: s.Limiter, budgets: s.Limits.Budgets(who)}
	return h, h.reserveMore(ctx, r.PromptTokens+r.MaxTokens)
}

// reserveMore reserves the same amount for another attempt after one was spent. Its error is
// the cause of ctx's end, or one for the caller as [limit.Refused] has it. The attempts before
// it stay reserved.
func (h *hold) reserveMore(ctx context.Context, tokens int) error {
	if h == nil {
		return nil
	}
	reservation, err := h.limiter.Reserve(ctx, h.budgets, int64(tokens))
	switch {
	case err != nil && ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return limit.Refused(err)
	}
	h.reservations = append(h.reservations, reservation)
	return nil
}

// settle replaces the reservations by what was spent. spent has an entry for each attempt,
// with the model that answered or was asked, since prices differ. What exceeds a reservation
// is a debt that the budget's next lease covers first.
func (h *hold) settle(spent []model.Spent) {
	if h == nil {
		return
	}
	all := map[string]limit.Spend{}
	for _, s := range spent {
		spend := all[s.Model]
		spend.Tokens += s.Usage.TotalTokens
		if s.Usage.EstimatedCostUSD != nil {
			spend.CostUSD += *s.Usage.EstimatedCostUSD
		}
		all[s.Model] = spend
	}
	for _, reservation := range h.reservations {
		reservation.Settle(all)
		all = nil // only the first reservation is charged
	}
}

// settleUnknown settles a call that panicked. Its use is unknown, so it is charged what was
// reserved.
func (h *hold) settleUnknown(r *model.Request) {
	h.settle([]model.Spent{{Model: r.Model, Usage: session.Usage{TotalTokens: int64(r.PromptTokens + r.MaxTokens)}}})
}
