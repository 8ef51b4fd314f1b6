package model_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genai"

	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/model"
	"example.com/gatehouse/internal/models"
	"example.com/gatehouse/session"
)

// A request carries what the model's profile has, and nothing else.
func TestSettingsFollowTheProfile(t *testing.T) {
	t.Parallel()
	temperature := genai.Ptr(0.25)
	for _, tt := range []struct {
		name    string
		request model.Request
		want    map[string]any // generationConfig
		ignored []string
	}{
		{"a model that takes a temperature, and thinks by a budget", model.Request{Model: "gemini-2.5-flash", Temperature: temperature, MaxTokens: 2048, Thinking: models.Low},
			map[string]any{"temperature": 0.25, "maxOutputTokens": 2048.0, "thinkingConfig": map[string]any{"thinkingBudget": 1024.0}}, nil},
		{"a model that takes a temperature, and thinks by a level", model.Request{Model: "gemini-3.1-flash-lite", Temperature: temperature, MaxTokens: 2048, Thinking: models.Low},
			map[string]any{"temperature": 0.25, "maxOutputTokens": 2048.0, "thinkingConfig": map[string]any{"thinkingLevel": "LOW"}}, nil},
		{"a model that ignores the temperature", model.Request{Model: "gemini-3.5-flash-lite", Temperature: temperature, MaxTokens: 2048, Thinking: models.Low},
			map[string]any{"maxOutputTokens": 2048.0, "thinkingConfig": map[string]any{"thinkingLevel": "LOW"}}, []string{model.SettingTemperature}},
		{"no temperature", model.Request{Model: "gemini-3.5-flash-lite", MaxTokens: 2048},
			map[string]any{"maxOutputTokens": 2048.0, "thinkingConfig": map[string]any{"thinkingLevel": "MINIMAL"}}, nil},
		{"a level that the model does not have", model.Request{Model: "gemini-3.8-flash", MaxTokens: 2048, Thinking: "minimal"},
			map[string]any{"maxOutputTokens": 2048.0, "thinkingConfig": map[string]any{"thinkingLevel": "LOW"}}, nil},
		{"so little room that thoughts would fill it", model.Request{Model: "gemini-3.5-flash-lite", MaxTokens: 100, Thinking: "high"},
			map[string]any{"maxOutputTokens": 100.0, "thinkingConfig": map[string]any{"thinkingLevel": "MINIMAL"}}, nil},
		{"more than the model can return", model.Request{Model: "gemini-3.5-flash-lite", MaxTokens: 100_000},
			map[string]any{"maxOutputTokens": 65536.0, "thinkingConfig": map[string]any{"thinkingLevel": "MINIMAL"}}, []string{model.SettingMaxTokens}},
		{"a model that is not in the table", model.Request{Model: "gemini-9", Temperature: temperature, MaxTokens: 100_000, Thinking: models.Low},
			map[string]any{"maxOutputTokens": 100000.0}, []string{model.SettingTemperature}},
		{"a model that does not think", model.Request{Model: "offline", Temperature: temperature, MaxTokens: 100, Thinking: models.Low},
			map[string]any{"temperature": 0.25, "maxOutputTokens": 100.0}, nil},
	} {
		for _, backend := range backends {
			for _, form := range forms {
				t.Run(tt.name+"/"+backend.name+"/"+form.name, func(t *testing.T) {
					t.Parallel()
					gemini := geminitest.Start(t)
					c := client(t, gemini.URL, backend.vertex)
					r := tt.request
					r.Contents = question().Contents
					a, err := form.ask(t.Context(), c, r)
					if err != nil {
						t.Fatal(err)
					}
					if diff := cmp.Diff(gemini.Requests()[0].Body["generationConfig"], any(tt.want)); diff != "" {
						t.Errorf("(-got +want):\n%s", diff)
					}
					if !slices.Equal(a.Ignored, tt.ignored) {
						t.Errorf("ignored %q, want %q", a.Ignored, tt.ignored)
					}
				})
			}
		}
	}
}

