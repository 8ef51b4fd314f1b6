package invoke_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genai"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/invoke"
	"example.com/gatehouse/tool"
)

type members = map[string]any

// eventsOf returns the events of a stream, each as its name and data.
func eventsOf(t *testing.T, body string) (names []string, data []members) {
	t.Helper()
	for block := range strings.SplitSeq(body, "\n\n") {
		name, raw := "", ""
		for line := range strings.Lines(block) {
			line = strings.TrimRight(line, "\n")
			if rest, ok := strings.CutPrefix(line, "event: "); ok {
				name = rest
			}
			if rest, ok := strings.CutPrefix(line, "data: "); ok {
				raw = rest
			}
		}
		if raw == "" || raw == "[DONE]" {
			continue
		}
		var d members
		if err := json.Unmarshal([]byte(raw), &d); err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		if kind, ok := d["type"].(string); ok && name == "" {
			name = kind
		}
		names, data = append(names, name), append(data, d)
	}
	return names, data
}

// readData reads a route and returns the data of its envelope.
func readData(t *testing.T, server *httptest.Server, path string) members {
	t.Helper()
	var answer struct{ Data members }
	response, body := fetch(t, server, http.MethodGet, path)
	if err := json.Unmarshal([]byte(body), &answer); err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%d: %s", response.StatusCode, body)
	}
	return answer.Data
}

