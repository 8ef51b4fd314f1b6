package offline_test

import (
	"strings"
	"testing"

	"google.golang.org/genai"

	"example.com/gatehouse/internal/offline"
)

// Gemini's own tools bring something back, whole and in a stream.
func TestGeminisOwnTools(t *testing.T) {
	t.Parallel()
	search := &genai.Tool{GoogleSearch: &genai.GoogleSearch{}}
	code := &genai.Tool{CodeExecution: &genai.ToolCodeExecution{}}
	pages := &genai.Tool{URLContext: &genai.URLContext{}}
	for _, tt := range []struct {
		name, question string
		tools          []*genai.Tool
		want           string // "source", "code", "page" or "text"
	}{
		{"a search", "What is new in Go?", []*genai.Tool{search}, "source"},
		{"code", "What is 6*7?", []*genai.Tool{search, code}, "code"},
		{"a page", "Read https://go.dev/blog please", []*genai.Tool{pages, search}, "page"},
		{"a page, without the tool", "Read https://go.dev/blog please", []*genai.Tool{code}, "text"},
		{"no tools", "What is 6*7?", nil, "text"},
		{"a function is meant", "What is the weather in Paris?", []*genai.Tool{search, {FunctionDeclarations: []*genai.FunctionDeclaration{weather[0].declaration}}}, "call"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			client := newClient(t)
			contents, config := genai.Text(tt.question), &genai.GenerateContentConfig{Tools: tt.tools}
			whole, err := client.Models.GenerateContent(t.Context(), offline.Model, contents, config)
			if err != nil {
				t.Fatal(err)
			}
			if got := kindOf(whole.Candidates[0]); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
			var all genai.Candidate
			all.Content = &genai.Content{}
			for chunk, err := range client.Models.GenerateContentStream(t.Context(), offline.Model, contents, config) {
				if err != nil {
					t.Fatal(err)
				}
				c := chunk.Candidates[0]
				if all.FinishReason != "" {
					t.Error("a chunk after the finish")
				}
				all.Content.Parts = append(all.Content.Parts, c.Content.Parts...)
				all.FinishReason, all.GroundingMetadata, all.URLContextMetadata = c.FinishReason, c.GroundingMetadata, c.URLContextMetadata
			}
			if got := kindOf(&all); got != tt.want || all.FinishReason != genai.FinishReasonStop {
				t.Errorf("in a stream %s, want %s; %s", got, tt.want, all.FinishReason)
			}
		})
	}
}

func kindOf(c *genai.Candidate) string {
	text, code := "", false
	for _, p := range c.Content.Parts {
		text += p.Text
		if p.FunctionCall != nil {
			return "call"
		}
		if p.CodeExecutionResult != nil && p.CodeExecutionResult.Output == "42\n" {
			code = true
		}
	}
	switch g := c.GroundingMetadata; {
	case code:
		return "code"
	case c.URLContextMetadata != nil && c.URLContextMetadata.URLMetadata[0].RetrievedURL == "https://go.dev/blog":
		return "page"
	case g != nil && strings.HasPrefix(text, g.GroundingSupports[0].Segment.Text):
		return "source"
	}
	return "text"
}
