package session

import (
	"maps"
	"time"
)

// A Day is a day in UTC, as 2026-11-24.
type Day string

// DayOf is the day of t.
func DayOf(t time.Time) Day { return Day(t.UTC().Format(time.DateOnly)) }

// Begin is the first moment of d; zero for what is no day.
func (d Day) Begin() time.Time {
	t, _ := time.ParseInLocation(time.DateOnly, string(d), time.UTC)
	return t
}

// A Spend is what was spent on a model.
type Spend struct {
	Tokens  int64   `firestore:"tokens" json:"tokens"`
	CostUSD float64 `firestore:"cost_usd" json:"estimated_cost_usd"` // 0 for a model without a price
}

// Spent is what was spent on a day, by model.
type Spent map[string]Spend

// Add adds what a turn used to s, in place.
func (s Spent) Add(model string, u Usage) {
	m := s[model]
	m.Tokens += u.TotalTokens
	if u.EstimatedCostUSD != nil {
		m.CostUSD += *u.EstimatedCostUSD
	}
	s[model] = m
}

// Merge adds all of other to s, in place.
func (s Spent) Merge(other Spent) {
	for model, o := range other {
		m := s[model]
		s[model] = Spend{Tokens: m.Tokens + o.Tokens, CostUSD: m.CostUSD + o.CostUSD}
	}
}

// Today is what a session's turns have used on the day of the last of them.
type Today struct {
	Day   Day   `firestore:"day"`
	Spent Spent `firestore:"spent"`
}

// todayAfter is s's Today once t is appended at now.
func (s *Session) todayAfter(t *Turn, now time.Time) Today {
	if t == nil {
		return s.Today
	}
	next := Today{Day: DayOf(now), Spent: Spent{}}
	if s.Today.Day == next.Day {
		next.Spent = maps.Clone(s.Today.Spent)
	}
	if next.Spent == nil {
		next.Spent = Spent{}
	}
	next.Spent.Add(t.Model, t.Usage)
	return next
}

// UsageName is the name under which a store keeps what an owner spent on a day
// outside of the sessions that are there: on deleted ones, and on turns that
// failed.
func UsageName(owner Owner, day Day) string { return digest("usage", string(owner), string(day)) }
