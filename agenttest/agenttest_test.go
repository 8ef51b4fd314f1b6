package agenttest_test

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/agenttest"
	"example.com/gatehouse/tool"
)

func newAgent(_ context.Context, env agent.Env) (agent.Agent, error) {
	key := env.Secret("RATES_KEY")
	return agent.Agent{
		Name:        "rates",
		Instruction: "You answer questions about money.",
		Tools: []tool.Tool{
			tool.New("get_exchange_rate", "Returns what a currency is worth.", func(_ context.Context, in struct {
				From string `json:"from" jsonschema:"the currency"`
			}) (map[string]any, error) {
				return map[string]any{"from": in.From, "rate": 1.25, "key": key.Reveal()}, nil
			}, tool.Timeout(time.Second)),
			tool.New("who", "Returns who is calling.", func(ctx context.Context, _ struct{}) (tool.Context, error) {
				c := tool.From(ctx)
				c.RequestID = "" // it differs
				return c, nil
			}),
		},
	}, nil
}

func TestAScriptedModel(t *testing.T) {
	s := agenttest.Start(t, newAgent, "RATES_KEY=k")
	s.Model(agenttest.Call("get_exchange_rate", map[string]any{"from": "EUR"}), agenttest.Say("1.25 dollars."))
	got := s.Ask("What is a euro worth?")
	want := agenttest.Answer{
		Status: 200, Message: "Agent invocation successful", Text: "1.25 dollars.", SessionID: got.SessionID, Turn: 1,
		Tools: []agenttest.ToolCall{{
			Name: "get_exchange_rate", OK: true,
			Args: map[string]any{"from": "EUR"}, Output: map[string]any{"from": "EUR", "rate": 1.25, "key": "k"},
		}},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(agenttest.Answer{}, "Data", "Sent")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got.Data["finish_reason"] != "STOP" || len(got.Data["warnings"].([]any)) != 0 {
		t.Errorf("the data: %v", got.Data)
	}
	s.Model(agenttest.Say("Yes."))
	if got := s.Do(agenttest.Request{Query: "Sure?", SessionID: got.SessionID}); got.Turn != 2 || got.Text != "Yes." {
		t.Errorf("a second turn: %+v", got)
	}
	s.Model(agenttest.Fail(400, "no"))
	if got := s.Ask("Still there?"); got.Status != 502 || got.Error != "model_failed" {
		t.Errorf("a model that fails: %+v", got)
	}
}

// Numbers are float64, as encoding/json has them, unless that would lose digits.
func TestIntegersKeepTheirDigits(t *testing.T) {
	type order struct {
		ID    int64 `json:"id"`
		Count int   `json:"count"`
	}
	s := agenttest.Start(t, func(context.Context, agent.Env) (agent.Agent, error) {
		return agent.Agent{Name: "orders", Tools: []tool.Tool{
			tool.New("find_order", "Returns an order.", func(_ context.Context, in order) (order, error) { return in, nil }),
		}}, nil
	})
	s.Model(agenttest.Call("find_order", map[string]any{"id": int64(9007199254740993), "count": 3}), agenttest.Say("Found."))
	got := s.Ask("Find order 9007199254740993.")
	want := map[string]any{"id": json.Number("9007199254740993"), "count": 3.0}
	if len(got.Tools) != 1 {
		t.Fatalf("%+v", got)
	}
	if diff := cmp.Diff([]any{want, want}, []any{got.Tools[0].Args, got.Tools[0].Output}); diff != "" {
		t.Errorf("arguments and output (-want +got):\n%s", diff)
	}
}

func TestWhatIsSentToTheModel(t *testing.T) {
	s := agenttest.Start(t, newAgent, "RATES_KEY=k")
	s.Model(agenttest.Say("Hello, Ada."))
	first := s.Ask("My name is Ada.")
	s.Model(agenttest.Call("get_exchange_rate", map[string]any{"from": "EUR"}).And("get_exchange_rate", map[string]any{"from": "GBP"}), agenttest.Say("Both 1.25."))
	got := s.Do(agenttest.Request{Query: "Euro and pound?", SessionID: first.SessionID, Body: map[string]any{"temperature": 0.25}})
	if len(got.Sent) != 2 || len(got.Tools) != 2 || got.Tools[1].Args["from"] != "GBP" || got.Tools[1].Output["from"] != "GBP" {
		t.Fatalf("%d requests, tools %v", len(got.Sent), got.Tools)
	}
	var said []string
	for _, content := range got.Sent[0].Contents {
		said = append(said, content.Role+": "+content.Parts[0].Text)
	}
	if diff := cmp.Diff([]string{"user: My name is Ada.", "model: Hello, Ada.", "user: Euro and pound?"}, said); diff != "" {
		t.Errorf("contents (-want +got):\n%s", diff)
	}
	sent := got.Sent[0]
	if !strings.Contains(sent.Instruction, "You answer questions about money.") || !slices.Equal(sent.Tools, []string{"get_exchange_rate", "who"}) || sent.Stream || sent.Model == "" {
		t.Errorf("%+v", sent)
	}
	if settings, _ := sent.Body["generationConfig"].(map[string]any); settings["temperature"] != 0.25 {
		t.Errorf("settings: %v", settings)
	}
}

func TestAStream(t *testing.T) {
	s := agenttest.Start(t, newAgent, "RATES_KEY=k")
	s.Model(agenttest.Call("get_exchange_rate", map[string]any{"from": "EUR"}), agenttest.Say("1.25 ", "dollars."))
	got := s.Do(agenttest.Request{Query: "What is a euro worth?", Stream: true})
	counts := map[string]int{}
	for _, event := range got.Events {
		counts[event.Name]++
	}
	for name, want := range map[string]int{"start": 1, "tool_call": 1, "tool_result": 1, "delta": 2, "done": 1} {
		if counts[name] != want {
			t.Errorf("%d events %q, want %d", counts[name], name, want)
		}
	}
	if got.Text != "1.25 dollars." || len(got.Tools) != 1 || got.Tools[0].Output["rate"] != 1.25 || !got.Sent[1].Stream {
		t.Errorf("%+v", got)
	}
	s.Model(agenttest.Fail(400, "no"))
	if got := s.Do(agenttest.Request{Query: "Still there?", Stream: true}); got.Error != "model_failed" {
		t.Errorf("a model that fails: %+v", got)
	}
}

// Questions at the same time each have their own requests to the model.
func TestQuestionsAtTheSameTime(t *testing.T) {
	s := agenttest.Start(t, newAgent, "RATES_KEY=k")
	var group sync.WaitGroup
	for _, currency := range []string{"EUR", "GBP", "CHF", "SEK"} {
		group.Go(func() {
			got := s.Ask("What is the exchange rate of " + currency + "?")
			if len(got.Tools) != 1 || got.Tools[0].Args["from"] != currency || got.Tools[0].Output["from"] != currency || len(got.Sent) != 2 {
				t.Errorf("%s: %+v", currency, got.Tools)
			}
		})
	}
	group.Wait()
}

func TestToolsKnowWhoIsCalling(t *testing.T) {
	s := agenttest.Start(t, newAgent, "RATES_KEY=k")
	s.Model(agenttest.Call("who", nil), agenttest.Say("You."))
	got := s.Do(agenttest.Request{Query: "Who am I?", Header: http.Header{"X-End-User": {"ada"}, "Accept-Language": {"de-CH, en;q=0.5"}}})
	if len(got.Tools) != 1 {
		t.Fatalf("%+v", got)
	}
	output := got.Tools[0].Output
	if diff := cmp.Diff(map[string]any{
		"Caller":  map[string]any{"Method": "none", "Issuer": "none", "Subject": "anonymous", "Email": ""},
		"EndUser": "ada", "SessionID": got.SessionID, "Turn": 1.0, "RequestID": "", "Locale": "de-CH", "Operator": true, "EffectID": "",
	}, output); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTheOfflineStandInGoesOn(t *testing.T) {
	s := agenttest.Start(t, newAgent, "RATES_KEY=k")
	if got := s.Ask("What is the exchange rate of EUR?"); got.Status != 200 || got.Text == "" || len(got.Tools) != 1 || got.Tools[0].Name != "get_exchange_rate" {
		t.Errorf("%+v", got)
	}
}
