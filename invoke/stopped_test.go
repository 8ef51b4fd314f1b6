package invoke_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/invoke"
	"example.com/gatehouse/session"
	"example.com/gatehouse/tool"
)

// A beforeWait calls a function right before the write with which a run begins to wait.
type beforeWait struct {
	session.Store
	do func(run string)
}

func (s *beforeWait) Apply(ctx context.Context, base *session.Session, c session.Change) (*session.Session, error) {
	if c.Run != nil && c.Run.State == session.Waiting {
		s.do(session.RunID(c.Run.Key.ID, c.Run.ID))
	}
	return s.Store.Apply(ctx, base, c)
}

func (s *beforeWait) SaveRun(ctx context.Context, r *session.Run) (*session.Run, error) {
	if r.State == session.Waiting {
		s.do(session.RunID(r.Key.ID, r.ID))
	}
	return s.Store.SaveRun(ctx, r)
}

// A run that is stopped when it is about to wait for a person ends as stopped for all who see
// it, and nobody can approve what it would have asked.
func TestAStopJustBeforeARunWaits(t *testing.T) {
	t.Parallel()
	for _, recorded := range []bool{false, true} {
		for _, elsewhere := range []bool{false, true} {
			for _, path := range []string{"/invoke", "/chat", "JSON"} {
				if recorded && path != "/invoke" { // it takes more than a second
					continue
				}
				t.Run(fmt.Sprintf("recorded %t, elsewhere %t, %s", recorded, elsewhere, path), func(t *testing.T) {
					t.Parallel()
					everyStore(t, func(t *testing.T, open func(*testing.T) session.Store) {
						bank, gemini := &bank{}, geminitest.Start(t)
						pay := bank.agent(tool.Effect(bank.reconcile), tool.Confirm(question))
						shared := open(t)
						store := &beforeWait{Store: shared}
						a, b := &instance{Store: store}, &instance{Store: shared}
						a.Server, _ = serveAgent(t, a, gemini, pay)
						b.Server, _ = serveAgent(t, b, gemini, pay)
						by := a
						if elsewhere {
							by = b
						}
						var run string
						stop := sync.OnceFunc(func() {
							if status, body := ask(t, by.Server, "/runs/"+run+"/stop", ""); status != http.StatusAccepted {
								t.Errorf("the stop: %d, %s", status, body)
							}
						})
						store.do = func(id string) { run = id; stop() }
						reply := pays(50)
						if recorded {
							reply = reply.WithDelay(1300 * time.Millisecond)
						}
						gemini.Enqueue(reply)
						const chat = `{"id": "0123456789abcdefchat", "messages": [{"role": "user", "parts": [{"type": "text", "text": "pay"}]}], "trigger": "submit-message"}`
						var body string
						switch path {
						case "/invoke":
							_, body = ask(t, a.Server, path, streamed)
						case "/chat":
							_, body = ask(t, a.Server, path, chat)
						case "JSON":
							_, body = ask(t, a.Server, "/invoke", `{"query": "pay"}`)
						}
						if strings.Contains(body, "WAITING") || !strings.Contains(body, "STOPPED") || strings.Contains(body, `"pending":[{`) || strings.Contains(body, `"finishReason":"tool-calls"`) {
							t.Errorf("its client reads %s", body)
						}
						id, _, _ := strings.Cut(run, ".")
						for _, path := range []string{"/runs/" + run, "/runs/" + run + "/events", "/sessions/" + id, "/chat/" + id} {
							for _, i := range []*instance{a, b} {
								if body := get(t, i.Server, path); strings.Contains(body, "WAITING") || !strings.Contains(body, "STOPPED") || strings.Contains(body, `"pending":[{`) {
									t.Errorf("%s: %s", path, body)
								}
							}
						}
						if list := get(t, b.Server, "/runs?state=waiting"); !strings.Contains(list, `"runs":[]`) {
							t.Errorf("what waits: %s", list)
						}
						if status, body := approve(t, b.Server, run, "call_1_1", true); status != http.StatusConflict || bank.sum() != 0 {
							t.Errorf("approved: %d, %s; paid %d", status, body, bank.sum())
						}
					})
				})
			}
		}
	}
}

