package invoke

import (
	"context"

	"example.com/gatehouse/internal/caller"
	"example.com/gatehouse/internal/limit"
	"example.com/gatehouse/internal/model"
	"example.com/gatehouse/session"
)

// A hold is what a model call may spend of its caller's budgets; nil where nothing
// is counted.
type hold struct{ reservation *limit.Reservation }

// reserve sets aside what r may spend at most, so that calls at once cannot
// pass a budget together.
func (s *Service) reserve(ctx context.Context, r model.Request) (*hold, error) {
	if s.Limiter == nil {
		return nil, nil
	}
	who, _ := caller.FromContext(ctx)
	reservation, err := s.Limiter.Reserve(ctx, s.Limits.Budgets(who), int64(r.PromptTokens()+r.MaxTokens))
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, limit.Refused(err)
	}
	return &hold{reservation}, nil
}

// settle replaces what was reserved by what the call has cost.
func (h *hold) settle(model string, used session.Usage) {
	if h == nil {
		return
	}
	spend := limit.Spend{Tokens: used.TotalTokens}
	if used.EstimatedCostUSD != nil {
		spend.CostUSD = *used.EstimatedCostUSD
	}
	h.reservation.Settle(map[string]limit.Spend{model: spend})
}
