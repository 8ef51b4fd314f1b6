package agenttest_test

import (
	"context"
	"fmt"
	"testing"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/agenttest"
	"example.com/gatehouse/tool"
)

// A test of an agent, with a model that does what the test says.
func ExampleStart() {
	newAgent := func(context.Context, agent.Env) (agent.Agent, error) {
		return agent.Agent{Name: "rates", Tools: []tool.Tool{
			tool.New("get_exchange_rate", "Returns the latest rate to US dollars.", func(_ context.Context, in struct {
				From string `json:"from" jsonschema:"an ISO 4217 code such as EUR"`
			}) (map[string]any, error) {
				return map[string]any{"from": in.From, "rate": 1.25}, nil
			}),
		}}, nil
	}
	test := func(t *testing.T) { // as TestRates
		s := agenttest.Start(t, newAgent)
		s.Model(agenttest.Call("get_exchange_rate", map[string]any{"from": "EUR"}), agenttest.Say("1.25 dollars."))
		answer := s.Ask("What is a euro worth?")
		fmt.Println(answer.Text, answer.Tools[0].Output["rate"])
	}
	fmt.Println(testing.RunTests(func(_, _ string) (bool, error) { return true, nil }, []testing.InternalTest{{Name: "TestRates", F: test}}))
	// Output:
	// 1.25 dollars. 1.25
	// true
}
