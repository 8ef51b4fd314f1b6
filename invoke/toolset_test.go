package invoke_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/genai"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/invoke"
	"example.com/gatehouse/tool"
)

// A listFunc is a set of tools.
type listFunc func(ctx context.Context) []tool.Tool

func (f listFunc) Tools(ctx context.Context) []tool.Tool { return f(ctx) }

func named(name, output string) tool.Tool {
	return tool.New(name, "It says "+output+".", func(context.Context, struct{}) (string, error) { return output, nil })
}

// declared returns the names of the functions that a request to the model declares.
func declared(request geminitest.Request) []string {
	var names []string
	tools, _ := request.Body["tools"].([]any)
	for _, each := range tools {
		list, _ := each.(map[string]any)["functionDeclarations"].([]any)
		for _, d := range list {
			names = append(names, d.(map[string]any)["name"].(string))
		}
	}
	return names
}

func TestToolsets(t *testing.T) {
	t.Parallel()
	own := []tool.Tool{named("own", "mine")}
	fixed := []tool.Tool{named("far", "theirs")}
	many := make([]tool.Tool, 600)
	for i := range many {
		many[i] = named(fmt.Sprintf("far_%d", i), "theirs")
	}
	set := func(tools ...tool.Tool) listFunc { return func(context.Context) []tool.Tool { return tools } }
	tests := []struct {
		name string
		sets []tool.Set
		want []string // what the model may call; nil: 512 functions
		log  string
	}{
		{"none", nil, []string{"own"}, ""},
		{"one", []tool.Set{set(fixed...)}, []string{"own", "far"}, ""},
		{"an empty one", []tool.Set{set()}, []string{"own"}, ""},
		{"in their order", []tool.Set{set(named("b", "")), set(named("a", ""))}, []string{"own", "b", "a"}, ""},
		{"a name of ours", []tool.Set{set(named("own", "theirs"), named("far", ""))}, []string{"own", "far"}, `"count":1`},
		{"a name of another set's", []tool.Set{set(fixed...), set(fixed...)}, []string{"own", "far"}, `"count":1`},
		{"the zero tool", []tool.Set{set(tool.Tool{}, fixed[0])}, []string{"own", "far"}, `"count":1`},
		{"a schema that Gemini does not take", []tool.Set{set(tool.Raw("odd", "", json.RawMessage(`{"type":"object","properties":{"a":{"allOf":[{}]}}}`), func(context.Context, json.RawMessage) (any, error) { return 1, nil }), fixed[0])}, []string{"own", "far"}, `"first":["odd"]`},
		{"a tool of Gemini's own", []tool.Set{set(tool.Gemini(&genai.Tool{GoogleSearch: &genai.GoogleSearch{}}), fixed[0])}, []string{"own", "far"}, `"first":["google_search"]`},
		{"more than the model takes", []tool.Set{set(many...)}, nil, `"count":89`},
		{"one that panics", []tool.Set{listFunc(func(context.Context) []tool.Tool { panic("oh no") }), set(fixed...)}, []string{"own", "far"}, "A tool set panicked."},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			gemini := geminitest.Start(t)
			server, written := serveAgent(t, newMemory(), gemini, agent.Agent{Name: "agent", Tools: own, Toolsets: test.sets, MaxTokens: 100})
			gemini.Enqueue(geminitest.Calls(geminitest.FunctionCall{Name: "own"}), geminitest.Text("Done."))
			if status, answer := ask(t, server, "/invoke", `{"query": "hello"}`); status != http.StatusOK {
				t.Fatalf("%d %s", status, answer)
			}
			names := declared(gemini.Requests()[0])
			if test.want == nil && len(names) != 512 || test.want != nil && !slices.Equal(names, test.want) {
				t.Errorf("the model is told of %d: %.100v", len(names), names)
			}
			if !strings.Contains(string(gemini.Requests()[1].Raw), `"mine"`) {
				t.Error("the agent's own tool is not the one that was called")
			}
			if got := written.String(); !strings.Contains(got, test.log) || test.log == "" && strings.Contains(got, "left out") {
				t.Errorf("the log: %s", got)
			}
		})
	}
}

