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

	"google.golang.org/genai"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/tool"
)

// New returns the agent that this project ships.
func New(_ context.Context, env agent.Env) (agent.Agent, error) {
	return agent.Agent{
		Name:        "deployment-advisor",
		Description: "Advises on putting AI agents built in Go into production on Google Cloud.",
		Examples: []string{
			"How do I deploy to Cloud Run?",
			"Which deployment options are there for a web service?",
			"What are the best practices for security?",
			"How is this deployment doing?",
			"I have decided on Cloud Run: remember my choice.",
		},
		Instruction: instruction,
		Temperature: new(0.5),
		MaxTokens:   2048,
		// Questions take a tool or two: with less thinking a model may stop after the first.
		Model:       &genai.GenerateContentConfig{ThinkingConfig: &genai.ThinkingConfig{ThinkingLevel: genai.ThinkingLevelLow}},
		ToolTimeout: 10 * time.Second,
		Tools: []tool.Tool{
			deploymentOptionsTool(),
			bestPracticesTool(),
			deploymentStatusTool(env.Status),
			myChoiceTool(),
		},
	}, nil
}