// A call without the model that is stopped when it is about to ask a person is over.
func TestAStopJustBeforeACallAsks(t *testing.T) {
	t.Parallel()
	for name, key := range map[string]string{"without a key": "", "with a key": "k"} {
		for _, elsewhere := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, elsewhere %t", name, elsewhere), func(t *testing.T) {
				t.Parallel()
				everyStore(t, func(t *testing.T, open func(*testing.T) session.Store) {
					bank, gemini, ctx := &bank{}, geminitest.Start(t), ofCaller(t, "ada")
					pay := bank.agent(tool.Effect(bank.reconcile), tool.Confirm(question))
					store := &beforeWait{Store: open(t)}
					a, b := asked(t, store, gemini, pay), asked(t, store.Store, gemini, pay)
					by := a
					if elsewhere {
						by = b
					}
					var run string
					stop := sync.OnceFunc(func() {
						if err := by.Stop(ctx, run); err != nil {
							t.Errorf("the stop: %v", err)
						}
					})
					store.do = func(id string) { run = id; stop() }
					call := callOf(t, "pay", `{"to":"Ann","amount":50}`)
					_, err := a.CallTool(ctx, call, invoke.Options{Key: key})
					wantCode(t, err, api.SessionConflict)
					if info, err := b.Read(ctx, run); err != nil || info.State != session.Stopped || len(info.Pending) != 0 {
						t.Errorf("it is %+v, %v", info, err)
					}
					yes := invoke.Approval{CallID: "call_1_1", Approve: true}
					_, err = b.Approve(ctx, run, yes, nil)
					wantCode(t, err, api.SessionConflict)
					_, err = b.GoOnCall(ctx, run, call, []invoke.Approval{yes})
					if wantCode(t, err, api.SessionConflict); bank.sum() != 0 {
						t.Errorf("paid %d", bank.sum())
					}
				})
			})
		}
	}
}

// A stop that was answered holds however many holders of its run die before they have stored
// what it had shown: the model is not asked again.
func TestAStopOutlivesItsHolders(t *testing.T) {
	t.Parallel()
	everyStore(t, func(t *testing.T, open func(*testing.T) session.Store) {
		gemini, store := geminitest.Start(t), open(t)
		i := &instance{Store: lapsing{store}}
		hooks := i.hook()
		server, _ := serveAgent(t, i, gemini, (&bank{}).agent())
		gemini.Enqueue(geminitest.Text("one ", "two").WithDelay(1300 * time.Millisecond))
		_, body := ask(t, server, "/invoke", streamed)
		_, rest, _ := strings.Cut(body, `"run_id":"`)
		run, _, _ := strings.Cut(rest, `"`)
		id, turn, _ := session.SplitRunID(run)
		record, err := store.LoadRun(t.Context(), i.records[turn].Key, turn)
		if err != nil {
			t.Fatal(err)
		}
		stopped := *record // of a run that has shown a half, as a stop elsewhere leaves it
		stopped.ID, stopped.Revision = session.NewID(), nil
		stopped.State, stopped.Holder, stopped.Stop, stopped.Turn = session.Working, "dead", true, 2
		stopped.Parts = []session.Part{{Kind: session.KindText, Text: "one "}}
		if _, err := store.SaveRun(t.Context(), &stopped); err != nil {
			t.Fatal(err)
		}
		events, asked := "/runs/"+session.RunID(id, stopped.ID)+"/events", len(gemini.Requests())
		dies := func() error { return session.ErrUnavailable }
		hooks.load.Store(&dies)
		for epoch := range 3 {
			if body := get(t, server, events); !strings.Contains(body, "session_store_unavailable") {
				t.Errorf("taken over: %s", body)
			}
			if r, err := store.LoadRun(t.Context(), stopped.Key, stopped.ID); err != nil || !r.Stop || r.Epoch != epoch+1 {
				t.Errorf("after %d takeovers: %+v, %v", epoch+1, r, err)
			}
		}
		hooks.load.Store(nil)
		if body := get(t, server, events); !strings.Contains(body, `"finish_reason":"STOPPED"`) || !strings.Contains(body, `"response":"one "`) {
			t.Errorf("the end: %s", body)
		}
		if n := len(gemini.Requests()) - asked; n != 0 {
			t.Errorf("the model was asked %d times more", n)
		}
		if r, err := store.LoadRun(t.Context(), stopped.Key, stopped.ID); err != nil || r.State != session.Stopped || r.Stop {
			t.Errorf("the record: %+v, %v", r, err)
		}
	})
}
