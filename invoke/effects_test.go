package invoke_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/gcp/emulator"
	"example.com/gatehouse/internal/gcp/firestore"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/invoke"
	"example.com/gatehouse/session"
	"example.com/gatehouse/tool"
)

// A bank is what the tool of these tests changes.
type bank struct {
	mu       sync.Mutex
	begun    []string // effect ids, of each begin
	paid     map[string]int
	asked    int                                            // reconcile was
	pay      func(ctx context.Context, effect string) error // nil: it is paid
	noAnswer bool                                           // reconcile fails
}

type payment struct {
	To     string `json:"to"`
	Amount int    `json:"amount"`
}

// begins returns the ids of the effects that have begun. A tool that was not waited for may
// begin later.
func (b *bank) begins() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.begun)
}

func (b *bank) call(ctx context.Context, in payment) (map[string]int, error) {
	id := tool.From(ctx).EffectID
	b.mu.Lock()
	b.begun = append(b.begun, id)
	pay := b.pay
	b.mu.Unlock()
	if pay != nil {
		if err := pay(ctx, id); err != nil {
			return nil, err
		}
	}
	b.credit(id, in.Amount)
	return map[string]int{"paid": in.Amount}, nil
}

func (b *bank) credit(id string, amount int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.paid == nil {
		b.paid = map[string]int{}
	}
	b.paid[id] += amount
}

func (b *bank) reconcile(ctx context.Context, in payment) (map[string]int, bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked++
	if b.noAnswer {
		return nil, false, errors.New("the bank does not answer")
	}
	_, paid := b.paid[tool.From(ctx).EffectID]
	return map[string]int{"paid": in.Amount}, paid, nil
}

func (b *bank) sum() (sum int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, amount := range b.paid {
		sum += amount
	}
	return sum
}

func (b *bank) agent(options ...tool.Option) agent.Agent {
	return agent.Agent{Name: "agent", MaxTokens: 100, Tools: []tool.Tool{
		tool.New("pay", "Pays.", b.call, options...),
		tool.New("look", "Looks.", func(context.Context, struct{}) (string, error) { return "seen", nil }),
	}}
}

func pays(amount int) geminitest.Reply {
	return geminitest.Calls(geminitest.FunctionCall{Name: "pay", Args: map[string]any{"to": "Ann", "amount": amount}})
}

// A dying store answers its process until that is dead.
type dying struct {
	session.Store
	dead   *atomic.Bool // its process
	commit atomic.Bool  // it dies when a turn is stored
}

var errDead = fmt.Errorf("the process is dead: %w", session.ErrUnavailable)

func (d *dying) Apply(ctx context.Context, s *session.Session, c session.Change) (*session.Session, error) {
	if c.Turn != nil && d.commit.Load() {
		d.dead.Store(true)
	}
	if d.dead.Load() {
		return nil, errDead
	}
	return d.Store.Apply(ctx, s, c)
}

func (d *dying) SaveRun(ctx context.Context, r *session.Run) (*session.Run, error) {
	if d.dead.Load() {
		return nil, errDead
	}
	return d.Store.SaveRun(ctx, r)
}

func (d *dying) Load(ctx context.Context, key session.Key) (*session.Session, error) {
	if d.dead.Load() {
		return nil, errDead
	}
	return d.Store.Load(ctx, key)
}

func (d *dying) LoadRun(ctx context.Context, key session.Key, id string) (*session.Run, error) {
	if d.dead.Load() {
		return nil, errDead
	}
	return d.Store.LoadRun(ctx, key, id)
}

// lapsing is a store whose records are read as those of dead holders.
type lapsing struct{ session.Store }

func (l lapsing) LoadRun(ctx context.Context, key session.Key, id string) (*session.Run, error) {
	r, err := l.Store.LoadRun(ctx, key, id)
	if err == nil {
		r.Silent = time.Minute
	}
	return r, err
}

type answered struct {
	Error string
	Data  struct {
		Response     string
		RunID        string `json:"run_id"`
		SessionID    string `json:"session_id"`
		Turn         int
		FinishReason string `json:"finish_reason"`
		State        string
		Warnings     []string
		Pending      []session.Pending
		ToolCalls    []session.ToolCall `json:"tool_calls"`
		Usage        session.Usage
	}
}

func decodeAnswer(t *testing.T, body string) (a answered) {
	t.Helper()
	if err := json.Unmarshal([]byte(body), &a); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return a
}

// everyStore runs test on each kind of store.
func everyStore(t *testing.T, test func(t *testing.T, open func(t *testing.T) session.Store)) {
	t.Run("in memory", func(t *testing.T) {
		t.Parallel()
		test(t, func(*testing.T) session.Store { return newMemory() })
	})
	t.Run("in Firestore", func(t *testing.T) {
		t.Parallel()
		emulator.Host(t) // or it is skipped, once
		test(t, func(t *testing.T) session.Store {
			return firestore.NewSessions(emulator.Client(t), 30*24*time.Hour, time.Now)
		})
	})
}

// A process dies around a tool that changes the world, and the call is tried again with
// its key at another one.
func TestACrashAroundAnEffect(t *testing.T) {
	t.Parallel()
	everyStore(t, crashAroundAnEffect)
}

