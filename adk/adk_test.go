package adk_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	adkagent "google.golang.org/adk/v2/agent"
	"google.golang.org/adk/v2/agent/llmagent"
	"google.golang.org/adk/v2/agent/workflowagents/loopagent"
	"google.golang.org/adk/v2/agent/workflowagents/parallelagent"
	"google.golang.org/adk/v2/agent/workflowagents/sequentialagent"
	"google.golang.org/adk/v2/model"
	"google.golang.org/adk/v2/plugin"
	"google.golang.org/adk/v2/session"
	adktool "google.golang.org/adk/v2/tool"
	"google.golang.org/adk/v2/tool/agenttool"
	"google.golang.org/adk/v2/tool/functiontool"
	"google.golang.org/genai"

	"example.com/gatehouse/adk"
	"example.com/gatehouse/adk/example"
	"example.com/gatehouse/agent"
	"example.com/gatehouse/agenttest"
	"example.com/gatehouse/internal/doortest"
	"example.com/gatehouse/internal/gcp/emulator"
	"example.com/gatehouse/tool"
)

// llm makes an agent of ADK with the gate's model.
func llm(t *testing.T, c llmagent.Config) adkagent.Agent {
	t.Helper()
	if c.Model == nil {
		c.Model = adk.Model()
	}
	if c.Description == "" {
		c.Description = "Helps with tests."
	}
	a, err := llmagent.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// fn makes a tool of ADK.
func fn[In, Out any](t *testing.T, c functiontool.Config, f func(adkagent.Context, In) (Out, error)) adktool.Tool {
	t.Helper()
	made, err := functiontool.New(c, f)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

type none struct{}

type said struct {
	Text string `json:"text"`
}

// sent is what the model was asked last, as text.
func sent(a agenttest.Answer, i int) string {
	var all strings.Builder
	for _, c := range a.Sent[i].Contents {
		for _, p := range c.Parts {
			switch {
			case p.FunctionCall != nil:
				fmt.Fprintf(&all, "[call %s]", p.FunctionCall.Name)
			case p.FunctionResponse != nil:
				fmt.Fprintf(&all, "[%s: %v]", p.FunctionResponse.Name, p.FunctionResponse.Response)
			default:
				fmt.Fprintf(&all, "[%s]", p.Text)
			}
		}
	}
	return all.String()
}

func TestATurn(t *testing.T) {
	t.Parallel()
	for _, stream := range []bool{false, true} {
		t.Run(fmt.Sprintf("stream %v", stream), func(t *testing.T) {
			t.Parallel()
			s := agenttest.Start(t, example.New)
			s.Model(agenttest.Call("get_price", map[string]any{"fruit": "apple"}), agenttest.Say("1.25 dollars."), agenttest.Say("Half a dollar."))
			first := s.Do(agenttest.Request{Query: "What is an apple?", Stream: stream})
			if first.Text != "1.25 dollars." || len(first.Tools) != 1 || !first.Tools[0].OK || fmt.Sprint(first.Tools[0].Output) != "map[items:[map[fruit:apple price:1.25]]]" {
				t.Fatalf("%+v", first)
			}
			if got := first.Sent[0].Instruction; !strings.Contains(got, "You sell fruit.") || len(first.Sent[0].Tools) != 4 {
				t.Errorf("the model was sent %q and %v", got, first.Sent[0].Tools)
			}
			second := s.Do(agenttest.Request{Query: "And a banana?", SessionID: first.SessionID, Stream: stream})
			if want := "[What is an apple?][call get_price][get_price: map[items:[map[fruit:apple price:1.25]]]][1.25 dollars.][And a banana?]"; second.Turn != 2 || sent(second, 0) != want {
				t.Errorf("turn %d sent %s", second.Turn, sent(second, 0))
			}
		})
	}
}

// The clerk, to which the stand transfers, wants an order confirmed. The approval comes to
// another instance, and a second time.
func TestApprovals(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		env  func(t *testing.T) []string
		deny bool
	}{
		"approved": {},
		"denied":   {deny: true},
		"approved on another instance": {env: func(t *testing.T) []string {
			return []string{"SESSION_STORE=firestore", "FIRESTORE_EMULATOR_HOST=" + emulator.Host(t), "GOOGLE_CLOUD_PROJECT=" + emulator.Project(), "LOGGING_ENDPOINT=127.0.0.1:1", "TELEMETRY_ENDPOINT=127.0.0.1:1"}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var env []string
			if test.env != nil {
				env = test.env(t)
			}
			s := agenttest.Start(t, example.New, env...)
			other := s
			if test.env != nil {
				other = agenttest.Start(t, example.New, env...)
			}
			order := agenttest.Call("order_fruit", map[string]any{"fruit": "apple", "pieces": 3})
			s.Model(agenttest.Call("transfer_to_agent", map[string]any{"agent_name": "clerk"}), order)
			waits := s.Ask("Three apples, please.")
			pending, _ := waits.Data["pending"].([]any)
			if waits.Status != 200 || waits.Data["finish_reason"] != "WAITING" || len(pending) != 1 {
				t.Fatalf("%+v", waits)
			}
			call, _ := pending[0].(map[string]any)
			if call["name"] != "order_fruit" || call["question"] != "May order_fruit be called?" || fmt.Sprint(call["args"]) != "map[fruit:apple pieces:3]" {
				t.Errorf("it waits for %v", call)
			}
			other.Model(agenttest.Say("There you are."))
			rest := other.Approve(waits, agenttest.Decision{Deny: test.deny, Reason: "too many"})
			if rest.Text != "There you are." || rest.Data["finish_reason"] != "STOP" {
				t.Fatalf("%+v", rest)
			}
			want := "[order_fruit: map[ordered:3]]"
			if test.deny {
				want = "[order_fruit: map[error:not run: a person has denied it: too many]]"
			}
			if got := sent(rest, 0); !strings.HasSuffix(got, "[call order_fruit]"+want) || strings.Contains(got, "confirmation") {
				t.Errorf("the model was sent %s", got)
			}
			if got := rest.Sent[0].Instruction; !strings.Contains(got, "You take orders") {
				t.Errorf("another agent went on: %q", got)
			}
			// The session is with the clerk now, who knows what was ordered.
			other.Model(order)
			again := other.Do(agenttest.Request{Query: "The same again.", SessionID: waits.SessionID})
			if again.Data["finish_reason"] != "WAITING" || again.Turn != 2 || !strings.Contains(again.Sent[0].Instruction, "You take orders") {
				t.Fatalf("%+v", again)
			}
			other.Model(agenttest.Say("Done."))
			done := other.Approve(again, agenttest.Decision{})
			want = "[order_fruit: map[ordered:6]]"
			if test.deny {
				want = "[order_fruit: map[ordered:3]]"
			}
			if got := sent(done, 0); !strings.HasSuffix(got, want) {
				t.Errorf("the model was sent %s, want %s at the end", got, want)
			}
		})
	}
}

func TestACallBesideOneThatWaits(t *testing.T) {
	t.Parallel()
	var looked, bought atomic.Int32
	root := llm(t, llmagent.Config{Name: "buyer", Tools: []adktool.Tool{
		fn(t, functiontool.Config{Name: "look", Description: "Looks."}, func(adkagent.Context, none) (said, error) {
			return said{fmt.Sprint("look ", looked.Add(1))}, nil
		}),
		fn(t, functiontool.Config{Name: "buy", Description: "Buys.", RequireConfirmation: true}, func(adkagent.Context, none) (said, error) {
			return said{fmt.Sprint("buy ", bought.Add(1))}, nil
		}),
	}})
	s := agenttest.Start(t, adk.Agent(root))
	s.Model(agenttest.Call("look", nil).And("buy", nil))
	waits := s.Do(agenttest.Request{Query: "Buy.", Stream: true})
	s.Model(agenttest.Say("Bought."))
	rest := s.Approve(waits, agenttest.Decision{})
	if want := "[Buy.][call look][call buy][look: map[text:look 1]][buy: map[text:buy 1]]"; rest.Text != "Bought." || sent(rest, 0) != want {
		t.Errorf("%q; the model was sent %s", rest.Text, sent(rest, 0))
	}
	s.Model(agenttest.Say("Yes."))
	next := s.Do(agenttest.Request{Query: "Sure?", SessionID: waits.SessionID})
	if want := "[Buy.][call look][call buy][look: map[text:look 1]][buy: map[text:buy 1]][Bought.][Sure?]"; sent(next, 0) != want {
		t.Errorf("the next turn sent %s", sent(next, 0))
	}
	if looked.Load() != 1 || bought.Load() != 1 {
		t.Errorf("looked %d times, bought %d", looked.Load(), bought.Load())
	}
}

// The second approval of a turn answers the second call only: the first keeps its result.
func TestATurnThatWaitsTwice(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		deny   [2]bool
		bought int32
		sent   string
	}{
		"approved twice":        {bought: 2, sent: "[buy: map[text:buy 1]][call buy][buy: map[text:buy 2]]"},
		"approved, then denied": {deny: [2]bool{false, true}, bought: 1, sent: "[buy: map[text:buy 1]][call buy][buy: map[error:not run: a person has denied it]]"},
		"denied, then approved": {deny: [2]bool{true, false}, bought: 1, sent: "[buy: map[error:not run: a person has denied it]][call buy][buy: map[text:buy 1]]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var bought atomic.Int32
			root := llm(t, llmagent.Config{Name: "buyer", Tools: []adktool.Tool{
				fn(t, functiontool.Config{Name: "buy", Description: "Buys.", RequireConfirmation: true}, func(adkagent.Context, none) (said, error) {
					return said{fmt.Sprint("buy ", bought.Add(1))}, nil
				}),
			}})
			s := agenttest.Start(t, adk.Agent(root))
			s.Model(agenttest.Call("buy", nil))
			waits := s.Ask("Buy two.")
			s.Model(agenttest.Call("buy", nil))
			again := s.Approve(waits, agenttest.Decision{Deny: test.deny[0]})
			if again.Data["finish_reason"] != "WAITING" {
				t.Fatalf("%+v", again)
			}
			s.Model(agenttest.Say("Done."))
			rest := s.Approve(again, agenttest.Decision{Deny: test.deny[1]})
			if want := "[Buy two.][call buy]" + test.sent; rest.Text != "Done." || sent(rest, 0) != want {
				t.Errorf("%d %s: %q; the model was sent %s, want %s", rest.Status, rest.Error, rest.Text, sent(rest, 0), want)
			}
			if n := bought.Load(); n != test.bought {
				t.Errorf("bought %d times, want %d", n, test.bought)
			}
		})
	}
}