// What an agent sets goes to a model that takes it, and in the form that it takes.
func TestAnAgentsSettingsFollowTheProfile(t *testing.T) {
	t.Parallel()
	all := &genai.GenerateContentConfig{
		TopP: genai.Ptr[float32](0.5), TopK: genai.Ptr[float32](20), StopSequences: []string{"END"}, Seed: genai.Ptr[int32](7),
		MediaResolution: genai.MediaResolutionLow, ThinkingConfig: &genai.ThinkingConfig{IncludeThoughts: true},
	}
	budget := func(tokens int32) *genai.GenerateContentConfig {
		return &genai.GenerateContentConfig{ThinkingConfig: &genai.ThinkingConfig{ThinkingBudget: &tokens}}
	}
	thinks := func(config map[string]any) map[string]any {
		return map[string]any{"maxOutputTokens": 2048.0, "thinkingConfig": config}
	}
	for _, tt := range []struct {
		name    string
		request model.Request
		want    map[string]any // generationConfig
	}{
		{"a model that takes all", model.Request{Model: "gemini-3.1-flash-lite", MaxTokens: 2048, Thinking: models.Low, Settings: all},
			map[string]any{"maxOutputTokens": 2048.0, "topP": 0.5, "topK": 20.0, "stopSequences": []any{"END"}, "seed": 7.0,
				"mediaResolution": "MEDIA_RESOLUTION_LOW", "thinkingConfig": map[string]any{"includeThoughts": true, "thinkingLevel": "LOW"}}},
		{"a model that ignores sampling", model.Request{Model: "gemini-3.8-flash", MaxTokens: 2048, Settings: all},
			map[string]any{"maxOutputTokens": 2048.0, "stopSequences": []any{"END"}, "seed": 7.0,
				"mediaResolution": "MEDIA_RESOLUTION_LOW", "thinkingConfig": map[string]any{"includeThoughts": true, "thinkingLevel": "LOW"}}},
		{"a model that does not think", model.Request{Model: "offline", MaxTokens: 2048, Settings: &genai.GenerateContentConfig{ThinkingConfig: all.ThinkingConfig}},
			map[string]any{"maxOutputTokens": 2048.0}},
		{"a budget", model.Request{Model: "gemini-2.5-flash", MaxTokens: 2048, Settings: budget(500)}, thinks(map[string]any{"thinkingBudget": 500.0})},
		{"no thinking at all", model.Request{Model: "gemini-2.5-flash", MaxTokens: 2048, Settings: budget(0)}, thinks(map[string]any{"thinkingBudget": 0.0})},
		{"a budget that the model decides", model.Request{Model: "gemini-2.5-pro", MaxTokens: 2048, Settings: budget(-1)}, thinks(map[string]any{"thinkingBudget": -1.0})},
		{"less than the model can", model.Request{Model: "gemini-2.5-pro", MaxTokens: 2048, Settings: budget(1)}, thinks(map[string]any{"thinkingBudget": 128.0})},
		{"a budget that leaves no room for an answer", model.Request{Model: "gemini-2.5-pro", MaxTokens: 2048, Settings: budget(30_000)}, thinks(map[string]any{"thinkingBudget": 1536.0})},
		{"a budget for a model with levels", model.Request{Model: "gemini-3.8-flash", MaxTokens: 2048, Settings: budget(8000)}, thinks(map[string]any{"thinkingLevel": "MEDIUM"})},
		{"a level that outranks the budget", model.Request{Model: "gemini-2.5-flash", MaxTokens: 2048, Thinking: models.Low, Settings: budget(500)}, thinks(map[string]any{"thinkingBudget": 1024.0})},
	} {
		for _, backend := range backends {
			t.Run(tt.name+"/"+backend.name, func(t *testing.T) {
				t.Parallel()
				gemini := geminitest.Start(t)
				r := tt.request
				r.Contents = question().Contents
				a, err := client(t, gemini.URL, backend.vertex).Generate(t.Context(), r, nil)
				if err != nil || len(a.Ignored) > 0 {
					t.Fatalf("ignored %q: %v", a.Ignored, err)
				}
				if diff := cmp.Diff(gemini.Requests()[0].Body["generationConfig"], any(tt.want)); diff != "" {
					t.Errorf("(-got +want):\n%s", diff)
				}
			})
		}
	}
	if all.TopP == nil || all.MaxOutputTokens != 0 || all.ThinkingConfig.ThinkingLevel != "" {
		t.Errorf("the agent's settings were changed: %+v", all)
	}
}

