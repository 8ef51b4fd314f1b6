package server

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"google.golang.org/genai"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/loop"
	"example.com/gatehouse/tool"
)

// What the model, its API or the service does not take of an agent keeps the service
// from being ready, and is said by its field.
func TestAnAgentThatCannotBeRun(t *testing.T) {
	t.Parallel()
	raw := func(schema string) tool.Tool {
		return tool.Raw("far", "", json.RawMessage(schema), func(context.Context, json.RawMessage) (any, error) { return nil, nil })
	}
	search := tool.Gemini(&genai.Tool{GoogleSearch: &genai.GoogleSearch{}})
	answers := &loop.Loop{Answer: func(context.Context, loop.Turn) error { return nil }}
	for _, tt := range []struct {
		name      string
		agent     agent.Agent
		variables []string
		want      string // "": it can
	}{
		{"what a model takes", agent.Agent{Model: &genai.GenerateContentConfig{Seed: genai.Ptr[int32](1)}, Tools: []tool.Tool{search, raw(`{"type":"object"}`)}}, nil, ""},
		{"a field of the service's", agent.Agent{Model: &genai.GenerateContentConfig{CachedContent: "c"}}, nil, "he agent cannot be run as it is: its Model.CachedContent must not be set"},
		{"a level that the model does not have", agent.Agent{Model: &genai.GenerateContentConfig{ThinkingConfig: &genai.ThinkingConfig{ThinkingLevel: "MINIMAL"}}},
			[]string{"MODEL=gemini-3.8-flash", "GEMINI_API_KEY=k"}, "its Model.ThinkingConfig.ThinkingLevel is MINIMAL, which is not a level of gemini-3.8-flash"},
		{"search beside functions for an allowed model", agent.Agent{Tools: []tool.Tool{search, raw(`{"type":"object"}`)}},
			[]string{"MODELS_ALLOWED=gemini-2.5-pro", "GEMINI_API_KEY=k"}, "its Tools: google_search is a tool of Gemini's own beside functions, which gemini-2.5-pro does not take"},
		{"an argument that Gemini does not take", agent.Agent{Tools: []tool.Tool{raw(`{"type":"object","properties":{"my field":{"type":"string"}}}`)}}, nil,
			`has the tool \"far\", whose arguments Gemini does not take: the schema has a member \"my field\"`},
		{"more tools than Gemini takes", agent.Agent{Tools: slices.Repeat([]tool.Tool{raw(`{"type":"object"}`)}, 513)}, nil, "has 513 tools; Gemini takes at most 512"},
		{"an instruction beside a loop", agent.Agent{Loop: answers, Instruction: "Be brief."}, nil, "has a Loop beside Instruction"},
		{"tools beside a loop", agent.Agent{Loop: answers, Tools: []tool.Tool{raw(`{"type":"object"}`)}}, nil, "has a Loop beside Tools"},
		{"a loop", agent.Agent{Loop: answers, Description: "Loops."}, nil, ""},
		{"a schema that Gemini does not take", agent.Agent{Tools: []tool.Tool{raw(`{"type":"object","properties":{"a":{"allOf":[{"type":"string"}]}}}`)}}, nil,
			`has the tool \"far\", whose arguments Gemini does not take: the schema's a has allOf`},
		{"a setting of an agent that is a tool", agent.Agent{Tools: []tool.Tool{agent.AsTool(agent.Agent{Name: "b", Description: "It helps.", Model: &genai.GenerateContentConfig{CachedContent: "c"}})}}, nil,
			`the agent \"b\"'s Model.CachedContent must not be set`},
		{"an output with a map", agent.Agent{Output: agent.OutputOf[struct {
			M map[string]any `json:"m"`
		}]()}, nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, written := newServer(t, func(context.Context, agent.Env) (agent.Agent, error) {
				a := tt.agent
				a.Name = "a"
				return a, nil
			}, tt.variables...)
			for range 2 {
				status, text := ask(t, s.Invoke, "/health/ready")
				switch {
				case tt.want == "" && strings.Contains(text, "agent"):
					t.Errorf("%d %s", status, text)
				case tt.want != "" && (status != http.StatusServiceUnavailable || !strings.Contains(text, tt.want)):
					t.Errorf("%d %s, want %q", status, text, tt.want)
				}
			}
			if n := strings.Count(written.String(), "The agent cannot be served."); tt.want != "" && n > 1 {
				t.Errorf("%d lines of log:\n%s", n, written)
			}
		})
	}
}
