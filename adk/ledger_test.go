package adk_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	adkagent "google.golang.org/adk/v2/agent"
	"google.golang.org/adk/v2/agent/llmagent"
	adksession "google.golang.org/adk/v2/session"
	adktool "google.golang.org/adk/v2/tool"
	"google.golang.org/adk/v2/tool/functiontool"

	"example.com/gatehouse/adk"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/server"
	"example.com/gatehouse/internal/trial"
	"example.com/gatehouse/session"
	"example.com/gatehouse/tool"
)

// A dying store answers its process until that is dead.
type dying struct {
	session.Store
	dead  atomic.Bool
	once  sync.Once
	ended chan struct{} // closed when the end of an effect is in a ledger
}

var errDead = fmt.Errorf("the process is dead: %w", session.ErrUnavailable)

func (d *dying) SaveRun(ctx context.Context, r *session.Run) (*session.Run, error) {
	if d.dead.Load() {
		return nil, errDead
	}
	saved, err := d.Store.SaveRun(ctx, r)
	for _, e := range r.Effects {
		if err == nil && e.Done {
			d.once.Do(func() { close(d.ended) })
		}
	}
	return saved, err
}

func (d *dying) Apply(ctx context.Context, s *session.Session, c session.Change) (*session.Session, error) {
	if d.dead.Load() {
		return nil, errDead
	}
	return d.Store.Apply(ctx, s, c)
}

func (d *dying) Load(ctx context.Context, key session.Key) (*session.Session, error) {
	if d.dead.Load() {
		return nil, errDead
	}
	return d.Store.Load(ctx, key)
}

func (d *dying) ApplyUser(ctx context.Context, u *session.User, c session.UserChange) error {
	if d.dead.Load() {
		return errDead
	}
	return d.Store.ApplyUser(ctx, u, c)
}

// LoadRun finds the holder of a run dead.
func (d *dying) LoadRun(ctx context.Context, key session.Key, id string) (*session.Run, error) {
	if d.dead.Load() {
		return nil, errDead
	}
	r, err := d.Store.LoadRun(ctx, key, id)
	if err == nil {
		r.Silent = time.Minute
	}
	return r, err
}

// serve starts a process with its store.
func serve(t *testing.T, root adkagent.Agent, store session.Store, gemini *geminitest.Server) (*trial.Service, *dying) {
	t.Helper()
	variables := map[string]string{
		"GEMINI_API_KEY": "k", "GOOGLE_GEMINI_BASE_URL": gemini.URL, "MODEL_FALLBACKS": "none", "AUTH": "none", "SESSION_STORE": "memory",
	}
	own := &dying{Store: store, ended: make(chan struct{})}
	s, err := trial.Start(t.Context(), server.Options{
		Agent: adk.Agent(root), Log: t.Output(), Store: own, Loopback: true,
		Lookup: func(name string) (string, bool) { value, ok := variables[name]; return value, ok },
	})
	t.Cleanup(func() { _ = s.Close(t.Context()) })
	if err != nil {
		t.Fatal(err)
	}
	return s, own
}

var receipts = tool.SessionState[[]string]("receipts")

// What a call that was approved has changed in the states, of ADK and of the gate, comes with
// its result for whoever takes the run over: once, and as often as its holders die.
func TestTheStateOfAnApprovedCallIsTakenOver(t *testing.T) {
	t.Parallel()
	for name, open := range stores {
		for deaths := range 3 {
			t.Run(fmt.Sprintf("in %s, %d deaths", name, deaths), func(t *testing.T) {
				t.Parallel()
				takenOver(t, open(t), deaths)
			})
		}
	}
}

func takenOver(t *testing.T, store session.Store, deaths int) {
	var charged atomic.Int32
	var effects sync.Map
	sumKey := fmt.Sprint("sum", deaths) // the tests share the users of their store
	root := llm(t, llmagent.Config{Name: "merchant", Tools: []adktool.Tool{
		fn(t, functiontool.Config{Name: "charge", Description: "Charges.", RequireConfirmation: true}, func(ctx adkagent.Context, _ none) (said, error) {
			charged.Add(1)
			effects.Store(tool.From(ctx).EffectID, true)
			for _, scope := range []string{"", adksession.KeyPrefixUser, adksession.KeyPrefixApp, adksession.KeyPrefixTemp} {
				before, err := ctx.State().Get(scope + sumKey)
				if err != nil && !errors.Is(err, adksession.ErrStateKeyNotExist) {
					return said{}, err
				}
				sum, _ := before.(float64)
				if err := ctx.State().Set(scope+sumKey, sum+5); err != nil {
					return said{}, err
				}
			}
			return said{"charged"}, receipts.Update(ctx, func(all *[]string) error { *all = append(*all, "r-1"); return nil })
		}),
		fn(t, functiontool.Config{Name: "recall", Description: "Recalls."}, func(ctx adkagent.Context, _ none) (said, error) {
			var all []string
			for _, scope := range []string{"", adksession.KeyPrefixUser, adksession.KeyPrefixApp, adksession.KeyPrefixTemp} {
				value, err := ctx.State().Get(scope + sumKey)
				if err != nil && !errors.Is(err, adksession.ErrStateKeyNotExist) {
					return said{}, err
				}
				all = append(all, fmt.Sprint(value))
			}
			kept, err := receipts.Get(ctx)
			return said{fmt.Sprint(strings.Join(all, " "), " ", kept)}, err
		}),
	}})
	gemini := geminitest.Start(t)
	charge, recall := geminitest.Calls(geminitest.FunctionCall{Name: "charge"}), geminitest.Calls(geminitest.FunctionCall{Name: "recall"})
	s, own := serve(t, root, store, gemini)
	gemini.Enqueue(charge)
	waits, err := s.Ask(t.Context(), trial.Question{Query: "Charge."})
	if err != nil || waits.Data["finish_reason"] != "WAITING" {
		t.Fatalf("%v: %+v", err, waits)
	}
	run := fmt.Sprint(waits.Data["run_id"])
	pending, _ := waits.Data["pending"].([]any)[0].(map[string]any)
	for death := range deaths {
		dying := own
		gemini.Handle(func(geminitest.Request) geminitest.Reply {
			select {
			case <-dying.ended:
				dying.dead.Store(true)
			case <-t.Context().Done():
			}
			return geminitest.Error(http.StatusBadRequest, "no")
		})
		if death == 0 {
			if _, err := s.Approve(t.Context(), run, fmt.Sprint(pending["call_id"]), true, "", nil); err != nil {
				t.Fatal(err)
			}
		} else {
			watch(t, s, run)
		}
		s, own = serve(t, root, store, gemini)
	}
	gemini.Handle(nil)
	gemini.Enqueue(recall, geminitest.Text("Charged."))
	if deaths == 0 {
		if _, err := s.Approve(t.Context(), run, fmt.Sprint(pending["call_id"]), true, "", nil); err != nil {
			t.Fatal(err)
		}
	} else if events := watch(t, s, run); !strings.Contains(events, "event: done") {
		t.Fatalf("the run has not ended: %s", events)
	}
	gemini.Enqueue(recall, geminitest.Text("That much."))
	next, err := s.Ask(t.Context(), trial.Question{Query: "How much?", SessionID: waits.SessionID})
	if err != nil || next.Text != "That much." {
		t.Fatalf("%v: %+v", err, next)
	}
	if got := results(next); fmt.Sprint(got) != "[map[text:charged] map[text:5 5 5 5 [r-1]] map[text:5 5 5 <nil> [r-1]]]" {
		t.Errorf("the model was sent %v", got)
	}
	ids := 0
	effects.Range(func(id, _ any) bool { ids++; return id != "" })
	if charged.Load() != 1 || ids != 1 {
		t.Errorf("charged %d times, with %d ids", charged.Load(), ids)
	}
}

