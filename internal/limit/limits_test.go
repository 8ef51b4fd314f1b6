package limit_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/caller"
	"example.com/gatehouse/internal/limit"
)

func TestLimitsOfACaller(t *testing.T) {
	t.Parallel()
	all := limit.Limits{PerMinute: 60, CallerPerMinute: 600, PerDay: 1000, CallerPerDay: 9000, ServicePerDay: 90_000}
	noService := all
	noService.ServicePerDay = 0
	service := caller.Principal{Issuer: "api_key", Subject: "shop", Service: true, Method: caller.MethodAPIKey}
	own := service
	own.RatePerMinute = 1
	person := caller.Principal{Issuer: "https://accounts.example.com", Subject: "ada", Method: caller.MethodOIDC}
	personOwn := person
	personOwn.RatePerMinute = 5
	nobody := caller.Principal{Service: true, Method: caller.MethodNone}
	type rate struct {
		Name string
		Most int64
	}
	for name, tt := range map[string]struct {
		limits  limit.Limits
		caller  caller.Caller
		rules   []rate
		budgets []rate
	}{
		"a service that names no end user":        {all, caller.New(service, ""), []rate{{limit.Caller, 600}}, []rate{{limit.Caller, 9000}, {limit.Service, 90_000}}},
		"a service for an end user":               {all, caller.New(service, "u"), []rate{{limit.EndUser, 60}, {limit.Caller, 600}}, []rate{{limit.EndUser, 1000}, {limit.Caller, 9000}, {limit.Service, 90_000}}},
		"a service with a rate of its own":        {all, caller.New(own, "u"), []rate{{limit.EndUser, 60}, {limit.Caller, 1}}, []rate{{limit.EndUser, 1000}, {limit.Caller, 9000}, {limit.Service, 90_000}}},
		"a person":                                {all, caller.New(person, ""), []rate{{limit.EndUser, 60}, {limit.Caller, 600}}, []rate{{limit.EndUser, 1000}, {limit.Caller, 9000}, {limit.Service, 90_000}}},
		"a person with a rate of its own":         {all, caller.New(personOwn, ""), []rate{{limit.EndUser, 5}, {limit.Caller, 5}}, []rate{{limit.EndUser, 1000}, {limit.Caller, 9000}, {limit.Service, 90_000}}},
		"anybody, where nobody is identified":     {all, caller.New(nobody, ""), []rate{{limit.EndUser, 60}, {limit.Caller, 600}}, []rate{{limit.EndUser, 1000}, {limit.Caller, 9000}, {limit.Service, 90_000}}},
		"a service's budget of one token":         {limit.Limits{ServicePerDay: 1}, caller.New(service, ""), []rate{{limit.Caller, 0}}, []rate{{limit.Caller, 0}, {limit.Service, 1}}},
		"no budget of the service":                {noService, caller.New(service, ""), []rate{{limit.Caller, 600}}, []rate{{limit.Caller, 9000}}},
		"no limits: their use is reported anyway": {limit.Limits{}, caller.New(service, "u"), []rate{{limit.EndUser, 0}, {limit.Caller, 0}}, []rate{{limit.EndUser, 0}, {limit.Caller, 0}}},
	} {
		var rules, budgets []rate
		who := map[string]string{limit.EndUser: string(tt.caller.Owner), limit.Caller: string(tt.caller.Principal.Owner()), limit.Service: "everybody"}
		for _, r := range tt.limits.Rules(tt.caller) {
			if rules = append(rules, rate{r.Name, int64(r.PerMinute)}); r.Who != who[r.Name] {
				t.Errorf("%s: the rule %s is of %q", name, r.Name, r.Who)
			}
		}
		for _, b := range tt.limits.Budgets(tt.caller) {
			if budgets = append(budgets, rate{b.Name, b.PerDay}); b.Who != who[b.Name] {
				t.Errorf("%s: the budget %s is of %q", name, b.Name, b.Who)
			}
		}
		if diff := cmp.Diff(tt.rules, rules); diff != "" {
			t.Errorf("%s: rules (-want +got):\n%s", name, diff)
		}
		if diff := cmp.Diff(tt.budgets, budgets); diff != "" {
			t.Errorf("%s: budgets (-want +got):\n%s", name, diff)
		}
	}
}

func TestTheAnswerToARefusal(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		err   error
		code  api.Code
		wait  time.Duration
		field string
	}{
		"by a rate":                      {&limit.Refusal{Rule: limit.Caller, RetryAfter: 7 * time.Second, States: []limit.State{{Name: limit.Caller, Limit: 60}}}, api.RateLimited, 7 * time.Second, `"caller";r=0;t=1`},
		"by a day's budget":              {&limit.Refusal{Rule: limit.Caller, Daily: true, RetryAfter: time.Hour}, api.QuotaExceeded, time.Hour, ""},
		"a client that has disconnected": {context.Canceled, api.ClientClosedRequest, 0, ""},
	} {
		err, ok := errors.AsType[*api.Error](limit.Refused(tt.err))
		if !ok || err.Code != tt.code || err.RetryAfter != tt.wait || err.Header.Get("RateLimit") != tt.field {
			t.Errorf("%s: %+v", name, err)
		}
	}
}