// What a model does beside its text is in the answer, in the stream, on a page and in
// the session, and goes back to the model as it came.
func TestGeminisOwnTools(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	a := agent.Agent{
		Name: "agent", MaxTokens: 1000, Model: &genai.GenerateContentConfig{ThinkingConfig: &genai.ThinkingConfig{IncludeThoughts: true}},
		Tools: []tool.Tool{
			tool.New("floods", "", func(context.Context, struct{}) (string, error) { return "wet", nil }),
			tool.Gemini(&genai.Tool{GoogleSearch: &genai.GoogleSearch{}}), tool.Gemini(&genai.Tool{CodeExecution: &genai.ToolCodeExecution{}}),
		},
	}
	server, _ := serveAgent(t, newMemory(), gemini, a, func(c *invoke.Config) { c.ModelName = "gemini-3.8-flash" })
	first := geminitest.Parts(slices.Concat(
		[]any{members{"text": "Let me think.", "thought": true}}, geminitest.Code("print(6*7)", "42\n"),
		[]any{members{"text": "Größe: 42. "}, members{"functionCall": members{"name": "floods", "args": members{}}}})...)
	second := geminitest.Text("Go is ", "fast.").WithSearch([]string{"go speed"},
		geminitest.Source{Title: "Go", URI: "https://go.dev/", Text: "Go is fast."}, geminitest.Source{Title: "Evil", URI: "javascript:alert(1)"})
	const answer = "Größe: 42. \n\nGo is fast."
	sources := []any{members{"title": "Go", "uri": "https://go.dev/", "positions": []any{members{"start": 13.0, "end": 24.0}}}}
	check := func(t *testing.T, data members) {
		t.Helper()
		if data["response"] != answer || !strings.Contains(fmt.Sprint(data["search_suggestions"]), "go speed") {
			t.Errorf("%v", data)
		}
		if diff := cmp.Diff(data["sources"], any(sources)); diff != "" {
			t.Errorf("sources (-got +want):\n%s", diff)
		}
		var called []string
		for _, call := range data["tool_calls"].([]any) {
			called = append(called, fmt.Sprint(call.(members)["name"], call.(members)["ok"]))
		}
		if !slices.Equal(called, []string{"code_executiontrue", "floodstrue"}) {
			t.Errorf("tool calls %q", called)
		}
		usage := data["usage"].(members)
		if usage["search_queries"] != 1.0 || usage["estimated_cost_usd"].(float64) < 0.014 {
			t.Errorf("usage %v", usage)
		}
	}
	for _, form := range []string{"JSON", "stream", "page"} {
		t.Run(form, func(t *testing.T) {
			gemini.Forget()
			gemini.Enqueue(first, second)
			path, body := "/invoke", `{"query": "hello"}`
			id := ""
			switch form {
			case "stream":
				body = `{"query": "hello", "stream": true}`
			case "page":
				id = "0123456789abcdefpage"
				path, body = "/chat", `{"id": "`+id+`", "messages": [{"role": "user", "parts": [{"type": "text", "text": "hello"}]}]}`
			}
			status, text := ask(t, server, path, body)
			if status != http.StatusOK {
				t.Fatal(text)
			}
			switch form {
			case "JSON":
				var answered struct{ Data members }
				if err := json.Unmarshal([]byte(text), &answered); err != nil {
					t.Fatal(err)
				}
				check(t, answered.Data)
				id = answered.Data["session_id"].(string)
			case "stream":
				names, data := eventsOf(t, text)
				if want := []string{"start", "reasoning", "tool_call", "tool_result", "delta", "tool_call", "tool_result", "delta", "delta", "source", "done"}; !slices.Equal(names, want) {
					t.Fatalf("%q", names)
				}
				if data[1]["text"] != "Let me think." || data[2]["name"] != "code_execution" || data[2]["args"].(members)["code"] != "print(6*7)" ||
					data[3]["result"].(members)["output"] != "42\n" || data[9]["uri"] != "https://go.dev/" {
					t.Errorf("%v", data)
				}
				check(t, data[10]["data"].(members))
				id = data[0]["session_id"].(string)
			case "page":
				names, data := eventsOf(t, text)
				if want := []string{"start", "reasoning-start", "reasoning-delta", "reasoning-end", "tool-input-available", "tool-output-available", "text-start", "text-delta", "text-end",
					"tool-input-available", "tool-output-available", "text-start", "text-delta", "text-delta", "text-end", "source-url", "finish"}; !slices.Equal(names, want) {
					t.Fatalf("%q", names)
				}
				if data[15]["url"] != "https://go.dev/" || data[5]["output"].(members)["result"].(members)["output"] != "42\n" ||
					data[16]["messageMetadata"].(members)["search_suggestions"] == nil {
					t.Errorf("%v", data)
				}
			}
			turn := readData(t, server, "/sessions/"+id)["turns"].([]any)[0].(members)
			check(t, turn)
			var kinds []string
			for _, part := range turn["parts"].([]any) {
				kinds = append(kinds, part.(members)["type"].(string))
			}
			if !slices.Equal(kinds, []string{"reasoning", "tool", "text", "tool", "text"}) {
				t.Errorf("parts %q", kinds)
			}
			code := turn["parts"].([]any)[1].(members)["tool"].(members)
			if code["args"].(members)["code"] != "print(6*7)" || code["result"].(members)["output"] != "42\n" {
				t.Errorf("stored code %v", code)
			}
			if function := turn["parts"].([]any)[3].(members)["tool"].(members); function["name"] != "floods" || len(function["args"].(members)) != 0 {
				t.Errorf("stored call %v", function)
			}
			// The next turn's history.
			if status, text := ask(t, server, "/invoke", `{"query": "again", "session_id": "`+id+`"}`); status != http.StatusOK {
				t.Fatal(text)
			}
			requests := gemini.Requests()
			if diff := cmp.Diff(requests[2].Contents()[1], first.Content()); diff != "" {
				t.Errorf("history (-got +want):\n%s", diff)
			}
		})
	}
}

