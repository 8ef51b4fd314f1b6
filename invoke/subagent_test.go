package invoke_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/tool"
)

func requestCall(names ...string) geminitest.Reply {
	var calls []geminitest.FunctionCall
	for _, name := range names {
		calls = append(calls, geminitest.FunctionCall{Name: name, Args: map[string]any{"request": "Look it up for " + name + "."}})
	}
	return geminitest.Calls(calls...)
}

func TestAnAgentAsATool(t *testing.T) {
	t.Parallel()
	var who atomic.Value
	cartOf := tool.SessionState[[]string]("cart")
	library := agent.Agent{
		Name: "library", Description: "Knows books.", Instruction: "You are a library.", MaxTokens: 100,
		Instructions: func(ctx context.Context) (string, error) { return "For " + tool.From(ctx).Caller.Subject + ".", nil },
		Tools: []tool.Tool{tool.New("shelf", "It finds a shelf.", func(ctx context.Context, _ struct{}) (int, error) {
			who.Store(tool.From(ctx).SessionID)
			return 7, cartOf.Update(ctx, func(list *[]string) error { *list = append(*list, "book"); return nil })
		})},
		Hooks: agent.Hooks{Answer: func(_ context.Context, a *agent.Answer) error { a.Text = strings.ToUpper(a.Text); return nil }},
	}
	main := agent.Agent{Name: "main", Instruction: "You are the desk.", MaxTokens: 100, Tools: []tool.Tool{agent.AsTool(library)}}
	gemini := geminitest.Start(t)
	server, _ := serveAgent(t, newMemory(), gemini, main)
	gemini.Enqueue(requestCall("library"), geminitest.Calls(geminitest.FunctionCall{Name: "shelf"}), geminitest.Text("shelf 7"), geminitest.Text("It is on shelf 7."))
	status, raw := ask(t, server, "/invoke", `{"query": "Where is the book?"}`)
	if status != http.StatusOK {
		t.Fatalf("%d %s", status, raw)
	}
	d := decodeAnswer(t, raw).Data
	if d.Response != "It is on shelf 7." || len(d.ToolCalls) != 1 || !d.ToolCalls[0].OK || d.Usage.TotalTokens != 4*15 || len(d.Warnings) > 0 {
		t.Errorf("%+v", d)
	}
	wantOutput(t, "of the agent", gemini, `{"output":"SHELF 7"}`)
	requests := gemini.Requests()
	instruction := func(i int) string {
		told, _ := requests[i].Body["systemInstruction"].(map[string]any)
		return geminitest.TextOf(told)
	}
	if instruction(1) != "You are a library.\n\nFor anonymous." || instruction(3) != "You are the desk." {
		t.Errorf("the instructions are %q, %q", instruction(1), instruction(3))
	}
	if got := declared(requests[1]); !slices.Equal(got, []string{"shelf"}) {
		t.Errorf("the agent may call %v", got)
	}
	if prompt := string(requests[1].Raw); strings.Contains(prompt, "Where is the book?") || !strings.Contains(prompt, "Look it up for library.") {
		t.Errorf("the agent is told %s", prompt)
	}
	if who.Load() == "" || who.Load() == nil {
		t.Error("the agent's tool does not know the session")
	}
}

// What an agent that is a tool has spent counts once, in whichever round, and what it warns of
// is the turn's.
func TestAnAgentAsAToolThatIsAskedTwice(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	helper := agent.Agent{Name: "helper", Description: "It helps.", MaxTokens: 100}
	server, _ := serveAgent(t, newMemory(), gemini, agent.Agent{Name: "main", MaxTokens: 100, Tools: []tool.Tool{agent.AsTool(helper)}})
	gemini.Enqueue(requestCall("helper"), geminitest.Text("One."), requestCall("helper"), geminitest.Finish("MAX_TOKENS", "Two"), geminitest.Text("Done."))
	_, raw := ask(t, server, "/invoke", `{"query": "hello"}`)
	if d := decodeAnswer(t, raw).Data; d.Response != "Done." || d.Usage.TotalTokens != 5*15 || !slices.Equal(d.Warnings, []string{"response_truncated"}) {
		t.Errorf("%+v", d)
	}
}

// chain returns agents that are tools of each other, depth of them below the first.
func chain(depth int) agent.Agent {
	a := agent.Agent{Name: fmt.Sprintf("agent_%d", depth), Description: "It asks on.", MaxTokens: 100}
	if depth > 0 {
		a.Tools = []tool.Tool{agent.AsTool(chain(depth - 1))}
	}
	return a
}

