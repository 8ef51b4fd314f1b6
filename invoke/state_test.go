package invoke_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/session"
	"example.com/gatehouse/tool"
)

var (
	cart  = tool.SessionState[[]string]("cart")
	count = tool.UserState[int]("count")
	ratio = tool.SessionState[float64]("ratio")
)

type addIn struct {
	Item string `json:"item"`
}

// keeper is an agent whose tools keep state. add is what puts an item into the cart.
func keeper(add func(list *[]string, item string) error) agent.Agent {
	return agent.Agent{Name: "keeper", MaxTokens: 100, Tools: []tool.Tool{
		tool.New("add", "It adds.", func(ctx context.Context, in addIn) ([]string, error) {
			if err := cart.Update(ctx, func(list *[]string) error { return add(list, in.Item) }); err != nil {
				return nil, err
			}
			return cart.Get(ctx)
		}),
		tool.New("count", "It counts.", func(ctx context.Context, _ struct{}) (int, error) {
			if err := count.Update(ctx, func(n *int) error { *n++; return nil }); err != nil {
				return 0, err
			}
			return count.Get(ctx)
		}),
		tool.New("fill", "It fills.", func(ctx context.Context, in flood) (string, error) {
			return "", cart.Update(ctx, func(list *[]string) error { *list = []string{strings.Repeat("x", in.Bytes)}; return nil })
		}),
		tool.New("rate", "It rates.", func(ctx context.Context, _ struct{}) (float64, error) {
			if err := ratio.Update(ctx, func(r *float64) error { *r++; return nil }); err != nil {
				return 0, err
			}
			return ratio.Get(ctx)
		}),
		tool.New("unrate", "It forgets.", func(ctx context.Context, _ struct{}) (string, error) { return "", ratio.Delete(ctx) }),
		tool.New("nan", "It is not a number.", func(ctx context.Context, _ struct{}) (string, error) {
			return "", ratio.Update(ctx, func(r *float64) error { *r = math.NaN(); return nil })
		}),
	}}
}

func plainAdd(list *[]string, item string) error {
	*list = append(*list, item)
	return nil
}

func addCall(item string) geminitest.Reply {
	return geminitest.Calls(geminitest.FunctionCall{Name: "add", Args: map[string]any{"item": item}})
}

// output returns what the model was told of the last tool that was called.
func output(t *testing.T, gemini *geminitest.Server) string {
	t.Helper()
	requests := gemini.Requests()
	contents := requests[len(requests)-1].Contents()
	encoded, err := json.Marshal(contents[len(contents)-1])
	if err != nil {
		t.Fatal(err)
	}
	return string(encoded)
}

func wantOutput(t *testing.T, what string, gemini *geminitest.Server, want string) {
	t.Helper()
	if got := output(t, gemini); !strings.Contains(got, want) {
		t.Errorf("%s: the model is told %s, want %s", what, got, want)
	}
}

const chatID = "AAAAAAAAAAAAAAAAAAAAAA"

// chatBody returns the body of a page that sends its last message alone and believes the
// session to have turns.
func chatBody(trigger, text string, turns int) string {
	return fmt.Sprintf(`{"id": %q, "trigger": %q, "after_turn": %d, "messages": [{"role": "user", "parts": [{"type": "text", "text": %q}]}]}`, chatID, trigger, turns, text)
}

