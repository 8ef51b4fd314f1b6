package invoke

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"sync/atomic"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/truncate"
	"example.com/gatehouse/session"
	"example.com/gatehouse/tool"
)

// An agent that is a tool runs as a generation within another one, by a Service that
// differs only in its agent. Its contents are not stored; what it spent is its parent's.

// The parent pays and answers for it: rounds, budget, deadline, breaker and trace are those
// of the turn, so that agents which ask each other cannot spend more than one agent may. On
// its way, it shows only progress of its parent's call. It runs no tool that changes the
// world or asks a person: the ledger names an effect by its place in the turn's own
// generation, and these calls have none there.

// subagents are the services of the agents that are tools of an agent, of theirs, and
// so on.
type subagents map[*agent.Agent]*Service

// add prepares the agents among tools. It ends in a circle too, because each agent is prepared
// once; package server refuses circles.
func (all subagents) add(c Config, tools []tool.Tool) {
	for _, t := range tools {
		if a := agent.Of(t); a != nil && all[a] == nil {
			all[a] = newSubagent(c, *a, all)
			all.add(c, a.Tools)
		}
	}
}

func newSubagent(c Config, a agent.Agent, all subagents) *Service {
	c.Agent = a
	return newService(c, all)
}

// rounds bounds the rounds of tools and the requests to agents of a turn. It is safe for
// concurrent use.
type rounds struct{ left atomic.Int64 }

// take takes a round, and reports false if none is left. It counts down before it looks, so
// that calls at once never take more than there are.
func (r *rounds) take() bool {
	if r.left.Add(-1) >= 0 {
		return true
	}
	r.left.Add(1)
	return false
}

// adopt makes what sub, an agent that was a tool of g, has spent a part of g at the end
// of the round. Calls of one round run side by side, so they only add to the list.
func (g *generation) adopt(sub *generation) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.subs = append(g.subs, sub)
}

// settleSubs adds what the agents of a round have spent. It runs when the round is over,
// while nothing else counts for g.
func (g *generation) settleSubs() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, sub := range g.subs {
		if sub.usage.Source != "" {
			g.usage = g.usage.Add(sub.usage)
		}
		g.attempts += sub.attempts
		g.adoptSources(sub)
		for _, warning := range sub.warnings {
			g.warn(warning)
		}
	}
	g.subs = nil
}

var (
	errTooDeep   = errors.New("agents ask each other too deeply")
	errNoRounds  = errors.New("this turn may not ask another agent any more")
	errNoRequest = errors.New("the request is empty or too long")
)

// runner returns what runs an agent as a tool of g.
func (s *Service) runner(g *generation) agent.Runner {
	return func(ctx context.Context, a *agent.Agent, request string) (string, error) {
		sub := s.subagents[a]
		switch {
		case g.depth >= agent.MaxDepth:
			return "", errTooDeep
		case !g.rounds.take():
			return "", errNoRounds
		case sub == nil: // of a set of tools, which may return others each time
			sub = newSubagent(s.Config, *a, s.subagents)
		}
		return sub.answer(ctx, g, request)
	}
}

// showCall shows that an agent that is a tool calls one of its own, or that the call has
// failed, as progress of the call that asks the agent.
func (g *generation) showCall(ctx context.Context, name string, failure error) {
	if g.depth == 0 {
		return
	}
	if name = truncate.Text(name, 64); failure == nil {
		tool.Progress(ctx, "Calls "+name+".")
	} else {
		tool.Progress(ctx, name+" failed: "+failure.Error())
	}
}

// answer runs the agent of s within a tool call of parent. The error is for the model that
// asked, and has nothing of the cause in it. What was spent by then is counted for the
// parent, however it ends.
func (s *Service) answer(ctx context.Context, parent *generation, request string) (string, error) {
	req := Request{Query: strings.TrimSpace(request), MaxTokens: parent.run.req.MaxTokens, Model: parent.run.req.Model}
	if req.Query == "" || len(req.Query) > maxOwnText {
		return "", errNoRequest
	}
	g := newGeneration(cmp.Or(req.Model, s.ModelName), &run{req: req, owner: parent.run.owner, turnID: session.NewID(), out: &output{}})
	g.rounds, g.depth, g.admitted = parent.rounds, parent.depth+1, func() {}
	g.files = parent.files.ofSubagent()
	defer parent.adopt(g)
	asked, err := s.question(ctx, &req)
	if err == nil {
		err = s.generate(ctx, g, asked)
	}
	if err != nil {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		return "", errors.New(failure(ctx, ctx, err).Sentence()) // as a person would read it, nothing of the cause
	}
	if g.output != nil {
		return string(g.output), nil
	}
	return g.text.String(), nil
}