// Each turn has the digest of the agent that made it.
func TestAgentDigest(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	digestOf := func(a agent.Agent) string {
		server, _ := serveAgent(t, newMemory(), gemini, a)
		_, text := ask(t, server, "/invoke", `{"query": "hello"}`)
		return readData(t, server, "/sessions/"+decodeAnswer(t, text).Data.SessionID)["turns"].([]any)[0].(members)["agent_digest"].(string)
	}
	base := agent.Agent{Name: "agent", Instruction: "Be kind.", MaxTokens: 100}
	same := base
	same.Name, same.Description = "another", "Something."
	first := digestOf(base)
	if len(first) != 16 || digestOf(same) != first {
		t.Errorf("%q, and %q for the same", first, digestOf(same))
	}
	asks := func(instruction string) func(*agent.Agent) {
		return func(a *agent.Agent) {
			a.Tools = []tool.Tool{agent.AsTool(agent.Agent{Name: "helper", Description: "It helps.", Instruction: instruction, MaxTokens: 100})}
		}
	}
	kind, brief := base, base
	asks("Be kind.")(&kind)
	if asks("Be brief.")(&brief); digestOf(kind) == digestOf(brief) {
		t.Error("the instruction of an agent that is a tool does not count")
	}
	for name, edit := range map[string]func(*agent.Agent){
		"the instruction": func(a *agent.Agent) { a.Instruction = "Be brief." },
		"the temperature": func(a *agent.Agent) { a.Temperature = new(0.1) },
		"a tool":          func(a *agent.Agent) { a.Tools = []tool.Tool{named("f", "")} },
		"a setting":       func(a *agent.Agent) { a.Model = &genai.GenerateContentConfig{Seed: genai.Ptr[int32](1)} },
	} {
		changed := base
		edit(&changed)
		if digestOf(changed) == first {
			t.Errorf("%s does not count", name)
		}
	}
}

// An agent that is a tool may search where the one that asks it may not: what its answer
// rests on, and what must be shown, comes along.
func TestSourcesOfAnAgentAsATool(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	finder := agent.Agent{Name: "finder", Description: "It searches.", MaxTokens: 100, Tools: []tool.Tool{tool.Gemini(&genai.Tool{GoogleSearch: &genai.GoogleSearch{}})}}
	server, _ := serveAgent(t, newMemory(), gemini, agent.Agent{Name: "main", MaxTokens: 100, Tools: []tool.Tool{agent.AsTool(finder)}})
	gemini.Enqueue(requestCall("finder"), geminitest.Text("Go is fast.").WithSearch([]string{"go speed"}, geminitest.Source{Title: "Go", URI: "https://go.dev/", Text: "Go"}), geminitest.Text("It is fast."))
	_, text := ask(t, server, "/invoke", `{"query": "hello"}`)
	var answered struct{ Data members }
	if err := json.Unmarshal([]byte(text), &answered); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(answered.Data["sources"], any([]any{members{"title": "Go", "uri": "https://go.dev/"}})); diff != "" {
		t.Errorf("sources (-got +want):\n%s", diff)
	}
	if !strings.Contains(fmt.Sprint(answered.Data["search_suggestions"]), "go speed") || answered.Data["usage"].(members)["search_queries"] != 1.0 {
		t.Errorf("%s", text)
	}
}

// Thoughts without end leave the answer its room in the turn.
func TestThoughtsAreBounded(t *testing.T) {
	t.Parallel()
	a := agent.Agent{Name: "agent", MaxTokens: 1000, Model: &genai.GenerateContentConfig{ThinkingConfig: &genai.ThinkingConfig{IncludeThoughts: true}}}
	for _, accept := range []string{"application/json", "text/event-stream"} {
		gemini := geminitest.Start(t)
		server, _ := serveAgent(t, newMemory(), gemini, a)
		gemini.Enqueue(geminitest.Parts(members{"text": strings.Repeat("hm ", 400_000), "thought": true}, members{"text": "It is 42."}), geminitest.Text("Yes."))
		_, answer := ask(t, server, "/invoke", `{"query":"hello"}`, "Accept", accept)
		got := lastEnvelope(t, answer).Data
		if got.Response != "It is 42." {
			t.Fatalf("%s: %q, warnings %v", accept, got.Response, got.Warnings)
		}
		if stored := get(t, server, "/sessions/"+got.SessionID); !strings.Contains(stored, `"response":"It is 42."`) || len(stored) > 80<<10 {
			t.Errorf("%s: %d bytes are stored: %.300s", accept, len(stored), stored)
		}
		if status, next := ask(t, server, "/invoke", `{"query":"sure?","session_id":"`+got.SessionID+`"}`); status != http.StatusOK {
			t.Errorf("%s: the next turn: %d %s", accept, status, next)
		}
	}
}
