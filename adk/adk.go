// Package adk puts an agent of ADK for Go (google.golang.org/adk/v2) behind the gate. Its
// LLM agents, sub-agents, tools, confirmations, callbacks and plugins run as they are; what
// is promised of a turn, the gate keeps:
//
//	func init() { gate.Register(adk.Agent(root)) }
//
//	root, err := llmagent.New(llmagent.Config{Name: "advisor", Model: adk.Model(), Tools: …})
//
// [Model] is the model of its agents: the configured one, within the turn's retries,
// circuit breakers, budgets and deadline. A session of ADK is the session of the turn, loaded once and
// written by the turn's one commit. A tool that ADK wants confirmed makes the run wait for
// an approval, which may be given on any instance. docs/adk.md has the rest, and what ADK
// itself limits.
package adk

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	adkagent "google.golang.org/adk/v2/agent"
	"google.golang.org/adk/v2/artifact"
	"google.golang.org/adk/v2/memory"
	"google.golang.org/adk/v2/plugin"
	"google.golang.org/adk/v2/runner"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/loop"
)

// An Option changes what [Agent] and [New] make.
type Option func(*options)

type options struct {
	plugins   []*plugin.Plugin
	artifacts artifact.Service
	memory    memory.Service
	timeouts  map[string]time.Duration
	with      []func(*agent.Agent)
}

// With has set change the gate's description of the agent: its Examples, ToolTimeout, Close,
// and the hooks Question, Model and Answer. What ADK's agent has itself, such as the instruction and
// the tools, must stay unset: the service would not get ready.
func With(set func(*agent.Agent)) Option {
	return func(o *options) { o.with = append(o.with, set) }
}

// Plugins has plugins of ADK run in each turn.
func Plugins(plugins ...*plugin.Plugin) Option {
	return func(o *options) { o.plugins = append(o.plugins, plugins...) }
}

// Artifacts has s keep the artifacts of ADK's agents. It writes by itself: what a turn saves
// stays, even if the turn is not stored. Without it there are none.
func Artifacts(s artifact.Service) Option { return func(o *options) { o.artifacts = s } }

// Memory has s answer ADK's searches of memory. Without it there is none.
func Memory(s memory.Service) Option { return func(o *options) { o.memory = s } }

// Timeout bounds each call of the tools with these names by d, which is more than 0, also of
// one that is an agent (agenttool). Calls of other tools are bounded by the agent's
// ToolTimeout, see [With].
func Timeout(d time.Duration, tools ...string) Option {
	return func(o *options) {
		for _, name := range tools {
			o.timeouts[name] = d
		}
	}
}

// Agent returns the gate's agent around root, for gate.Register.
func Agent(root adkagent.Agent, options ...Option) agent.NewFunc {
	return New(func(context.Context, agent.Env) (adkagent.Agent, error) { return root, nil }, options...)
}

// New is [Agent] for a root that is made with the gate's environment, as agent.NewFunc
// describes: it is called once in a process that answers turns.
func New(newRoot func(context.Context, agent.Env) (adkagent.Agent, error), opts ...Option) agent.NewFunc {
	return func(ctx context.Context, env agent.Env) (agent.Agent, error) {
		root, err := newRoot(ctx, env)
		if err != nil {
			return agent.Agent{}, err
		}
		if root == nil {
			return agent.Agent{}, errors.New("adk: there is no root agent")
		}
		o := options{timeouts: map[string]time.Duration{}}
		for _, option := range opts {
			option(&o)
		}
		for name, d := range o.timeouts {
			if d <= 0 {
				return agent.Agent{}, fmt.Errorf("adk: the timeout %v of the tool %q is not more than 0", d, name)
			}
		}
		own, err := newPlugin()
		if err != nil {
			return agent.Agent{}, err
		}
		app := &app{root: root, timeouts: o.timeouts}
		app.runner, err = runner.New(runner.Config{
			AppName: root.Name(), Agent: root, SessionService: turnSessions{}, ArtifactService: o.artifacts, MemoryService: o.memory,
			PluginConfig: runner.PluginConfig{Plugins: append([]*plugin.Plugin{own}, o.plugins...)},
		})
		if err != nil {
			return agent.Agent{}, fmt.Errorf("adk: %w", err)
		}
		var form strings.Builder
		describe(&form, root, 0)
		a := agent.Agent{Name: root.Name(), Description: root.Description(), Loop: &loop.Loop{Answer: app.answer, Form: form.String()}}
		for _, set := range o.with {
			set(&a)
		}
		return a, nil
	}
}

// maxDepth bounds the depth of the tree of agents that is described.
const maxDepth = 32

// describe writes what identifies an agent and those below it: ADK does not show their
// instructions and tools.
func describe(to *strings.Builder, a adkagent.Agent, depth int) {
	if depth > maxDepth {
		return
	}
	fmt.Fprintf(to, "%d %q %q\n", depth, a.Name(), a.Description())
	for _, sub := range a.SubAgents() {
		describe(to, sub, depth+1)
	}
}
