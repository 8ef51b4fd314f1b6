package invoke_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/gcp/emulator"
	"example.com/gatehouse/internal/gcp/firestore"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/invoke"
	"example.com/gatehouse/session"
	"example.com/gatehouse/tool"
)

const conversation = "conversation-of-ada"

// continued asks the last question of a conversation, as a door does whose client names its
// session.
func continued(ctx context.Context, s *invoke.Service, key, query string, history ...string) (*invoke.Response, error) {
	req := completion(key, query, history...)
	if err := s.Continue(ctx, &req, conversation, true); err != nil {
		return nil, err
	}
	return s.Ask(ctx, req, nil)
}

// A retry with a key is the same request, whatever became of its session since: it is answered
// with its first try's turn, and an effect begins once.
func TestARetryInAConversation(t *testing.T) {
	t.Parallel()
	everyStore(t, retryInAConversation)
}

func retryInAConversation(t *testing.T, open func(*testing.T) session.Store) {
	redact := agent.Hooks{Question: func(_ context.Context, q *agent.Question) error {
		q.Text = "Pay [redacted]."
		return nil
	}}
	for name, c := range map[string]struct {
		hooks   agent.Hooks
		before  []string // the conversation
		between []string // questions that are asked until the retry
	}{
		"nothing between":                      {},
		"a turn before":                        {before: []string{"Hello."}},
		"a hook changes the question":          {hooks: redact},
		"another turn between":                 {between: []string{"And?"}},
		"a hook, and another turn between":     {hooks: redact, between: []string{"And?"}},
		"a hook, and turns before and between": {hooks: redact, before: []string{"Hello.", "So."}, between: []string{"And?", "Then?"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, gemini, ctx := &bank{}, geminitest.Start(t), ofCaller(t, "caller")
			a := b.agent(tool.Effect[payment, map[string]int](nil))
			a.Hooks = c.hooks
			store := open(t)
			s, other := asked(t, store, gemini, a), asked(t, store, gemini, a)
			history := []string{}
			say := func(query string) {
				t.Helper()
				gemini.Enqueue(geminitest.Text("Well."))
				if _, err := continued(ctx, s, "", query, history...); err != nil {
					t.Fatal(err)
				}
				history = append(history, query)
			}
			for _, query := range c.before {
				say(query)
			}
			asked := history
			gemini.Enqueue(pays(5), geminitest.Text("Paid."))
			first, err := continued(ctx, s, "key", "Pay Ann.", asked...)
			if err != nil || first.SessionID != conversation || first.Turn != len(asked)+1 {
				t.Fatal(first, err)
			}
			history = append(history[:len(history):len(history)], "Pay Ann.")
			for _, query := range c.between {
				say(query)
			}
			for range 2 {
				gemini.Handle(func(geminitest.Request) geminitest.Reply { return pays(5) }) // were it asked again
				again, err := continued(ctx, other, "key", "Pay Ann.", asked...)
				if err != nil || again.RunID != first.RunID || again.Response != "Paid." || again.Turn != first.Turn || !again.Replayed() {
					t.Errorf("the retry: %+v, %v", again, err)
				}
			}
			if n := len(b.begins()); n != 1 || b.sum() != 5 {
				t.Errorf("the effect began %d times, %d is paid", n, b.sum())
			}
			if n := turnsOf(t, store); n != len(history) {
				t.Errorf("%d turns, want %d", n, len(history))
			}
			_, err = continued(ctx, other, "key", "Pay Bob.", asked...)
			wantCode(t, err, api.IdempotencyMismatch)
		})
	}
}

