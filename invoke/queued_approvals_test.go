package invoke_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/caller"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/queue"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/invoke"
	"example.com/gatehouse/session"
	"example.com/gatehouse/tool"
)

// A switchedQueue takes tasks unless it is off.
type switchedQueue struct {
	*queue.Local
	off   atomic.Bool
	tasks atomic.Int32
}

func (q *switchedQueue) Enqueue(ctx context.Context, t queue.Task, at time.Time) error {
	if q.off.Load() {
		return errors.New("the queue is off")
	}
	q.tasks.Add(1)
	return q.Local.Enqueue(ctx, t, at)
}

// serveQueued is serveAgent with a queue, whose tasks another instance does.
func serveQueued(t *testing.T, store session.Store, gemini *geminitest.Server, a agent.Agent, edits ...func(*invoke.Config)) (*httptest.Server, *switchedQueue) {
	t.Helper()
	var worker *invoke.Service
	log := telemetry.Discard()
	q := &switchedQueue{}
	q.Local = queue.NewLocal(t.Context(), func(ctx context.Context, task queue.Task) error {
		body, err := task.Encode()
		if err != nil {
			return err
		}
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(ctx, http.MethodPost, queue.Path, strings.NewReader(string(body)))
		r.Header.Set("Content-Type", "application/json")
		api.Answer(w, r, worker.TasksRoute().Handler)
		if w.Code >= 300 {
			return fmt.Errorf("status %d: %s", w.Code, w.Body)
		}
		return nil
	}, log)
	t.Cleanup(func() { q.Close() })
	config := func(c *invoke.Config) {
		c.Queue, c.RunTimeout, c.MaxBackground = q, time.Minute, 10
		for _, edit := range edits {
			edit(c)
		}
	}
	_, _ = serveAgent(t, store, gemini, a, func(c *invoke.Config) {
		config(c)
		worker = invoke.New(*c)
	})
	server, _ := serveAgent(t, store, gemini, a, config)
	return server, q
}

