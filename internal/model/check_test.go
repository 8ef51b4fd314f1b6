package model_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"google.golang.org/genai"

	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/model"
	"example.com/gatehouse/tool"
)

// What cannot be is said when the service starts, by its field.
func TestCheckAgent(t *testing.T) {
	t.Parallel()
	type config = genai.GenerateContentConfig
	function := tool.New("f", "", func(context.Context, struct{}) (int, error) { return 0, nil })
	search := tool.Gemini(&genai.Tool{GoogleSearch: &genai.GoogleSearch{}})
	code := tool.Gemini(&genai.Tool{CodeExecution: &genai.ToolCodeExecution{}})
	stored := tool.Gemini(&genai.Tool{Retrieval: &genai.Retrieval{VertexAISearch: &genai.VertexAISearch{Engine: "e"}}})
	thinking := func(c genai.ThinkingConfig) *config { return &config{ThinkingConfig: &c} }
	const usual = "gemini-3.8-flash"
	armor := &genai.ModelArmorConfig{PromptTemplateName: "projects/p/locations/l/templates/t"}
	safety := []*genai.SafetySetting{{Category: genai.HarmCategoryHarassment, Threshold: genai.HarmBlockThresholdBlockNone}}
	for _, tt := range []struct {
		name     string
		models   string
		settings *config
		tools    []tool.Tool
		backend  string // "" for both, else "vertex" or "developer"
		want     string // "": nothing is wrong
	}{
		{"nothing", usual, nil, nil, "", ""},
		{"functions", usual, nil, []tool.Tool{function}, "", ""},
		{"what a model takes", usual, &config{Seed: genai.Ptr[int32](1), StopSequences: []string{"x"}, SafetySettings: safety, TopP: genai.Ptr[float32](0.5), CandidateCount: 1}, nil, "", ""},
		{"a budget that the model chooses", "gemini-2.5-flash", thinking(genai.ThinkingConfig{ThinkingBudget: genai.Ptr[int32](-1)}), nil, "", ""},
		{"pictures", usual, &config{ResponseModalities: []string{"TEXT", "IMAGE"}}, nil, "", ""},
		{"a level", usual, thinking(genai.ThinkingConfig{ThinkingLevel: genai.ThinkingLevelHigh, IncludeThoughts: true}), nil, "", ""},
		{"a level of a model with budgets", "gemini-2.5-flash", thinking(genai.ThinkingConfig{ThinkingLevel: genai.ThinkingLevelHigh}), nil, "", ""},
		{"a level of a model that does not think", "offline", thinking(genai.ThinkingConfig{ThinkingLevel: genai.ThinkingLevelHigh}), nil, "", ""},
		{"any level of an unknown model", "gemini-9", thinking(genai.ThinkingConfig{ThinkingLevel: "MOST"}), nil, "", ""},
		{"Model Armor", usual, &config{ModelArmorConfig: armor}, nil, "vertex", ""},

		{"the instruction", usual, &config{SystemInstruction: &genai.Content{}}, nil, "", "Model.SystemInstruction must not be set: set Agent.Instruction"},
		{"tools", usual, &config{Tools: []*genai.Tool{{}}}, nil, "", "Model.Tools must not be set"},
		{"how tools are called", usual, &config{ToolConfig: &genai.ToolConfig{}}, nil, "", "Model.ToolConfig must not be set"},
		{"a schema", usual, &config{ResponseSchema: &genai.Schema{}}, nil, "", "Model.ResponseSchema must not be set: set Agent.Output"},
		{"a schema in JSON", usual, &config{ResponseJsonSchema: true}, nil, "", "Model.ResponseJsonSchema must not be set"},
		{"a media type", usual, &config{ResponseMIMEType: "text/plain"}, nil, "", "Model.ResponseMIMEType must not be set"},
		{"a cache", usual, &config{CachedContent: "caches/x"}, nil, "", "Model.CachedContent must not be set"},
		{"another server", usual, &config{HTTPOptions: &genai.HTTPOptions{}}, nil, "", "Model.HTTPOptions must not be set"},
		{"the temperature", usual, &config{Temperature: genai.Ptr[float32](1)}, nil, "", "set Agent.Temperature"},
		{"the bound of an answer", usual, &config{MaxOutputTokens: 5}, nil, "", "set Agent.MaxTokens"},
		{"another tier", usual, &config{ServiceTier: genai.ServiceTierFlex}, nil, "", "Model.ServiceTier must not be set"},
		{"what nobody reads", usual, &config{ResponseLogprobs: true}, nil, "", "Model.ResponseLogprobs must not be set: the service has no use for it"},
		{"several answers", usual, &config{CandidateCount: 2}, nil, "", "Model.CandidateCount is 2"},
		{"more than all", usual, &config{TopP: genai.Ptr[float32](1.5)}, nil, "", "Model.TopP is 1.5; set one from 0 to 1"},
		{"none to choose from", usual, &config{TopK: genai.Ptr[float32](0.5)}, nil, "", "Model.TopK"},
		{"six ends", usual, &config{StopSequences: []string{"1", "2", "3", "4", "5", "6"}}, nil, "", "Model.StopSequences has 6"},
		{"an empty end", usual, &config{StopSequences: []string{""}}, nil, "", "Model.StopSequences has an empty text"},
		{"a resolution of no meaning", usual, &config{MediaResolution: "sharp"}, nil, "", "Model.MediaResolution"},
		{"safety of nothing", usual, &config{SafetySettings: []*genai.SafetySetting{{}}}, nil, "", "Model.SafetySettings"},
		{"safety of a category twice", usual, &config{SafetySettings: append(safety[:1:1], safety[0])}, nil, "", "Model.SafetySettings has HARM_CATEGORY_HARASSMENT twice"},
		{"one and a half to choose from", usual, &config{TopK: genai.Ptr[float32](1.5)}, nil, "", "Model.TopK is 1.5; set a whole number"},
		{"an answer in smells", usual, &config{ResponseModalities: []string{"TEXT", "SMELL"}}, nil, "", `Model.ResponseModalities has "SMELL"`},
		{"a budget below none", "gemini-2.5-flash", thinking(genai.ThinkingConfig{ThinkingBudget: genai.Ptr[int32](-2)}), nil, "", "Model.ThinkingConfig.ThinkingBudget is -2"},
		{"safety by two means", usual, &config{SafetySettings: safety, ModelArmorConfig: armor}, nil, "", "Model.SafetySettings"},
		{"a template that is none", usual, &config{ModelArmorConfig: &genai.ModelArmorConfig{PromptTemplateName: "t"}}, nil, "", "Model.ModelArmorConfig"},
		{"Model Armor without Vertex AI", usual, &config{ModelArmorConfig: armor}, nil, "developer", "Model cannot be sent"},
		{"penalties", usual, &config{FrequencyPenalty: genai.Ptr[float32](1)}, nil, "", "Model.FrequencyPenalty is an error for gemini-3.8-flash"},
		{"a level that the model does not have", usual, thinking(genai.ThinkingConfig{ThinkingLevel: genai.ThinkingLevelMinimal}), nil, "", "Model.ThinkingConfig.ThinkingLevel is MINIMAL, which is not a level of gemini-3.8-flash; set one of [low medium high]"},
		{"a budget for a model with levels", usual, thinking(genai.ThinkingConfig{ThinkingBudget: genai.Ptr[int32](5)}), nil, "", "Model.ThinkingConfig.ThinkingBudget is set, and gemini-3.8-flash thinks by levels"},
		{"both", "gemini-2.5-flash", thinking(genai.ThinkingConfig{ThinkingBudget: genai.Ptr[int32](5), ThinkingLevel: genai.ThinkingLevelLow}), nil, "", "Model.ThinkingConfig has a level and a budget"},

		{"Google Search", usual, nil, []tool.Tool{search}, "", ""},
		{"Google Search on an old model", "gemini-2.5-flash", nil, []tool.Tool{search}, "", ""},
		{"beside functions", usual, nil, []tool.Tool{search, function}, "", ""},
		{"beside functions on an unknown model", "gemini-9", nil, []tool.Tool{search, function}, "", ""},
		{"beside functions on an old model", "gemini-2.5-flash", nil, []tool.Tool{search, function}, "", "Tools: google_search is a tool of Gemini's own beside functions, which gemini-2.5-flash does not take"},
		{"beside functions with an old fallback", usual + ",gemini-2.5-flash", nil, []tool.Tool{search, function}, "", "which gemini-2.5-flash does not take"},
		{"search and code on an old model", "gemini-2.5-flash", nil, []tool.Tool{search, code}, "vertex", "Tools: google_search is beside code execution"},
		{"search and code on an old model", "gemini-2.5-flash", nil, []tool.Tool{search, code}, "developer", ""},
		{"Vertex AI Search", usual, nil, []tool.Tool{stored}, "vertex", ""},
		{"Vertex AI Search without Vertex AI", usual, nil, []tool.Tool{stored}, "developer", "Tools cannot be sent"},
	} {
		for _, backend := range backends {
			if tt.backend != "" && (tt.backend == "vertex") != backend.vertex {
				continue
			}
			t.Run(tt.name+"/"+backend.name, func(t *testing.T) {
				t.Parallel()
				gemini := geminitest.Start(t)
				err := client(t, gemini.URL, backend.vertex).CheckAgent(t.Context(), model.Agent{Settings: tt.settings, Tools: tt.tools}, strings.Split(tt.models, ","))
				switch {
				case tt.want == "" && err != nil:
					t.Errorf("refused: %v", err)
				case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
					t.Errorf("%v, want %q", err, tt.want)
				case err != nil:
					if p, ok := errors.AsType[*model.Problem](err); !ok || p.Field == "" {
						t.Errorf("names no field: %v", err)
					}
				}
				if len(gemini.Requests()) > 0 || gemini.MetadataReads() > 0 {
					t.Error("the API was asked")
				}
			})
		}
	}
}

