package limit

import (
	"errors"
	"net/http"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/caller"
)

// Limits are the configured limits.
type Limits struct {
	PerMinute       int   // calls of one end user
	CallerPerMinute int   // calls of one caller, over all its end users
	PerDay          int64 // tokens of one end user; 0: no budget
	CallerPerDay    int64 // tokens of one caller; 0: no budget
	ServicePerDay   int64 // tokens of the whole service; 0: no budget
}

// The names of the limits, in headers and answers.
const (
	EndUser = "end_user"
	Caller  = "caller"
	Service = "service"
)

// Rules returns the rates that a call of c counts against: its end user's, if any, and
// its caller's. The rate of an API key replaces the caller's, and the end user's too
// if the caller acts for itself. It is small enough to be inlined, so that who does not
// keep the rules has them on the stack.
func (l Limits) Rules(c caller.Caller) []Rule { return l.appendRules(make([]Rule, 0, 2), c) }

func (l Limits) appendRules(rules []Rule, c caller.Caller) []Rule {
	all := c.Whole()
	perEndUser, perCaller := l.PerMinute, l.CallerPerMinute
	if own := c.Principal.RatePerMinute; own > 0 {
		perCaller = own
		if c.Owner == all {
			perEndUser = own
		}
	}
	if hasEndUser(c) {
		rules = append(rules, Rule{Name: EndUser, Who: string(c.Owner), PerMinute: perEndUser})
	}
	return append(rules, Rule{Name: Caller, Who: string(all), PerMinute: perCaller})
}

// Budgets returns the daily budgets that a turn of c draws on. The end user's and the
// caller's are included even if they have no limit, because their use is reported.
func (l Limits) Budgets(c caller.Caller) []Budget {
	budgets := make([]Budget, 0, 3)
	if hasEndUser(c) {
		budgets = append(budgets, Budget{Name: EndUser, Who: string(c.Owner), PerDay: l.PerDay})
	}
	budgets = append(budgets, Budget{Name: Caller, Who: string(c.Whole()), PerDay: l.CallerPerDay})
	if l.ServicePerDay > 0 {
		budgets = append(budgets, Budget{Name: Service, Who: "everybody", PerDay: l.ServicePerDay})
	}
	return budgets
}

// hasEndUser reports whether c acts for an end user, named or itself. A service that
// names none is limited only as a caller.
func hasEndUser(c caller.Caller) bool {
	return c.EndUser != "" || !c.Principal.Service || c.Principal.Method == caller.MethodNone
}

// Refused returns the response to a call that a limit refused.
func Refused(err error) error {
	refusal, ok := errors.AsType[*Refusal](err)
	if !ok {
		return api.Fail(api.ClientClosedRequest, err) // it disconnected while it waited
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
