package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
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

// A budget of the day is charged what was spent: what a call has cost by the model's
// own count, what was reserved where it was not heard to its end, and nothing for what
// never began.
func TestBudgetsAreChargedWhatWasSpent(t *testing.T) {
	t.Parallel()
	left := func(t *testing.T, s *service) int64 {
		t.Helper()
		var usage struct {
			Data struct {
				Limits []struct {
					Name, Unit string
					Left       int64
				}
			}
		}
		a := s.do(t, http.MethodGet, "/usage", nil)
		if err := json.Unmarshal(a.Body, &usage); err != nil {
			t.Fatal(err)
		}
		for _, l := range usage.Data.Limits {
			if l.Name == "end_user" && l.Unit == "tokens_per_day" {
				return l.Left
			}
		}
		t.Fatalf("no budget: %s", a.Body)
		return 0
	}
	const budget = 100_000
	start := func(t *testing.T, env ...string) (*service, *geminitest.Server) {
		return startGemini(t, append(env, "DAILY_TOKEN_LIMIT=100000", "BREAKER_FAILURES=1000")...)
	}

	t.Run("clients that leave", func(t *testing.T) {
		t.Parallel()
		s, gemini := start(t)
		gemini.Handle(func(geminitest.Request) geminitest.Reply {
			return geminitest.Text("one ", "two").SilentAfter(1).WithUsage(geminitest.Usage{Prompt: 1000, Output: 2000, Thoughts: 4000})
		})
		const clients = 10
		for n := range clients {
			ctx, leave := context.WithCancel(bounded(t))
			response, err := s.open(ctx, http.MethodPost, "/invoke", map[string]any{"query": "hello", "max_tokens": 2000}, events...)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := gemini.Await(bounded(t), n+1); err != nil { // a call that never began costs nothing
				t.Fatal(err)
			}
			leave()
			_ = response.Body.Close()
		}
		s.until(t, "all to be settled", func() bool { return strings.Count(s.stdout.String(), "POST /invoke 499") == clients })
		// Of each the answer that was reserved, and the prompt, which is estimated.
		if got := budget - left(t, s); got < clients*(2000+100) || got > clients*(2000+2000) {
			t.Errorf("%d clients that left were charged %d tokens", clients, got)
		}
	})
	t.Run("a model that never begins", func(t *testing.T) {
		t.Parallel()
		s, gemini := start(t)
		gemini.Handle(func(geminitest.Request) geminitest.Reply { return geminitest.Error(http.StatusTooManyRequests, "busy") })
		wantError(t, s.do(t, http.MethodPost, "/invoke", map[string]any{"query": "hello"}), http.StatusServiceUnavailable, "model_unavailable")
		if got := left(t, s); got != budget {
			t.Errorf("three 429s were charged %d tokens", budget-got)
		}
	})
	t.Run("counts that are not there", func(t *testing.T) {
		t.Parallel()
		s, gemini := start(t)
		for _, metadata := range []string{`{}`, `{"trafficType":"ON_DEMAND"}`} {
			before := left(t, s)
			gemini.Handle(func(geminitest.Request) geminitest.Reply {
				return geminitest.Raw(http.StatusOK, "application/json", []byte(`{"candidates":[{"content":{"role":"model","parts":[{"text":"`+
					strings.Repeat("word ", 400)+`"}]},"finishReason":"STOP"}],"usageMetadata":`+metadata+`}`))
			})
			turn := s.invoke(t, map[string]any{"query": "hello"})
			if got := before - left(t, s); got != int64(turn.Usage.TotalTokens) || got < 500 || turn.Usage.Source != "estimate" {
				t.Errorf("%s: %d charged of %+v", metadata, got, turn.Usage)
			}
		}
	})
	t.Run("what a tool has given weighs", func(t *testing.T) {
		t.Parallel()
		s, gemini := start(t, "MAX_TOOL_ROUNDS=3")
		gemini.Handle(func(r geminitest.Request) geminitest.Reply {
			if len(r.Contents()) == 1 {
				return geminitest.Calls(geminitest.FunctionCall{Name: "list_stock", Args: map[string]any{"note": strings.Repeat("x", 40_000)}})
			}
			return geminitest.Text("done").WithoutUsage()
		})
		before := left(t, s)
		turn := s.invoke(t, map[string]any{"query": "hello"})
		// The second call repeats the arguments of 40 kB, which are not counted.
		if got := before - left(t, s); got < 40_000/16 || got != int64(turn.Usage.TotalTokens) {
			t.Errorf("%d charged, the turn says %d", got, turn.Usage.TotalTokens)
		}
	})
	t.Run("calls at once with large prompts", func(t *testing.T) {
		t.Parallel()
		s, gemini := startGemini(t, "DAILY_TOKEN_LIMIT=20000")
		gemini.Handle(func(r geminitest.Request) geminitest.Reply {
			if len(r.Contents()) == 1 {
				return geminitest.Calls(geminitest.FunctionCall{Name: "no_such_tool", Args: map[string]any{"note": strings.Repeat("word ", 12_000)}}).WithUsage(geminitest.Usage{Prompt: 100, Output: 100})
			}
			return geminitest.Text("done").WithUsage(geminitest.Usage{Prompt: 15_000, Output: 100})
		})
		var done, spent atomic.Int64
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				a, err := s.try(bounded(t), http.MethodPost, "/invoke", map[string]any{"query": "hello", "max_tokens": 100})
				if err != nil {
					t.Error(err)
				}
				if a.Status == http.StatusOK {
					done.Add(1)
				}
			})
		}
		all.Wait()
		for _, r := range gemini.Requests() {
			spent.Add(200)
			if len(r.Contents()) > 1 {
				spent.Add(15_000 - 100)
			}
		}
		if done.Load() > 1 || spent.Load() > 2*20_000 {
			t.Errorf("%d turns were let through, and %d tokens of 20000 spent", done.Load(), spent.Load())
		}
	})
}