func crashAroundAnEffect(t *testing.T, open func(*testing.T) session.Store) {
	const before, during, after, commit = "before it takes effect", "after it took effect, unheard", "after its end, in the next model call", "at the commit"
	tests := []struct {
		dies       string
		reconciles bool
		begun      int // times that the tool was begun
		paid       int
		unknown    bool
	}{
		{before, true, 2, 5, false},
		{before, false, 1, 0, true},
		{during, true, 1, 5, false},
		{during, false, 1, 5, true},
		{after, true, 1, 5, false},
		{after, false, 1, 5, true}, // its end was not written yet
		{commit, true, 1, 5, false},
		{commit, false, 1, 5, true},
	}
	for _, stream := range []bool{false, true} {
		for _, test := range tests {
			t.Run(fmt.Sprintf("%s, reconcile %t, stream %t", test.dies, test.reconciles, stream), func(t *testing.T) {
				t.Parallel()
				b, store := &bank{}, open(t)
				effect := tool.Effect[payment, map[string]int](nil)
				if test.reconciles {
					effect = tool.Effect(b.reconcile)
				}
				gemini := geminitest.Start(t)
				first := &dying{Store: store, dead: &atomic.Bool{}}
				first.commit.Store(test.dies == commit)
				b.pay = func(_ context.Context, id string) error {
					switch test.dies {
					case before:
						first.dead.Store(true)
						return tool.ErrUnknown
					case during:
						first.dead.Store(true)
						b.credit(id, 5)
						return tool.ErrUnknown
					}
					return nil
				}
				if test.dies == before || test.dies == during {
					b.noAnswer = true // for the process that dies
				}
				dying, _ := serveFor(t, first, gemini, b.agent(effect), 3*time.Second)
				gemini.Enqueue(pays(5))
				switch test.dies {
				case after:
					gemini.Handle(func(geminitest.Request) geminitest.Reply {
						first.dead.Store(true)
						return geminitest.Error(http.StatusBadRequest, "no")
					})
				case commit:
					gemini.Enqueue(geminitest.Text("Paid."))
				}
				body := fmt.Sprintf(`{"query": "pay", "stream": %t}`, stream)
				if _, answer := ask(t, dying, "/invoke", body, "Idempotency-Key", "key"); strings.Contains(answer, `"success":true`) {
					t.Fatalf("a dead process has answered: %s", answer)
				}
				b.mu.Lock()
				b.pay, b.noAnswer, b.asked = nil, false, 0
				b.mu.Unlock()
				asked := len(gemini.Requests())

				second, _ := serveAgent(t, lapsing{store}, gemini, b.agent(effect))
				gemini.Handle(nil)
				if !test.unknown {
					gemini.Enqueue(geminitest.Text("Paid."))
				}
				status, answer := ask(t, second, "/invoke", `{"query": "pay"}`, "Idempotency-Key", "key")
				a := decodeAnswer(t, answer)
				if status != http.StatusOK || slices.Contains(a.Data.Warnings, "effect_unknown") != test.unknown {
					t.Fatalf("status %d: %s", status, answer)
				}
				if len(b.begins()) != test.begun || b.sum() != test.paid {
					t.Errorf("begun %d times, paid %d; want %d and %d", len(b.begins()), b.sum(), test.begun, test.paid)
				}
				if again := slices.Compact(b.begins()); len(again) != 1 || again[0] == "" {
					t.Errorf("the effect's ids: %q", b.begins())
				}
				if n := len(gemini.Requests()) - asked; n > 1 {
					t.Errorf("the model was asked %d times more, want at most once: its first call was finished", n)
				}
				_, third := ask(t, second, "/invoke", `{"query": "pay"}`, "Idempotency-Key", "key")
				if r := decodeAnswer(t, third).Data; r.RunID != a.Data.RunID || r.Response != a.Data.Response || r.FinishReason != a.Data.FinishReason {
					t.Errorf("the replay differs: %s\n%s", third, answer)
				}
				if turns := get(t, second, "/sessions/"+a.Data.SessionID); strings.Count(turns, `"run_id"`) != 1 {
					t.Errorf("want one turn: %s", turns)
				}
			})
		}
	}
}