// The tools of a set are functions, which are not known yet when the service starts.
func TestToolsOfASetAreFunctions(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	search := tool.Gemini(&genai.Tool{GoogleSearch: &genai.GoogleSearch{}})
	c := client(t, gemini.URL, false)
	for name, refused := range map[string]bool{"gemini-2.5-flash": true, "gemini-3.8-flash": false} {
		err := c.CheckAgent(t.Context(), model.Agent{Tools: []tool.Tool{search}, Sets: true}, []string{name})
		if (err != nil) != refused {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Model Armor's templates of the deployment go with each request; an agent's own win.
func TestModelArmor(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	named := func(name string) *genai.ModelArmorConfig {
		return &genai.ModelArmorConfig{PromptTemplateName: "projects/p/locations/l/templates/" + name}
	}
	c := newClient(t, model.Config{VertexAI: true, Project: "p", Location: "global", BaseURL: gemini.URL, Loopback: true, Armor: named("deployment")})
	for _, tt := range []struct {
		name     string
		settings *genai.GenerateContentConfig
		want     string
	}{
		{"the deployment's", nil, "deployment"},
		{"the agent's", &genai.GenerateContentConfig{ModelArmorConfig: named("agent")}, "agent"},
	} {
		r := question()
		r.Settings = tt.settings
		if _, err := c.Generate(t.Context(), r, nil); err != nil {
			t.Fatal(err)
		}
		armor, _ := gemini.Requests()[len(gemini.Requests())-1].Body["modelArmorConfig"].(map[string]any)
		if name, _ := armor["promptTemplateName"].(string); !strings.HasSuffix(name, "/"+tt.want) {
			t.Errorf("%s: %v", tt.name, armor)
		}
	}
	safety := &genai.GenerateContentConfig{SafetySettings: []*genai.SafetySetting{{Category: genai.HarmCategoryHarassment, Threshold: genai.HarmBlockThresholdBlockNone}}}
	if err := c.CheckAgent(t.Context(), model.Agent{Settings: safety}, []string{"gemini-3.8-flash"}); err == nil {
		t.Error("safety settings beside the deployment's templates are taken")
	}
	gemini.Enqueue(geminitest.Blocked("MODEL_ARMOR"), geminitest.Finish("MODEL_ARMOR", ""))
	if a, err := c.Generate(t.Context(), question(), nil); err != nil || a.Blocked != "MODEL_ARMOR" {
		t.Errorf("%+v, %v", a, err)
	}
	if a, err := c.Generate(t.Context(), question(), nil); err != nil || !model.IsSafetyBlock(a.Finish) {
		t.Errorf("%+v, %v", a, err)
	}
}

// A model that a request may name has a breaker, and stands in for no other.
func TestAnAllowedModel(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	c := newClient(t, model.Config{APIKey: apiKey, BaseURL: gemini.URL, Loopback: true, Models: []string{"gemini-3.5-flash-lite", "gemini-3.1-flash-lite"},
		Allowed: []string{"gemini-3.8-flash"}, BreakerFailures: 5})
	if _, ok := c.States()["gemini-3.8-flash"]; !ok {
		t.Errorf("no breaker: %v", c.States())
	}
	asked := func(name string, gone ...string) []string {
		gemini.Forget()
		gemini.Retire(gone...)
		r := question()
		r.Model = name
		a, err := c.Generate(t.Context(), r, nil)
		if err != nil {
			t.Fatal(err)
		}
		return []string{a.Asked, a.Model}
	}
	if got := asked("gemini-3.8-flash"); !slices.Equal(got, []string{"gemini-3.8-flash", "gemini-3.8-flash"}) {
		t.Errorf("%q", got)
	}
	if got := asked("gemini-3.8-flash", "gemini-3.8-flash"); got[0] != "gemini-3.5-flash-lite" {
		t.Errorf("%q stands in", got)
	}
	if got := asked("gemini-3.5-flash-lite", "gemini-3.5-flash-lite"); got[0] != "gemini-3.1-flash-lite" {
		t.Errorf("%q stands in", got)
	}
}
