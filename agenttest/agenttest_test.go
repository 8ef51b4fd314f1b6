package agenttest_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/agenttest"
	"example.com/gatehouse/tool"
)

func newAgent(_ context.Context, env agent.Env) (agent.Agent, error) {
	key := env.Secret("RATES_KEY")
	return agent.Agent{
		Name: "rates",
		Tools: []tool.Tool{
			tool.New("get_exchange_rate", "Returns what a currency is worth.", func(_ context.Context, in struct {
				From string `json:"from" jsonschema:"the currency"`
			}) (map[string]any, error) {
				return map[string]any{"from": in.From, "rate": 1.25, "key": key.Reveal()}, nil
			}, tool.Timeout(time.Second)),
			tool.New("who", "Returns who is calling.", func(ctx context.Context, _ struct{}) (tool.Context, error) {
				c := tool.From(ctx)
				c.RequestID = "" // it differs
				return c, nil
			}),
		},
	}, nil
}

func TestAScriptedModel(t *testing.T) {
	s := agenttest.Start(t, newAgent, "RATES_KEY=k")
	s.Model(agenttest.Call("get_exchange_rate", map[string]any{"from": "EUR"}), agenttest.Say("1.25 dollars."))
	got := s.Ask("What is a euro worth?")
	want := agenttest.Answer{
		Status: 200, Message: "Agent invocation successful", Text: "1.25 dollars.", SessionID: got.SessionID, Turn: 1,
		Tools: []agenttest.ToolCall{{Name: "get_exchange_rate", OK: true, Output: map[string]any{"from": "EUR", "rate": 1.25, "key": "k"}}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	s.Model(agenttest.Say("Yes."))
	if got := s.Do(agenttest.Request{Query: "Sure?", SessionID: got.SessionID}); got.Turn != 2 || got.Text != "Yes." {
		t.Errorf("a second turn: %+v", got)
	}
	s.Model(agenttest.Fail(400, "no"))
	if got := s.Ask("Still there?"); got.Status != 502 || got.Error != "model_failed" {
		t.Errorf("a model that fails: %+v", got)
	}
}

func TestToolsKnowWhoIsCalling(t *testing.T) {
	s := agenttest.Start(t, newAgent, "RATES_KEY=k")
	s.Model(agenttest.Call("who", nil), agenttest.Say("You."))
	got := s.Do(agenttest.Request{Query: "Who am I?", Header: http.Header{"X-End-User": {"ada"}, "Accept-Language": {"de-CH, en;q=0.5"}}})
	if len(got.Tools) != 1 {
		t.Fatalf("%+v", got)
	}
	output := got.Tools[0].Output
	if diff := cmp.Diff(map[string]any{
		"Caller":  map[string]any{"Method": "none", "Issuer": "none", "Subject": "anonymous", "Email": ""},
		"EndUser": "ada", "SessionID": got.SessionID, "Turn": 1.0, "RequestID": "", "Locale": "de-CH", "Operator": true,
	}, output); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTheOfflineStandInGoesOn(t *testing.T) {
	s := agenttest.Start(t, newAgent, "RATES_KEY=k")
	if got := s.Ask("What is the exchange rate of EUR?"); got.Status != 200 || got.Text == "" || len(got.Tools) != 1 || got.Tools[0].Name != "get_exchange_rate" {
		t.Errorf("%+v", got)
	}
}