// GET /usage has the limits of whoever asks, and the service's only for operators.
func TestUsageOfWhom(t *testing.T) {
	t.Parallel()
	s, gemini := startGemini(t, "AUTH=api_key", keys(), "RATE_LIMIT_PER_MINUTE=60", "CALLER_RATE_LIMIT_PER_MINUTE=600",
		"DAILY_TOKEN_LIMIT=100000", "CALLER_DAILY_TOKEN_LIMIT=200000", "SERVICE_DAILY_TOKEN_LIMIT=300000", "OPERATORS=key:two")
	gemini.Handle(func(geminitest.Request) geminitest.Reply {
		return geminitest.Text("answer").WithUsage(geminitest.Usage{Prompt: 900, Output: 100})
	})
	s.invoke(t, map[string]any{"query": "hello"}, as("one", "X-End-User", "ada")...)
	s.invoke(t, map[string]any{"query": "hello"}, as("one", "X-End-User", "bob")...)
	for _, tt := range []struct {
		name    string
		headers []string
		limits  string
		tokens  int64
	}{
		{"an end user", as("one", "X-End-User", "ada"), "end_user calls_per_minute, caller calls_per_minute, end_user tokens_per_day 99000, caller tokens_per_day 198000", 1000},
		{"a service that names nobody", as("one"), "caller calls_per_minute, caller tokens_per_day 198000", 2000},
		{"a person", as("person"), "end_user calls_per_minute, caller calls_per_minute, end_user tokens_per_day 100000, caller tokens_per_day 200000", 0},
		{"an operator", as("two"), "caller calls_per_minute, caller tokens_per_day 200000, service tokens_per_day 298000", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var usage struct {
				Data struct {
					Limits []struct {
						Name, Unit string
						Left       int64
					}
					Today struct {
						Tokens int64 `json:"total_tokens"`
					}
				}
			}
			a := s.do(t, http.MethodGet, "/usage", nil, tt.headers...)
			if err := json.Unmarshal(a.Body, &usage); err != nil {
				t.Fatal(err)
			}
			var limits []string
			for _, l := range usage.Data.Limits {
				text := l.Name + " " + l.Unit
				if l.Unit == "tokens_per_day" {
					text += fmt.Sprint(" ", l.Left)
				}
				limits = append(limits, text)
			}
			if got := strings.Join(limits, ", "); got != tt.limits || usage.Data.Today.Tokens != tt.tokens {
				t.Errorf("%s, %d tokens\nwant %s, %d", got, usage.Data.Today.Tokens, tt.limits, tt.tokens)
			}
		})
	}
}

// Callers whose bodies never arrive do not exclude others.
func TestSlowBodiesShutNobodyOut(t *testing.T) {
	t.Parallel()
	s, _ := startGemini(t, "AUTH=api_key", keys())
	address := strings.TrimPrefix(s.URL, "http://")
	for _, key := range []string{"one", "person"} {
		for range 44 {
			var dialer net.Dialer
			conn, err := dialer.DialContext(bounded(t), "tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			_, err = fmt.Fprintf(conn, "POST /invoke HTTP/1.1\r\nHost: %s\r\nX-API-Key: key of %s\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{", address, key)
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, headers := range [][]string{as("two"), as("one", "X-End-User", "ada"), as("one")} {
		s.invoke(t, map[string]any{"query": "hello"}, headers...)
	}
}