// A float would pay one cent less.
func TestAnApprovedCallKeepsTheDigitsOfIntegers(t *testing.T) {
	t.Parallel()
	const cents = 9007199254740993
	type amount struct {
		Cents int64 `json:"cents"`
	}
	var paid atomic.Int64
	root := llm(t, llmagent.Config{Name: "payer", Tools: []adktool.Tool{
		fn(t, functiontool.Config{Name: "pay", Description: "Pays.", RequireConfirmation: true}, func(_ adkagent.Context, in amount) (said, error) {
			paid.Store(in.Cents)
			return said{"paid"}, nil
		}),
	}})
	s := agenttest.Start(t, adk.Agent(root))
	s.Model(agenttest.Call("pay", map[string]any{"cents": int64(cents)}))
	waits := s.Ask("Pay.")
	s.Model(agenttest.Say("Paid."))
	if rest := s.Approve(waits, agenttest.Decision{}); rest.Text != "Paid." || paid.Load() != cents {
		t.Errorf("%d %s: %q; paid %d, want %d", rest.Status, rest.Error, rest.Text, paid.Load(), cents)
	}
}

// A callback that changes the state has an event without a content, which the run that goes
// on reads too.
func TestAStateChangedBeforeACallThatWaits(t *testing.T) {
	t.Parallel()
	root := llm(t, llmagent.Config{
		Name: "buyer",
		BeforeAgentCallbacks: []adkagent.BeforeAgentCallback{func(ctx adkagent.Context) (*genai.Content, error) {
			return nil, ctx.State().Set("shop", "corner")
		}},
		Tools: []adktool.Tool{
			fn(t, functiontool.Config{Name: "buy", Description: "Buys.", RequireConfirmation: true}, func(ctx adkagent.Context, _ none) (said, error) {
				shop, err := ctx.State().Get("shop")
				return said{fmt.Sprint("bought at ", shop)}, err
			}),
		},
	})
	s := agenttest.Start(t, adk.Agent(root))
	s.Model(agenttest.Call("buy", nil))
	waits := s.Ask("Buy.")
	s.Model(agenttest.Say("Bought."))
	rest := s.Approve(waits, agenttest.Decision{})
	if want := "[Buy.][call buy][buy: map[text:bought at corner]]"; rest.Text != "Bought." || sent(rest, 0) != want {
		t.Errorf("%d %s: %q; the model was sent %s", rest.Status, rest.Error, rest.Text, sent(rest, 0))
	}
}

