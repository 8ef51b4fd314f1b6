package limit

import (
	"errors"
	"net/http"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/auth"
	"example.com/gatehouse/internal/caller"
)

// Limits are how much callers may ask for.
type Limits struct {
	PerMinute       int   // calls of an end user
	CallerPerMinute int   // calls of a caller, over all its end users
	PerDay          int64 // tokens of an end user; 0: no budget
	CallerPerDay    int64 // tokens of a caller; 0: no budget
	ServicePerDay   int64 // tokens of everybody; 0: no budget
}

// The names of the limits, in headers and answers.
const (
	EndUser = "end_user"
	Caller  = "caller"
	Service = "service"
)

// Rules returns the rates that c's calls count against: its end user's, where there
// is one, and its caller's. An API key's own rate takes the place of the caller's,
// and of the end user's where the caller is one.
func (l Limits) Rules(c caller.Caller) []Rule {
	all := c.Principal.Owner()
	perEndUser, perCaller := l.PerMinute, l.CallerPerMinute
	if own := c.Principal.RatePerMinute; own > 0 {
		perCaller = own
		if c.Owner == all {
			perEndUser = own
		}
	}
	ofCaller := Rule{Name: Caller, Who: string(all), PerMinute: perCaller}
	if !hasEndUser(c) {
		return []Rule{ofCaller}
	}
	return []Rule{{Name: EndUser, Who: string(c.Owner), PerMinute: perEndUser}, ofCaller}
}

// Budgets returns the tokens a day that a turn of c draws on. Those of its end user
// and of its caller are there also without a limit: what they use is added up.
func (l Limits) Budgets(c caller.Caller) []Budget {
	budgets := make([]Budget, 0, 3)
	if hasEndUser(c) {
		budgets = append(budgets, Budget{Name: EndUser, Who: string(c.Owner), PerDay: l.PerDay})
	}
	budgets = append(budgets, Budget{Name: Caller, Who: string(c.Principal.Owner()), PerDay: l.CallerPerDay})
	if l.ServicePerDay > 0 {
		budgets = append(budgets, Budget{Name: Service, Who: "everybody", PerDay: l.ServicePerDay})
	}
	return budgets
}

// hasEndUser reports whether c calls for an end user: one that is named, or itself. A
// service that names none is limited as a caller only.
func hasEndUser(c caller.Caller) bool {
	return c.EndUser != "" || !c.Principal.Service || c.Principal.Method == auth.MethodNone
}

// Refused returns the answer to a call that a limit does not let through.
func Refused(err error) error {
	refusal, ok := errors.AsType[*Refusal](err)
	if !ok {
		return api.Fail(api.ClientClosedRequest, err) // it left while it waited
	}
	e := api.Fail(api.RateLimited, err)
	if refusal.Daily {
		e.Code = api.QuotaExceeded
	}
	e.RetryAfter = refusal.RetryAfter
	e.Header = http.Header{}
	refusal.Header(e.Header)
	return e
}
