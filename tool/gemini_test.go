package tool

import (
	"testing"

	"google.golang.org/genai"
)

func TestGemini(t *testing.T) {
	t.Parallel()
	for name, given := range map[string]*genai.Tool{
		GoogleSearch:   {GoogleSearch: &genai.GoogleSearch{}},
		URLContext:     {URLContext: &genai.URLContext{}},
		CodeExecution:  {CodeExecution: &genai.ToolCodeExecution{}},
		VertexAISearch: {Retrieval: &genai.Retrieval{VertexAISearch: &genai.VertexAISearch{Engine: "e"}}},
	} {
		made := Gemini(given)
		if made.Name() != name || made.GeminiTool() != given || made.Description() == "" || made.Schema() != nil {
			t.Errorf("%s: %+v", name, made)
		}
		if _, err := made.Call(t.Context(), nil); err == nil {
			t.Errorf("%s can be called here", name)
		}
	}
}

func TestGeminiPanicsAtWhatIsNotSupported(t *testing.T) {
	t.Parallel()
	for name, given := range map[string]*genai.Tool{
		"nothing":          nil,
		"an empty tool":    {},
		"functions":        {FunctionDeclarations: []*genai.FunctionDeclaration{{Name: "f"}}},
		"two tools":        {GoogleSearch: &genai.GoogleSearch{}, URLContext: &genai.URLContext{}},
		"maps":             {GoogleMaps: &genai.GoogleMaps{}},
		"a retrieval":      {Retrieval: &genai.Retrieval{}},
		"another database": {Retrieval: &genai.Retrieval{VertexRAGStore: &genai.VertexRAGStore{}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			defer func() {
				if recover() == nil {
					t.Error("did not panic")
				}
			}()
			Gemini(given)
		})
	}
}
