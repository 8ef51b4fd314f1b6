package invoke

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/guard"
	"example.com/gatehouse/internal/price"
	"example.com/gatehouse/session"
)

// limitInfo is how one of the caller's limits stands.
type limitInfo struct {
	Name     string    `json:"name"` // person, caller or service
	Unit     string    `json:"unit"` // calls_per_minute or tokens_per_day
	Limit    int64     `json:"limit"`
	Left     int64     `json:"left"`
	ResetsAt time.Time `json:"resets_at"`
}

// modelUsage is what was used of one model.
type modelUsage struct {
	Model            string   `json:"model"`
	TotalTokens      int64    `json:"total_tokens"`
	EstimatedCostUSD *float64 `json:"estimated_cost_usd"` // null for a model without a price
}

// todayInfo is what was used today.
type todayInfo struct {
	Date             string       `json:"date"` // in UTC
	TotalTokens      int64        `json:"total_tokens"`
	EstimatedCostUSD float64      `json:"estimated_cost_usd"` // of the models that have a price
	Models           []modelUsage `json:"models"`
}

// getUsage is GET /usage: the caller's limits, and what it used today.
func (s *Service) getUsage(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), storeTimeout)
	defer cancel()
	day := session.DayOf(s.Now())
	spent, err := s.Store.Usage(ctx, guard.Owner(ctx), day)
	if err != nil {
		return s.readFailure(r, err)
	}
	limits := []limitInfo{}
	if s.Limiter != nil {
		for _, state := range s.Limiter.Left(ctx, s.Limits.Rules(ctx), s.Limits.Budgets(ctx)) {
			unit := "calls_per_minute"
			if state.Daily {
				unit = "tokens_per_day"
			}
			limits = append(limits, limitInfo{state.Name, unit, state.Limit, state.Left, state.ResetsAt.UTC()})
		}
	}
	today := todayInfo{Date: string(day), Models: []modelUsage{}}
	for model, m := range spent {
		used := modelUsage{Model: model, TotalTokens: m.Tokens}
		if price.Estimate(model, session.Usage{}) != nil {
			used.EstimatedCostUSD = &m.CostUSD
		}
		today.TotalTokens += m.Tokens
		today.EstimatedCostUSD += m.CostUSD
		today.Models = append(today.Models, used)
	}
	slices.SortFunc(today.Models, func(a, b modelUsage) int { return strings.Compare(a.Model, b.Model) })
	return api.WriteSuccess(w, r, "Limits, and what was used today", struct {
		Limits []limitInfo `json:"limits"`
		Today  todayInfo   `json:"today"`
	}{limits, today})
}