func TestAgentsAsToolsAreBounded(t *testing.T) {
	t.Parallel()
	t.Run("rounds, of all of them together", func(t *testing.T) {
		t.Parallel()
		helper := agent.Agent{Name: "helper", Description: "It helps.", MaxTokens: 100, Tools: []tool.Tool{named("look", "seen")}}
		gemini := geminitest.Start(t)
		gemini.Handle(func(r geminitest.Request) geminitest.Reply { // each calls what it may, as often as it may
			names := declared(r)
			switch {
			case slices.Contains(names, "helper"):
				return requestCall("helper", "helper", "helper")
			case slices.Contains(names, "look"):
				return geminitest.Calls(geminitest.FunctionCall{Name: "look"})
			}
			return geminitest.Text("Enough.")
		})
		server, _ := serveAgent(t, newMemory(), gemini, agent.Agent{Name: "main", MaxTokens: 100, Tools: []tool.Tool{agent.AsTool(helper)}})
		status, raw := ask(t, server, "/invoke", `{"query": "hello"}`)
		if status != http.StatusOK || !strings.Contains(raw, "tool_rounds_exhausted") {
			t.Errorf("%d %s", status, raw)
		}
		// 8 rounds: each model call but an agent's last takes one, or follows one taken.
		if n := len(gemini.Requests()); n > 2*8+1 {
			t.Errorf("%d model calls", n)
		}
	})
	t.Run("depth", func(t *testing.T) {
		t.Parallel()
		gemini := geminitest.Start(t)
		gemini.Handle(func(r geminitest.Request) geminitest.Reply {
			if names := declared(r); len(names) > 0 && len(r.Contents()) == 1 {
				return requestCall(names[0])
			}
			return geminitest.Text("Done.")
		})
		server, _ := serveAgent(t, newMemory(), gemini, chain(agent.MaxDepth+1))
		ask(t, server, "/invoke", `{"query": "hello"}`)
		told := ""
		for _, r := range gemini.Requests() {
			told += string(r.Raw)
		}
		if !strings.Contains(told, "agents ask each other too deeply") {
			t.Error("an agent too deep was asked")
		}
	})
	t.Run("time", func(t *testing.T) {
		t.Parallel()
		blocked := make(chan struct{})
		t.Cleanup(func() { close(blocked) })
		slow := agent.Agent{Name: "slow", Description: "It is slow.", MaxTokens: 100, Hooks: agent.Hooks{
			Answer: func(context.Context, *agent.Answer) error { <-blocked; return nil },
		}}
		gemini := geminitest.Start(t)
		server, _ := serveAgent(t, newMemory(), gemini, agent.Agent{Name: "main", MaxTokens: 100, Tools: []tool.Tool{agent.AsTool(slow, tool.Timeout(time.Second))}})
		gemini.Enqueue(requestCall("slow"), geminitest.Text("Slow answer."), geminitest.Text("It took too long."))
		_, raw := ask(t, server, "/invoke", `{"query": "hello"}`)
		if d := decodeAnswer(t, raw).Data; d.Response != "It took too long." || d.ToolCalls[0].OK || d.Usage.TotalTokens != 3*15 {
			t.Errorf("%+v", d)
		}
		wantOutput(t, "of the agent", gemini, "the tool took too long")
	})
}

