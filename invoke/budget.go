package invoke

import (
	"context"
	"log/slog"
	"time"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/caller"
	"example.com/gatehouse/internal/limit"
	"example.com/gatehouse/internal/model"
	"example.com/gatehouse/session"
)

// A hold is what a model call may spend of its caller's budgets; nil where
// there are none.
type hold struct{ reservation *limit.Reservation }

// reserve sets aside what r may spend at most, so that calls at once cannot
// pass a budget together.
func (s *Service) reserve(ctx context.Context, r model.Request) (*hold, error) {
	who, _ := caller.FromContext(ctx)
	budgets := s.Limits.Budgets(who)
	if len(budgets) == 0 || s.Limiter == nil {
		return nil, nil
	}
	reservation, err := s.Limiter.Reserve(ctx, budgets, int64(promptTokens(r)+r.MaxTokens))
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, limit.Refused(err)
	}
	return &hold{reservation}, nil
}

// settle gives back what was not spent, by the model's own count.
func (h *hold) settle(tokens int64) {
	if h != nil {
		h.reservation.Settle(tokens)
	}
}

// addUsageTimeout bounds what a failed turn waits to have its tokens written down.
const addUsageTimeout = time.Second

// spent writes down what a turn that failed has used all the same; one that is
// stored shows it itself.
func (s *Service) spent(ctx context.Context, owner session.Owner, g *generation) {
	if g.usage.TotalTokens == 0 {
		return
	}
	ctx, cancel := lasting(ctx, addUsageTimeout)
	defer cancel()
	used := session.Spent{}
	used.Add(g.model, g.usage)
	if err := s.Store.AddUsage(ctx, owner, session.DayOf(s.Now()), used); err != nil {
		s.Log.LogAttrs(ctx, slog.LevelWarn, "The tokens of a turn that failed could not be written down.",
			slog.String("error", err.Error()), slog.String("request_id", api.RequestID(ctx)), slog.Int64("tokens", g.usage.TotalTokens))
	}
}
