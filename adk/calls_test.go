package adk_test

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	adkagent "google.golang.org/adk/v2/agent"
	"google.golang.org/adk/v2/agent/llmagent"
	"google.golang.org/adk/v2/model"
	adktool "google.golang.org/adk/v2/tool"
	"google.golang.org/adk/v2/tool/agenttool"
	"google.golang.org/adk/v2/tool/functiontool"

	"example.com/gatehouse/adk"
	"example.com/gatehouse/agent"
	"example.com/gatehouse/agenttest"
	"example.com/gatehouse/tool"
)

// progressOf returns what a stream has shown of tools' progress.
func progressOf(a agenttest.Answer) (all []string) {
	for _, e := range a.Events {
		if e.Name == "progress" {
			all = append(all, fmt.Sprint(e.Data["name"], ": ", e.Data["text"]))
		}
	}
	return all
}

func TestProgress(t *testing.T) {
	t.Parallel()
	counts := func(confirm bool) adktool.Tool {
		return fn(t, functiontool.Config{Name: "count", Description: "Counts.", RequireConfirmation: confirm}, func(ctx adkagent.Context, _ none) (said, error) {
			tool.Progress(ctx, "half")
			tool.Progress(ctx, "nearly")
			return said{"all"}, nil
		})
	}
	inner := llm(t, llmagent.Config{Name: "inner", Tools: []adktool.Tool{counts(false)}})
	for name, test := range map[string]struct {
		tool    adktool.Tool
		call    agenttest.Reply
		replies []agenttest.Reply // after it
		waits   bool
		want    []string
	}{
		"of a tool":                   {tool: counts(false), call: agenttest.Call("count", nil), want: []string{"count: half", "count: nearly"}},
		"of a tool that was approved": {tool: counts(true), call: agenttest.Call("count", nil), waits: true, want: []string{"count: half", "count: nearly"}},
		"of a tool of an agent that is a tool": {
			tool: agenttool.New(inner, nil), call: agenttest.Call("inner", map[string]any{"request": "Count."}),
			replies: []agenttest.Reply{agenttest.Call("count", nil), agenttest.Say("All.")}, want: []string{"inner: count: half", "inner: count: nearly"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := agenttest.Start(t, adk.Agent(llm(t, llmagent.Config{Name: "root", Tools: []adktool.Tool{test.tool}})))
			s.Model(append([]agenttest.Reply{test.call}, test.replies...)...)
			s.Model(agenttest.Say("Done."))
			got := s.Do(agenttest.Request{Query: "Count.", Stream: true})
			if test.waits {
				got = s.Approve(got, agenttest.Decision{})
			}
			if shown := progressOf(got); got.Text != "Done." || !slices.Equal(shown, test.want) {
				t.Errorf("%d %s: %q; shown: %q", got.Status, got.Error, got.Text, shown)
			}
		})
	}
}

