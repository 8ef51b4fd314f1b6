// Package advisor is the agent that ships: its instruction, its settings and its
// tools. It is the package to edit when you clone this project and make it yours;
// the rest of the project puts what is here into production.
//
//   - What the agent is told is in instruction.go.
//   - The model's settings and the list of tools are in [New], below.
//   - Each tool is one file, named for what it does, with its test beside it.
//     docs/your-agent.md walks through adding one.
//
// Package agent describes what [New] returns.
package advisor

import (
	"context"
	"time"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/tool"
)

// A StatusFunc finds out how the running deployment is. It is called by several
// turns at once and must return soon after its context ends.
//
// What it returns is told to the model, and so to anybody who may talk to the
// agent: no secrets, project IDs or error texts of other services.
type StatusFunc func(context.Context) DeploymentStatus

// New returns the agent that this project ships. Its deployment status comes
// from status, which must not be nil.
func New(status StatusFunc) agent.Agent {
	return agent.Agent{
		Name:        "deployment-advisor",
		Description: "Advises on putting AI agents built in Go into production on Google Cloud.",
		Instruction: instruction,
		Temperature: 0.5,
		MaxTokens:   2048,
		ToolTimeout: 10 * time.Second,
		Tools: []tool.Tool{
			deploymentOptionsTool(),
			bestPracticesTool(),
			deploymentStatusTool(status),
		},
	}
}
