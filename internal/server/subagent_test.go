package server

import (
	"strings"
	"testing"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/tool"
)

// Agents that are tools are checked like the agent itself, as deep as they go.
func TestAgentsAsTools(t *testing.T) {
	t.Parallel()
	simple := func(name string, tools ...tool.Tool) agent.Agent {
		return agent.Agent{Name: name, Description: "It helps.", Tools: tools}
	}
	own := make([]tool.Tool, 1)
	own[0] = agent.AsTool(simple("own", own...))
	two := []tool.Tool{{}, {}}
	two[0] = agent.AsTool(simple("first", two[1:]...))
	two[1] = agent.AsTool(simple("second", two[:1]...))
	deep := func(n int) agent.Agent {
		a := simple("last")
		for range n {
			a = simple("a", agent.AsTool(a))
		}
		return a
	}
	twice := agent.AsTool(simple("shared"))
	tests := []struct {
		name  string
		agent agent.Agent
		want  string // in the problem; "": none
	}{
		{"one", simple("main", agent.AsTool(simple("sub"))), ""},
		{"one by two ways", simple("main", twice, agent.AsTool(simple("sub", twice))), ""},
		{"as deep as may be", deep(agent.MaxDepth), ""},
		{"one deeper", deep(agent.MaxDepth + 1), "too deep"},
		{"itself", simple("main", own...), `includes "own", and so itself, in a circle`},
		{"itself by way of another", simple("main", two...), "in a circle"},
		{"without a description", simple("main", agent.AsTool(agent.Agent{Name: "sub"})), "without a Description"},
		{"with a wrong setting", simple("main", agent.AsTool(agent.Agent{Name: "sub", Description: "x", MaxTokens: -1})), `has the agent "sub" as a tool, which has -1 MaxTokens`},
		{"with a tool without a name", simple("main", agent.AsTool(simple("sub", tool.Tool{}))), `"sub" as a tool, which has a tool without a name`},
		{"named as another tool", simple("main", twice, agent.AsTool(simple("shared"))), `two tools named "shared"`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			err := checkAgent(test.agent)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}