// A call ends at its time, whether its tool hears of that or not, and the turn goes on.
func TestTimeLimits(t *testing.T) {
	t.Parallel()
	const short, long = 200 * time.Millisecond, time.Minute
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	hears := func(ctx adkagent.Context, _ none) (said, error) {
		<-ctx.Done()
		return said{}, context.Cause(ctx)
	}
	deaf := func(ctx adkagent.Context, _ none) (said, error) {
		if err := ctx.State().Set("before", true); err != nil {
			return said{}, err
		}
		<-hang
		return said{}, nil
	}
	slow := func(f func(adkagent.Context, none) (said, error)) adktool.Tool {
		return fn(t, functiontool.Config{Name: "slow", Description: "Is slow."}, f)
	}
	streams, err := functiontool.NewStreaming(functiontool.Config{Name: "slow", Description: "Is slow."}, func(adkagent.Context, none) iter.Seq2[string, error] {
		return func(yield func(string, error) bool) {
			yield("a piece", nil)
			<-hang
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	all := func(d time.Duration) adk.Option { return adk.With(func(a *agent.Agent) { a.ToolTimeout = d }) }
	for name, test := range map[string]struct {
		tool   adktool.Tool
		option adk.Option
	}{
		"of all tools":                                   {slow(hears), all(short)},
		"of this tool":                                   {slow(hears), adk.Timeout(short, "other", "slow")},
		"of a tool that does not hear":                   {slow(deaf), all(short)},
		"of a tool that streams":                         {streams, all(short)},
		"of an agent that is a tool, whose tool is slow": {agenttool.New(llm(t, llmagent.Config{Name: "inner", Tools: []adktool.Tool{slow(deaf)}}), nil), all(short)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := agenttest.Start(t, adk.Agent(llm(t, llmagent.Config{Name: "root", Tools: []adktool.Tool{test.tool}}), test.option))
			want := "[slow: map[error:the tool took too long]]"
			if test.tool.Name() == "inner" {
				s.Model(agenttest.Call("inner", map[string]any{"request": "Be slow."}), agenttest.Call("slow", nil), agenttest.Say("It took too long."))
				want = "[inner: map[result:It took too long.]]"
			} else {
				s.Model(agenttest.Call("slow", nil))
			}
			s.Model(agenttest.Say("Sorry."))
			got := s.Ask("Be slow.")
			if got.Text != "Sorry." || !strings.HasSuffix(sent(got, len(got.Sent)-1), want) {
				t.Errorf("%d %s: %q; the model was sent %s", got.Status, got.Error, got.Text, sent(got, len(got.Sent)-1))
			}
		})
	}
	t.Run("of a call that was approved", func(t *testing.T) {
		t.Parallel()
		for name, f := range map[string]func(adkagent.Context, none) (said, error){"hears": hears, "does not hear": deaf} {
			pays := fn(t, functiontool.Config{Name: "pay", Description: "Pays.", RequireConfirmation: true}, f)
			s := agenttest.Start(t, adk.Agent(llm(t, llmagent.Config{Name: "root", Tools: []adktool.Tool{pays}}), adk.Timeout(short, "pay")))
			s.Model(agenttest.Call("pay", nil))
			got := s.Approve(s.Ask("Pay."), agenttest.Decision{})
			if got.Data["finish_reason"] != "FAILED" || !strings.Contains(fmt.Sprint(got.Data["warnings"]), "effect_unknown") {
				t.Errorf("a tool that %s: %+v", name, got)
			}
		}
	})
	for _, mode := range []llmagent.Mode{llmagent.ModeChat, llmagent.ModeSingleTurn, llmagent.ModeTask} {
		t.Run(fmt.Sprintf("an agent that is a tool has the time of the turn, mode %s", mode), func(t *testing.T) {
			t.Parallel()
			ended := make(chan error, 8)
			inner := llm(t, llmagent.Config{Name: "inner", Mode: mode, AfterModelCallbacks: []llmagent.AfterModelCallback{
				func(ctx adkagent.Context, _ *model.LLMResponse, _ error) (*model.LLMResponse, error) {
					select {
					case <-ctx.Done():
					case <-time.After(3 * time.Second):
					}
					ended <- ctx.Err()
					return nil, nil
				},
			}})
			root := llmagent.Config{Name: "root", Mode: llmagent.ModeChat}
			if mode == llmagent.ModeChat {
				root.Tools = []adktool.Tool{agenttool.New(inner, nil)}
			} else {
				root.SubAgents = []adkagent.Agent{inner}
			}
			s := agenttest.Start(t, adk.Agent(llm(t, root), all(2*time.Second)))
			s.Model(agenttest.Call("inner", map[string]any{"request": "Think."}))
			if mode == llmagent.ModeTask {
				s.Model(agenttest.Call("finish_task", map[string]any{"result": "Thought."}))
			} else {
				s.Model(agenttest.Say("Thought."))
			}
			s.Model(agenttest.Say("Done."))
			got := s.Ask("Think.")
			if last := sent(got, len(got.Sent)-1); !strings.HasSuffix(got.Text, "Done.") || !strings.Contains(last, "Thought.") || strings.Contains(last, "too long") {
				t.Errorf("%d %s: %q; the model was sent %s", got.Status, got.Error, got.Text, last)
			}
			if err := <-ended; err != nil {
				t.Errorf("the agent was ended: %v", err)
			}
		})
	}
}

// What a tool does that has outlived its call is in no state; -race finds what it would
// write beside ADK.
func TestAToolThatOutlivesItsCall(t *testing.T) {
	t.Parallel()
	release, late := make(chan struct{}), make(chan error, 1)
	root := llm(t, llmagent.Config{Name: "root", Tools: []adktool.Tool{
		fn(t, functiontool.Config{Name: "slow", Description: "Is slow."}, func(ctx adkagent.Context, _ none) (said, error) {
			_ = ctx.State().Set("early", true)
			<-release
			err := ctx.State().Set("late", true)
			ctx.Actions().StateDelta["later"] = true
			ctx.Actions().TransferToAgent = "nobody"
			late <- err
			return said{}, nil
		}),
		fn(t, functiontool.Config{Name: "look", Description: "Looks."}, func(ctx adkagent.Context, _ none) (said, error) {
			close(release)
			if err := <-late; err == nil {
				return said{"it could change the state"}, nil
			}
			var all []string
			for key := range ctx.State().All() {
				all = append(all, key)
			}
			return said{fmt.Sprint(all)}, nil
		}),
	}})
	s := agenttest.Start(t, adk.Agent(root, adk.Timeout(100*time.Millisecond, "slow")))
	s.Model(agenttest.Call("slow", nil), agenttest.Call("look", nil), agenttest.Say("Done."))
	got := s.Ask("Go.")
	if got.Text != "Done." || fmt.Sprint(got.Tools[len(got.Tools)-1].Output) != "map[text:[]]" {
		t.Errorf("%d %s: %q, %+v", got.Status, got.Error, got.Text, got.Tools)
	}
}

// ADK calls no callback for a tool that streams, so a call of one that was approved would be
// in no ledger.
func TestAToolThatStreams(t *testing.T) {
	t.Parallel()
	for _, confirm := range []bool{false, true} {
		streams, err := functiontool.NewStreaming(functiontool.Config{Name: "read", Description: "Reads.", RequireConfirmation: confirm}, func(adkagent.Context, none) iter.Seq2[string, error] {
			return func(yield func(string, error) bool) { _ = yield("a", nil) && yield("b", nil) }
		})
		if err != nil {
			t.Fatal(err)
		}
		s := agenttest.Start(t, adk.Agent(llm(t, llmagent.Config{Name: "root", Tools: []adktool.Tool{streams}})))
		s.Model(agenttest.Call("read", nil), agenttest.Say("Done."))
		got := s.Ask("Read.")
		want := "[read: map[result:ab]]"
		if confirm {
			want = "[read: map[error:not run: it needs a person's approval, and a tool that streams cannot ask for it]]"
		}
		if got.Text != "Done." || !strings.HasSuffix(sent(got, len(got.Sent)-1), want) {
			t.Errorf("confirm %v: %+v; the model was sent %s", confirm, got, sent(got, len(got.Sent)-1))
		}
	}
}

func TestATimeoutIsMoreThanZero(t *testing.T) {
	t.Parallel()
	root := llm(t, llmagent.Config{Name: "root"})
	for d, want := range map[time.Duration]string{time.Second: "", 0: `timeout 0s of the tool "pay"`, -time.Second: `timeout -1s of the tool "pay"`} {
		_, err := adk.Agent(root, adk.Timeout(d, "pay"))(t.Context(), agent.Env{})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", d, err)
		}
	}
}
