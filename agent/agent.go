// Package agent describes an agent: who it is, its instruction, how the model is
// set and which tools it has.
//
// A program that serves an agent has a [NewFunc], by convention named New, which it
// hands to gate.Register, and to local.Main on a laptop:
//
//	func New(ctx context.Context, env agent.Env) (agent.Agent, error)
//
// The [Agent] that it returns is a plain value. The service reads it once and runs
// it for every turn: it sends the instruction and the tools' declarations to the
// model, runs the tools that the model calls, and returns their outputs to it.
package agent

import (
	"context"
	"time"

	"google.golang.org/genai"

	"example.com/gatehouse/internal/loop"
	"example.com/gatehouse/tool"
)

// An Agent is everything that makes one agent differ from another. It is read
// by many turns at once, so it must not change once it is in use.
type Agent struct {
	// Name identifies the agent in health reports, logs and traces. It is required.
	Name string

	// Description is a sentence on what the agent is for, shown where people look: GET /,
	// the OpenAPI document, the playground. The model does not read it.
	Description string

	// Examples are questions to try, in order, shown by the playground, the OpenAPI document
	// and the local program.
	Examples []string

	// Instruction is the system instruction, sent with every model call.
	Instruction string

	// Instructions, unless nil, returns what depends on the turn, such as the day or for
	// whom it is, which tool.From returns. It is called once a turn and sent after
	// Instruction, which the model's cache then still has. It has at most 64 KiB. An
	// error, or a panic, ends the turn as an internal error.
	Instructions func(ctx context.Context) (string, error)

	// Hooks run within each turn.
	Hooks Hooks

	// Temperature is how freely the model chooses its words, from 0 (the
	// likeliest) to 2, as new(0.5); nil is the model's own default. A request may set
	// its own. A model that takes no temperature is not sent one.
	Temperature *float64

	// MaxTokens bounds the output tokens of each model call, thinking included; 0 is
	// MAX_OUTPUT_TOKENS, which bounds it in any case. A request may set its own.
	MaxTokens int

	// Model are the model's settings beyond the two above, of which each is set in one
	// place: ThinkingConfig, TopP, TopK, StopSequences, Seed, PresencePenalty,
	// FrequencyPenalty, SafetySettings, MediaResolution, ModelArmorConfig, Labels and
	// ResponseModalities. They are checked when the service starts, for MODEL and the
	// models that stand in. TopP, TopK and the penalties do not go to a model that
	// ignores them, and a level of thinking is the nearest that the model has. What the
	// service sets itself, such as Tools, is refused. Thinking is low by default, so that
	// an answer fits; with ThinkingConfig.IncludeThoughts clients see its summaries.
	Model *genai.GenerateContentConfig

	// Output is the type of the answers, as agent.OutputOf[Quote](); nil for text. An
	// answer that does not fit is asked for once more, and then is the error
	// "model_failed". The checked value is in the member "output" beside "response".
	Output *Output

	// ToolTimeout bounds each call of a tool: its context ends after it. 0 is 10 s.
	ToolTimeout time.Duration

	// Tools are what the model may call. Their names differ from each other,
	// and they are safe for concurrent use.
	Tools []tool.Tool

	// Toolsets are more tools, asked for in each turn, such as those of an MCP server
	// (tool/mcptool). A tool whose name is taken already is left out, which is logged.
	Toolsets []tool.Set

	// Loop, unless nil, answers the turns in the place of the service's own loop of model
	// and tool calls. It is for agents of other frameworks, whose packages set it, such as
	// the module adk for ADK for Go. Those bring their own instruction, settings and tools: of
	// the fields above only Name, Description, Examples, ToolTimeout and the hooks Question,
	// Model and Answer may be set beside it.
	Loop *loop.Loop

	// Close closes what New has opened, at the end of the process, once the last
	// turn is over and before ctx ends. nil: there is nothing to close.
	Close func(ctx context.Context) error
}

// A NewFunc makes a program's agent. It is called in a process that answers turns,
// before the first of them, and not in one of the function "health" only. What it
// opens, the agent's Close closes.
//
// ctx lives as long as the process does, so that clients may be made with it, unless
// NewFunc takes longer than 30 s: then it ends. What NewFunc returns as an error
// keeps the service from being ready, is logged, and has it called again by a later
// request; a panic is final.
type NewFunc func(ctx context.Context, env Env) (Agent, error)
