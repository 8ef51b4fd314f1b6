package invoke

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/caller"
	"example.com/gatehouse/internal/limit"
)

// A LimitInfo is the state of one of the caller's limits.
type LimitInfo struct {
	Name     string    `json:"name" enum:"end_user,caller,service" doc:"Whose it is; the service's is for operators."`
	Unit     string    `json:"unit" enum:"calls_per_minute,tokens_per_day"`
	Limit    int64     `json:"limit" minimum:"0"`
	Left     int64     `json:"left" minimum:"0"`
	ResetsAt time.Time `json:"resets_at"`
}

// A ModelUsage is today's use of one model.
type ModelUsage struct {
	Model            string   `json:"model"`
	TotalTokens      int64    `json:"total_tokens" minimum:"0"`
	EstimatedCostUSD *float64 `json:"estimated_cost_usd" minimum:"0"`
}

// TodayInfo is today's use.
type TodayInfo struct {
	Date             string       `json:"date" format:"date" doc:"In UTC."`
	TotalTokens      int64        `json:"total_tokens" minimum:"0"`
	EstimatedCostUSD float64      `json:"estimated_cost_usd" minimum:"0"`
	Models           []ModelUsage `json:"models"`
}

// A UsageReport is the data of GET /usage.
type UsageReport struct {
	Limits []LimitInfo `json:"limits"`
	Today  TodayInfo   `json:"today"`
}

// usageRoute returns the route of GET /usage.
func (s *Service) usageRoute() api.Route {
	return api.Route{
		Method: http.MethodGet, Path: "/usage", Handler: s.getUsage,
		Summary: "Read your limits, and what you used today.",
		Doc: api.Doc{
			ID: "getUsage", Tag: api.TagLimits, Errors: []api.Code{api.SessionStoreUnavailable},
			Answers: []api.DocAnswer{{Status: http.StatusOK, Description: "Limits and use.", Data: UsageReport{}}},
		},
	}
}

// getUsage handles GET /usage: the caller's limits and today's use.
func (s *Service) getUsage(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), storeTimeout)
	defer cancel()
	report, err := s.usage(ctx)
	switch {
	case errors.As(err, new(*limit.Refusal)):
		return limit.Refused(err)
	case err != nil:
		return readFailure(r, err)
	}
	return api.WriteSuccess(w, r, "Limits, and what was used today", report)
}

// usage returns the caller's limits and today's use. It reads one document, which
// already has the sums. Without a limiter there are no limits and no use. The service's own
// budget is shown to operators only: others could follow everybody's use by it.
func (s *Service) usage(ctx context.Context) (UsageReport, error) {
	var report limit.Report
	if s.Limiter != nil {
		who, _ := caller.FromContext(ctx)
		budgets := s.Limits.Budgets(who)
		if !who.Operator {
			budgets = slices.DeleteFunc(budgets, func(b limit.Budget) bool { return b.Name == limit.Service })
		}
		var err error
		if report, err = s.Limiter.Report(ctx, s.Limits.Rules(who), budgets); err != nil {
			return UsageReport{}, err
		}
	}
	limits := []LimitInfo{}
	for _, state := range report.States {
		unit := "calls_per_minute"
		if state.Daily {
			unit = "tokens_per_day"
		}
		limits = append(limits, LimitInfo{state.Name, unit, state.Limit, state.Left, state.ResetsAt.UTC()})
	}
	today := TodayInfo{Date: s.Now().UTC().Format(time.DateOnly), Models: []ModelUsage{}}
	for model, m := range report.Usage {
		used := ModelUsage{Model: model, TotalTokens: m.Tokens}
		// A model without a price has no cost that is known; 0 would be read as free.
		if s.Tables.Table().Model(model) != nil {
			used.EstimatedCostUSD = &m.CostUSD
		}
		today.TotalTokens += m.Tokens
		today.EstimatedCostUSD += m.CostUSD
		today.Models = append(today.Models, used)
	}
	slices.SortFunc(today.Models, func(a, b ModelUsage) int { return strings.Compare(a.Model, b.Model) })
	return UsageReport{limits, today}, nil
}
