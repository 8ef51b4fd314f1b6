package e2e_test

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"example.com/gatehouse/internal/geminitest"
)

// within runs do, and again until one run lies within a clock minute.
func within(t *testing.T, do func(t *testing.T)) {
	t.Helper()
	for {
		if left := time.Until(time.Now().Truncate(time.Minute).Add(time.Minute)); left < 15*time.Second {
			// Permits are counted by clock minutes: a test must not cross one.
			timer := time.NewTimer(left)
			<-timer.C
		}
		minute := time.Now().Truncate(time.Minute)
		do(t)
		if t.Failed() || time.Now().Truncate(time.Minute).Equal(minute) {
			return
		}
		t.Log("the minute turned: once more")
	}
}

// A permit is spent once a model call has begun, however the request ends.
func TestPermitsAreSpentByModelCalls(t *testing.T) {
	t.Parallel()
	const most = 6
	start := func(t *testing.T) (*service, *geminitest.Server) {
		return startGemini(t, "AUTH=api_key", keys(), "RATE_LIMIT_PER_MINUTE=6", "CALLER_RATE_LIMIT_PER_MINUTE=1000", "BREAKER_FAILURES=1000")
	}
	t.Run("prompts that the model refuses", func(t *testing.T) {
		t.Parallel()
		s, gemini := start(t)
		gemini.Handle(func(geminitest.Request) geminitest.Reply { return geminitest.Blocked("SAFETY") })
		within(t, func(t *testing.T) {
			user := "blocked " + time.Now().Format(time.TimeOnly)
			before := len(gemini.Requests())
			for range 4 * most {
				s.do(t, http.MethodPost, "/invoke", map[string]any{"query": "hello"}, as("one", "X-End-User", user)...)
			}
			if calls := len(gemini.Requests()) - before; calls != most {
				t.Errorf("%d prompts reached the model with %d permits", calls, most)
			}
		})
	})
	t.Run("conflicts found when the turn is stored", func(t *testing.T) {
		t.Parallel()
		s, gemini := start(t)
		gemini.Handle(func(geminitest.Request) geminitest.Reply {
			return geminitest.Text("answer").WithDelay(200 * time.Millisecond)
		})
		within(t, func(t *testing.T) {
			user := as("one", "X-End-User", "conflict "+time.Now().Format(time.TimeOnly))
			before := len(gemini.Requests())
			session := s.invoke(t, map[string]any{"query": "hello"}, user...).SessionID
			for range 3 {
				var all sync.WaitGroup
				for range 4 {
					all.Go(func() {
						_, err := s.try(bounded(t), http.MethodPost, "/invoke", map[string]any{"query": "and?", "session_id": session, "after_turn": 1}, user...)
						if err != nil {
							t.Error(err)
						}
					})
				}
				all.Wait()
			}
			if calls := len(gemini.Requests()) - before; calls > most || calls < 3 {
				t.Errorf("%d model calls with %d permits", calls, most)
			}
		})
	})
	t.Run("a session deleted while its turns run", func(t *testing.T) {
		t.Parallel()
		s, gemini := start(t)
		gate := make(chan struct{})
		within(t, func(t *testing.T) {
			user := as("one", "X-End-User", "deleted "+time.Now().Format(time.TimeOnly))
			session := s.invoke(t, map[string]any{"query": "hello"}, user...).SessionID
			before := len(gemini.Requests())
			gemini.Handle(func(geminitest.Request) geminitest.Reply { return geminitest.Text("late").WithGate(0, gate) })
			var all sync.WaitGroup
			for range most - 1 {
				all.Go(func() {
					a, err := s.try(bounded(t), http.MethodPost, "/invoke", map[string]any{"query": "and?", "session_id": session}, user...)
					if err != nil || a.Status != http.StatusNotFound {
						t.Errorf("a turn of a deleted session: %v, %d %s", err, a.Status, a.Body)
					}
				})
			}
			if _, err := gemini.Await(bounded(t), before+most-1); err != nil {
				t.Fatal(err)
			}
			if a := s.do(t, http.MethodDelete, "/sessions/"+session, nil, user...); a.Status != http.StatusNoContent {
				t.Errorf("a deletion without a permit left: %d %s", a.Status, a.Body)
			}
			close(gate)
			all.Wait()
			wantError(t, s.do(t, http.MethodPost, "/invoke", map[string]any{"query": "more"}, user...), http.StatusTooManyRequests, "rate_limited")
			gate = make(chan struct{})
			gemini.Handle(func(geminitest.Request) geminitest.Reply { return geminitest.Text("answer") })
		})
	})
	t.Run("replays and refusals", func(t *testing.T) {
		t.Parallel()
		s, _ := start(t)
		within(t, func(t *testing.T) {
			user := as("one", "X-End-User", "cheap "+time.Now().Format(time.TimeOnly))
			keyed := append(user, "Idempotency-Key", "k "+time.Now().Format(time.TimeOnly))
			first := s.invoke(t, map[string]any{"query": "hello"}, keyed...)
			// 50 tenths are left.
			for i := range 50 {
				switch a := s.do(t, http.MethodPost, "/invoke", map[string]any{"query": "hello"}, keyed...); {
				case i < 20 && (a.Status != http.StatusOK || a.Header.Get("Idempotency-Replayed") != "true"):
					t.Fatalf("replay %d of %+v: %d %s", i, first, a.Status, a.Body)
				case i >= 41 && a.Status != http.StatusTooManyRequests:
					t.Fatalf("replay %d, beyond a tenth each: %d %s", i, a.Status, a.Body)
				}
			}
			user = as("one", "X-End-User", "lost "+time.Now().Format(time.TimeOnly))
			for i := range 70 {
				a := s.do(t, http.MethodPost, "/invoke", map[string]any{"query": "hello", "session_id": "no-such-session-0"}, user...)
				if i < 50 && a.Status != http.StatusNotFound || i >= 60 && a.Status != http.StatusTooManyRequests {
					t.Fatalf("refusal %d: %d %s", i, a.Status, a.Body)
				}
			}
		})
	})
}
