package adk_test

import (
	"context"
	"testing"

	"example.com/gatehouse/adk/example"
	"example.com/gatehouse/agent"
	"example.com/gatehouse/agenttest"
	"example.com/gatehouse/tool"
)

// BenchmarkTurn compares a turn of ADK's agent with one of the gate's own: with the HTTP
// request, and the model in the same process.
func BenchmarkTurn(b *testing.B) {
	own := func(context.Context, agent.Env) (agent.Agent, error) {
		return agent.Agent{Name: "own", Description: "Sells fruit.", Instruction: "You sell fruit.", Tools: []tool.Tool{
			tool.New("list_stock", "Lists the fruit that is in stock.", func(context.Context, struct{}) ([]string, error) { return nil, nil }),
		}}, nil
	}
	for name, newAgent := range map[string]agent.NewFunc{"own": own, "adk": example.New} {
		b.Run(name, func(b *testing.B) {
			s := agenttest.Start(b, newAgent, "RATE_LIMIT_PER_MINUTE=1000000", "CALLER_RATE_LIMIT_PER_MINUTE=1000000")
			b.ReportAllocs()
			for b.Loop() {
				s.Model(agenttest.Say("Hello."))
				if got := s.Ask("hello"); got.Text != "Hello." {
					b.Fatal(got.Error)
				}
			}
		})
	}
}