func TestCallbacks(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var called []string
	note := func(name string) {
		mu.Lock()
		defer mu.Unlock()
		called = append(called, name)
	}
	root := llm(t, llmagent.Config{
		Name: "noted",
		Tools: []adktool.Tool{fn(t, functiontool.Config{Name: "echo", Description: "Echoes."}, func(ctx adkagent.Context, in said) (said, error) {
			note("tool for " + tool.From(ctx).Caller.Method)
			return in, nil
		})},
		BeforeAgentCallbacks: []adkagent.BeforeAgentCallback{func(adkagent.Context) (*genai.Content, error) { note("before agent"); return nil, nil }},
		AfterAgentCallbacks:  []adkagent.AfterAgentCallback{func(adkagent.Context) (*genai.Content, error) { note("after agent"); return nil, nil }},
		BeforeModelCallbacks: []llmagent.BeforeModelCallback{func(_ adkagent.Context, r *model.LLMRequest) (*model.LLMResponse, error) {
			note("before model")
			r.Config.SystemInstruction = genai.NewContentFromText("Be brief.", genai.RoleUser)
			return nil, nil
		}},
		AfterModelCallbacks: []llmagent.AfterModelCallback{func(_ adkagent.Context, r *model.LLMResponse, _ error) (*model.LLMResponse, error) {
			note("after model")
			for _, p := range r.Content.Parts {
				p.Text = strings.ReplaceAll(p.Text, "secret", "[hidden]")
			}
			return nil, nil
		}},
		BeforeToolCallbacks: []llmagent.BeforeToolCallback{func(_ adkagent.Context, _ adktool.Tool, args map[string]any) (map[string]any, error) {
			note("before tool")
			args["text"] = "changed"
			return nil, nil
		}},
		AfterToolCallbacks: []llmagent.AfterToolCallback{func(_ adkagent.Context, _ adktool.Tool, _, result map[string]any, _ error) (map[string]any, error) {
			note("after tool")
			return map[string]any{"text": fmt.Sprint(result["text"], " twice")}, nil
		}},
	})
	s := agenttest.Start(t, adk.Agent(root))
	s.Model(agenttest.Call("echo", map[string]any{"text": "a"}), agenttest.Say("The secret."))
	got := s.Ask("Go.")
	if got.Text != "The [hidden]." || got.Sent[0].Instruction != "Be brief." || fmt.Sprint(got.Tools[0].Output) != "map[text:changed twice]" {
		t.Errorf("%+v", got)
	}
	want := "before agent, before model, after model, before tool, tool for none, after tool, before model, after model, after agent"
	if strings.Join(called, ", ") != want {
		t.Errorf("called: %v", called)
	}
}

