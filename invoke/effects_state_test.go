package invoke_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/session"
	"example.com/gatehouse/tool"
)

// A noticing store says when the end of an effect is in a ledger.
type noticing struct {
	*dying
	once  sync.Once
	ended chan struct{}
}

func (n *noticing) SaveRun(ctx context.Context, r *session.Run) (*session.Run, error) {
	saved, err := n.dying.SaveRun(ctx, r)
	for _, e := range r.Effects {
		if err == nil && e.Done {
			n.once.Do(func() { close(n.ended) })
		}
	}
	return saved, err
}

var spent = tool.SessionState[int]("spent")

// What an effect has kept in the session's state comes with its result, for whoever takes
// the run over in the middle of the step.
func TestTheStateOfAnEffectIsTakenOver(t *testing.T) {
	t.Parallel()
	store, gemini := newMemory(), geminitest.Start(t)
	first := &noticing{dying: &dying{Store: store, dead: &atomic.Bool{}}, ended: make(chan struct{})}
	b := &bank{}
	a := agent.Agent{Name: "agent", MaxTokens: 100, Tools: []tool.Tool{
		tool.New("pay", "Pays.", func(ctx context.Context, in payment) (map[string]int, error) {
			if err := spent.Update(ctx, func(sum *int) error { *sum += in.Amount; return nil }); err != nil {
				return nil, err
			}
			return b.call(ctx, in)
		}, tool.Effect(b.reconcile)),
		tool.New("wait", "Waits.", func(ctx context.Context, _ struct{}) (string, error) {
			select {
			case <-first.ended:
				first.dead.Store(true)
			case <-ctx.Done():
			}
			return "waited", nil
		}),
		tool.New("total", "Sums up.", func(ctx context.Context, _ struct{}) (map[string]int, error) {
			sum, err := spent.Get(ctx)
			return map[string]int{"total": sum}, err
		}),
	}}
	pay := geminitest.FunctionCall{Name: "pay", Args: map[string]any{"to": "Ann", "amount": 50}}
	gemini.Enqueue(geminitest.Calls(pay, geminitest.FunctionCall{Name: "wait"}), geminitest.Text("Paid."))
	dying, _ := serveFor(t, first, gemini, a, 5*time.Second)
	ask(t, dying, "/invoke", `{"query": "pay"}`, "Idempotency-Key", "key")

	second, _ := serveAgent(t, lapsing{store}, gemini, a)
	gemini.Enqueue(geminitest.Text("Paid."))
	status, body := ask(t, second, "/invoke", `{"query": "pay"}`, "Idempotency-Key", "key")
	answer := decodeAnswer(t, body).Data
	if status != http.StatusOK || b.sum() != 50 || len(b.begins()) != 1 {
		t.Fatalf("status %d, paid %d in %d calls: %s", status, b.sum(), len(b.begins()), body)
	}
	gemini.Forget()
	gemini.Enqueue(geminitest.Calls(geminitest.FunctionCall{Name: "total"}), geminitest.Text("That much."))
	ask(t, second, "/invoke", fmt.Sprintf(`{"query": "how much?", "session_id": %q}`, answer.SessionID))
	requests := gemini.Requests()
	if raw := string(requests[len(requests)-1].Raw); !strings.Contains(strings.ReplaceAll(raw, " ", ""), `"total":50`) {
		t.Errorf("the session's state after the take-over: %s", raw)
	}
}
