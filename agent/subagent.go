package agent

import (
	"context"
	"errors"

	"example.com/gatehouse/tool"
)

// MaxDepth is how deep agents may be tools of each other: an agent has agents as tools,
// which have such tools in turn.
const MaxDepth = 3

type requestIn struct {
	Request string `json:"request" jsonschema:"what it is asked to do, with all that it needs to know for it: it sees nothing of the conversation"`
}

// AsTool returns a tool that asks another agent: named a.Name, which must be fit for a
// tool, and described by a.Description, which the model reads. It takes a request in
// words and returns the answer's text. tool.Timeout, as an option, bounds it; without
// it, it takes as long as the turn has.
//
// Within a turn that agent runs as its caller's does, with its own instruction, tools
// and hooks: for the same person, in the same trace, on the same budgets, circuit
// breakers and deadline. Its model calls are part of the turn's usage. MAX_TOOL_ROUNDS
// bounds the rounds of all of them together: each request to an agent takes one, and
// so does each round of its tools. Clients see the calls of its tools, and what these say
// with tool.Progress, as progress of its own call. What it says on the way is not shown or
// stored. Tools that change the world or ask a person cannot be its tools.
//
// The service is not ready if agents include each other in a circle, or more than
// [MaxDepth] deep.
func AsTool(a Agent, options ...tool.Option) tool.Tool {
	sub := &a
	return tool.New(a.Name, a.Description, func(ctx context.Context, in requestIn) (string, error) {
		run, ok := ctx.Value(runnerKey{}).(Runner)
		if !ok {
			return "", errors.New("an agent can be asked only within a turn")
		}
		return run(ctx, sub, in.Request)
	}, append([]tool.Option{tool.Value(sub)}, options...)...)
}

// Of returns the agent that a tool of [AsTool] asks, and nil for any other tool.
func Of(t tool.Tool) *Agent {
	a, _ := t.Value().(*Agent)
	return a
}

// A Runner asks an agent within a turn. Services have one.
type Runner func(ctx context.Context, a *Agent, request string) (string, error)

type runnerKey struct{}

// WithRunner returns a context for the call of a tool of [AsTool], which run answers.
// Services do this, and tests may.
func WithRunner(ctx context.Context, run Runner) context.Context {
	return context.WithValue(ctx, runnerKey{}, run)
}