func TestStateByScope(t *testing.T) {
	t.Parallel()
	remember := fn(t, functiontool.Config{Name: "remember", Description: "Remembers."}, func(ctx adkagent.Context, in said) (said, error) {
		for _, scope := range []string{"", session.KeyPrefixUser, session.KeyPrefixApp, session.KeyPrefixTemp} {
			if err := ctx.State().Set(scope+"text", in.Text); err != nil {
				return said{}, err
			}
		}
		return said{}, nil
	})
	recall := fn(t, functiontool.Config{Name: "recall", Description: "Recalls."}, func(ctx adkagent.Context, _ none) (said, error) {
		var all []string
		for _, scope := range []string{"", session.KeyPrefixUser, session.KeyPrefixApp, session.KeyPrefixTemp} {
			value, err := ctx.State().Get(scope + "text")
			if err != nil && !errors.Is(err, session.ErrStateKeyNotExist) {
				return said{}, err
			}
			all = append(all, fmt.Sprint(value))
		}
		return said{strings.Join(all, " ")}, nil
	})
	root := llm(t, llmagent.Config{Name: "keeper", Tools: []adktool.Tool{remember, recall}})
	s := agenttest.Start(t, adk.Agent(root), doortest.Keys("ada", "bob")...)
	ask := func(who, sessionID string, calls ...agenttest.Reply) agenttest.Answer {
		t.Helper()
		s.Model(append(calls, agenttest.Say("Done."))...)
		got := s.Do(agenttest.Request{Query: "Go.", SessionID: sessionID, Header: map[string][]string{"X-Api-Key": {doortest.Key(who)}}})
		if got.Text != "Done." {
			t.Fatalf("%+v", got)
		}
		return got
	}
	recalled := func(a agenttest.Answer) string { return fmt.Sprint(a.Tools[len(a.Tools)-1].Output["text"]) }
	first := ask("ada", "", agenttest.Call("remember", map[string]any{"text": "x"}), agenttest.Call("recall", nil))
	if got := recalled(first); got != "x x x x" {
		t.Errorf("in the same run: %s", got)
	}
	for _, test := range []struct{ who, session, want string }{
		{"ada", first.SessionID, "x x x <nil>"},
		{"ada", "", "<nil> x x <nil>"},
		{"bob", "", "<nil> <nil> x <nil>"},
	} {
		if got := recalled(ask(test.who, test.session, agenttest.Call("recall", nil))); got != test.want {
			t.Errorf("%s in session %q: %s, want %s", test.who, test.session, got, test.want)
		}
	}
	// A turn that fails changes nothing.
	s.Model(agenttest.Call("remember", map[string]any{"text": "y"}), agenttest.Block("SAFETY"))
	if got := s.Do(agenttest.Request{Query: "Go.", SessionID: first.SessionID, Header: map[string][]string{"X-Api-Key": {doortest.Key("ada")}}}); got.Error != "content_blocked" {
		t.Fatalf("%+v", got)
	}
	if got := recalled(ask("ada", first.SessionID, agenttest.Call("recall", nil))); got != "x x x <nil>" {
		t.Errorf("after a turn that failed: %s", got)
	}
}

