package invoke_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/gcp/emulator"
	"example.com/gatehouse/internal/gcp/firestore"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/limit"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/invoke"
	"example.com/gatehouse/session"
	"example.com/gatehouse/tool"
)

// A model call is let in only if all that it may cost fits in the budget: its prompt and its
// max_tokens.
func TestAModelCallThatMayPassItsBudget(t *testing.T) {
	t.Parallel()
	for budget, want := range map[int64]int{100: http.StatusTooManyRequests, 150: http.StatusOK} { // of 100 for the answer
		server, _ := serveAgent(t, newMemory(), geminitest.Start(t), agent.Agent{Name: "agent", MaxTokens: 100}, func(c *invoke.Config) {
			c.Limits = limit.Limits{PerMinute: 100, CallerPerMinute: 100, PerDay: budget, CallerPerDay: budget}
			c.Limiter = limit.New(limit.Config{Counters: limit.NewMemory(time.Now), MaxInstances: 1, Now: time.Now, Log: telemetry.Discard()})
		})
		if status, answer := ask(t, server, "/invoke", `{"query": "hello"}`); status != want {
			t.Errorf("with a budget of %d: %d %s", budget, status, answer)
		}
	}
}

// What each kind of run costs in Firestore, counted on the wire: documents read and
// written, and queries. A plain turn of a new session is 1 write.
func TestWhatKindsOfRunsCost(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	traffic := &storeTraffic{}
	store := firestore.NewSessions(emulator.Client(t, traffic.options()...), time.Hour, time.Now)
	type sum struct {
		To string `json:"to"`
	}
	pay := func(context.Context, sum) (string, error) { return "paid", nil }
	a := agent.Agent{Name: "agent", MaxTokens: 100, Tools: []tool.Tool{
		tool.New("pay", "Pays.", pay, tool.Effect[sum, string](nil)),
		tool.New("ask", "Asks, and pays.", pay, tool.Effect[sum, string](nil), tool.Confirm(func(sum) string { return "Pay?" })),
	}}
	waiting := &tasks{}
	server, _ := serveAgent(t, store, gemini, a)
	i := &instance{Store: store, Server: server}
	queued := asked(t, store, gemini, a, func(c *invoke.Config) { c.MaxBackground, c.Queue, c.RunTimeout = 10, waiting, time.Minute })
	call := func(name string) geminitest.Reply {
		return geminitest.Calls(geminitest.FunctionCall{Name: name, Args: map[string]any{"to": "Ada"}})
	}
	deliverLast := func(t *testing.T) { deliver(t, queued, waiting.kept()[len(waiting.kept())-1]) }
	pieces := strings.Fields("a b c d e f g h i j k l")
	for _, tt := range []struct {
		name                   string
		replies                []geminitest.Reply
		run                    func(t *testing.T)
		reads, writes, queries int64
	}{
		{"a plain turn", nil, func(t *testing.T) { ask(t, server, "/invoke", `{"query": "hello"}`) }, 0, 1, 0},
		{"a stream of under a second", nil, func(t *testing.T) { i.watch(t, http.MethodPost, "/invoke", streamed).until(t, "done") }, 0, 1, 0},
		// 12 pieces, 0.2 s each: a write at 1 s and at 2 s, and one more with the turn.
		{"a stream of 2.4 s", []geminitest.Reply{geminitest.Text(pieces...).WithDelay(200 * time.Millisecond)},
			func(t *testing.T) { i.watch(t, http.MethodPost, "/invoke", streamed).until(t, "done") }, 0, 1 + 3, 0},
		// Of the same length. Its task, which comes when its request's time is over, looks at the
		// record.
		{"a stream of 2.4 s that goes on without its client", []geminitest.Reply{geminitest.Text(pieces...).WithDelay(200 * time.Millisecond)},
			func(t *testing.T) {
				before := len(waiting.kept())
				show := func(invoke.Event) error { return nil }
				if _, err := queued.Ask(ofCaller(t, "caller"), invoke.Request{Query: "hello", OnDisconnect: invoke.DisconnectContinue}, show); err != nil {
					t.Fatal(err)
				}
				if added := len(waiting.kept()) - before; added != 1 {
					t.Fatalf("%d tasks, want 1", added)
				}
				deliverLast(t)
			}, 1, 1 + 3, 0},
		{"an effect", []geminitest.Reply{call("pay")}, func(t *testing.T) { ask(t, server, "/invoke", `{"query": "hello"}`) }, 0, 1 + 2, 0},
		{"an approval", []geminitest.Reply{call("ask")}, func(t *testing.T) {
			_, body := ask(t, server, "/invoke", `{"query": "hello"}`)
			var answer struct{ Data invoke.Response }
			if err := json.Unmarshal([]byte(body), &answer); err != nil || len(answer.Data.Pending) != 1 {
				t.Fatal(body, err)
			}
			ask(t, server, "/runs/"+answer.Data.RunID+"/approvals", `{"call_id": "`+answer.Data.Pending[0].CallID+`", "approve": true}`)
		}, 3, 1 + 5, 0},
		{"in the background", nil, func(t *testing.T) {
			info, err := queued.Begin(ofCaller(t, "caller"), invoke.Request{Query: "hello"})
			if err != nil {
				t.Fatal(err)
			}
			deliverLast(t)
			sessionID, turnID, _ := session.SplitRunID(info.RunID)
			reads := traffic.reads.Load()
			record, err := store.LoadRun(t.Context(), session.Key{Owner: session.OwnerOf("caller", ""), ID: sessionID}, turnID)
			if err != nil || record.State != session.Done {
				t.Error(record, err)
			}
			traffic.reads.Store(reads)
		}, 2, 1 + 2, 1},
	} {
		gemini.Enqueue(tt.replies...)
		traffic.reads.Store(0)
		traffic.writes.Store(0)
		traffic.queries.Store(0)
		tt.run(t)
		reads, writes, queries := traffic.reads.Load(), traffic.writes.Load(), traffic.queries.Load()
		t.Logf("%s: %d reads, %d writes, %d queries", tt.name, reads, writes, queries)
		if reads != tt.reads || writes != tt.writes || queries != tt.queries {
			t.Errorf("%s: %d reads, %d writes, %d queries, want %d, %d, %d", tt.name, reads, writes, queries, tt.reads, tt.writes, tt.queries)
		}
	}
}
