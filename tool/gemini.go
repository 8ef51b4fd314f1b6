package tool

import (
	"fmt"
	"reflect"

	"google.golang.org/genai"
)

// The names of Gemini's own tools, as [Tool.Name] returns them and clients see them.
const (
	GoogleSearch   = "google_search"
	URLContext     = "url_context"
	CodeExecution  = "code_execution"
	VertexAISearch = "vertex_ai_search"
)

// Gemini makes a tool of one that Gemini runs by itself: t has exactly one of
// GoogleSearch, URLContext, CodeExecution, and Retrieval with VertexAISearch, which is
// Vertex AI's only. What the tool brings back is in the answer: the sources that it
// rests on, with their places in the text, the search suggestions that Google's terms
// want shown, code and its result.
//
// Models from Gemini 3 on take such tools beside functions; with another one an agent
// that has both is refused when the service starts.
//
// Gemini panics when t has anything else: the other tools of the API return what the
// service does not know how to show or what they cost.
func Gemini(t *genai.Tool) Tool {
	name, err := geminiName(t)
	if err != nil {
		panic(fmt.Sprintf("tool: %v", err))
	}
	return Tool{name: name, description: geminiDescriptions[name], gemini: t}
}

// geminiDescriptions are for people: the model knows its tools.
var geminiDescriptions = map[string]string{
	GoogleSearch:   "Searches the web with Google.",
	URLContext:     "Reads pages whose address is in the conversation.",
	CodeExecution:  "Runs Python code in Google's sandbox.",
	VertexAISearch: "Searches a data store of Vertex AI Search.",
}

// geminiName returns the name of the only tool in t.
func geminiName(t *genai.Tool) (string, error) {
	const want = "set exactly one of GoogleSearch, URLContext, CodeExecution and Retrieval.VertexAISearch"
	if t == nil {
		return "", fmt.Errorf("the tool is nil; %s", want)
	}
	name, set := "", 0
	for field, value := range reflect.ValueOf(*t).Fields() {
		if value.IsZero() {
			continue
		}
		set++
		switch {
		case t.GoogleSearch != nil:
			name = GoogleSearch
		case t.URLContext != nil:
			name = URLContext
		case t.CodeExecution != nil:
			name = CodeExecution
		case t.Retrieval != nil && t.Retrieval.VertexAISearch != nil && t.Retrieval.VertexRAGStore == nil && t.Retrieval.ExternalAPI == nil:
			name = VertexAISearch
		default:
			return "", fmt.Errorf("it has %s, which is not supported; %s", field.Name, want)
		}
	}
	if set != 1 {
		return "", fmt.Errorf("it has %d tools; %s", set, want)
	}
	return name, nil
}

// GeminiTool returns what [Gemini] was given; nil for a function.
func (t Tool) GeminiTool() *genai.Tool { return t.gemini }