// Agents of each kind that ADK has for work flows, and one as a tool.
func TestAgentsOfAgents(t *testing.T) {
	t.Parallel()
	one := func() adkagent.Agent {
		return llm(t, llmagent.Config{Name: "one", Instruction: "You are one.", OutputKey: "one"})
	}
	two := func() adkagent.Agent {
		return llm(t, llmagent.Config{Name: "two", Instruction: "You are two; one said {one?}."})
	}
	below := adkagent.Config{Name: "root", Description: "Has others."}
	with := func(subs ...adkagent.Agent) adkagent.Config {
		c := below
		c.SubAgents = subs
		return c
	}
	made := func(a adkagent.Agent, err error) adkagent.Agent {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	for name, test := range map[string]struct {
		root    adkagent.Agent
		replies []agenttest.Reply
		text    string
	}{
		"one after the other": {made(sequentialagent.New(sequentialagent.Config{AgentConfig: with(one(), two())})),
			[]agenttest.Reply{agenttest.Say("I."), agenttest.Say("II.")}, "I.\n\nII."},
		"in a loop that ends": {made(loopagent.New(loopagent.Config{AgentConfig: with(one()), MaxIterations: 3})),
			[]agenttest.Reply{agenttest.Say("I."), agenttest.Say("II."), agenttest.Say("III.")}, "I.\n\nII.\n\nIII."},
		"side by side": {made(parallelagent.New(parallelagent.Config{AgentConfig: with(one(), two())})),
			[]agenttest.Reply{agenttest.Say("The same."), agenttest.Say("The same.")}, "The same.\n\nThe same."},
		"as a tool": {llm(t, llmagent.Config{Name: "root", Tools: []adktool.Tool{agenttool.New(one(), nil)}}),
			[]agenttest.Reply{agenttest.Call("one", map[string]any{"request": "Well?"}), agenttest.Say("I."), agenttest.Say("One says I.")}, "One says I."},
	} {
		for _, stream := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, stream %v", name, stream), func(t *testing.T) {
				s := agenttest.Start(t, adk.Agent(test.root))
				s.Model(test.replies...)
				got := s.Do(agenttest.Request{Query: "Go.", Stream: stream})
				if got.Text != test.text || len(got.Sent) != len(test.replies) {
					t.Errorf("%d %s: %q, %d model calls, %s", got.Status, got.Error, got.Text, len(got.Sent), got.Message)
				}
				s.Model(test.replies[0], agenttest.Say("And."), agenttest.Say("Then."))
				if again := s.Do(agenttest.Request{Query: "Again.", SessionID: got.SessionID}); again.Turn != 2 {
					t.Errorf("the next turn: %+v", again)
				}
			})
		}
	}
}

