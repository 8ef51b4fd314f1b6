package model_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genai"

	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/model"
	"example.com/gatehouse/session"
	"example.com/gatehouse/tool"
)

type object = map[string]any

// web is a page among the chunks of a grounding.
func web(title, uri string) object { return object{"web": object{"title": title, "uri": uri}} }

// support says that a segment rests on chunks.
func support(segment object, chunks ...int) object {
	return object{"segment": segment, "groundingChunkIndices": chunks}
}

// What an answer rests on is taken over, with the places in the answer's text.
func TestSources(t *testing.T) {
	t.Parallel()
	at := func(positions ...int) []session.Position {
		var all []session.Position
		for i := 0; i < len(positions); i += 2 {
			all = append(all, session.Position{Start: positions[i], End: positions[i+1]})
		}
		return all
	}
	const a, b = "https://a.example/", "https://b.example/x?y=z#w"
	const text = "Größe: 5. Ende." // of 15 code points and 17 bytes
	long := strings.Repeat("x", 2100)
	many := func(n int) (chunks []any, supports []any) {
		for i := range n {
			chunks = append(chunks, web("t", fmt.Sprintf("https://a.example/%d", i)))
			supports = append(supports, support(object{"endIndex": 1}, i))
		}
		return chunks, supports
	}
	manyChunks, manySupports := many(10_000)
	for _, tt := range []struct {
		name      string
		grounding object
		want      []session.Source
	}{
		{"none", object{}, nil},
		{"one without a place", object{"groundingChunks": []any{web("A", a)}}, []session.Source{{Title: "A", URI: a}}},
		{"places are bytes, and become code points", object{"groundingChunks": []any{web("A", a), web("B", b)}, "groundingSupports": []any{
			support(object{"endIndex": 11, "text": "Größe: 5."}, 0, 1), support(object{"startIndex": 12, "endIndex": 17, "text": "Ende."}, 1),
		}}, []session.Source{{Title: "A", URI: a, Positions: at(0, 9)}, {Title: "B", URI: b, Positions: at(0, 9, 10, 15)}}},
		{"the text counts where the place is wrong", object{"groundingChunks": []any{web("A", a)}, "groundingSupports": []any{
			support(object{"startIndex": 100, "endIndex": 105, "text": "Ende."}, 0), support(object{"startIndex": -3, "endIndex": 2, "text": "Ende."}, 0),
		}}, []session.Source{{Title: "A", URI: a, Positions: at(10, 15)}}},
		{"a place that is nowhere", object{"groundingChunks": []any{web("A", a)}, "groundingSupports": []any{
			support(object{"startIndex": 10, "endIndex": 1000}, 0), support(object{"startIndex": 5, "endIndex": 5}, 0), support(object{"endIndex": 5, "text": "other"}, 0),
			support(object{"startIndex": -5, "endIndex": 5}, 0), support(object{"startIndex": 3, "endIndex": 5}, 0), support(object{"endIndex": 2147483647, "partIndex": 2147483647}, 0), // within a character
		}}, []session.Source{{Title: "A", URI: a}}},
		{"chunks that are not there", object{"groundingChunks": []any{web("A", a)}, "groundingSupports": []any{support(object{"endIndex": 3}, -1, 1, 1000000), object{}}},
			[]session.Source{{Title: "A", URI: a}}},
		{"a page twice", object{"groundingChunks": []any{web("A", a), web("A again", a)}, "groundingSupports": []any{support(object{"endIndex": 11}, 0, 1)}},
			[]session.Source{{Title: "A", URI: a, Positions: at(0, 9)}}},
		{"a document of a data store", object{"groundingChunks": []any{object{"retrievedContext": object{"title": "Manual", "uri": "gs://docs/manual.pdf"}}}},
			[]session.Source{{Title: "Manual", URI: "gs://docs/manual.pdf"}}},
		{"links that are none", object{"groundingChunks": []any{web("", "javascript:alert(1)"), web("", "data:text/html,x"), web("", "//a.example"), web("", "/x"), web("", ""), web("", "https://"),
			web("", "https://a.example/ x"), web("", "https://a.example/\n"), web("", "https://user:password@a.example/"), web("", "ftp://a.example/"), web("", "https://a.example/"+long), object{}, nil}}, nil},
		{"a title of anything", object{"groundingChunks": []any{web(" A\n\x00<b>"+strings.Repeat("ä", 300)+"\u202e", a)}}, []session.Source{{Title: "A <b>" + strings.Repeat("ä", 97), URI: a}}},
		{"ten thousand", object{"groundingChunks": manyChunks, "groundingSupports": manySupports}, make([]session.Source, 64)},
	} {
		for _, form := range forms {
			t.Run(tt.name+"/"+form.name, func(t *testing.T) {
				t.Parallel()
				gemini := geminitest.Start(t)
				gemini.Enqueue(geminitest.Text(text[:9], text[9:]).WithCandidate("groundingMetadata", tt.grounding))
				answer, err := generate(t.Context(), client(t, gemini.URL, false), form.stream)
				if err != nil {
					t.Fatal(err)
				}
				if len(tt.want) == 64 {
					if len(answer.Grounding.Sources) != 64 || answer.Grounding.Sources[63].Positions == nil {
						t.Errorf("%d sources", len(answer.Grounding.Sources))
					}
					return
				}
				var got []session.Source
				if answer.Grounding != nil {
					got = answer.Grounding.Sources
				}
				if diff := cmp.Diff(got, tt.want); diff != "" {
					t.Errorf("(-got +want):\n%s", diff)
				}
			})
		}
	}
}

