package invoke

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	"google.golang.org/genai"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/session"
	"example.com/gatehouse/tool"
)

// OptionsOf returns what a door's request says in headers as POST /invoke has them.
func (s *Service) OptionsOf(r *http.Request) (Options, error) {
	key, err := s.key(r)
	return Options{Key: key, Locale: api.Locale(r)}, err
}

// DirectTools returns the agent's tools that need no model: what [Service.CallTool] may
// call. Those of its Toolsets are other servers' and are not among them.
func (s *Service) DirectTools() []tool.Tool {
	var tools []tool.Tool
	for _, t := range s.Agent.Tools {
		if t.GeminiTool() == nil && agent.Of(t) == nil {
			tools = append(tools, t)
		}
	}
	return tools
}

// CallTool runs one of [Service.DirectTools] for the caller of ctx, without a model and
// a session, within the tool's time, the hook Tool and the audit. It costs what a turn
// does. An error is in words for the caller, as a model would read them.
func (s *Service) CallTool(ctx context.Context, name string, args map[string]any, o Options) (output map[string]any, err error) {
	if !slices.ContainsFunc(s.DirectTools(), func(t tool.Tool) bool { return t.Name() == name }) {
		return nil, fmt.Errorf("there is no tool %q", telemetry.Truncate(name, 64))
	}
	telemetry.SetTurn(ctx, func(t *telemetry.Turn) { t.Asked, t.Action = true, api.AuditTool })
	ctx = toolContext(ctx, &session.Session{}, 0, Request{Options: o})
	calling, step := s.Observer.StartTool(ctx, name)
	defer func() { step.End(calling, toolFailure(err)) }()
	return s.hookedTool(calling, &generation{tools: s.tools}, 0, &genai.FunctionCall{Name: name, Args: args})
}
