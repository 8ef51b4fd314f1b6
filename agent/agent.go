// Package agent is the agent itself: who it is, what it is told, how the model
// is set and which tools it has. It is the package to edit when you make this
// project yours; the rest of the project puts whatever is here into production.
//
//   - What the agent is told is in instruction.go.
//   - The model's settings and the list of tools are in [New], below.
//   - Each tool is one file, named for what it does, with its test beside it.
//     docs/your-agent.md walks through adding one.
//
// [New] returns an [Agent], a plain value. The service reads it once at start
// and runs it for every turn: it sends the instruction and the tools'
// declarations to the model, runs the tools that the model calls, and gives
// their outputs back. Nothing here knows of HTTP, sessions or callers.
package agent

import (
	"context"
	"time"

	"example.com/gatehouse/internal/tool"
)

// An Agent is everything that makes one agent differ from another. It is read
// by many turns at once, so it must not change once it is in use.
type Agent struct {
	// Name identifies the agent in health reports, logs and traces.
	Name string

	// Description says in a sentence what the agent is for. People read it, the
	// model does not.
	Description string

	// Instruction is the system instruction, sent with every model call.
	Instruction string

	// Temperature is how freely the model chooses its words, from 0 (the
	// likeliest) to 2. A request may set its own.
	Temperature float64

	// MaxTokens bounds the output tokens of each model call, thinking included.
	// A request may set its own.
	MaxTokens int

	// ToolTimeout bounds each call of a tool: its context ends after it.
	ToolTimeout time.Duration

	// Tools are what the model may call. Their names differ from each other,
	// and they are safe for concurrent use.
	Tools []tool.Tool
}

// A StatusFunc finds out how the running deployment is. It is called by several
// turns at once and must return soon after its context ends.
//
// What it returns is told to the model, and so to anybody who may talk to the
// agent: no secrets, project IDs or error texts of other services.
type StatusFunc func(context.Context) DeploymentStatus

// New returns the agent that this project ships. Its deployment status comes
// from status, which must not be nil.
func New(status StatusFunc) Agent {
	return Agent{
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