// waitsFor reads a run until it is in a state.
func waitsFor(t *testing.T, server *httptest.Server, run, state string) answered {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; {
		info := decodeAnswer(t, get(t, server, "/runs/"+run))
		if info.Data.State == state {
			return info
		}
		if time.Now().After(end) {
			t.Fatalf("the run is %s, want %s", info.Data.State, state)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// A run in the background waits; the answer is 202, and the queue goes on with it.
func TestApprovalsByTheQueue(t *testing.T) {
	t.Parallel()
	everyStore(t, approvalsByTheQueue)
}

func approvalsByTheQueue(t *testing.T, open func(*testing.T) session.Store) {
	for _, background := range []bool{true, false} {
		for _, yes := range []bool{true, false} {
			t.Run(fmt.Sprintf("background %t, approved %t", background, yes), func(t *testing.T) {
				t.Parallel()
				b, gemini := &bank{}, geminitest.Start(t)
				server, _ := serveQueued(t, open(t), gemini, b.agent(tool.Effect(b.reconcile), tool.Confirm(question)))
				gemini.Enqueue(pays(50))
				prefer := []string{}
				if background {
					prefer = []string{"Prefer", "respond-async"}
				}
				_, body := ask(t, server, "/invoke", `{"query": "pay"}`, prefer...)
				run := decodeAnswer(t, body).Data.RunID
				info := waitsFor(t, server, run, "waiting")
				if list := get(t, server, "/runs?state=waiting"); !strings.Contains(list, run) {
					t.Errorf("the list of what waits: %s", list)
				}
				gemini.Enqueue(geminitest.Text("Well."))
				status, body := approve(t, server, run, info.Data.Pending[0].CallID, yes)
				if status != http.StatusAccepted || !strings.Contains(body, run) {
					t.Fatalf("status %d: %s", status, body)
				}
				waitsFor(t, server, run, "done")
				if want := map[bool]int{true: 50}[yes]; b.sum() != want || len(gemini.Requests()) != 2 {
					t.Errorf("paid %d, want %d, after %d calls of the model", b.sum(), want, len(gemini.Requests()))
				}
				if status, body := approve(t, server, run, info.Data.Pending[0].CallID, yes); status != http.StatusConflict {
					t.Errorf("answered again: %d %s", status, body)
				}
				if list := get(t, server, "/runs?state=waiting"); strings.Contains(list, run) {
					t.Errorf("it still waits: %s", list)
				}
			})
		}
	}
}

// Each of many approvals of one run is a task, and none counts as a take-over.
func TestManyApprovalsOfARun(t *testing.T) {
	t.Parallel()
	const steps = 7
	b, gemini := &bank{}, geminitest.Start(t)
	server, _ := serveQueued(t, newMemory(), gemini, b.agent(tool.Effect(b.reconcile), tool.Confirm(question)))
	for range steps {
		gemini.Enqueue(geminitest.Calls(geminitest.FunctionCall{ID: "one id", Name: "pay", Args: map[string]any{"to": "Ann", "amount": 50}}))
	}
	gemini.Enqueue(geminitest.Text("Paid."))
	_, body := ask(t, server, "/invoke", `{"query": "pay"}`)
	run := decodeAnswer(t, body).Data.RunID
	calls := map[string]bool{}
	for range steps {
		call := waitsFor(t, server, run, "waiting").Data.Pending[0].CallID
		calls[call] = true
		if status, body := approve(t, server, run, call, true); status != http.StatusAccepted {
			t.Fatalf("status %d: %s", status, body)
		}
		for again := call; again == call; { // the next call, or the end
			info := decodeAnswer(t, get(t, server, "/runs/"+run))
			if again = ""; len(info.Data.Pending) > 0 {
				again = info.Data.Pending[0].CallID
			}
		}
	}
	waitsFor(t, server, run, "done")
	if b.sum() != 50*steps || len(calls) != steps {
		t.Errorf("paid %d in %d calls", b.sum(), len(calls))
	}
}

// A queue that takes nothing does not undo the answer, and a stream is the run itself.
func TestApprovalsWithoutTheQueue(t *testing.T) {
	t.Parallel()
	for _, stream := range []bool{false, true} {
		b, gemini := &bank{}, geminitest.Start(t)
		server, q := serveQueued(t, newMemory(), gemini, b.agent(tool.Effect(b.reconcile), tool.Confirm(question)))
		gemini.Enqueue(pays(50), geminitest.Text("Paid."))
		_, body := ask(t, server, "/invoke", `{"query": "pay"}`)
		waits := decodeAnswer(t, body).Data
		before := q.tasks.Load()
		accept := []string{"Accept", "text/event-stream"}
		if !stream {
			q.off.Store(true)
			accept = nil
		}
		status, body := approve(t, server, waits.RunID, waits.Pending[0].CallID, true, accept...)
		if status != http.StatusOK || lastEnvelope(t, body).Data.Response != "Paid." || b.sum() != 50 {
			t.Errorf("stream %t: status %d, paid %d: %s", stream, status, b.sum(), body)
		}
		if stream && q.tasks.Load() != before+1 {
			t.Errorf("%d tasks, want one for an instance that dies", q.tasks.Load()-before)
		}
	}
}

// Whether the caller is an operator is judged when the task begins, not when it asked.
func TestOperatorsAreJudgedWhenATaskBegins(t *testing.T) {
	t.Parallel()
	for _, operates := range []bool{true, false} {
		gemini := geminitest.Start(t)
		seen := make(chan bool, 1)
		server, _ := serveQueued(t, newMemory(), gemini, agent.Agent{Name: "agent", MaxTokens: 100, Tools: []tool.Tool{
			tool.New("who", "Looks who asks.", func(ctx context.Context, _ struct{}) (string, error) {
				seen <- tool.From(ctx).Operator
				return "seen", nil
			}),
		}}, func(c *invoke.Config) { c.Operates = func(caller.Principal) bool { return operates } })
		gemini.Enqueue(geminitest.Calls(geminitest.FunctionCall{Name: "who"}), geminitest.Text("Well."))
		_, body := ask(t, server, "/invoke", `{"query": "who am I?"}`, "Prefer", "respond-async")
		waitsFor(t, server, decodeAnswer(t, body).Data.RunID, "done")
		if got := <-seen; got != operates {
			t.Errorf("the tool works for an operator: %t, want %t", got, operates)
		}
	}
}