// Searches are paid for, and the suggestions that Google's terms want shown come along.
func TestSearchesAreCounted(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, model string
		reply       geminitest.Reply
		queries     int64
		usd         float64 // beside the tokens
	}{
		{"by the query", "gemini-3.8-flash", geminitest.Text("x").WithSearch([]string{"a", "b", "b", ""}), 2, 0.028},
		{"by the prompt", "gemini-2.5-flash", geminitest.Text("x").WithSearch([]string{"a", "b"}), 2, 0.035},
		{"queries of a data store", "gemini-3.8-flash", geminitest.Text("x").WithCandidate("groundingMetadata", object{"retrievalQueries": []string{"a", "b"}}), 0, 0.008},
		{"pages by their address", "gemini-3.8-flash", geminitest.Text("x").WithCandidate("urlContextMetadata", object{"urlMetadata": []any{
			object{"retrievedUrl": "https://a.example/", "urlRetrievalStatus": "URL_RETRIEVAL_STATUS_SUCCESS"}, object{"retrievedUrl": "https://b.example/", "urlRetrievalStatus": "URL_RETRIEVAL_STATUS_ERROR"}, nil,
		}}), 0, 0},
		{"none", "gemini-3.8-flash", geminitest.Text("x"), 0, 0},
	} {
		for _, form := range forms {
			t.Run(tt.name+"/"+form.name, func(t *testing.T) {
				t.Parallel()
				gemini := geminitest.Start(t)
				gemini.Enqueue(tt.reply.WithUsage(geminitest.Usage{}).WithoutUsage())
				r := question()
				r.Model, r.PromptTokens = tt.model, 0
				a, err := form.ask(t.Context(), client(t, gemini.URL, false), r)
				if err != nil {
					t.Fatal(err)
				}
				if a.Usage.SearchQueries != tt.queries || a.Usage.EstimatedCostUSD == nil || *a.Usage.EstimatedCostUSD < tt.usd || *a.Usage.EstimatedCostUSD > tt.usd+0.0001 {
					t.Errorf("%d queries cost %v, want %d for %v", a.Usage.SearchQueries, *a.Usage.EstimatedCostUSD, tt.queries, tt.usd)
				}
				if shown := a.Grounding != nil && a.Grounding.Suggestions != ""; shown != (tt.queries > 0) {
					t.Errorf("suggestions %+v", a.Grounding)
				}
			})
		}
	}
}

// Gemini's own tools are declared beside functions in the form that each backend takes,
// and what they left in a conversation goes back as it came.
func TestGeminisOwnTools(t *testing.T) {
	t.Parallel()
	function := tool.New("f", "", func(context.Context, struct{}) (int, error) { return 0, nil })
	search := tool.Gemini(&genai.Tool{GoogleSearch: &genai.GoogleSearch{}})
	code := tool.Gemini(&genai.Tool{CodeExecution: &genai.ToolCodeExecution{}})
	parts := slices.Concat([]any{
		object{"toolCall": object{"toolType": "GOOGLE_SEARCH_WEB", "id": "s-1", "args": object{"queries": []any{"go"}}}, "thoughtSignature": "c2lnbmVk"},
		object{"toolResponse": object{"toolType": "GOOGLE_SEARCH_WEB", "id": "s-1", "response": object{"search_suggestions": "<div></div>"}}},
	}, geminitest.Code("print(1)", "1\n"), []any{object{"text": "It is 1."}})
	for _, backend := range backends {
		for _, form := range forms {
			t.Run(backend.name+"/"+form.name, func(t *testing.T) {
				t.Parallel()
				gemini := geminitest.Start(t)
				c := client(t, gemini.URL, backend.vertex)
				gemini.Enqueue(geminitest.Parts(parts...))
				r := question()
				r.Model, r.Tools = "gemini-3.8-flash", model.Declare([]tool.Tool{function, search, code})
				var shown []string
				r.OnPart = func(_ string, p *genai.Part) error {
					switch {
					case p.ToolCall != nil:
						shown = append(shown, "call")
					case p.ToolResponse != nil:
						shown = append(shown, "response")
					case p.ExecutableCode != nil:
						shown = append(shown, "code")
					case p.CodeExecutionResult != nil:
						shown = append(shown, "result")
					}
					return nil
				}
				var onText func(_, _ string) error
				if form.stream {
					onText = func(_, text string) error { shown = append(shown, text); return nil }
				}
				a, err := c.Generate(t.Context(), r, onText)
				if err != nil {
					t.Fatal(err)
				}
				if want := []string{"call", "response", "code", "result", "It is 1."}; form.stream && !slices.Equal(shown, want) {
					t.Errorf("shown %q", shown)
				}
				body := gemini.Requests()[0].Body
				if tools, _ := json.Marshal(body["tools"]); !strings.HasPrefix(string(tools), `[{"googleSearch":{}},{"codeExecution":{}},{"functionDeclarations":[`) {
					t.Errorf("tools %s", tools)
				}
				config, _ := body["toolConfig"].(object)
				if asked := config["includeServerSideToolInvocations"] == true; asked == backend.vertex {
					t.Errorf("toolConfig %v", config)
				}
				r.Contents = append(r.Contents, a.Content, genai.NewContentFromText("Sure?", genai.RoleUser))
				if _, err := c.Generate(t.Context(), r, nil); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(gemini.Requests()[1].Contents()[1]["parts"], any(parts)); diff != "" {
					t.Errorf("sent back (-got +want):\n%s", diff)
				}
			})
		}
	}
	gemini := geminitest.Start(t)
	r := question()
	r.Tools = model.Declare([]tool.Tool{search, code})
	if _, err := client(t, gemini.URL, false).Generate(t.Context(), r, nil); err != nil {
		t.Fatal(err)
	}
	if config := gemini.Requests()[0].Body["toolConfig"]; config != nil {
		t.Errorf("without functions: toolConfig %v", config)
	}
}