// What goes wrong within an agent ends its turn in order, and the service goes on.
func TestAgentsThatFail(t *testing.T) {
	t.Parallel()
	panics := func(adkagent.Context, none) (said, error) { panic("a secret value") }
	custom := func(run func(adkagent.InvocationContext) iter.Seq2[*session.Event, error]) adkagent.Agent {
		a, err := adkagent.New(adkagent.Config{Name: "custom", Description: "Is made by hand.", Run: run})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	endless := func() adkagent.Agent {
		a, err := loopagent.New(loopagent.Config{AgentConfig: adkagent.Config{Name: "endless", SubAgents: []adkagent.Agent{llm(t, llmagent.Config{Name: "talker"})}}})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	tests := map[string]struct {
		root    adkagent.Agent
		env     []string
		replies []agenttest.Reply
		code    string // of the error
		text    string // of the answer, else
		sent    string // what the last model call had at its end
	}{
		"a tool panics": {
			root:    llm(t, llmagent.Config{Name: "a", Tools: []adktool.Tool{fn(t, functiontool.Config{Name: "bad", Description: "Panics."}, panics)}}),
			replies: []agenttest.Reply{agenttest.Call("bad", nil), agenttest.Say("It failed.")}, text: "It failed.", sent: `panic in tool "bad": a secret value]]`,
		},
		"a callback of a tool panics": {
			root: llm(t, llmagent.Config{Name: "a", Tools: []adktool.Tool{fn(t, functiontool.Config{Name: "bad", Description: "Panics."}, panics)},
				BeforeToolCallbacks: []llmagent.BeforeToolCallback{func(adkagent.Context, adktool.Tool, map[string]any) (map[string]any, error) { panic("oh") }}}),
			replies: []agenttest.Reply{agenttest.Call("bad", nil)}, code: "internal",
		},
		"a callback of the model panics": {
			root: llm(t, llmagent.Config{Name: "a",
				AfterModelCallbacks: []llmagent.AfterModelCallback{func(adkagent.Context, *model.LLMResponse, error) (*model.LLMResponse, error) { panic("oh") }}}),
			replies: []agenttest.Reply{agenttest.Say("Hello.")}, code: "internal",
		},
		"an agent panics": {
			root: custom(func(adkagent.InvocationContext) iter.Seq2[*session.Event, error] { panic("oh") }), code: "internal",
		},
		"a callback returns an error": {
			root: llm(t, llmagent.Config{Name: "a",
				BeforeModelCallbacks: []llmagent.BeforeModelCallback{func(adkagent.Context, *model.LLMRequest) (*model.LLMResponse, error) {
					return nil, errors.New("a secret")
				}}}),
			code: "internal",
		},
		"a callback refuses": {
			root: llm(t, llmagent.Config{Name: "a",
				BeforeModelCallbacks: []llmagent.BeforeModelCallback{func(adkagent.Context, *model.LLMRequest) (*model.LLMResponse, error) {
					return nil, agent.Refuse("Ask something else.")
				}}}),
			code: "content_blocked",
		},
		"a callback answers": {
			root: llm(t, llmagent.Config{Name: "a",
				BeforeModelCallbacks: []llmagent.BeforeModelCallback{func(adkagent.Context, *model.LLMRequest) (*model.LLMResponse, error) {
					return &model.LLMResponse{Content: genai.NewContentFromText("From the cache.", genai.RoleModel)}, nil
				}}}),
			text: "From the cache.",
		},
		"a callback hangs": {
			root: llm(t, llmagent.Config{Name: "a",
				BeforeModelCallbacks: []llmagent.BeforeModelCallback{func(adkagent.Context, *model.LLMRequest) (*model.LLMResponse, error) {
					<-hang
					return nil, nil
				}}}),
			env: []string{"REQUEST_TIMEOUT=1s"}, code: "timeout",
		},
		"a tool hangs": {
			root: llm(t, llmagent.Config{Name: "a", Tools: []adktool.Tool{fn(t, functiontool.Config{Name: "bad", Description: "Hangs."}, func(adkagent.Context, none) (said, error) {
				<-hang
				return said{}, nil
			})}}),
			env: []string{"REQUEST_TIMEOUT=1s"}, replies: []agenttest.Reply{agenttest.Call("bad", nil)}, code: "timeout",
		},
		"the model calls a tool that is not there": {
			root:    llm(t, llmagent.Config{Name: "a", Tools: []adktool.Tool{fn(t, functiontool.Config{Name: "bad", Description: "Panics."}, panics)}}),
			replies: []agenttest.Reply{agenttest.Call("worse", nil), agenttest.Say("There is none.")}, text: "There is none.",
		},
		"the model transfers to an agent that is not there": {
			root:    llm(t, llmagent.Config{Name: "a", SubAgents: []adkagent.Agent{llm(t, llmagent.Config{Name: "b"})}}),
			replies: []agenttest.Reply{agenttest.Call("transfer_to_agent", map[string]any{"agent_name": "c"})}, code: "internal",
		},
		"a tool returns far too much": {
			root: llm(t, llmagent.Config{Name: "a", Tools: []adktool.Tool{fn(t, functiontool.Config{Name: "bad", Description: "Is long."}, func(adkagent.Context, none) (said, error) {
				return said{strings.Repeat("x", 1<<20)}, nil
			})}}),
			replies: []agenttest.Reply{agenttest.Call("bad", nil), agenttest.Say("Too long.")}, text: "Too long.", sent: "more than the 65536 allowed]]",
		},
		"a loop of agents never ends": {root: endless(), env: []string{"MAX_TOOL_ROUNDS=2"}, text: "Hm.\n\nHm.\n\nHm.\n\nHm.\n\nHm.\n\nHm.",
			replies: []agenttest.Reply{agenttest.Say("Hm."), agenttest.Say("Hm."), agenttest.Say("Hm."), agenttest.Say("Hm."), agenttest.Say("Hm."), agenttest.Say("Hm."), agenttest.Say("Hm.")}},
		"an agent has another model": {
			root: llm(t, llmagent.Config{Name: "a", Model: otherModel{}}), code: "internal",
		},
		"an agent says nothing": {
			root: custom(func(adkagent.InvocationContext) iter.Seq2[*session.Event, error] {
				return func(func(*session.Event, error) bool) {}
			}), code: "model_failed",
		},
		"the model is away": {
			root: llm(t, llmagent.Config{Name: "a"}), replies: []agenttest.Reply{agenttest.Fail(400, "no")}, code: "model_failed",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, stream := range []bool{false, true} { // one after the other: two services share the root, as no process does
				t.Run(fmt.Sprintf("stream %v", stream), func(t *testing.T) {
					s := agenttest.Start(t, adk.Agent(test.root), test.env...)
					s.Model(test.replies...)
					got := s.Do(agenttest.Request{Query: "Go.", Stream: stream})
					if got.Error != test.code || got.Text != test.text && test.code == "" {
						t.Fatalf("%d %q %q: %s", got.Status, got.Error, got.Text, got.Message)
					}
					if strings.Contains(got.Message, "secret") {
						t.Errorf("it is told %q", got.Message)
					}
					if test.sent != "" && !strings.HasSuffix(sent(got, len(got.Sent)-1), test.sent) {
						t.Errorf("the model was sent %s", sent(got, len(got.Sent)-1))
					}
				})
			}
		})
	}
}

type otherModel struct{ model.LLM }

func (otherModel) Name() string { return "gemini-3.5-flash" }

// ADK's runner completes an agent without a mode in its first run; -race finds others beside it.
func TestTheFirstTurnsAtOnce(t *testing.T) {
	t.Parallel()
	s := agenttest.Start(t, adk.Agent(llm(t, llmagent.Config{Name: "a"})))
	const calls = 8
	s.Model(slices.Repeat([]agenttest.Reply{agenttest.Say("Hello.")}, calls)...)
	var all sync.WaitGroup
	for range calls {
		all.Go(func() {
			if got := s.Do(agenttest.Request{Query: "Hello?"}); got.Text != "Hello." {
				t.Errorf("%d %s: %q", got.Status, got.Error, got.Text)
			}
		})
	}
	all.Wait()
}

// A callback that hangs in the first run, even past its turn, holds up no other.
func TestAFirstTurnThatHangs(t *testing.T) {
	t.Parallel()
	over := make(chan struct{})
	t.Cleanup(func() { close(over) })
	var calls atomic.Int32
	hangs, err := plugin.New(plugin.Config{Name: "hangs", OnUserMessageCallback: func(adkagent.InvocationContext, *genai.Content) (*genai.Content, error) {
		if calls.Add(1) == 1 {
			<-over
		}
		return nil, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	s := agenttest.Start(t, adk.Agent(llm(t, llmagent.Config{Name: "a"}), adk.Plugins(hangs)), "REQUEST_TIMEOUT=1s")
	s.Model(agenttest.Say("Hello."))
	if got := s.Do(agenttest.Request{Query: "Hello?"}); got.Error != "model_timeout" && got.Status != 504 {
		t.Errorf("%d %s", got.Status, got.Error)
	}
	if got := s.Do(agenttest.Request{Query: "Hello?"}); got.Text != "Hello." {
		t.Errorf("%d %s: %q", got.Status, got.Error, got.Text)
	}
}

func TestTwoCallsAtOnce(t *testing.T) {
	t.Parallel()
	s := agenttest.Start(t, example.New)
	s.Model(agenttest.Say("Hello."))
	first := s.Ask("Hello?")
	const calls = 8
	var all sync.WaitGroup
	turns := make([]int, calls)
	for i := range calls {
		all.Go(func() { turns[i] = s.Do(agenttest.Request{Query: "hello", SessionID: first.SessionID}).Turn })
	}
	all.Wait()
	seen := map[int]bool{}
	for _, turn := range turns {
		seen[turn] = true
	}
	if len(seen) != calls || seen[0] || seen[1] {
		t.Errorf("turns %v", turns)
	}
}

// Outside of a turn the gate's model is nobody's.
func TestTheModelOutsideOfATurn(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	for _, err := range adk.Model().GenerateContent(ctx, &model.LLMRequest{}, false) {
		if err == nil {
			t.Error("it answered")
		}
	}
}