// A turn has as many rounds of tools as MAX_TOOL_ROUNDS says, and then an answer without.
func TestHowManyRoundsATurnHas(t *testing.T) {
	t.Parallel()
	b, gemini := &bank{}, geminitest.Start(t)
	look := geminitest.Calls(geminitest.FunctionCall{Name: "look"})
	gemini.Enqueue(look, look, geminitest.Text("Well."))
	server, _ := serveAgent(t, newMemory(), gemini, b.agent(), func(c *invoke.Config) { c.MaxToolRounds = 2 })
	_, body := ask(t, server, "/invoke", `{"query": "look"}`)
	if d := decodeAnswer(t, body).Data; d.Response != "Well." || len(d.ToolCalls) != 2 {
		t.Errorf("%s", body)
	}
	for i, request := range gemini.Requests() {
		if has := request.Body["tools"] != nil; has != (i < 2) {
			t.Errorf("call %d of the model has tools: %t", i+1, has)
		}
	}
}

// A tool of a set may change the world as one of the agent's own.
func TestAToolsetsToolThatChangesTheWorld(t *testing.T) {
	t.Parallel()
	b, gemini := &bank{}, geminitest.Start(t)
	set := listFunc(func(context.Context) []tool.Tool { return b.agent(tool.Effect(b.reconcile)).Tools })
	server, _ := serveAgent(t, newMemory(), gemini, agent.Agent{Name: "agent", Toolsets: []tool.Set{set}, MaxTokens: 100})
	gemini.Enqueue(pays(5), geminitest.Text("Paid."))
	if _, answer := ask(t, server, "/invoke", `{"query": "pay"}`); decodeAnswer(t, answer).Data.Response != "Paid." || b.sum() != 5 {
		t.Errorf("paid %d: %s", b.sum(), answer)
	}
}

// A set is asked in each turn, for the turn's caller, and what it returns then is what
// the model may call in that turn.
func TestAToolsetThatChanges(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	first, second := []tool.Tool{named("first", "one")}, []tool.Tool{named("second", "two")}
	changing := listFunc(func(ctx context.Context) []tool.Tool {
		if c := tool.From(ctx); c.Caller.Subject != "anonymous" || c.SessionID == "" {
			t.Errorf("asked for %+v", c)
		}
		if asked.Add(1) <= 2 {
			return first
		}
		return second
	})
	gemini := geminitest.Start(t)
	server, _ := serveAgent(t, newMemory(), gemini, agent.Agent{Name: "agent", Toolsets: []tool.Set{changing}, MaxTokens: 100})
	var digests []string // of the agent, as the turns hold it
	for range 3 {
		gemini.Enqueue(geminitest.Calls(geminitest.FunctionCall{Name: "first"}), geminitest.Text("Done."))
		_, answer := ask(t, server, "/invoke", `{"query": "hello"}`)
		_, made, _ := strings.Cut(get(t, server, "/sessions/"+decodeAnswer(t, answer).Data.SessionID), `"agent_digest":"`)
		digests = append(digests, made[:16])
	}
	if digests[0] != digests[1] || digests[1] == digests[2] {
		t.Errorf("the turns were made by %v", digests)
	}
	requests := gemini.Requests()
	var got []string
	for i, r := range requests {
		got = append(got, strings.Join(declared(r), ","))
		if i%2 == 1 && strings.Contains(string(r.Raw), "there is no tool") != (i == 5) {
			t.Errorf("turn %d: %s", i/2+1, r.Raw)
		}
	}
	if want := []string{"first", "first", "first", "first", "second", "second"}; !slices.Equal(got, want) || asked.Load() != 3 {
		t.Errorf("declared %v, asked %d times", got, asked.Load())
	}
}

// A set that never returns delays a turn, and no more.
func TestAToolsetThatHangs(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	hangs := listFunc(func(context.Context) []tool.Tool {
		<-release
		return nil
	})
	gemini := geminitest.Start(t)
	server, _ := serveAgent(t, newMemory(), gemini, agent.Agent{Name: "agent", Toolsets: []tool.Set{hangs}, Tools: []tool.Tool{named("own", "mine")}, MaxTokens: 100})
	gemini.Enqueue(geminitest.Text("Done."))
	if status, answer := ask(t, server, "/invoke", `{"query": "hello"}`); status != http.StatusOK || !slices.Equal(declared(gemini.Requests()[0]), []string{"own"}) {
		t.Errorf("%d %s", status, answer)
	}
}