// A stand-in is asked by its own profile.
func TestAStandInHasItsOwnProfile(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	gemini.Retire("gemini-3.5-flash-lite")
	c := newClient(t, model.Config{APIKey: apiKey, BaseURL: gemini.URL, Loopback: true, Models: []string{"gemini-3.5-flash-lite", "gemini-3.1-flash-lite"}, BreakerFailures: 5, BreakerCooldown: time.Minute})
	r := question()
	r.Model, r.Temperature = "gemini-3.5-flash-lite", genai.Ptr(0.5)
	a, err := c.Generate(t.Context(), r, nil)
	if err != nil || a.Asked != "gemini-3.1-flash-lite" || len(a.Ignored) > 0 {
		t.Errorf("asked %q, ignored %q: %v", a.Asked, a.Ignored, err)
	}
	settings, _ := gemini.Requests()[0].Body["generationConfig"].(map[string]any)
	if settings["temperature"] != 0.5 {
		t.Errorf("the stand-in takes a temperature, and was asked with %v", settings)
	}
}

// What answered is what is reported and priced.
func TestAModelThatIsSubstituted(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, asked, version, model string
		substituted                 bool
		cost                        float64 // of a million tokens each way; -1: unknown
	}{
		{"the same", "gemini-2.5-flash", "gemini-2.5-flash", "gemini-2.5-flash", false, 0.30 + 2.50},
		{"its version", "gemini-3.1-flash-lite", "gemini-3.1-flash-lite-001", "gemini-3.1-flash-lite", false, 0.25 + 1.50},
		{"another", "gemini-2.5-flash-lite", "models/gemini-3.5-flash-lite", "gemini-3.5-flash-lite", true, 0.30 + 2.50},
		{"one without a price", "gemini-2.5-flash", "gemini-9", "gemini-9", true, -1},
	} {
		for _, form := range forms {
			t.Run(tt.name+"/"+form.name, func(t *testing.T) {
				t.Parallel()
				gemini := geminitest.Start(t)
				gemini.Enqueue(geminitest.Text("Hello, ", "you.").WithModelVersion(tt.version).WithUsage(geminitest.Usage{Prompt: 1_000_000, Output: 1_000_000}))
				r := question()
				r.Model = tt.asked
				var said []string
				var onText func(_, _ string) error
				if form.stream {
					onText = func(by, _ string) error { said = append(said, by); return nil }
				}
				a, err := client(t, gemini.URL, false).Generate(t.Context(), r, onText)
				if err != nil {
					t.Fatal(err)
				}
				if a.Asked != tt.asked || a.Model != tt.model || a.Substituted != tt.substituted {
					t.Errorf("asked %q, answered %q, substituted %t", a.Asked, a.Model, a.Substituted)
				}
				if form.stream && !slices.Equal(said, []string{tt.model, tt.model}) {
					t.Errorf("the text is said to be of %q", said)
				}
				switch cost := a.Usage.EstimatedCostUSD; {
				case tt.cost < 0 && cost != nil:
					t.Errorf("costs $%v, which nobody knows", *cost)
				case tt.cost >= 0 && (cost == nil || math.Abs(*cost-tt.cost) > 1e-9):
					t.Errorf("costs %v, want $%v", cost, tt.cost)
				}
			})
		}
	}
}

