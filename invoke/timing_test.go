package invoke_test

import (
	"context"
	"encoding/json"
	"net/http"
	"regexp"
	"sync/atomic"
	"testing"
	"time"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/invoke"
	"example.com/gatehouse/session"
	"example.com/gatehouse/tool"
)

// A slowStore takes time to load a session and to store a turn.
type slowStore struct {
	session.Store
	spend func(ms int64)
}

func (s slowStore) Load(ctx context.Context, key session.Key) (*session.Session, error) {
	s.spend(20)
	return s.Store.Load(ctx, key)
}

func (s slowStore) Apply(ctx context.Context, loaded *session.Session, c session.Change) (*session.Session, error) {
	if c.Turn != nil {
		s.spend(30)
	}
	return s.Store.Apply(ctx, loaded, c)
}

// A slowEnd takes time to store the end of a run.
type slowEnd struct {
	session.Store
	spend func(ms int64)
}

func (s slowEnd) SaveRun(ctx context.Context, r *session.Run) (*session.Run, error) {
	if r.State == session.Done {
		s.spend(30)
	}
	return s.Store.SaveRun(ctx, r)
}

// The answer of a run without a session waits until its key has it, which counts as time in the
// store.
func TestTheStoreTimeOfARunWithoutASession(t *testing.T) {
	t.Parallel()
	var clock atomic.Int64 // milliseconds
	begin := time.Now()
	gemini := geminitest.Start(t)
	gemini.Enqueue(geminitest.Text("Well."))
	s := asked(t, slowEnd{newMemory(), func(ms int64) { clock.Add(ms) }}, gemini, agent.Agent{}, func(c *invoke.Config) {
		c.Now = func() time.Time { return begin.Add(time.Duration(clock.Load()) * time.Millisecond) }
	})
	record := &telemetry.Record{}
	if _, err := s.Ask(telemetry.WithRecord(ofCaller(t, "caller"), record), completion("key", "hello"), nil); err != nil {
		t.Fatal(err)
	}
	if spent := record.Turn().StoreTime; spent != 30*time.Millisecond {
		t.Errorf("%v in the store, want 30 ms", spent)
	}
}

// Where the time of a turn went is in its answer, and but for its commit in the session and
// in a replay. A run that has waited adds up what it took before and after.
func TestTiming(t *testing.T) {
	t.Parallel()
	var clock atomic.Int64 // milliseconds
	begin := time.Now()
	now := func() time.Time { return begin.Add(time.Duration(clock.Load()) * time.Millisecond) }
	spend := func(ms int64) { clock.Add(ms) }
	gemini := geminitest.Start(t)
	work := func(context.Context, struct{}) (string, error) {
		spend(300)
		return "done", nil
	}
	a := agent.Agent{Name: "agent", MaxTokens: 100, Tools: []tool.Tool{
		tool.New("work", "Works.", work),
		tool.New("ask", "Asks, and works.", work, tool.Confirm(func(struct{}) string { return "Work?" })),
	}}
	server, log := serveAgent(t, slowStore{newMemory(), spend}, gemini, a, func(c *invoke.Config) { c.Now = now })
	gemini.Handle(func(r geminitest.Request) geminitest.Reply {
		spend(100)
		contents := r.Contents()
		if name := geminitest.TextOf(contents[len(contents)-1]); name == "work" || name == "ask" { // no tool has answered yet
			return geminitest.Calls(geminitest.FunctionCall{Name: name})
		}
		return geminitest.Text("Well.")
	})
	type timed struct {
		Timing session.Timing `json:"timing"`
	}
	timing := func(body string) session.Timing {
		t.Helper()
		var answer struct{ Data timed }
		if err := json.Unmarshal([]byte(body), &answer); err != nil {
			t.Fatal(err)
		}
		return answer.Data.Timing
	}
	check := func(what string, got, want session.Timing) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %+v, want %+v", what, got, want)
		}
	}
	_, body := ask(t, server, "/invoke", `{"query": "work"}`)
	first := decodeAnswer(t, body).Data
	check("the first turn", timing(body), session.Timing{Model: 200, Tools: 300, Commit: 30})
	logged, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := log.Await(logged, regexp.MustCompile(`"store_ms":30\b`)); err != nil { // it is written after the answer
		t.Errorf("the log has another time: %v: %s", err, log)
	}
	_, body = ask(t, server, "/invoke", `{"query": "hello", "session_id": "`+first.SessionID+`"}`, "Idempotency-Key", "key")
	check("a turn with a load", timing(body), session.Timing{Load: 20, Model: 100, Commit: 30})
	_, body = ask(t, server, "/invoke", `{"query": "hello", "session_id": "`+first.SessionID+`"}`, "Idempotency-Key", "key")
	check("its replay", timing(body), session.Timing{Load: 20, Model: 100})
	_, body = ask(t, server, "/invoke", `{"query": "ask", "session_id": "`+first.SessionID+`"}`)
	waits := decodeAnswer(t, body).Data
	check("a turn that waits", timing(body), session.Timing{Load: 20, Model: 100, Commit: 30})
	spend(3_600_000)
	status, body := approve(t, server, waits.RunID, waits.Pending[0].CallID, true)
	if status != http.StatusOK {
		t.Fatal(status, body)
	}
	check("what it came to", timing(body), session.Timing{Load: 40, Model: 200, Tools: 300, Commit: 30})
	var page struct{ Data struct{ Turns []timed } }
	if err := json.Unmarshal([]byte(get(t, server, "/sessions/"+first.SessionID)), &page); err != nil || len(page.Data.Turns) != 3 {
		t.Fatal(err, page)
	}
	check("stored, the first", page.Data.Turns[0].Timing, session.Timing{Model: 200, Tools: 300})
	check("stored, the second", page.Data.Turns[1].Timing, session.Timing{Load: 20, Model: 100})
	check("stored, the third", page.Data.Turns[2].Timing, session.Timing{Load: 40, Model: 200, Tools: 300})
}