// Ends of an effect in a process that lives.
func TestTheEndOfAnEffect(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		pay     func(b *bank) func(context.Context, string) error
		replies []geminitest.Reply // after the call
		finish  string
		warning string
		paid    int
	}{
		{"success", nil, []geminitest.Reply{geminitest.Text("Paid.")}, "STOP", "", 5},
		{"an error: nothing was done", func(*bank) func(context.Context, string) error {
			return func(context.Context, string) error { return errors.New("no money") }
		}, []geminitest.Reply{geminitest.Text("You have no money.")}, "STOP", "", 0},
		{"a panic", func(*bank) func(context.Context, string) error {
			return func(context.Context, string) error { panic("x") }
		}, nil, "FAILED", "effect_unknown", 0},
		{"it takes too long", func(*bank) func(context.Context, string) error {
			return func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() }
		}, nil, "FAILED", "effect_unknown", 0},
		{"the model refuses afterwards", nil, []geminitest.Reply{geminitest.Blocked("SAFETY")}, "FAILED", "content_blocked", 5},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b, gemini := &bank{}, geminitest.Start(t)
			if test.pay != nil {
				b.pay = test.pay(b)
			}
			server, _ := serveAgent(t, newMemory(), gemini, b.agent(tool.Effect[payment, map[string]int](nil), tool.Timeout(100*time.Millisecond)))
			gemini.Enqueue(append([]geminitest.Reply{pays(5)}, test.replies...)...)
			status, answer := ask(t, server, "/invoke", `{"query": "pay"}`)
			a := decodeAnswer(t, answer).Data
			if status != http.StatusOK || a.FinishReason != test.finish || b.sum() != test.paid {
				t.Fatalf("status %d, paid %d: %s", status, b.sum(), answer)
			}
			if (test.warning == "") != (len(a.Warnings) == 0) || test.warning != "" && !slices.Contains(a.Warnings, test.warning) {
				t.Errorf("warnings %q, want %q", a.Warnings, test.warning)
			}
			// The next question knows what has happened, and the session is one that the model takes.
			gemini.Enqueue(geminitest.Text("Next."))
			if status, next := ask(t, server, "/invoke", fmt.Sprintf(`{"query": "and?", "session_id": %q}`, a.SessionID)); status != http.StatusOK {
				t.Fatalf("status %d: %s", status, next)
			}
			requests := gemini.Requests()
			if raw := string(requests[len(requests)-1].Raw); test.finish == "FAILED" && !strings.Contains(raw, "ended before") || strings.Count(raw, `"functionCall"`) != strings.Count(raw, `"functionResponse"`) {
				t.Errorf("the next prompt: %s", raw)
			}
			// What was done cannot be made undone by another answer.
			status, chat := ask(t, server, "/chat", fmt.Sprintf(`{"id": %q, "messages": [{"role": "assistant", "metadata": {"run_id": %q}, "parts": []}, {"role": "user", "parts": [{"type": "text", "text": "and?"}]}], "trigger": "regenerate-message"}`, a.SessionID, a.RunID))
			if status != http.StatusOK { // the last turn has no effect
				t.Errorf("status %d: %s", status, chat)
			}
		})
	}
}

// A run that keeps no effects asks how one has ended, too, as long as it goes on.
func TestTheEndOfAnEffectWithoutASession(t *testing.T) {
	t.Parallel()
	b, gemini := &bank{}, geminitest.Start(t)
	b.pay = func(_ context.Context, id string) error {
		b.credit(id, 5)
		return tool.ErrUnknown
	}
	s := asked(t, newMemory(), gemini, b.agent(tool.Effect(b.reconcile)))
	gemini.Enqueue(pays(5), geminitest.Text("Paid."))
	response, err := s.Ask(ofCaller(t, "caller"), completion("", "pay"), nil)
	if err != nil || response.Response != "Paid." || len(response.Warnings) != 0 || !strings.Contains(output(t, gemini), `{"paid":5}`) {
		t.Errorf("%+v, %v", response, err)
	}
}

// A run that keeps no effects and is over asks no more: what it reads goes nowhere.
func TestAnEffectOfARunWithoutASessionThatIsOver(t *testing.T) {
	t.Parallel()
	for name, during := range map[string]bool{"during the effect": false, "during the question how it ended": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, leave := context.WithCancel(ofCaller(t, "caller"))
			defer leave()
			b, gemini := &bank{}, geminitest.Start(t)
			b.pay = func(ctx context.Context, _ string) error {
				if during {
					return tool.ErrUnknown
				}
				leave()
				<-ctx.Done()
				return ctx.Err()
			}
			var reconciled atomic.Bool
			over := make(chan time.Duration, 1)
			s := asked(t, newMemory(), gemini, b.agent(tool.Effect(func(ctx context.Context, _ payment) (map[string]int, bool, error) {
				reconciled.Store(true)
				begin := time.Now()
				leave()
				<-ctx.Done()
				over <- time.Since(begin)
				return nil, false, ctx.Err()
			})))
			gemini.Enqueue(pays(5))
			if _, err := s.Ask(ctx, completion("", "pay"), nil); err == nil {
				t.Error("it has an answer")
			}
			if reconciled.Load() != during {
				t.Errorf("the tool is asked: %t", !during)
			}
			if during {
				if took := <-over; took > time.Second {
					t.Errorf("it may answer for %v", took)
				}
			}
		})
	}
}

// An expiring context ends as at a deadline, once over is closed.
type expiring struct {
	context.Context
	over <-chan struct{}
}

func (e expiring) Done() <-chan struct{} { return e.over }

