package invoke_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/limit"
	"example.com/gatehouse/internal/model"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/invoke"
)

// A conversation that a client brings becomes turns of a question and its answers, as Gemini
// takes them.
func TestAConversationBecomesTurns(t *testing.T) {
	t.Parallel()
	user := func(text string) invoke.Message { return invoke.Message{User: true, Text: text} }
	said := func(text string) invoke.Message { return invoke.Message{Text: text} }
	for _, test := range []struct {
		name     string
		messages []invoke.Message
		question string
		history  []string // texts of each turn, of the user first
	}{
		{"a question", []invoke.Message{user("One?")}, "One?", nil},
		{"a turn before it", []invoke.Message{user("One?"), said("1"), user("Two?")}, "Two?", []string{"One?|1"}},
		{"questions in a row", []invoke.Message{user("One?"), user("And?"), said("1"), user("Two?"), user("Three?")}, "Two?\n\nThree?", []string{"One?\n\nAnd?|1"}},
		{"answers in a row", []invoke.Message{user("One?"), said("1"), said("or 2"), user("Two?")}, "Two?", []string{"One?|1|or 2"}},
		{"a greeting before any question", []invoke.Message{said("Welcome."), user("One?")}, "One?", nil},
		{"no question at the end", []invoke.Message{user("One?"), said("1")}, "", []string{"One?|1"}},
		{"nothing", nil, "", nil},
	} {
		question, history, err := invoke.Conversation(test.messages)
		if err != nil || question != test.question {
			t.Errorf("%s: %q, %v, want %q", test.name, question, err, test.question)
		}
		var turns []string
		for _, raw := range history {
			var contents []struct {
				Role  string
				Parts []struct{ Text string }
			}
			if err := json.Unmarshal(raw, &contents); err != nil {
				t.Fatal(err)
			}
			var texts []string
			for i, c := range contents {
				if user := c.Role == "user"; user != (i == 0) {
					t.Errorf("%s: content %d is of role %s", test.name, i, c.Role)
				}
				texts = append(texts, c.Parts[0].Text)
			}
			turns = append(turns, strings.Join(texts, "|"))
		}
		if diff := cmp.Diff(test.history, turns); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
	for _, m := range []invoke.Message{user("a\x00b"), said("a\x00b")} {
		_, _, err := invoke.Conversation([]invoke.Message{user("One?"), m})
		wantCode(t, err, api.ValidationFailed)
	}
}

// What other models take is fitted to this one where that is meant, and refused where it is not.
func TestADoorsRequestIsFitted(t *testing.T) {
	t.Parallel()
	s := asked(t, newMemory(), geminitest.Start(t), agent.Agent{})
	for _, test := range []struct {
		name string
		req  invoke.Request
		want api.Code // "": none
	}{
		{"the agent's name is its model's", invoke.Request{Query: "?", Model: "agent"}, ""},
		{"the model's own name", invoke.Request{Query: "?", Model: "model"}, ""},
		{"another model", invoke.Request{Query: "?", Model: "gpt-5"}, api.NotFound},
		{"a temperature that is too high", invoke.Request{Query: "?", Temperature: new(2.1)}, api.ValidationFailed},
		{"a temperature below 0", invoke.Request{Query: "?", Temperature: new(-0.1)}, api.ValidationFailed},
		{"no tokens", invoke.Request{Query: "?", MaxTokens: new(0)}, api.ValidationFailed},
		{"no question", invoke.Request{Query: " "}, api.ValidationFailed},
	} {
		err := s.Fit(&test.req, "messages")
		if test.want != "" {
			wantCode(t, err, test.want)
		} else if err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	most := 1 << 20
	req := invoke.Request{Query: "?", Model: "agent", MaxTokens: &most}
	if err := s.Fit(&req, "messages"); err != nil || *req.MaxTokens != 4096 || req.Model != "" || most != 1<<20 {
		t.Errorf("%v, %d tokens of model %q; the client's own number is %d", err, *req.MaxTokens, req.Model, most)
	}
}

type panickingTransport struct{}

func (panickingTransport) RoundTrip(*http.Request) (*http.Response, error) { panic(theSecret) }

// What a call that panicked has used is unknown: it is charged what was reserved, once, and
// the budget holds no open reservation.
func TestAModelCallThatPanicsIsCharged(t *testing.T) {
	t.Parallel()
	client, err := model.New(t.Context(), model.Config{APIKey: "key", BaseURL: "http://gemini.test", Transport: panickingTransport{}, Models: []string{"model"}, BreakerFailures: 5, BreakerCooldown: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	server, _ := serveAgent(t, newMemory(), geminitest.Start(t), agent.Agent{Name: "agent", MaxTokens: 100}, func(c *invoke.Config) {
		c.Model = client
		c.Limits = limit.Limits{PerMinute: 100, CallerPerMinute: 100, PerDay: 100_000, CallerPerDay: 100_000}
		c.Limiter = limit.New(limit.Config{Counters: limit.NewMemory(time.Now), MaxInstances: 1, Now: time.Now, Log: telemetry.Discard()})
	})
	used := func() int64 {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/usage", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := server.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		var report struct{ Data invoke.UsageReport }
		if err := json.NewDecoder(response.Body).Decode(&report); err != nil {
			t.Fatal(err)
		}
		return report.Data.Today.TotalTokens
	}
	for call := int64(1); call <= 2; call++ {
		if status, text := ask(t, server, "/invoke", `{"query": "hello"}`); status != http.StatusInternalServerError || strings.Contains(text, theSecret) {
			t.Errorf("%d %s", status, text)
		}
		if got := used(); got < 100*call || got > 200*call {
			t.Errorf("%d tokens used after %d calls of at most 100 and their prompts", got, call)
		}
	}
}