// Each attempt is priced by itself: two calls with 150 000 prompt tokens are not
// one with 300 000, and two models have two prices.
func TestEachAttemptIsPricedByItself(t *testing.T) {
	t.Parallel()
	spent := func(prompt string) string {
		return event(`{"candidates":[{"content":{"role":"model","parts":[{"text":"Hm.","thought":true}]}}],"usageMetadata":{"promptTokenCount":` + prompt + `,"totalTokenCount":` + prompt + `}}`)
	}
	t.Run("long prompts", func(t *testing.T) {
		t.Parallel()
		s := &script{handlers: []http.HandlerFunc{answer(200, spent("150000")+event(failure(503, "busy"))), answer(200, spent("150000")+event(`{"candidates":[{"content":{"role":"model","parts":[{"text":"Hi."}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":150000,"totalTokenCount":150000}}`))}}
		inBubble(t, s, func(t *testing.T, c *model.Client) {
			r := question()
			r.Model = "gemini-2.5-pro"
			a, err := c.Generate(t.Context(), r, dropText)
			if err != nil || a.Usage.PromptTokens != 300_000 || a.Usage.EstimatedCostUSD == nil || math.Abs(*a.Usage.EstimatedCostUSD-(2*150_000*1.25+(100+2)*10)/1e6) > 1e-9 {
				t.Errorf("usage %+v, %v", a.Usage, err)
			}
		})
	})
	t.Run("two models", func(t *testing.T) {
		t.Parallel()
		m := &modelHandlers{handlers: map[string]http.HandlerFunc{
			"gemini-2.5-pro": answer(200, spent("1000000")+event(failure(503, "busy"))), "gemini-3.1-flash-lite": both("Hello."),
		}}
		guarded(t, m, func(t *testing.T, c *model.Client) {
			r := question()
			r.Model = "gemini-2.5-pro"
			a, err := c.Generate(t.Context(), r, dropText)
			// 3 attempts above 200 000 prompt tokens, and the 100 that were reserved for
			// each answer; and 7 and 5 tokens of the other's.
			want := 3*(2.50+100*15/1e6) + (7*0.25+5*1.50)/1e6
			if err != nil || a.Model != "gemini-3.1-flash-lite" || a.Usage.EstimatedCostUSD == nil || math.Abs(*a.Usage.EstimatedCostUSD-want) > 1e-7 {
				t.Errorf("usage %+v of %s, want $%v: %v", a.Usage, a.Model, want, err)
			}
		}, "gemini-2.5-pro", "gemini-3.1-flash-lite")
	})
}

// What never began costs nothing; what was given up before the API said anything
// costs what was reserved.
func TestWhatAnAttemptThatFailedCosts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		handler http.HandlerFunc
		timeout time.Duration
		want    session.Usage
	}{
		{"429 at each try", answer(429, failure(429, "busy")), time.Minute, session.Usage{}},
		{"429, and the client leaves in the pause", answer(429, failure(429, "busy", `{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"1.5s"}`)), time.Second, session.Usage{}},
		{"a request that is refused", answer(400, failure(400, "no")), time.Minute, session.Usage{}},
		{"a model that is not there", answer(404, failure(404, "no")), time.Minute, session.Usage{}},
		{"silence until the client leaves", silent, time.Second, priced(session.Usage{PromptTokens: 3, CompletionTokens: 100, TotalTokens: 103, Source: session.Estimated})},
	} {
		for _, form := range forms {
			t.Run(tt.name+"/"+form.name, func(t *testing.T) {
				t.Parallel()
				guarded(t, tt.handler, func(t *testing.T, c *model.Client) {
					ctx, cancel := context.WithTimeout(t.Context(), tt.timeout)
					defer cancel()
					a, err := generate(ctx, c, form.stream)
					if diff := cmp.Diff(a.Usage, tt.want); err == nil || diff != "" {
						t.Errorf("(-got +want):\n%s\n%v", diff, err)
					}
				})
			})
		}
	}
}

// Only the API's own word makes a model gone, and only with every stand-in.
func TestModelsThatAreGone(t *testing.T) {
	t.Parallel()
	const successor = "gemini-3.5-flash-lite"
	old, fallback := "gemini-2.5-flash", "gemini-3.1-flash-lite"
	for _, tt := range []struct {
		name    string
		retired []string
		gone    bool
	}{
		{"none", nil, false},
		{"the first", []string{old}, false},
		{"the one that stands in", []string{fallback}, false},
		{"all", []string{old, fallback}, true},
	} {
		for _, form := range forms {
			t.Run(tt.name+"/"+form.name, func(t *testing.T) {
				t.Parallel()
				gemini := geminitest.Start(t)
				gemini.Retire(tt.retired...)
				c := newClient(t, model.Config{APIKey: apiKey, BaseURL: gemini.URL, Loopback: true, Models: []string{old, fallback}, BreakerFailures: 1, BreakerCooldown: time.Minute})
				for _, moment := range []string{"before a call", "after a call"} {
					gone, ok := errors.AsType[*model.GoneError](c.Missing(t.Context()))
					if ok != tt.gone || ok && (gone.Model != old || gone.Successor != successor) {
						t.Errorf("%s: gone %t, want %t: %+v", moment, ok, tt.gone, gone)
					}
					_, err := generate(t.Context(), c, form.stream)
					if called, ok := errors.AsType[*model.GoneError](err); ok != tt.gone || ok && (called.Model != old || called.Successor != successor) {
						t.Errorf("%s: the call's error is %v", moment, err)
					}
				}
			})
		}
	}
}