func (e expiring) Err() error {
	select {
	case <-e.over:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// A turn that is over before its effect asks how that has ended: what is known is in the turn.
func TestATurnThatEndsDuringAnEffect(t *testing.T) {
	t.Parallel()
	const expires, stopped, left = "its time is over", "it is stopped", "its client leaves"
	type reconcile = func(context.Context, payment) (map[string]int, bool, error)
	tests := []struct {
		name      string
		paid      int
		reconcile func(*bank) reconcile
		unknown   bool
		told      string // what the next question reads of the call
	}{
		{"it was done", 5, func(b *bank) reconcile { return b.reconcile }, false, `{"paid":5}`},
		{"it was not done", 0, func(b *bank) reconcile { return b.reconcile }, false, "not run: the answer ended before"},
		{"the tool does not know", 5, func(b *bank) reconcile { b.noAnswer = true; return b.reconcile }, true, "not known whether"},
		{"the tool does not answer", 5, func(*bank) reconcile {
			return func(ctx context.Context, _ payment) (map[string]int, bool, error) {
				<-ctx.Done()
				return nil, true, nil
			}
		}, true, "not known whether"},
		{"the tool takes a moment to answer", 5, func(b *bank) reconcile {
			return func(ctx context.Context, in payment) (map[string]int, bool, error) {
				select {
				case <-ctx.Done():
					return nil, false, ctx.Err()
				case <-time.After(100 * time.Millisecond):
					return b.reconcile(ctx, in)
				}
			}
		}, false, `{"paid":5}`},
		{"nobody can be asked", 5, func(*bank) reconcile { return nil }, true, "not known whether"},
	}
	for _, tt := range tests {
		for _, end := range []string{expires, stopped, left} {
			t.Run(tt.name+", "+end, func(t *testing.T) {
				t.Parallel()
				b, gemini, store := &bank{}, geminitest.Start(t), newMemory()
				s := asked(t, store, gemini, b.agent(tool.Effect(tt.reconcile(b))))
				asking, leave := context.WithCancel(ofCaller(t, "caller"))
				defer leave()
				over := make(chan struct{})
				if end == expires {
					asking = expiring{asking, over}
				}
				begun, started, run := make(chan struct{}), make(chan string, 1), ""
				b.pay = func(ctx context.Context, id string) error {
					if tt.paid > 0 {
						b.credit(id, tt.paid)
					}
					close(begun)
					<-ctx.Done()
					return ctx.Err()
				}
				gemini.Enqueue(pays(5))
				var ends sync.WaitGroup
				ends.Go(func() {
					<-begun
					run = <-started
					switch end {
					case expires:
						close(over)
					case stopped:
						if err := s.Stop(ofCaller(t, "caller"), run); err != nil {
							t.Error(err)
						}
					case left:
						leave()
					}
				})
				begin := time.Now()
				_, err := s.Ask(asking, invoke.Request{Query: "pay"}, func(e invoke.Event) error {
					if e.Start != nil {
						started <- e.Run
					}
					return nil
				})
				ends.Wait()
				if took := time.Since(begin); err != nil || took > 5*time.Second {
					t.Errorf("%v after %v", err, took)
				}
				id, _, _ := session.SplitRunID(run)
				_, records, err := store.Turns(t.Context(), session.Key{Owner: session.OwnerOf("caller", ""), ID: id}, 0, 10)
				if err != nil || len(records) != 1 {
					t.Fatalf("%d turns, %v", len(records), err)
				}
				turn, err := records[0].Turn()
				if err != nil || slices.Contains(turn.Warnings, "effect_unknown") != tt.unknown || !strings.Contains(string(turn.Contents), tt.told) {
					t.Errorf("warnings %q, contents %s, %v", turn.Warnings, turn.Contents, err)
				}
				if len(b.begins()) != 1 || b.sum() != tt.paid {
					t.Errorf("begun %d times, paid %d", len(b.begins()), b.sum())
				}
			})
		}
	}
}

// Who stops a run whose process died in the tool generates nothing more, and asks.
func TestAStopAfterACrashDuringAnEffect(t *testing.T) {
	t.Parallel()
	for _, paid := range []int{5, 0} {
		t.Run(fmt.Sprint(paid), func(t *testing.T) {
			t.Parallel()
			b, gemini, store, ctx := &bank{noAnswer: true}, geminitest.Start(t), newMemory(), ofCaller(t, "caller")
			first := &dying{Store: store, dead: &atomic.Bool{}}
			b.pay = func(_ context.Context, id string) error {
				first.dead.Store(true)
				if paid > 0 {
					b.credit(id, paid)
				}
				return tool.ErrUnknown
			}
			pay := b.agent(tool.Effect(b.reconcile))
			gemini.Enqueue(pays(5))
			started := make(chan string, 1)
			_, _ = asked(t, first, gemini, pay).Ask(ctx, invoke.Request{Query: "pay"}, func(e invoke.Event) error {
				if e.Start != nil {
					started <- e.Run
				}
				return nil
			})
			run := <-started
			b.noAnswer = false
			if err := asked(t, lapsing{store}, gemini, pay).Stop(ctx, run); err != nil {
				t.Fatal(err)
			}
			id, _, _ := session.SplitRunID(run)
			_, records, err := store.Turns(t.Context(), session.Key{Owner: session.OwnerOf("caller", ""), ID: id}, 0, 10)
			if err != nil || len(records) != 1 {
				t.Fatalf("%d turns, %v", len(records), err)
			}
			turn, err := records[0].Turn()
			if err != nil || turn.FinishReason != "STOPPED" || slices.Contains(turn.Warnings, "effect_unknown") || len(b.begins()) != 1 || b.sum() != paid {
				t.Errorf("%s, warnings %q, begun %d times, paid %d, %v", turn.FinishReason, turn.Warnings, len(b.begins()), b.sum(), err)
			}
		})
	}
}

func TestATurnWithAnEffectIsNotReplaced(t *testing.T) {
	t.Parallel()
	b, gemini := &bank{}, geminitest.Start(t)
	server, _ := serveAgent(t, newMemory(), gemini, b.agent(tool.Effect(b.reconcile)))
	gemini.Enqueue(pays(5), geminitest.Text("Paid."))
	_, answer := ask(t, server, "/invoke", `{"query": "pay"}`)
	status, body := ask(t, server, "/chat", fmt.Sprintf(`{"id": %q, "messages": [{"role": "user", "parts": [{"type": "text", "text": "pay"}]}], "trigger": "regenerate-message"}`, decodeAnswer(t, answer).Data.SessionID))
	if status != http.StatusConflict || !strings.Contains(body, "stays done") || b.sum() != 5 {
		t.Errorf("status %d, paid %d: %s", status, b.sum(), body)
	}
}

// A turn in which an effect began is stored wherever its session is by then, because the next
// question must know of it.
func TestATurnWithAnEffectThatAnotherTurnOvertakes(t *testing.T) {
	t.Parallel()
	for name, req := range map[string]invoke.Request{
		"that had a number": {Query: "pay", AfterTurn: new(1)},
		"that replaces":     {Query: "pay", AfterTurn: new(1), Replaces: new(1)},
		"with a key":        {Query: "pay", AfterTurn: new(1), Options: invoke.Options{Key: "key"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, gemini, ctx, store := &bank{}, geminitest.Start(t), ofCaller(t, "caller"), newMemory()
			s := asked(t, store, gemini, b.agent(tool.Effect(b.reconcile)))
			gemini.Enqueue(geminitest.Text("Hello."))
			before, err := s.Ask(ctx, invoke.Request{Query: "hello"}, nil)
			if err != nil {
				t.Fatal(err)
			}
			gate := make(chan struct{})
			gemini.Enqueue(pays(5), geminitest.Text("Pa", "id.").WithGate(1, gate), geminitest.Text("Between."))
			req.SessionID = before.SessionID
			var paid *invoke.Response
			var failed error
			var asking sync.WaitGroup
			asking.Go(func() { paid, failed = s.Ask(ctx, req, nil) })
			if _, err := gemini.Await(t.Context(), 3); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Ask(ctx, invoke.Request{Query: "between", SessionID: before.SessionID}, nil); err != nil {
				t.Fatal(err)
			}
			close(gate)
			asking.Wait()
			if failed != nil || paid.Turn != 3 || paid.Response != "Paid." {
				t.Fatalf("%+v, %v", paid, failed)
			}
			_, records, err := store.Turns(ctx, session.Key{Owner: session.OwnerOf("caller", ""), ID: before.SessionID}, 0, 10)
			if err != nil || len(records) != 3 || b.sum() != 5 {
				t.Fatalf("%d turns, %d paid, %v", len(records), b.sum(), err)
			}
			if turn, err := records[2].Turn(); err != nil || !turn.Effects || session.RunID(before.SessionID, turn.ID) != paid.RunID {
				t.Errorf("the last turn: %+v, %v", turn, err)
			}
		})
	}
}

// A run that goes on after its answer, and that a message overtakes, is found where it has ended.
func TestAnApprovedRunThatAnotherTurnOvertakes(t *testing.T) {
	t.Parallel()
	b, gemini, ctx := &bank{}, geminitest.Start(t), ofCaller(t, "caller")
	s := asked(t, newMemory(), gemini, b.agent(tool.Effect(b.reconcile), tool.Confirm(question)))
	gate := make(chan struct{})
	gemini.Enqueue(pays(50), geminitest.Text("Pa", "id.").WithGate(1, gate), geminitest.Text("Between."))
	waits, err := s.Ask(ctx, invoke.Request{Query: "pay"}, nil)
	if err != nil || len(waits.Pending) != 1 {
		t.Fatal(waits, err)
	}
	var paid *invoke.Response
	var failed error
	var approving sync.WaitGroup
	approving.Go(func() {
		paid, failed = s.Approve(ctx, waits.RunID, invoke.Approval{CallID: waits.Pending[0].CallID, Approve: true}, nil)
	})
	if _, err := gemini.Await(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Ask(ctx, invoke.Request{Query: "between", SessionID: waits.SessionID}, nil); err != nil {
		t.Fatal(err)
	}
	close(gate)
	approving.Wait()
	if failed != nil || paid.Response != "Paid." || paid.Turn != 3 || b.sum() != 50 {
		t.Fatalf("%+v, %v; paid %d", paid, failed, b.sum())
	}
	info, err := s.Read(ctx, waits.RunID)
	if err != nil || info.State != session.Done || info.Turn != 3 || info.Stored == nil {
		t.Fatalf("%+v, %v", info, err)
	}
	if _, text := info.Stored.Texts(); text != "Paid." {
		t.Errorf("its answer is %q", text)
	}
}

// A counting store counts writes.
type counting struct {
	session.Store
	runs, sessions atomic.Int32
}

func (c *counting) Apply(ctx context.Context, s *session.Session, change session.Change) (*session.Session, error) {
	c.sessions.Add(1)
	return c.Store.Apply(ctx, s, change)
}

func (c *counting) SaveRun(ctx context.Context, r *session.Run) (*session.Run, error) {
	c.runs.Add(1)
	return c.Store.SaveRun(ctx, r)
}

func TestWhatEffectsCost(t *testing.T) {
	t.Parallel()
	look := geminitest.FunctionCall{Name: "look"}
	pay := geminitest.FunctionCall{Name: "pay", Args: map[string]any{"to": "Ann", "amount": 1}}
	tests := []struct {
		name           string
		calls          []geminitest.FunctionCall
		runs, sessions int32
	}{
		{"no tool that changes the world", []geminitest.FunctionCall{look, look}, 0, 1},
		{"one", []geminitest.FunctionCall{pay}, 1, 1},
		{"three that begin together", []geminitest.FunctionCall{pay, look, pay, pay}, 1, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b, gemini := &bank{}, geminitest.Start(t)
			store := &counting{Store: newMemory()}
			server, _ := serveAgent(t, store, gemini, b.agent(tool.Effect(b.reconcile)))
			gemini.Enqueue(geminitest.Calls(test.calls...), geminitest.Text("Done."))
			if status, answer := ask(t, server, "/invoke", `{"query": "pay"}`); status != http.StatusOK {
				t.Fatalf("status %d: %s", status, answer)
			}
			if store.runs.Load() != test.runs || store.sessions.Load() != test.sessions {
				t.Errorf("%d writes of the record and %d of the session, want %d and %d", store.runs.Load(), store.sessions.Load(), test.runs, test.sessions)
			}
			if begun := slices.Sorted(slices.Values(b.begins())); len(slices.Compact(slices.Clone(begun))) != len(begun) {
				t.Errorf("effects share an id: %q", b.begins())
			}
		})
	}
}

// question asks for payments of more than 10.
func question(in payment) string {
	if in.Amount <= 10 {
		return ""
	}
	return fmt.Sprintf("Pay %d to %s?", in.Amount, in.To)
}

// The question is the agent's own code: one that panics or blocks refuses its call, and the
// turn goes on.
func TestAQuestionThatFails(t *testing.T) {
	t.Parallel()
	blocked := make(chan struct{})
	t.Cleanup(func() { close(blocked) })
	for name, tt := range map[string]struct {
		question func(payment) string
		timeout  time.Duration
		told     string
		log      string
	}{
		"a panic":  {func(payment) string { panic("oh no") }, time.Minute, "the tool failed", "of the tool pay panicked"},
		"a block":  {func(payment) string { <-blocked; return "" }, 50 * time.Millisecond, "the tool took too long", ""},
		"too long": {func(payment) string { return strings.Repeat("ä", 1<<20) }, time.Minute, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, gemini := &bank{}, geminitest.Start(t)
			server, written := serveAgent(t, newMemory(), gemini, b.agent(tool.Effect(b.reconcile), tool.Confirm(tt.question), tool.Timeout(tt.timeout)))
			gemini.Enqueue(pays(50), geminitest.Text("Well."))
			status, answer := ask(t, server, "/invoke", `{"query": "pay"}`)
			if status != http.StatusOK || len(b.begins()) != 0 {
				t.Fatalf("%d %s, begun %v", status, answer, b.begins())
			}
			if tt.told == "" {
				if waits := decodeAnswer(t, answer).Data; len(waits.Pending) != 1 || len(waits.Pending[0].Question) > 5<<10 {
					t.Errorf("the answer: %.200s", answer)
				}
				return
			}
			if !strings.Contains(output(t, gemini), tt.told) || !strings.Contains(written.String(), tt.log) {
				t.Errorf("the model is told %s, the log: %s", output(t, gemini), written)
			}
		})
	}
}

func approve(t *testing.T, server *httptest.Server, run, call string, yes bool, headers ...string) (int, string) {
	t.Helper()
	return ask(t, server, "/runs/"+run+"/approvals", fmt.Sprintf(`{"call_id": %q, "approve": %t, "reason": "because"}`, call, yes), headers...)
}

// What a person has approved is what runs, digit by digit, on whichever instance.
func TestApprovedArgumentsKeepTheirDigits(t *testing.T) {
	t.Parallel()
	everyStore(t, func(t *testing.T, open func(*testing.T) session.Store) {
		const amount = 9007199254740993 // more than a float64 holds
		b, gemini, store := &bank{}, geminitest.Start(t), open(t)
		a := b.agent(tool.Effect(b.reconcile), tool.Confirm(question))
		first, _ := serveAgent(t, store, gemini, a)
		gemini.Enqueue(pays(amount))
		_, answer := ask(t, first, "/invoke", `{"query": "pay"}`)
		waits := decodeAnswer(t, answer).Data
		second, _ := serveAgent(t, store, gemini, a)
		digits := fmt.Sprint(amount)
		for _, path := range []string{"/runs/" + waits.RunID, "/runs/" + waits.RunID + "/events", "/sessions/" + waits.SessionID} {
			if shown := get(t, second, path); !strings.Contains(shown, digits) {
				t.Errorf("%s shows %s", path, shown)
			}
		}
		gemini.Enqueue(geminitest.Text("Well."))
		if status, answer := approve(t, second, waits.RunID, waits.Pending[0].CallID, true); status != http.StatusOK {
			t.Fatalf("%d %s", status, answer)
		}
		if b.sum() != amount {
			t.Errorf("paid %d", b.sum())
		}
		requests := gemini.Requests()
		if raw := string(requests[len(requests)-1].Raw); !strings.Contains(raw, `"amount":`+digits) {
			t.Errorf("the model reads %s", raw)
		}
		if shown := get(t, second, "/sessions/"+waits.SessionID); !strings.Contains(shown, digits) {
			t.Errorf("the session shows %s", shown)
		}
	})
}

func TestApprovals(t *testing.T) {
	t.Parallel()
	everyStore(t, approvals)
}

func approvals(t *testing.T, open func(*testing.T) session.Store) {
	for _, stream := range []bool{false, true} {
		for _, yes := range []bool{true, false} {
			t.Run(fmt.Sprintf("stream %t, approved %t", stream, yes), func(t *testing.T) {
				t.Parallel()
				b, gemini, store := &bank{}, geminitest.Start(t), open(t)
				a := b.agent(tool.Effect(b.reconcile), tool.Confirm(question))
				first, _ := serveAgent(t, store, gemini, a)
				gemini.Enqueue(geminitest.Calls(geminitest.FunctionCall{Name: "pay", Args: map[string]any{"to": "Ann", "amount": 50}}, geminitest.FunctionCall{Name: "look"}))
				accept := []string{}
				if stream {
					accept = []string{"Accept", "text/event-stream"}
				}
				_, answer := ask(t, first, "/invoke", `{"query": "pay"}`, accept...)
				waits := lastEnvelope(t, answer)
				if waits.Data.FinishReason != "WAITING" || len(waits.Data.Pending) != 1 || waits.Data.Pending[0].Question != "Pay 50 to Ann?" {
					t.Fatalf("the waiting answer: %s", answer)
				}
				if stream && (!strings.Contains(answer, "event: approval\n") || strings.Index(answer, "event: approval\n") > strings.Index(answer, "event: done\n")) {
					t.Errorf("the stream: %s", answer)
				}
				if len(b.begins()) != 0 {
					t.Error("the tool ran before it was approved")
				}
				run, call := waits.Data.RunID, waits.Data.Pending[0].CallID

				second, _ := serveAgent(t, store, gemini, a) // another instance
				if info := decodeAnswer(t, get(t, second, "/runs/"+run)); info.Data.State != "waiting" || len(info.Data.Pending) != 1 {
					t.Errorf("the run: %+v", info)
				}
				if status, body := approve(t, second, run, "another", true); status != http.StatusNotFound {
					t.Errorf("a call that never was: %d %s", status, body)
				}
				gemini.Enqueue(geminitest.Text("Well."))
				status, answer := approve(t, second, run, call, yes, accept...)
				end := lastEnvelope(t, answer)
				if status != http.StatusOK || end.Data.FinishReason != "STOP" || end.Data.Response != "Well." || end.Data.RunID != run || end.Data.Turn != 1 {
					t.Fatalf("status %d: %s", status, answer)
				}
				if want := map[bool]int{true: 50}[yes]; b.sum() != want {
					t.Errorf("paid %d, want %d", b.sum(), want)
				}
				requests := gemini.Requests()
				raw := string(requests[len(requests)-1].Raw)
				if !yes && !strings.Contains(raw, "denied it: because") || !strings.Contains(raw, "seen") {
					t.Errorf("the model read: %s", raw)
				}
				if len(requests) != 2 {
					t.Errorf("the model was asked %d times, want 2", len(requests))
				}
				if stream && (!strings.Contains(answer, "event: approval_answer\n") || strings.Contains(answer, "event: approval\n")) {
					t.Errorf("the stream of the approval has more than what is new: %s", answer)
				}
				if n := strings.Count(answer, "event: tool_result\n"); stream && n != 1 {
					t.Errorf("the stream of the approval has %d results, want that of the call: %s", n, answer)
				}
				for _, again := range []bool{true, false} {
					if status, body := approve(t, first, run, call, again); status != http.StatusConflict {
						t.Errorf("answered again: %d %s", status, body)
					}
				}
				if turns := get(t, second, "/sessions/"+end.Data.SessionID); strings.Count(turns, `"run_id"`) != 1 {
					t.Errorf("want one turn: %s", turns)
				}
				if info := decodeAnswer(t, get(t, second, "/runs/"+run)); info.Data.State != "done" {
					t.Errorf("the run: %+v", info)
				}
			})
		}
	}
}

func lastEnvelope(t *testing.T, body string) answered {
	t.Helper()
	if i := strings.LastIndex(body, "data: "); i >= 0 {
		body = body[i+len("data: "):]
	}
	return decodeAnswer(t, body)
}

func TestOneOfFiftyApprovalsRuns(t *testing.T) {
	t.Parallel()
	everyStore(t, oneOfFifty)
}

func oneOfFifty(t *testing.T, open func(*testing.T) session.Store) {
	b, gemini, store := &bank{}, geminitest.Start(t), open(t)
	a := b.agent(tool.Effect(b.reconcile), tool.Confirm(question))
	one, _ := serveAgent(t, store, gemini, a)
	two, _ := serveAgent(t, store, gemini, a)
	gemini.Enqueue(pays(50), geminitest.Text("Paid."))
	_, answer := ask(t, one, "/invoke", `{"query": "pay"}`)
	waits := decodeAnswer(t, answer).Data
	var group sync.WaitGroup
	var statuses [50]int
	for i := range statuses {
		group.Go(func() {
			statuses[i], _ = approve(t, []*httptest.Server{one, two}[i%2], waits.RunID, waits.Pending[0].CallID, true)
		})
	}
	group.Wait()
	counts := map[int]int{}
	for _, status := range statuses {
		counts[status]++
	}
	if counts[http.StatusOK] != 1 || counts[http.StatusConflict] != 49 || b.sum() != 50 || len(b.begins()) != 1 {
		t.Errorf("answers %v, paid %d in %d calls", counts, b.sum(), len(b.begins()))
	}
}

// A run that waits for two calls goes on when both are answered, and not before.
func TestARunThatWaitsForTwoCalls(t *testing.T) {
	t.Parallel()
	everyStore(t, func(t *testing.T, open func(*testing.T) session.Store) {
		b, gemini := &bank{}, geminitest.Start(t)
		server, _ := serveAgent(t, open(t), gemini, b.agent(tool.Effect(b.reconcile), tool.Confirm(question)))
		pay := func(amount int) geminitest.FunctionCall {
			return geminitest.FunctionCall{Name: "pay", Args: map[string]any{"to": "Ann", "amount": amount}}
		}
		gemini.Enqueue(geminitest.Calls(pay(50), pay(70)), geminitest.Text("Paid one."))
		_, body := ask(t, server, "/invoke", `{"query": "pay"}`)
		waits := decodeAnswer(t, body).Data
		if len(waits.Pending) != 2 {
			t.Fatal(body)
		}
		status, body := approve(t, server, waits.RunID, waits.Pending[1].CallID, true)
		left := decodeAnswer(t, body).Data
		if status != http.StatusAccepted || left.State != "waiting" || len(left.Pending) != 1 || left.Pending[0].CallID != waits.Pending[0].CallID {
			t.Errorf("after one answer: %d %s", status, body)
		}
		if len(b.begins()) != 0 || len(gemini.Requests()) != 1 {
			t.Errorf("after one answer %d have begun, and the model was asked %d times", len(b.begins()), len(gemini.Requests()))
		}
		status, body = approve(t, server, waits.RunID, waits.Pending[0].CallID, false)
		if status != http.StatusOK || decodeAnswer(t, body).Data.Response != "Paid one." || b.sum() != 70 {
			t.Errorf("after both: %d, paid %d: %s", status, b.sum(), body)
		}
	})
}

// What no longer can be approved.
func TestRefusedApprovals(t *testing.T) {
	t.Parallel()
	everyStore(t, refusedApprovals)
}

func refusedApprovals(t *testing.T, open func(*testing.T) session.Store) {
	tests := []struct {
		name   string
		before func(t *testing.T, server *httptest.Server, gemini *geminitest.Server, session string)
		late   time.Duration
		user   string
		status int
	}{
		{"a new message came first", func(t *testing.T, server *httptest.Server, gemini *geminitest.Server, id string) {
			gemini.Enqueue(geminitest.Text("Fine."))
			if status, answer := ask(t, server, "/invoke", fmt.Sprintf(`{"query": "never mind", "session_id": %q}`, id)); status != http.StatusOK {
				t.Fatal(answer)
			}
			requests := gemini.Requests()
			if raw := string(requests[len(requests)-1].Raw); !strings.Contains(raw, "has not approved it") {
				t.Errorf("the model does not know: %s", raw)
			}
			if list := get(t, server, "/runs?state=waiting"); strings.Contains(list, id) {
				t.Errorf("it still waits: %s", list)
			}
		}, 0, "", http.StatusConflict},
		{"expired", nil, 73 * time.Hour, "", http.StatusConflict},
		{"another owner", nil, 0, "somebody", http.StatusNotFound},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b, gemini, store := &bank{}, geminitest.Start(t), open(t)
			var late atomic.Int64
			server, _ := serveAgent(t, store, gemini, b.agent(tool.Effect(b.reconcile), tool.Confirm(question)), func(c *invoke.Config) {
				c.Now = func() time.Time { return time.Now().Add(time.Duration(late.Load())) }
			})
			gemini.Enqueue(pays(50))
			_, answer := ask(t, server, "/invoke", `{"query": "pay"}`)
			waits := decodeAnswer(t, answer).Data
			if test.before != nil {
				test.before(t, server, gemini, waits.SessionID)
			}
			late.Store(int64(test.late))
			headers := []string{}
			if test.user != "" {
				headers = []string{"X-End-User", test.user}
			}
			status, body := approve(t, server, waits.RunID, waits.Pending[0].CallID, true, headers...)
			if status != test.status || b.sum() != 0 {
				t.Errorf("status %d, want %d, paid %d: %s", status, test.status, b.sum(), body)
			}
		})
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	server, _ := serveAgent(t, newMemory(), gemini, agent.Agent{Name: "agent", MaxTokens: 100, Tools: []tool.Tool{
		tool.New("count", "Counts.", func(ctx context.Context, _ struct{}) (string, error) {
			for i := range 100 {
				tool.Progress(ctx, fmt.Sprintf("step %d", i+1))
			}
			return "done", nil
		}),
	}})
	gemini.Enqueue(geminitest.Calls(geminitest.FunctionCall{Name: "count"}), geminitest.Text("Counted."))
	_, answer := ask(t, server, "/invoke", `{"query": "count", "stream": true}`)
	if n := strings.Count(answer, "event: progress\n"); n != 64 || !strings.Contains(answer, `"name":"count","text":"step 1"`) {
		t.Errorf("%d events: %s", n, answer)
	}
}
