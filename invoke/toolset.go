package invoke

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/geminischema"
	"example.com/gatehouse/internal/model"
	"example.com/gatehouse/internal/rescue"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/tool"
)

// A toolset is what the model may call in a turn.
type toolset struct {
	byName       map[string]tool.Tool
	declarations model.Tools // for the model
	digest       string      // of the agent with these tools; "": as that of its Tools
}

func newToolset(tools []tool.Tool) *toolset {
	t := &toolset{byName: make(map[string]tool.Tool, len(tools)), declarations: model.Declare(tools)}
	for _, each := range tools {
		t.byName[each.Name()] = each
	}
	return t
}

// listTimeout bounds how long a turn waits for the tools of the agent's Toolsets.
const listTimeout = 5 * time.Second

// Declarations of hundreds of tools are slow to encode, and an agent's Toolsets are asked at
// each turn. A set that returns the very slice that it returned before has nothing new, which
// the address of the first tool shows. A combination holds the lists that it was made of, so
// no other list can come to lie at that address.

// A lastToolset keeps the last combination of an agent's Tools and Toolsets: as long as
// the sets return the same lists, nothing is encoded again.
type lastToolset struct{ atomic.Pointer[combination] }

type combination struct {
	lists [][]tool.Tool
	all   *toolset
}

// is reports whether c was made of the very lists.
func (c *combination) is(lists [][]tool.Tool) bool {
	return c != nil && slices.EqualFunc(c.lists, lists, func(a, b []tool.Tool) bool {
		return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
	})
}

// toolset returns the tools of the turn of ctx: the agent's Tools, then those of its
// Toolsets. The agent's come first, so that a set, which may be of another server, cannot
// take the name of one of them.
func (s *Service) toolset(ctx context.Context) *toolset {
	if len(s.Agent.Toolsets) == 0 {
		return s.tools
	}
	lists := s.listTools(ctx)
	if last := s.combined.Load(); last.is(lists) {
		return last.all
	}
	tools, seen := slices.Clone(s.Agent.Tools), make(map[string]bool)
	for _, t := range tools {
		seen[t.Name()] = true
	}
	var left []string
	for _, t := range slices.Concat(lists...) {
		if t.Name() == "" || seen[t.Name()] || len(tools) >= geminischema.MaxFunctions || !isDeclarable(t) {
			left = append(left, t.Name())
			continue
		}
		seen[t.Name()] = true
		tools = append(tools, t)
	}
	if len(left) > 0 {
		s.Log.WarnContext(ctx, "Tools of a set left out: a name is taken, Gemini does not take a schema, or there are too many.",
			"count", len(left), "first", left[:min(len(left), 10)], "limit", geminischema.MaxFunctions, "request_id", api.RequestID(ctx))
	}
	c := &combination{lists: lists, all: newToolset(tools)}
	c.all.digest = digest(s.Agent, c.all.declarations)
	s.combined.Store(c)
	return c.all
}

// isDeclarable reports whether a tool of a set can be declared to any model. Gemini refuses
// a request with one whose schema it does not take, and so every turn. Of its own tools,
// which models take them is checked at the start.
func isDeclarable(t tool.Tool) bool {
	return t.Schema() != nil && geminischema.CheckArguments(t.Schema()) == nil
}

// listTools asks the agent's Toolsets side by side. A set that panics, or takes too
// long even to see that its context has ended, has no tools in this turn.
func (s *Service) listTools(ctx context.Context) [][]tool.Tool {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	lists := make([][]tool.Tool, len(s.Agent.Toolsets))
	type listed struct {
		i     int
		tools []tool.Tool
	}
	// Each result comes by the channel: a set that answers late writes to no list that is in
	// use.
	results := make(chan listed, len(lists)) // buffered, because nobody may receive
	for i, set := range s.Agent.Toolsets {
		go func() {
			var tools []tool.Tool
			err := rescue.Call(func() error {
				tools = set.Tools(ctx)
				return nil
			})
			if p, ok := errors.AsType[*rescue.Panic](err); ok {
				telemetry.LogPanic(ctx, s.Log, "A tool set panicked.", p.Stack)
			}
			results <- listed{i, tools}
		}()
	}
	for range lists {
		select {
		case r := <-results:
			lists[r.i] = r.tools
		// Those that have answered count. The others are asked again in the next turn.
		case <-ctx.Done():
			return lists
		}
	}
	return lists
}