func TestSessionStateGoesWithTheTurn(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	server, _ := serveAgent(t, newMemory(), gemini, keeper(plainAdd))
	turns := 0
	chat := func(trigger, text string, replies ...geminitest.Reply) {
		t.Helper()
		gemini.Enqueue(replies...)
		if status, answer := ask(t, server, "/chat", chatBody(trigger, text, turns)); status != http.StatusOK {
			t.Fatalf("%d %s", status, answer)
		}
		if trigger == "submit-message" {
			turns++
		}
	}
	chat("submit-message", "one", addCall("apple"), geminitest.Text("Done."))
	wantOutput(t, "the first turn", gemini, `["apple"]`)
	chat("submit-message", "two", addCall("pear"), geminitest.Text("Done."))
	wantOutput(t, "the next turn", gemini, `["apple","pear"]`)
	chat("regenerate-message", "two", addCall("plum"), geminitest.Text("Done."))
	wantOutput(t, "the turn regenerated", gemini, `["apple","plum"]`)
	chat("submit-message", "three", geminitest.Calls(
		geminitest.FunctionCall{Name: "add", Args: map[string]any{"item": "fig"}},
		geminitest.FunctionCall{Name: "nan"}, geminitest.FunctionCall{Name: "fill", Args: map[string]any{"bytes": 70_000}}), geminitest.Text("Done."))
	wantOutput(t, "not a number", gemini, "unsupported value: NaN")
	wantOutput(t, "too large", gemini, "it is too large")
	wantOutput(t, "and beside them", gemini, `["apple","plum","fig"]`)
	// A turn that is not stored changes nothing.
	gemini.Enqueue(addCall("lost"), geminitest.Error(400, "no"), geminitest.Error(400, "no"), geminitest.Error(400, "no"), geminitest.Error(400, "no"))
	if _, answer := ask(t, server, "/chat", chatBody("submit-message", "four", turns)); !strings.Contains(answer, `"type":"error"`) {
		t.Fatalf("the model fails, and the answer is %s", answer)
	}
	gemini.Forget()
	chat("submit-message", "five", addCall("kiwi"), geminitest.Text("Done."))
	wantOutput(t, "after a turn that failed", gemini, `["apple","plum","fig","kiwi"]`)
	for _, step := range []struct{ tool, want string }{{"rate", `"output":1}`}, {"rate", `"output":2}`}, {"unrate", `"output":""}`}, {"rate", `"output":1}`}} {
		chat("submit-message", "rate", geminitest.Calls(geminitest.FunctionCall{Name: step.tool}), geminitest.Text("Done."))
		wantOutput(t, step.tool, gemini, step.want)
	}
}

// The bounds of a turn's state are told by their names: "try again" would have the model
// repeat what cannot succeed.
func TestStateOverItsBounds(t *testing.T) {
	t.Parallel()
	a := keeper(plainAdd)
	a.Tools = append(a.Tools,
		tool.New("often", "", func(ctx context.Context, _ struct{}) (int, error) {
			for i := range 2000 {
				if err := tool.SessionState[int]("count").Update(ctx, func(n *int) error { *n++; return nil }); err != nil {
					return i, err
				}
			}
			return 2000, nil
		}),
		tool.New("many", "", func(ctx context.Context, _ struct{}) (int, error) {
			for i := range 20 {
				if err := tool.UserState[int](fmt.Sprint("n", i)).Update(ctx, func(n *int) error { *n++; return nil }); err != nil {
					return i, err
				}
			}
			return 20, nil
		}))
	gemini := geminitest.Start(t)
	server, _ := serveAgent(t, newMemory(), gemini, a)
	for name, want := range map[string]string{"often": "changed states too often", "many": "too many states"} {
		gemini.Enqueue(geminitest.Calls(geminitest.FunctionCall{Name: name}), geminitest.Text("Done."))
		if status, answer := ask(t, server, "/invoke", `{"query":"go"}`); status != http.StatusOK {
			t.Fatalf("%d %s", status, answer)
		}
		wantOutput(t, name, gemini, want)
	}
}

// A meeting store runs meet before a turn's first write.
type meeting struct {
	session.Store
	met  atomic.Bool
	meet func()
}

func (m *meeting) Apply(ctx context.Context, s *session.Session, c session.Change) (*session.Session, error) {
	if c.Turn != nil && s.Turns > 0 && m.meet != nil && !m.met.Swap(true) {
		m.meet()
	}
	return m.Store.Apply(ctx, s, c)
}

// Another turn of the session is stored first: what the turn did is done again on that
// one's state, or the turn is a conflict.
func TestSessionStateOfTurnsAtOnce(t *testing.T) {
	t.Parallel()
	blocked := make(chan struct{})
	t.Cleanup(func() { close(blocked) })
	tests := []struct {
		name   string
		add    func(list *[]string, item string) error
		status int
		want   string // the cart afterwards, with what the next turn adds
	}{
		{"done again", plainAdd, http.StatusOK, `["apple","other","mine","next"]`},
		{"refused on the other's state", func(list *[]string, item string) error {
			if item == "mine" && len(*list) > 1 {
				return errors.New("there is one already")
			}
			return plainAdd(list, item)
		}, http.StatusConflict, `["apple","other","next"]`},
		{"panics on the other's state", func(list *[]string, item string) error {
			if item == "mine" && len(*list) > 1 {
				panic(theSecret)
			}
			return plainAdd(list, item)
		}, http.StatusConflict, `["apple","other","next"]`},
		{"blocks on the other's state", func(list *[]string, item string) error {
			if item == "mine" && len(*list) > 1 {
				<-blocked
			}
			return plainAdd(list, item)
		}, http.StatusConflict, `["apple","other","next"]`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			store := &meeting{Store: newMemory()}
			gemini := geminitest.Start(t)
			server, _ := serveAgent(t, store, gemini, keeper(test.add))
			turn := func(item string) (int, string) {
				gemini.Enqueue(addCall(item), geminitest.Text("Done."))
				return ask(t, server, "/invoke", fmt.Sprintf(`{"query": "hello", "session_id": %q}`, chatID))
			}
			gemini.Enqueue(addCall("apple"), geminitest.Text("Done."))
			ask(t, server, "/chat", chatBody("submit-message", "one", 0))
			store.meet = func() {
				if status, answer := turn("other"); status != http.StatusOK {
					t.Errorf("the other turn: %d %s", status, answer)
				}
			}
			status, answer := turn("mine")
			if status != test.status || status == http.StatusConflict && !strings.Contains(answer, `"error":"session_conflict"`) || strings.Contains(answer, theSecret) {
				t.Errorf("%d %s, want %d", status, answer, test.status)
			}
			turn("next")
			wantOutput(t, "afterwards", gemini, test.want)
		})
	}
}