// Who watches a stream sees what an agent that is a tool does, and what its tools say, in
// any depth, as progress of the call that asks the agent, within the bound of one call.
func TestAnAgentAsAToolIsSeen(t *testing.T) {
	t.Parallel()
	inner := agent.Agent{Name: "inner", Description: "It counts.", MaxTokens: 100, Tools: []tool.Tool{
		tool.New("count", "It counts.", func(ctx context.Context, _ struct{}) (string, error) {
			tool.Progress(ctx, "one")
			return "1", nil
		}),
		tool.New("lose", "It fails.", func(context.Context, struct{}) (string, error) { return "", errors.New("no shelf") }),
	}}
	main := agent.Agent{Name: "main", MaxTokens: 100, Tools: []tool.Tool{agent.AsTool(agent.Agent{
		Name: "outer", Description: "It asks.", MaxTokens: 100, Tools: []tool.Tool{agent.AsTool(inner)},
	})}}
	gemini := geminitest.Start(t)
	server, _ := serveAgent(t, newMemory(), gemini, main)
	gemini.Enqueue(requestCall("outer"), requestCall("inner"),
		geminitest.Calls(geminitest.FunctionCall{Name: "count"}), geminitest.Calls(geminitest.FunctionCall{Name: "lose"}),
		geminitest.Text("inner's secret"), geminitest.Text("outer's secret"), geminitest.Text("Done."))
	_, stream := ask(t, server, "/invoke", `{"query": "hello", "stream": true}`)
	var seen []string
	for block := range strings.SplitSeq(stream, "\n\n") {
		var part struct{ ID, Name, Text string }
		if _, data, ok := strings.Cut(block, "\ndata: "); ok && strings.Contains(block, "event: progress\n") {
			if err := json.Unmarshal([]byte(data), &part); err != nil {
				t.Fatal(err)
			}
			seen = append(seen, part.Name+" "+part.ID+" "+part.Text)
		}
	}
	want := []string{
		"outer call_1_1 Calls inner.", "outer call_1_1 inner: Calls count.", "outer call_1_1 inner: count: one",
		"outer call_1_1 inner: Calls lose.", "outer call_1_1 inner: lose failed: no shelf",
	}
	if !slices.Equal(seen, want) {
		t.Errorf("seen is %q, want %q", seen, want)
	}
	if strings.Contains(stream, "secret") || strings.Count(stream, "event: tool_call\n") != 1 {
		t.Errorf("the stream is %s", stream)
	}

	t.Run("within the bound of a call", func(t *testing.T) {
		t.Parallel()
		helper := agent.Agent{Name: "helper", Description: "It helps.", MaxTokens: 100, Tools: []tool.Tool{tool.New("talk", "It talks.", func(ctx context.Context, _ struct{}) (string, error) {
			for range 1000 {
				tool.Progress(ctx, "more")
			}
			return "", nil
		})}}
		gemini := geminitest.Start(t)
		server, _ := serveAgent(t, newMemory(), gemini, agent.Agent{Name: "main", MaxTokens: 100, Tools: []tool.Tool{agent.AsTool(helper)}})
		gemini.Enqueue(requestCall("helper"), geminitest.Calls(geminitest.FunctionCall{Name: "talk"}), geminitest.Text("ok"), geminitest.Text("Done."))
		_, stream := ask(t, server, "/invoke", `{"query": "hello", "stream": true}`)
		if n := strings.Count(stream, "event: progress\n"); n != 64 || !strings.Contains(stream, `"response":"Done."`) {
			t.Errorf("%d events of progress, want 64: %s", n, stream)
		}
	})
}

// What goes wrong in an agent that is a tool is what the model reads of the tool, in
// words for people.
func TestAnAgentAsAToolFails(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		hooks agent.Hooks
		reply geminitest.Reply
		want  string
	}{
		{"the model", agent.Hooks{}, geminitest.Error(403, theSecret), "The model returned no usable answer."},
		{"a refusal", agent.Hooks{Question: func(context.Context, *agent.Question) error { return agent.Refuse("Not in here.") }}, geminitest.Text(""), "Not in here."},
		{"a hook", agent.Hooks{Answer: func(context.Context, *agent.Answer) error { return fmt.Errorf("oh, %s", theSecret) }}, geminitest.Text("x"), "The service failed."},
		{"a panic", agent.Hooks{Answer: func(context.Context, *agent.Answer) error { panic(theSecret) }}, geminitest.Text("x"), "the tool failed"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			gemini := geminitest.Start(t)
			helper := agent.Agent{Name: "helper", Description: "It helps.", MaxTokens: 100, Hooks: test.hooks}
			server, _ := serveAgent(t, newMemory(), gemini, agent.Agent{Name: "main", MaxTokens: 100, Tools: []tool.Tool{agent.AsTool(helper)}})
			gemini.Handle(func(r geminitest.Request) geminitest.Reply {
				switch {
				case !slices.Contains(declared(r), "helper"):
					return test.reply
				case len(r.Contents()) == 1:
					return requestCall("helper")
				}
				return geminitest.Text("Done.")
			})
			if status, raw := ask(t, server, "/invoke", `{"query": "hello"}`); status != http.StatusOK {
				t.Fatalf("%d %s", status, raw)
			}
			if got := output(t, gemini); !strings.Contains(got, test.want) || strings.Contains(got, theSecret) {
				t.Errorf("the model is told %s", got)
			}
		})
	}
}

// tool.Show has clients see an output; others are not shown.
func TestShow(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	server, _ := serveAgent(t, newMemory(), gemini, agent.Agent{Name: "agent", MaxTokens: 100, Tools: []tool.Tool{
		tool.New("open", "It shows.", func(context.Context, struct{}) (string, error) { return "seen", nil }, tool.Show()), named("closed", "unseen"),
	}})
	gemini.Enqueue(geminitest.Calls(geminitest.FunctionCall{Name: "open"}, geminitest.FunctionCall{Name: "closed"}), geminitest.Text("Done."))
	_, stream := ask(t, server, "/invoke", `{"query": "hello", "stream": true}`)
	if !strings.Contains(stream, `"result":{"output":"seen"}`) || strings.Contains(stream, "unseen") {
		t.Errorf("the stream is %s", stream)
	}
}
