// Package agent describes an agent: who it is, what it is told, how the model is
// set and which tools it has.
//
// An [Agent] is a plain value. The service reads it once at start and runs it for
// every turn: it sends the instruction and the tools' declarations to the model,
// runs the tools that the model calls, and returns their outputs to it. Nothing
// here knows of HTTP, sessions or callers.
package agent

import (
	"time"

	"example.com/gatehouse/tool"
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