func turnsOf(t *testing.T, store session.Store) int {
	t.Helper()
	meta, _, err := store.Turns(t.Context(), session.Key{Owner: session.OwnerOf("caller", ""), ID: conversation}, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	return meta.Turns
}

// A process dies after an effect, and another turn comes before the retry, which goes on from
// there.
func TestARetryInAConversationAfterACrash(t *testing.T) {
	t.Parallel()
	everyStore(t, func(t *testing.T, open func(*testing.T) session.Store) {
		b, gemini, ctx, store := &bank{}, geminitest.Start(t), ofCaller(t, "caller"), open(t)
		a := b.agent(tool.Effect(b.reconcile))
		first := &dying{Store: store, dead: &atomic.Bool{}}
		gemini.Handle(func(r geminitest.Request) geminitest.Reply {
			if len(b.begins()) == 0 {
				return pays(5)
			}
			first.dead.Store(true)
			return geminitest.Error(http.StatusBadRequest, "no")
		})
		if _, err := continued(ctx, asked(t, first, gemini, a), "key", "Pay Ann."); err == nil {
			t.Fatal("a dead process has answered")
		}
		gemini.Handle(nil)
		second := asked(t, lapsing{store}, gemini, a)
		gemini.Enqueue(geminitest.Text("Well."))
		if _, err := continued(ctx, second, "", "And?"); err != nil {
			t.Fatal(err)
		}
		gemini.Enqueue(geminitest.Text("Paid."))
		var run string
		for try := range 2 {
			answer, err := continued(ctx, second, "key", "Pay Ann.")
			if err != nil || answer.Response != "Paid." || answer.SessionID != conversation || try > 0 && answer.RunID != run {
				t.Fatalf("%+v, %v", answer, err)
			}
			run = answer.RunID
		}
		if len(b.begins()) != 1 || b.sum() != 5 || turnsOf(t, store) != 2 {
			t.Errorf("begun %d times, %d paid, %d turns", len(b.begins()), b.sum(), turnsOf(t, store))
		}
	})
}

// A request that was no part of the conversation stays without a session when it is tried
// again, although by then it would fit.
func TestARetryOfWhatWasNoPartOfAConversation(t *testing.T) {
	t.Parallel()
	everyStore(t, func(t *testing.T, open func(*testing.T) session.Store) {
		b, gemini, ctx, store := &bank{}, geminitest.Start(t), ofCaller(t, "caller"), open(t)
		s := asked(t, store, gemini, b.agent(tool.Effect(b.reconcile)))
		gemini.Enqueue(pays(5), geminitest.Text("Paid."), geminitest.Text("Hello."))
		first, err := continued(ctx, s, "key", "Pay Ann.", "Hello.") // the session has no turn
		if err != nil || first.SessionID == conversation {
			t.Fatal(first, err)
		}
		if _, err := continued(ctx, s, "", "Hello."); err != nil {
			t.Fatal(err)
		}
		gemini.Handle(func(geminitest.Request) geminitest.Reply { return pays(5) })
		again, err := continued(ctx, s, "key", "Pay Ann.", "Hello.")
		if err != nil || again.RunID != first.RunID || again.Response != "Paid." {
			t.Errorf("%+v, %v", again, err)
		}
		if len(b.begins()) != 1 || turnsOf(t, store) != 1 {
			t.Errorf("begun %d times, %d turns", len(b.begins()), turnsOf(t, store))
		}
		// A key that its first try has given back is free to go on with the conversation.
		gemini.Handle(func(geminitest.Request) geminitest.Reply { return geminitest.Error(http.StatusBadRequest, "no") })
		_, err = continued(ctx, s, "failed", "Third?", "Hello.", "And?")
		wantCode(t, err, api.ModelFailed)
		gemini.Handle(func(geminitest.Request) geminitest.Reply { return geminitest.Text("Well.") })
		if answer, err := continued(ctx, s, "", "And?", "Hello."); err != nil || answer.Turn != 2 {
			t.Fatal(answer, err)
		}
		if answer, err := continued(ctx, s, "failed", "Third?", "Hello.", "And?"); err != nil || answer.SessionID != conversation || answer.Turn != 3 {
			t.Errorf("%+v, %v", answer, err)
		}
	})
}

// What it costs in Firestore to find where a request goes, beside its turn.
func TestWhatAConversationCosts(t *testing.T) {
	t.Parallel()
	gemini, traffic, ctx := geminitest.Start(t), &storeTraffic{}, ofCaller(t, "caller")
	s := asked(t, firestore.NewSessions(emulator.Client(t, traffic.options()...), time.Hour, time.Now), gemini, agent.Agent{})
	for _, tt := range []struct {
		name, key string
		reads     int64
	}{
		{"without a key", "", 1},
		{"with a key", "key", 2}, // of the session, and whether the key is that of a run without one
	} {
		req := completion(tt.key, "Hello.")
		if err := s.Continue(ctx, &req, conversation, true); err != nil || req.SessionID != conversation {
			t.Fatal(err)
		}
		if reads := traffic.reads.Swap(0); reads != tt.reads || traffic.writes.Load()+traffic.queries.Load() != 0 {
			t.Errorf("%s: %d reads, want %d; %d writes, %d queries", tt.name, reads, tt.reads, traffic.writes.Load(), traffic.queries.Load())
		}
	}
	gemini.Enqueue(geminitest.Text("Well."))
	if _, err := continued(ctx, s, "key", "Hello."); err != nil {
		t.Fatal(err)
	}
	traffic.reads.Store(0)
	req := completion("key", "Hello.")
	if err := s.Continue(ctx, &req, conversation, true); err != nil || traffic.reads.Load() != 1 {
		t.Errorf("a retry: %d reads, want 1; %v", traffic.reads.Load(), err)
	}
}
