package invoke_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/session"
	"example.com/gatehouse/tool"
)

// POST /invoke edits and answers again by a turn's number, under the rules of /chat.
func TestReplaces(t *testing.T) {
	t.Parallel()
	everyStore(t, func(t *testing.T, open func(t *testing.T) session.Store) {
		tests := []struct {
			name, fields string
			status       int
			turn         int
			left         []string // the session's questions after it
		}{
			{"the first turn", `"after_turn": 3, "replaces": 1`, http.StatusOK, 1, []string{"again"}},
			{"one in the middle", `"after_turn": 3, "replaces": 2`, http.StatusOK, 2, []string{"one", "again"}},
			{"the last turn", `"after_turn": 3, "replaces": 3`, http.StatusOK, 3, []string{"one", "two", "again"}},
			{"one that is not there", `"after_turn": 3, "replaces": 4`, http.StatusConflict, 0, []string{"one", "two", "three"}},
			{"of a session that went on", `"after_turn": 2, "replaces": 2`, http.StatusConflict, 0, []string{"one", "two", "three"}},
			{"without what its client has seen", `"replaces": 2`, http.StatusUnprocessableEntity, 0, []string{"one", "two", "three"}},
			{"none", `"after_turn": 3, "replaces": 0`, http.StatusUnprocessableEntity, 0, []string{"one", "two", "three"}},
		}
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				gemini := geminitest.Start(t)
				server, _ := serveAgent(t, open(t), gemini, agent.Agent{Name: "plain", MaxTokens: 100})
				id := session.NewID()
				for i, query := range []string{"one", "two", "three"} {
					_, first := ask(t, server, "/chat", fmt.Sprintf(`{"id": %q, "after_turn": %d, "messages": [{"role": "user", "parts": [{"type": "text", "text": %q}]}]}`, id, i, query))
					if !strings.Contains(first, `"type":"finish"`) {
						t.Fatal(first)
					}
				}
				// A retry of the key is the same turn.
				for _, replayed := range []bool{false, true} {
					status, body := ask(t, server, "/invoke", fmt.Sprintf(`{"query": "again", "session_id": %q, %s}`, id, test.fields), "Idempotency-Key", "again")
					if status != test.status || status == http.StatusOK && decodeAnswer(t, body).Data.Turn != test.turn {
						t.Errorf("replayed %v: status %d: %s", replayed, status, body)
					}
				}
				if got := questions(t, server, id); !slices.Equal(got, test.left) {
					t.Errorf("the session has %q, want %q", got, test.left)
				}
			})
		}
	})
}

// An answer that still goes on, in another tab, ends before the turn that replaces it.
func TestReplacesWhileAnAnswerGoesOn(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	server, _ := serveAgent(t, newMemory(), gemini, agent.Agent{Name: "plain", MaxTokens: 100})
	_, first := ask(t, server, "/invoke", `{"query": "one"}`)
	id := decodeAnswer(t, first).Data.SessionID
	gemini.Enqueue(geminitest.Text("It began", "never said").SilentAfter(1))
	stopped := make(chan string, 1)
	go func() {
		_, body := ask(t, server, "/invoke", fmt.Sprintf(`{"query": "two", "session_id": %q, "stream": true}`, id))
		stopped <- body
	}()
	if _, err := gemini.Await(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	gemini.Enqueue(geminitest.Text("Again."))
	status, body := ask(t, server, "/invoke", fmt.Sprintf(`{"query": "again", "session_id": %q, "after_turn": 1, "replaces": 1}`, id))
	if status != http.StatusOK || decodeAnswer(t, body).Data.Turn != 1 {
		t.Fatalf("status %d: %s", status, body)
	}
	<-stopped
	if got := questions(t, server, id); !slices.Equal(got, []string{"again"}) {
		t.Errorf("the session has %q", got)
	}
}

// A page that asks while its last answer still goes on, as after stop() of the SDK, no longer
// waits for that: it ends, and the new turn follows what was said of it.
func TestAPageAsksWhileItsAnswerGoesOn(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	a, _, _ := instances(t, gemini)
	id := session.NewID()
	gemini.Enqueue(geminitest.Text("It began", "never said").SilentAfter(1))
	own := a.watch(t, http.MethodPost, "/chat", fmt.Sprintf(`{"id": %q, "messages": [{"role": "user", "parts": [{"type": "text", "text": "one"}]}]}`, id))
	var run string
	for e := range own.events {
		if _, after, ok := strings.Cut(e.data, `"run_id":"`); ok {
			run, _, _ = strings.Cut(after, `"`)
		}
		if strings.Contains(e.data, "It began") {
			break
		}
	}
	gemini.Enqueue(geminitest.Text("Again."))
	status, body := ask(t, a.Server, "/chat", fmt.Sprintf(`{"id": %q, "messages": [{"role": "user", "parts": [{"type": "text", "text": "one"}]},
		{"role": "assistant", "metadata": {"run_id": %q}, "parts": [{"type": "text", "text": "It began"}]},
		{"role": "user", "parts": [{"type": "text", "text": "two"}]}]}`, id, run))
	if status != http.StatusOK || !strings.Contains(body, `"turn":2`) {
		t.Errorf("status %d: %s", status, body)
	}
	if got := questions(t, a.Server, id); !slices.Equal(got, []string{"one", "two"}) {
		t.Fatalf("the session has %q", got)
	}
	own.until(t, "")
}

// What was done stays done: a turn with an effect is kept, and those before it.
func TestReplacesKeepsEffects(t *testing.T) {
	t.Parallel()
	b, gemini := &bank{}, geminitest.Start(t)
	server, _ := serveAgent(t, newMemory(), gemini, b.agent(tool.Effect(b.reconcile)))
	_, first := ask(t, server, "/invoke", `{"query": "hello"}`)
	id := decodeAnswer(t, first).Data.SessionID
	gemini.Enqueue(pays(5), geminitest.Text("Paid."))
	ask(t, server, "/invoke", fmt.Sprintf(`{"query": "pay", "session_id": %q}`, id))
	for n := 1; n <= 2; n++ {
		status, body := ask(t, server, "/invoke", fmt.Sprintf(`{"query": "no", "session_id": %q, "after_turn": 2, "replaces": %d}`, id, n))
		if status != http.StatusConflict || !strings.Contains(body, "stays done") || b.sum() != 5 {
			t.Errorf("turn %d: status %d, paid %d: %s", n, status, b.sum(), body)
		}
	}
}

// questions returns the questions of a session, oldest first.
func questions(t *testing.T, server *httptest.Server, id string) (all []string) {
	t.Helper()
	var answer struct {
		Data struct{ Turns []struct{ Query string } }
	}
	if err := json.Unmarshal([]byte(get(t, server, "/sessions/"+id)), &answer); err != nil {
		t.Fatal(err)
	}
	for _, turn := range answer.Data.Turns {
		all = append(all, turn.Query)
	}
	return all
}
