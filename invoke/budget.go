package invoke

import (
	"context"

	"example.com/gatehouse/internal/caller"
	"example.com/gatehouse/internal/limit"
	"example.com/gatehouse/internal/model"
	"example.com/gatehouse/session"
)

// A hold is what a model call may spend of its caller's budgets. It is for one
// goroutine; nil holds nothing.
type hold struct {
	reservations []*limit.Reservation
	reserve      func(ctx context.Context, tokens int) (*limit.Reservation, error)
}

// reserve sets aside what r may spend at most, so that calls at once cannot pass a
// budget together. It is nil where nothing is counted.
func (s *Service) reserve(ctx context.Context, r model.Request) (*hold, error) {
	if s.Limiter == nil {
		return nil, nil
	}
	who, _ := caller.FromContext(ctx)
	budgets := s.Limits.Budgets(who)
	h := &hold{reserve: func(ctx context.Context, tokens int) (*limit.Reservation, error) {
		return s.Limiter.Reserve(ctx, budgets, int64(tokens))
	}}
	return h, h.again(ctx, r.PromptTokens+r.MaxTokens)
}

// again sets tokens aside for another attempt, when one has been spent.
func (h *hold) again(ctx context.Context, tokens int) error {
	if h == nil {
		return nil
	}
	reservation, err := h.reserve(ctx, tokens)
	switch {
	case err != nil && ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return limit.Refused(err)
	}
	h.reservations = append(h.reservations, reservation)
	return nil
}

// settle replaces what was set aside by what was spent.
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
		all = nil // it is spent once
	}
}

// lose settles a call that ended in a panic, of which nothing is known: it costs what
// was reserved.
func (h *hold) lose(r model.Request) {
	h.settle([]model.Spent{{Model: r.Model, Usage: session.Usage{TotalTokens: int64(r.PromptTokens + r.MaxTokens)}}})
}