func TestUserStateOfTurnsAtOnce(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	gemini.Handle(func(r geminitest.Request) geminitest.Reply {
		if len(r.Contents()) == 1 {
			return geminitest.Calls(geminitest.FunctionCall{Name: "count"}, geminitest.FunctionCall{Name: "count"})
		}
		return geminitest.Text("Done.")
	})
	store := newMemory()
	server, _ := serveAgent(t, store, gemini, keeper(plainAdd))
	const turns = 8
	var group errgroup.Group
	for range turns {
		group.Go(func() error {
			if status, answer := ask(t, server, "/invoke", `{"query": "hello"}`); status != http.StatusOK {
				return errors.New(answer)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	ask(t, server, "/invoke", `{"query": "hello"}`)
	wantOutput(t, "after all turns", gemini, fmt.Sprintf(`"output":%d}`, 2*turns+2))

	if response, body := fetch(t, server, http.MethodDelete, "/sessions"); response.StatusCode != http.StatusNoContent {
		t.Fatalf("DELETE /sessions: %d %s", response.StatusCode, body)
	}
	ask(t, server, "/invoke", `{"query": "hello"}`)
	wantOutput(t, "after the deletion", gemini, `"output":2}`)
}

// A store that does not answer is one tool that fails, and the model is not told why.
type unanswering struct{ session.Store }

func (unanswering) LoadUser(context.Context, session.Owner) (*session.User, error) {
	return nil, errors.New(theSecret)
}

func TestUserStateWithoutAStore(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	server, written := serveAgent(t, unanswering{newMemory()}, gemini, keeper(plainAdd))
	gemini.Enqueue(geminitest.Calls(geminitest.FunctionCall{Name: "count"}), geminitest.Text("Done."))
	if status, answer := ask(t, server, "/invoke", `{"query": "hello"}`); status != http.StatusOK {
		t.Fatalf("%d %s", status, answer)
	}
	if got := output(t, gemini); !strings.Contains(got, "the store does not answer") || strings.Contains(got, theSecret) {
		t.Errorf("the model is told %s", got)
	}
	if !strings.Contains(written.String(), theSecret) {
		t.Error("the log does not have the cause")
	}
}

// A tool that was not waited for changes nothing any more.
func TestStateOfAToolThatIsLate(t *testing.T) {
	t.Parallel()
	release, late := make(chan struct{}), make(chan error, 1)
	var slow atomic.Bool
	slow.Store(true)
	gemini := geminitest.Start(t)
	server, _ := serveAgent(t, newMemory(), gemini, agent.Agent{Name: "late", MaxTokens: 100, Tools: []tool.Tool{
		tool.New("add", "It adds.", func(ctx context.Context, in addIn) ([]string, error) {
			if slow.Swap(false) {
				<-release
				late <- cart.Update(ctx, func(list *[]string) error { return plainAdd(list, "late") })
				return nil, nil
			}
			err := cart.Update(ctx, func(list *[]string) error { return plainAdd(list, in.Item) })
			return []string{"added"}, err
		}, tool.Timeout(20*time.Millisecond)),
	}})
	turns := 0
	turn := func(server *httptest.Server) {
		gemini.Enqueue(addCall("mine"), geminitest.Text("Done."))
		ask(t, server, "/chat", chatBody("submit-message", "hello", turns))
		turns++
	}
	turn(server)
	close(release)
	if err := <-late; err == nil {
		t.Error("a tool that was not waited for changes the state")
	}
	turn(server)
	wantOutput(t, "the next turn", gemini, "added")
}
