package model_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genai"

	"example.com/gatehouse/internal/model"
	"example.com/gatehouse/tool"
)

// listening keeps each request.
type listening struct {
	canned
	bodies []string
	heads  []head
}

// A head is a request without its body.
type head struct {
	Method, URL, Host string
	Proto             string
	Major, Minor      int
	Header            http.Header
}

func (l *listening) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	if r.ContentLength != int64(len(body)) {
		return nil, fmt.Errorf("%d bytes, announced as %d", len(body), r.ContentLength)
	}
	// net/http sends it again if the connection turns out to be closed.
	again, err := r.GetBody()
	if err != nil {
		return nil, err
	}
	if repeated, err := io.ReadAll(again); err != nil || !bytes.Equal(repeated, body) {
		return nil, fmt.Errorf("sent again as %q: %w", repeated, err)
	}
	l.bodies = append(l.bodies, string(body))
	l.heads = append(l.heads, head{r.Method, r.URL.String(), r.URL.Host, r.Proto, r.ProtoMajor, r.ProtoMinor, r.Header})
	return l.canned.RoundTrip(r)
}

// TestSameRequest holds what is sent, the first time and when it is prepared, against what
// the SDK makes of the same contents, tools and instruction by itself.
func TestSameRequest(t *testing.T) {
	type in struct {
		City string `json:"city" jsonschema:"The city's <name> & more."`
		Days int    `json:"days,omitempty"`
	}
	forecast := tool.New("weather", "Tells the weather.", func(context.Context, in) (string, error) { return "", nil })
	conversation := []*genai.Content{
		genai.NewContentFromText("What's the \"weather\" in <Oslo> & Ås?\u2028", genai.RoleUser),
		{Role: genai.RoleModel, Parts: []*genai.Part{
			{Text: "They want weather.", Thought: true},
			{FunctionCall: &genai.FunctionCall{ID: "1", Name: "weather", Args: map[string]any{"city": "Oslo", "days": 2.0}}, ThoughtSignature: []byte{1, 2, 255}},
		}},
		{Role: genai.RoleUser, Parts: []*genai.Part{
			{FunctionResponse: &genai.FunctionResponse{ID: "1", Name: "weather", Response: map[string]any{"output": []any{"sun", 21.5, nil, true}}}},
		}},
		{Role: genai.RoleModel, Parts: []*genai.Part{
			{ExecutableCode: &genai.ExecutableCode{Code: "print(1)", Language: genai.LanguagePython}},
			{CodeExecutionResult: &genai.CodeExecutionResult{Outcome: genai.OutcomeOK, Output: "1"}},
			{InlineData: &genai.Blob{MIMEType: "image/png", Data: []byte("png")}},
			{Text: "Sun."},
		}},
	}
	stored := func(contents ...*genai.Content) json.RawMessage {
		raw, err := json.Marshal(contents)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	next := genai.NewContentFromText("And tomorrow?", genai.RoleUser)
	var everything map[string]any // the tool's schema, as a plain value
	raw, err := json.Marshal(forecast.Schema())
	if err == nil {
		err = json.Unmarshal(raw, &everything)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, backend := range []struct {
		name   string
		vertex bool
	}{{"Developer API", false}, {"Vertex AI", true}} {
		for _, tt := range []struct {
			name        string
			instruction string
			history     []json.RawMessage
		}{
			{"a first turn", "Be <kind> & brief.", nil},
			{"a first turn without an instruction", "", nil},
			{"a turn after one", "Be <kind> & brief.", []json.RawMessage{stored(conversation...)}},
			{"a turn after two", "Be <kind> & brief.", []json.RawMessage{stored(conversation[:1]...), stored(conversation[1:]...)}},
			{"a turn after one without contents", "Be <kind> & brief.", []json.RawMessage{stored(conversation...), []byte(" [ ] ")}},
		} {
			for _, form := range forms {
				t.Run(backend.name+"/"+tt.name+"/"+form.name, func(t *testing.T) {
					body := form.wire(good("Rain."))
					ours := &listening{canned: canned{200, body}}
					c := newClient(t, model.Config{
						APIKey: apiKey, VertexAI: backend.vertex, Project: "p", Location: "global", BaseURL: "http://gemini.test", Transport: ours,
					})
					r := model.Request{
						Model: "gemini-2.5-flash", Instruction: tt.instruction, History: tt.history, Contents: []*genai.Content{next},
						Tools: model.Declare([]tool.Tool{forecast}), Temperature: genai.Ptr(0.25), MaxTokens: 100,
					}
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					for range 2 {
						if _, err := form.ask(ctx, c, r); err != nil {
							t.Fatal(err)
						}
					}

					theirs := &listening{canned: canned{200, body}}
					config := &genai.ClientConfig{HTTPClient: &http.Client{Transport: theirs}, HTTPOptions: genai.HTTPOptions{BaseURL: "http://gemini.test"}}
					if config.APIKey, config.Backend = apiKey, genai.BackendGeminiAPI; backend.vertex {
						config.APIKey, config.Backend, config.Project, config.Location = "", genai.BackendVertexAI, "p", "global"
					}
					sdk, err := genai.NewClient(t.Context(), config)
					if err != nil {
						t.Fatal(err)
					}
					contents := []*genai.Content{next}
					if tt.history != nil {
						contents = append(conversation[:len(conversation):len(conversation)], next)
					}
					settings := &genai.GenerateContentConfig{
						Temperature: genai.Ptr[float32](0.25), MaxOutputTokens: 100,
						ThinkingConfig: &genai.ThinkingConfig{ThinkingBudget: genai.Ptr[int32](0)},
						Tools: []*genai.Tool{{FunctionDeclarations: []*genai.FunctionDeclaration{
							{Name: "weather", Description: "Tells the weather.", ParametersJsonSchema: everything},
						}}},
					}
					if tt.instruction != "" {
						settings.SystemInstruction = &genai.Content{Parts: []*genai.Part{{Text: tt.instruction}}}
					}
					if form.stream {
						for _, err := range sdk.Models.GenerateContentStream(ctx, r.Model, contents, settings) {
							if err != nil {
								t.Fatal(err)
							}
						}
					} else if _, err := sdk.Models.GenerateContent(ctx, r.Model, contents, settings); err != nil {
						t.Fatal(err)
					}

					var want any
					if err := json.Unmarshal([]byte(theirs.bodies[0]), &want); err != nil {
						t.Fatal(err)
					}
					for i, body := range ours.bodies {
						var got any
						if err := json.Unmarshal([]byte(body), &got); err != nil {
							t.Fatal(err)
						}
						if diff := cmp.Diff(want, got); diff != "" {
							t.Errorf("request %d, sent by the SDK (-), by us (+):\n%s", i, diff)
						}
						if diff := cmp.Diff(theirs.heads[0], ours.heads[i]); diff != "" {
							t.Errorf("request %d, sent by the SDK (-), by us (+):\n%s", i, diff)
						}
					}
				})
			}
		}
	}
}

// Requests that differ in anything that the SDK makes of them are prepared each.
func TestPreparedRequestsDiffer(t *testing.T) {
	ours := &listening{canned: canned{200, good("Rain.")}}
	c := newClient(t, model.Config{APIKey: apiKey, BaseURL: "http://gemini.test", Transport: ours})
	function := model.Declare([]tool.Tool{tool.New("weather", "Tells the weather.", func(context.Context, struct{}) (string, error) { return "", nil })})
	plain := model.Request{Model: "gemini-2.5-flash", Contents: []*genai.Content{genai.NewContentFromText("q", genai.RoleUser)}, MaxTokens: 1000}
	settings := &genai.GenerateContentConfig{StopSequences: []string{"."}}
	for i, tt := range []struct {
		name   string
		change func(*model.Request)
		sent   string // only in this one
	}{
		{"the model", func(r *model.Request) { r.Model = "gemini-2.5-pro" }, ""},
		{"max_tokens", func(r *model.Request) { r.MaxTokens = 1001 }, `"maxOutputTokens":1001`},
		{"temperature", func(r *model.Request) { r.Temperature = genai.Ptr(0.5) }, `"temperature":0.5`},
		{"temperature 0", func(r *model.Request) { r.Temperature = genai.Ptr(0.0) }, `"temperature":0,`},
		{"the agent's settings", func(r *model.Request) { r.Settings = settings }, `"stopSequences":["."]`},
		{"a schema", func(r *model.Request) { r.Schema = json.RawMessage(`{"type":"string"}`) }, `"responseJsonSchema":{"type":"string"}`},
		{"thinking", func(r *model.Request) { r.Thinking, r.MaxTokens = "high", 30_000 }, `"thinkingBudget":24576`},
		{"tools", func(r *model.Request) { r.Tools = function }, `"functionDeclarations"`},
	} {
		r := plain
		tt.change(&r)
		for range 2 {
			for _, r := range []model.Request{plain, r} {
				if _, err := c.Generate(t.Context(), r, nil); err != nil {
					t.Fatal(tt.name, err)
				}
			}
		}
		if err := c.SetKey(t.Context(), fmt.Sprint(apiKey, i)); err != nil {
			t.Fatal(err)
		}
		for n, body := range ours.bodies {
			if holds := strings.Contains(body, tt.sent); tt.sent != "" && holds != (n%2 == 1) {
				t.Errorf("%s: request %d: %s", tt.name, n, body)
			}
			if key := ours.heads[n].Header.Get("X-Goog-Api-Key"); i > 0 && key != fmt.Sprint(apiKey, i-1) {
				t.Errorf("%s: request %d has the key %s", tt.name, n, key)
			}
		}
		if url := ours.heads[1].URL; !strings.Contains(url, r.Model+":") {
			t.Errorf("%s: %s", tt.name, url)
		}
		ours.bodies, ours.heads = nil, nil
	}
}

// A deadline is of one request, and not of those that are prepared with it.
func TestADeadlineIsOfOneRequest(t *testing.T) {
	ours := &listening{canned: canned{200, good("Rain.")}}
	c := newClient(t, model.Config{APIKey: apiKey, BaseURL: "http://gemini.test", Transport: ours})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, ctx := range []context.Context{ctx, t.Context()} {
		if _, err := c.Generate(ctx, question(), nil); err != nil {
			t.Fatal(err)
		}
	}
	if got := []string{ours.heads[0].Header.Get("X-Server-Timeout"), ours.heads[1].Header.Get("X-Server-Timeout")}; got[0] != "60" || got[1] != "" {
		t.Errorf("X-Server-Timeout %q", got)
	}
}

// What is sent is JSON also where there is nothing to set.
func TestARequestWithoutSettings(t *testing.T) {
	ours := &listening{canned: canned{200, good("Rain.")}}
	c := newClient(t, model.Config{APIKey: apiKey, BaseURL: "http://gemini.test", Transport: ours})
	if _, err := c.Generate(t.Context(), model.Request{Model: "unknown"}, nil); err != nil {
		t.Fatal(err)
	}
	if body := ours.bodies[0]; !json.Valid([]byte(body)) || !strings.Contains(body, `"contents":[]`) {
		t.Errorf("sent %s", body)
	}
}

// What the service's types leave out of a history is put back, unless it is as it came.
func TestAnExactHistory(t *testing.T) {
	for exact, want := range map[bool]string{false: `{"functionCall":{"args":{},"name":"f"}}`, true: `{"functionCall":{"name":"f"}}`} {
		ours := &listening{canned: canned{200, good("Rain.")}}
		c := newClient(t, model.Config{APIKey: apiKey, BaseURL: "http://gemini.test", Transport: ours})
		r := question()
		r.Exact, r.History = exact, []json.RawMessage{[]byte(`[{"role":"model","parts":[{"functionCall":{"name":"f"}}]}]`)}
		if _, err := c.Generate(t.Context(), r, nil); err != nil || !strings.Contains(ours.bodies[0], want) {
			t.Errorf("exact %v: sent %s, %v", exact, ours.bodies, err)
		}
	}
}

// What cannot be put into a request is an error, and nothing is sent.
func TestWhatCannotBeSent(t *testing.T) {
	endless := &genai.FunctionCall{Name: "f", Args: map[string]any{"n": math.Inf(1)}}
	armor := &genai.ModelArmorConfig{PromptTemplateName: "projects/p/locations/l/templates/t"}
	for _, tt := range []struct {
		name   string
		change func(*model.Request)
		want   string
	}{
		{"a number that JSON does not have", func(r *model.Request) { r.Contents = []*genai.Content{{Parts: []*genai.Part{{FunctionCall: endless}}}} }, "+Inf"},
		{"a history that is no list", func(r *model.Request) { r.History = []json.RawMessage{[]byte("{}")} }, "no list"},
		{"a history that cannot be read", func(r *model.Request) { r.History = []json.RawMessage{[]byte(`[{"parts":[{"functionCall":{}}]},7]`)} }, "decoding contents"},
		{"a setting that the API lacks", func(r *model.Request) { r.Settings = &genai.GenerateContentConfig{ModelArmorConfig: armor} }, "modelArmorConfig"},
	} {
		ours := &listening{canned: canned{200, good("Rain.")}}
		c := newClient(t, model.Config{APIKey: apiKey, BaseURL: "http://gemini.test", Transport: ours})
		r := question()
		tt.change(&r)
		_, err := c.Generate(t.Context(), r, nil)
		if checkFailure(t, err, model.Failed); len(ours.heads) > 0 || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %d requests, %v", tt.name, len(ours.heads), err)
		}
	}
}

// The SDK completes its configuration by the environment, in which Cloud Run's deployments
// and laptops name a project: nothing that a key of the Developer API goes with.
func TestAProjectInTheEnvironment(t *testing.T) {
	t.Setenv("GOOGLE_CLOUD_PROJECT", "p")
	t.Setenv("GOOGLE_CLOUD_LOCATION", "l")
	ours := &listening{canned: canned{200, good("Rain.")}}
	c, err := model.New(t.Context(), model.Config{APIKey: apiKey, BaseURL: "http://gemini.test", Transport: ours})
	if err != nil {
		t.Fatal(err)
	}
	r := model.Request{Model: "gemini-2.5-flash", Contents: []*genai.Content{genai.NewContentFromText("q", genai.RoleUser)}, MaxTokens: 1000}
	if _, err := c.Generate(t.Context(), r, nil); err != nil {
		t.Fatal(err)
	}
	if key := ours.heads[0].Header.Get("X-Goog-Api-Key"); key != apiKey {
		t.Errorf("asked with the key %q at %s", key, ours.heads[0].URL)
	}
}
