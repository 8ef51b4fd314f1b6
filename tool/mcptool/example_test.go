package mcptool_test

import (
	"context"
	"fmt"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/tool"
	"example.com/gatehouse/tool/mcptool"
)

func ExampleHTTP() {
	var newAgent agent.NewFunc = func(_ context.Context, env agent.Env) (agent.Agent, error) {
		github, err := mcptool.HTTP("github", "https://mcp.example.org/mcp",
			mcptool.Bearer(env.Secret("GITHUB_TOKEN")), mcptool.Only("search_issues", "get_issue"))
		if err != nil {
			return agent.Agent{}, err
		}
		return agent.Agent{Name: "triage", Toolsets: []tool.Set{github}, Close: github.Close}, nil
	}
	a, err := newAgent(context.Background(), agent.Env{}) // nothing is connected to yet
	fmt.Println(len(a.Toolsets), err)
	// Output: 1 <nil>
}
