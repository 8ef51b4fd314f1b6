package agenttest_test

import (
	"context"
	"testing"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/agenttest"
	"example.com/gatehouse/tool"
)

// An agent that is a tool works on its caller's budget: what it may spend is reserved
// before each of its model calls, and what it has spent is the turn's.
func TestAgentsShareABudget(t *testing.T) {
	newDesk := func(context.Context, agent.Env) (agent.Agent, error) {
		library := agent.Agent{Name: "library", Description: "Knows books.", MaxTokens: 100}
		return agent.Agent{Name: "desk", MaxTokens: 100, Tools: []tool.Tool{agent.AsTool(library)}}, nil
	}
	for _, tt := range []struct {
		name, limit, code string
		asked             int
	}{
		{"enough", "100000", "", 3},
		{"enough for one call", "300", "quota_exceeded", 1},
	} {
		s := agenttest.Start(t, newDesk, "DAILY_TOKEN_LIMIT="+tt.limit)
		spent := agenttest.Usage{Prompt: 100, Output: 100}
		s.Model(agenttest.Call("library", map[string]any{"request": "a book"}).Cost(spent), agenttest.Say("Shelf 7.").Cost(spent), agenttest.Say("It is there.").Cost(spent))
		got := s.Ask("Where is it?")
		if got.Error != tt.code || len(got.Sent) != tt.asked {
			t.Errorf("%s: %d requests to the model, %q: %s", tt.name, len(got.Sent), got.Error, got.Message)
		}
		if usage, _ := got.Data["usage"].(map[string]any); tt.code == "" && usage["total_tokens"] != 600.0 {
			t.Errorf("%s: usage %v", tt.name, usage)
		}
	}
}