// A caller that leaves while the API is asked has learned nothing that the next one, a moment
// later, could be given.
func TestACheckWhoseCallerLeaves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, model.Config{APIKey: apiKey, BaseURL: "http://gemini.test", Models: []string{first}, BreakerFailures: 1, BreakerCooldown: time.Minute,
			Transport: transport{http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_ = json.NewEncoder(w).Encode(map[string]string{"name": "models/" + first})
			})}})
		left, leave := context.WithCancel(t.Context())
		leave()
		if err := c.Check(left); !errors.Is(err, context.Canceled) {
			t.Errorf("whose caller has left: %v", err)
		}
		if err := c.Check(t.Context()); err != nil {
			t.Errorf("the next: %v", err)
		}
	})
}

// What a call has found need not be asked for, unless it was of one model alone.
func TestACallTellsWhetherThereAreModels(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		alone   bool
		called  http.HandlerFunc
		missing bool
		asked   int // for metadata
	}{
		{"an answer", false, answer(200, good("Hello.")), false, 0},
		{"no such model", false, answer(404, failure(404, "not found")), true, 0},
		{"no such model, asked alone", true, answer(404, failure(404, "not found")), false, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			asked := 0
			guarded(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPost {
					tt.called(w, r)
					return
				}
				asked++
				_ = json.NewEncoder(w).Encode(map[string]string{"name": "models/" + first})
			}), func(t *testing.T, c *model.Client) {
				r := question()
				r.Alone = tt.alone
				_, _ = c.Generate(t.Context(), r, nil)
				if missing := c.Missing(t.Context()) != nil; missing != tt.missing || asked != tt.asked {
					t.Errorf("missing %v, asked %d times; want %v, %d", missing, asked, tt.missing, tt.asked)
				}
			})
		})
	}
}

func TestAModelThatComesBack(t *testing.T) {
	t.Parallel()
	there, asked := false, 0
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, model.Config{APIKey: apiKey, BaseURL: "http://gemini.test", Models: []string{first}, BreakerFailures: 1, BreakerCooldown: time.Minute,
			Transport: transport{http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				asked++
				if !there {
					w.WriteHeader(404)
					_, _ = io.WriteString(w, failure(404, "not found"))
					return
				}
				_ = json.NewEncoder(w).Encode(map[string]string{"name": "models/" + first})
			})}})
		for range 3 {
			if c.Missing(t.Context()) == nil {
				t.Fatal("the API says that it has no such model, and it is not missing")
			}
		}
		if asked != 1 {
			t.Errorf("asked %d times at once", asked)
		}
		there = true
		time.Sleep(11 * time.Second)
		for range 3 {
			if err := c.Missing(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if asked != 2 {
			t.Errorf("asked %d times, want 2", asked)
		}
	})
}

// An API that cannot be asked has not said that a model is gone.
func TestAnAPIThatIsAwayTakesNoModelAway(t *testing.T) {
	t.Parallel()
	for name, handler := range map[string]http.HandlerFunc{
		"busy": answer(503, failure(503, "busy")), "no right": answer(403, failure(403, "no")), "silent": silent,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			guarded(t, handler, func(t *testing.T, c *model.Client) {
				if err := c.Missing(t.Context()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// Reading an answer costs what it has, and not the square of its parts.
func TestTheTextOfManyParts(t *testing.T) {
	parts := make([]*genai.Part, 20_000)
	for i := range parts {
		parts[i] = &genai.Part{Text: "0123456789", Thought: i%2 == 1}
	}
	answer := &model.Answer{Content: &genai.Content{Parts: parts}}
	if text := answer.Text(); text != strings.Repeat("0123456789", len(parts)/2) {
		t.Errorf("%d bytes", len(text))
	}
	if n := testing.AllocsPerRun(5, func() { _ = answer.Text() }); n > 100 {
		t.Errorf("%v allocations for %d parts", n, len(parts))
	}
}
