package agenttest_test

import (
	"context"
	"encoding/base64"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genai"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/agenttest"
	"example.com/gatehouse/tool"
)

var png, _ = base64.StdEncoding.DecodeString("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")

// all is an agent that uses what a reply can have.
func all(context.Context, agent.Env) (agent.Agent, error) {
	return agent.Agent{
		Name:        "all",
		Instruction: "You look things up.",
		Model: &genai.GenerateContentConfig{
			ThinkingConfig: &genai.ThinkingConfig{ThinkingLevel: genai.ThinkingLevelHigh, IncludeThoughts: true},
			StopSequences:  []string{"END"},
			SafetySettings: []*genai.SafetySetting{{Category: genai.HarmCategoryHarassment, Threshold: genai.HarmBlockThresholdBlockOnlyHigh}},
		},
		Tools: []tool.Tool{
			tool.Gemini(&genai.Tool{GoogleSearch: &genai.GoogleSearch{}}),
			tool.Gemini(&genai.Tool{CodeExecution: &genai.ToolCodeExecution{}}),
		},
	}, nil
}

func TestReplies(t *testing.T) {
	s := agenttest.Start(t, all, "MODEL=gemini-3.5-flash")
	s.Model(agenttest.Say("Rain, ", "42 mm.").Think("Look it up.").Run("print(6*7)", "42").
		Search("rain today", agenttest.Source{Title: "Weather", URI: "https://weather.example", Text: "Rain"}).
		Draw("image/png", png).Cost(agenttest.Usage{Prompt: 100, Cached: 40, Thoughts: 7, Output: 20}))
	got := s.Do(agenttest.Request{Query: "Will it rain?", Stream: true})

	if got.Text != "Rain, 42 mm." || len(got.Sources) != 1 || got.Sources[0].URI != "https://weather.example" {
		t.Errorf("%+v", got)
	}
	seen := map[string][]any{}
	for _, e := range got.Events {
		if text, ok := e.Data["text"].(string); ok {
			seen[e.Name] = append(seen[e.Name], text)
		} else {
			seen[e.Name] = append(seen[e.Name], e.Data["name"])
		}
	}
	for name, want := range map[string][]any{
		"reasoning": {"Look it up."}, "delta": {"Rain, ", "42 mm."}, "tool_call": {"code_execution"}, "tool_result": {"code_execution"},
	} {
		if diff := cmp.Diff(want, seen[name]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if len(seen["source"]) != 1 || len(seen["file"]) != 1 {
		t.Errorf("sources and files: %v, %v", seen["source"], seen["file"])
	}
	usage, _ := got.Data["usage"].(map[string]any)
	for name, want := range map[string]float64{"prompt_tokens": 100, "cached_tokens": 40, "thought_tokens": 7, "completion_tokens": 20} {
		if usage[name] != want {
			t.Errorf("%s is %v, want %v", name, usage[name], want)
		}
	}

	sent := got.Sent[0].Settings
	if sent.ThinkingConfig == nil || sent.ThinkingConfig.ThinkingLevel != genai.ThinkingLevelHigh || !sent.ThinkingConfig.IncludeThoughts {
		t.Errorf("thinking: %+v", sent.ThinkingConfig)
	}
	if diff := cmp.Diff([]string{"END"}, sent.StopSequences); diff != "" || len(sent.SafetySettings) != 1 || len(sent.Tools) != 2 || sent.Tools[0].GoogleSearch == nil {
		t.Errorf("settings: %+v", sent)
	}
}

func TestRepliesThatEndOtherwise(t *testing.T) {
	s := agenttest.Start(t, all, "MODEL=gemini-3.5-flash", "REQUEST_TIMEOUT=1s")
	for _, tt := range []struct {
		name    string
		reply   agenttest.Reply
		code    string
		finish  any
		warning string
	}{
		{"a prompt that is blocked", agenttest.Block("SAFETY"), "content_blocked", nil, ""},
		{"an answer that is cut", agenttest.Say("It will").Finish(genai.FinishReasonMaxTokens), "", "MAX_TOKENS", "response_truncated"},
		{"an answer that is held back", agenttest.Say().Finish(genai.FinishReasonSafety), "content_blocked", nil, ""},
		{"a model that hangs", agenttest.Hang(), "timeout", nil, ""},
	} {
		s.Model(tt.reply)
		got := s.Ask("Will it rain?")
		if got.Error != tt.code || got.Data["finish_reason"] != tt.finish {
			t.Errorf("%s: %+v", tt.name, got)
		}
		if warnings, _ := got.Data["warnings"].([]any); tt.warning != "" && (len(warnings) != 1 || warnings[0] != tt.warning) {
			t.Errorf("%s: warnings %v", tt.name, warnings)
		}
	}
}

// A reply does not change when others are made of it.
func TestRepliesAreIndependent(t *testing.T) {
	s := agenttest.Start(t, newAgent, "RATES_KEY=k")
	call := agenttest.Call("who", nil)
	both := call.And("get_exchange_rate", map[string]any{"from": "EUR"}).Think("Two at once.")
	s.Model(call, agenttest.Say("You."))
	if got := s.Ask("Who am I?"); len(got.Tools) != 1 {
		t.Errorf("one call: %+v", got.Tools)
	}
	s.Model(both, agenttest.Say("You, 1.25."))
	got := s.Ask("Who am I, and the rate?")
	if len(got.Tools) != 2 || got.Tools[1].Output["rate"] != 1.25 || got.Sent[1].Contents[1].Parts[0].Text != "Two at once." {
		t.Errorf("two calls: %+v", got.Tools)
	}
}

// What a typed answer is asked for again with is no question: the calls before it keep
// their arguments.
func TestToolsBeforeASecondAnswer(t *testing.T) {
	type rate struct {
		Dollars float64 `json:"dollars"`
	}
	typed := func(ctx context.Context, env agent.Env) (agent.Agent, error) {
		a, err := newAgent(ctx, env)
		a.Output = agent.OutputOf[rate]()
		return a, err
	}
	s := agenttest.Start(t, typed, "RATES_KEY=k", "MODEL=gemini-3.5-flash")
	s.Model(agenttest.Call("get_exchange_rate", map[string]any{"from": "EUR"}), agenttest.Say("1.25"), agenttest.Say(`{"dollars": 1.25}`))
	got := s.Ask("A euro?")
	if output, _ := got.Data["output"].(map[string]any); output["dollars"] != 1.25 {
		t.Fatalf("%+v", got)
	}
	if len(got.Tools) != 1 || got.Tools[0].Args["from"] != "EUR" || got.Tools[0].Output["rate"] != 1.25 {
		t.Errorf("%+v", got.Tools)
	}
}
