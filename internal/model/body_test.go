package model_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genai"

	"example.com/gatehouse/internal/model"
	"example.com/gatehouse/tool"
)

// listening keeps the body of each request.
type listening struct {
	canned
	bodies []string
}

func (l *listening) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	l.bodies = append(l.bodies, string(body))
	return l.canned.RoundTrip(r)
}

// TestSameRequest holds what is sent against what the SDK makes of the same
// contents, tools and instruction by itself.
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
			name    string
			history []json.RawMessage
		}{
			{"a first turn", nil},
			{"a turn after one", []json.RawMessage{stored(conversation...)}},
			{"a turn after two", []json.RawMessage{stored(conversation[:1]...), stored(conversation[1:]...)}},
			{"a turn after one without contents", []json.RawMessage{stored(conversation...), []byte(" [ ] ")}},
		} {
			for _, form := range forms {
				t.Run(backend.name+"/"+tt.name+"/"+form.name, func(t *testing.T) {
					body := good("Rain.")
					if form.stream {
						body = event(body)
					}
					ours := &listening{canned: canned{200, body}}
					c := newClient(t, model.Config{
						APIKey: apiKey, VertexAI: backend.vertex, Project: "p", Location: "global", BaseURL: "http://gemini.test", Transport: ours,
					})
					r := model.Request{
						Model: "gemini-2.5-flash", Instruction: "Be <kind> & brief.", History: tt.history, Contents: []*genai.Content{next},
						Tools: model.Declare([]tool.Tool{forecast}), Temperature: genai.Ptr(0.25), MaxTokens: 100,
					}
					var onText func(_, _ string) error
					if form.stream {
						onText = dropText
					}
					if _, err := c.Generate(t.Context(), r, onText); err != nil {
						t.Fatal(err)
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
						ThinkingConfig:    &genai.ThinkingConfig{ThinkingBudget: genai.Ptr[int32](0)},
						SystemInstruction: &genai.Content{Parts: []*genai.Part{{Text: r.Instruction}}},
						Tools: []*genai.Tool{{FunctionDeclarations: []*genai.FunctionDeclaration{
							{Name: "weather", Description: "Tells the weather.", ParametersJsonSchema: everything},
						}}},
					}
					if form.stream {
						for _, err := range sdk.Models.GenerateContentStream(t.Context(), r.Model, contents, settings) {
							if err != nil {
								t.Fatal(err)
							}
						}
					} else if _, err := sdk.Models.GenerateContent(t.Context(), r.Model, contents, settings); err != nil {
						t.Fatal(err)
					}

					var got, want any
					if err := json.Unmarshal([]byte(ours.bodies[0]), &got); err != nil {
						t.Fatal(err)
					}
					if err := json.Unmarshal([]byte(theirs.bodies[0]), &want); err != nil {
						t.Fatal(err)
					}
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("sent by the SDK (-), by us (+):\n%s", diff)
					}
				})
			}
		}
	}
}