// watch returns the events of a run to its end.
func watch(t *testing.T, s *trial.Service, run string) string {
	t.Helper()
	w := httptest.NewRecorder()
	s.Server().Both.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1/runs/"+run+"/events", nil))
	return w.Body.String()
}

// results returns the results of calls in the last request to the model.
func results(a trial.Answer) (all []map[string]any) {
	for _, c := range a.Sent[len(a.Sent)-1].Contents {
		for _, p := range c.Parts {
			if p.FunctionResponse != nil {
				all = append(all, p.FunctionResponse.Response)
			}
		}
	}
	return all
}

// A turn that fails after a call was approved keeps what that call has changed.
func TestTheStateOfAnApprovedCallInATurnThatFails(t *testing.T) {
	t.Parallel()
	pay := fn(t, functiontool.Config{Name: "pay", Description: "Pays.", RequireConfirmation: true}, func(ctx adkagent.Context, _ none) (said, error) {
		return said{"paid"}, errors.Join(ctx.State().Set("paid", true), ctx.State().Set("user:paid", true), ctx.State().Set("app:paid", true))
	})
	recall := fn(t, functiontool.Config{Name: "recall", Description: "Recalls."}, func(ctx adkagent.Context, _ none) (said, error) {
		var all []string
		for _, key := range []string{"paid", "user:paid", "app:paid"} {
			if value, err := ctx.State().Get(key); err == nil {
				all = append(all, fmt.Sprint(key, "=", value))
			}
		}
		return said{strings.Join(all, " ")}, nil
	})
	panics := func(_ adkagent.Context, called adktool.Tool, _, _ map[string]any, err error) (map[string]any, error) {
		if called.Name() == "pay" && err == nil { // not as it asks
			panic("oh")
		}
		return nil, nil
	}
	for name, test := range map[string]struct {
		reply geminitest.Reply
		after []llmagent.AfterToolCallback
	}{
		"the model fails":       {reply: geminitest.Error(http.StatusBadRequest, "no")},
		"the answer is blocked": {reply: geminitest.Blocked("SAFETY")},
		"a callback panics":     {after: []llmagent.AfterToolCallback{panics}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gemini := geminitest.Start(t)
			root := llm(t, llmagent.Config{Name: "root", Tools: []adktool.Tool{pay, recall}, AfterToolCallbacks: test.after})
			s, _ := serve(t, root, stores["memory"](t), gemini)
			gemini.Enqueue(geminitest.Calls(geminitest.FunctionCall{Name: "pay"}))
			waits, err := s.Ask(t.Context(), trial.Question{Query: "Pay."})
			if err != nil {
				t.Fatal(err)
			}
			pending, _ := waits.Data["pending"].([]any)[0].(map[string]any)
			gemini.Handle(func(geminitest.Request) geminitest.Reply { return test.reply })
			rest, err := s.Approve(t.Context(), fmt.Sprint(waits.Data["run_id"]), fmt.Sprint(pending["call_id"]), true, "", nil)
			if err != nil || rest.Data["finish_reason"] != "FAILED" {
				t.Fatalf("%v: %+v", err, rest)
			}
			gemini.Handle(nil)
			gemini.Enqueue(geminitest.Calls(geminitest.FunctionCall{Name: "recall"}), geminitest.Text("So."))
			next, err := s.Ask(t.Context(), trial.Question{Query: "And?", SessionID: waits.SessionID})
			if err != nil || next.Text != "So." {
				t.Fatalf("%v: %+v", err, next)
			}
			if got := results(next); fmt.Sprint(got) != "[map[text:paid] map[text:paid=true user:paid=true app:paid=true]]" {
				t.Errorf("the model was sent %v", got)
			}
		})
	}
}
