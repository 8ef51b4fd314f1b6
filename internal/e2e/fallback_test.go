package e2e_test

import (
	"math"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/slowtest"
)

const (
	firstModel = "gemini-3.5-flash-lite"
	standIn    = "gemini-3.1-flash-lite"
)

var modelAway = geminitest.Error(http.StatusServiceUnavailable, upstreamText)

// modelsAsked are the models that were called, in order, repetitions left out.
func modelsAsked(gemini *geminitest.Server) []string {
	var models []string
	for _, r := range gemini.Requests() {
		models = append(models, r.Model)
	}
	return slices.Compact(models)
}

// A model that is away is stood in for by the next, for the whole of the turn:
// also when it is back before the turn's later rounds.
func TestFallbackModel(t *testing.T) {
	t.Parallel()
	for _, stream := range []bool{false, true} {
		t.Run(map[bool]string{false: "JSON", true: "stream"}[stream], func(t *testing.T) {
			t.Parallel()
			s, gemini := startGemini(t, "MODEL_FALLBACKS="+standIn, "BREAKER_FAILURES=100")
			var mu sync.Mutex
			stoodIn := 0
			gemini.Handle(func(r geminitest.Request) geminitest.Reply {
				mu.Lock()
				defer mu.Unlock()
				switch {
				case r.Model == firstModel && stoodIn == 0:
					return modelAway
				case r.Model == firstModel:
					return geminitest.Text("The first model is back.")
				}
				if stoodIn++; stoodIn < 3 {
					return geminitest.Calls(geminitest.FunctionCall{Name: "check_status"})
				}
				return geminitest.Text("All ", "is well.")
			})
			body := map[string]any{"query": "hello", "stream": stream}
			var got turn
			if stream {
				var events []event
				events, got = s.stream(t, body).wantDone(t)
				if start := strict[startData](t, events[0].Data); start.Model != firstModel { // that is asked
					t.Errorf("start names the model %s", start.Model)
				}
			} else {
				got = s.invoke(t, body)
			}
			if got.Response != "All is well." || got.Model != standIn || !slices.Equal(got.Warnings, []string{"fallback_model"}) || len(got.ToolCalls) != 2 {
				t.Errorf("turn: %+v", got)
			}
			if models := modelsAsked(gemini); !slices.Equal(models, []string{firstModel, standIn}) {
				t.Errorf("models asked: %v", models)
			}
			stored := wantData[sessionPage](t, s.do(t, http.MethodGet, "/sessions/"+got.SessionID, nil)).Turns
			if len(stored) != 1 || stored[0].Model != standIn {
				t.Errorf("stored: %+v", stored)
			}

			again := s.invoke(t, map[string]any{"query": "go on", "session_id": got.SessionID})
			if again.Model != firstModel || again.Response != "The first model is back." || len(again.Warnings) != 0 {
				t.Errorf("the next turn: %+v", again)
			}
		})
	}
}

// A step that broke off is made again by whoever can, once its text is void. What a step has
// finished stays its own: after a round of tools nobody stands in.
func TestWhoStandsInForAStreamThatHasBegun(t *testing.T) {
	t.Parallel()
	look := geminitest.Parts(
		map[string]any{"text": "Let me see. "},
		map[string]any{"functionCall": map[string]any{"name": "check_status", "args": map[string]any{}}},
	)
	tests := []struct {
		name     string
		first    []geminitest.Reply // of the first model; after them it is away
		standsIn bool               // what was shown is void, and the stand-in begins again
	}{
		{"cut after text", []geminitest.Reply{geminitest.Text("one ", "two").CutAfter(1)}, true},
		{"an error after text", []geminitest.Reply{geminitest.Text("one ", "two").FailAfter(http.StatusServiceUnavailable, upstreamText)}, true},
		{"away after a round of tools that began with text", []geminitest.Reply{look}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, gemini := startGemini(t, "MODEL_FALLBACKS="+standIn)
			var mu sync.Mutex
			left := test.first
			gemini.Handle(func(r geminitest.Request) geminitest.Reply {
				mu.Lock()
				defer mu.Unlock()
				if r.Model != firstModel {
					return geminitest.Text("The stand-in's.")
				}
				if len(left) == 0 {
					return modelAway
				}
				reply := left[0]
				left = left[1:]
				return reply
			})
			stream := s.stream(t, map[string]any{"query": "hello"})
			if test.standsIn {
				events, got := stream.wantDone(t)
				if !slices.Contains(names(events), "reset") || got.Response != "The stand-in's." || got.Model != standIn {
					t.Errorf("events: %v, %q by %s", names(events), got.Response, got.Model)
				}
				return
			}
			events := stream.wantFailure(t, []string{"model_failed", "model_unavailable"})
			if start := strict[startData](t, events[0].Data); start.Model != firstModel || !slices.Contains(names(events), "delta") {
				t.Errorf("events: %v, start: %s", names(events), events[0].Data)
			}
			if models := modelsAsked(gemini); !slices.Equal(models, []string{firstModel}) {
				t.Errorf("models asked: %v", models)
			}
		})
	}
}

// health reads what operators see.
func (s *service) health(t *testing.T) healthReport {
	t.Helper()
	a := s.do(t, http.MethodGet, "/health", nil)
	var report healthReport
	if err := json.Unmarshal(wantEnvelope(t, a).Data, &report); err != nil {
		t.Fatal(err)
	}
	return report
}

// eventually waits for a condition that only needs time.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx := bounded(t)
	for !holds() {
		if err := rest(ctx, 100*time.Millisecond); err != nil {
			t.Fatalf("waiting until %s: %v", what, err)
		}
	}
}

func TestBreaker(t *testing.T) {
	slowtest.Skip(t, "the breaker of a deployed program")
	t.Parallel()
	s, gemini := startGemini(t, "BREAKER_FAILURES=2", "BREAKER_COOLDOWN=1s")
	ask := func() answer { return s.do(t, http.MethodPost, "/invoke", map[string]any{"query": "hello"}) }

	// Nothing that a caller can bring about opens it.
	gemini.Enqueue(geminitest.Error(http.StatusBadRequest, upstreamText), geminitest.Error(http.StatusBadRequest, upstreamText))
	for range 2 {
		wantError(t, ask(), http.StatusBadGateway, "model_failed")
	}
	gemini.Enqueue(geminitest.Blocked("SAFETY"), geminitest.Blocked("SAFETY"))
	for range 2 {
		wantError(t, ask(), http.StatusUnprocessableEntity, "content_blocked")
	}
	wantTurn(t, ask())

	gemini.Forget()
	gemini.Handle(func(geminitest.Request) geminitest.Reply { return modelAway })
	wantError(t, ask(), http.StatusServiceUnavailable, "model_unavailable")
	opened := time.Now()
	if n := len(gemini.Requests()); n != 2 {
		t.Errorf("it opened after %d failures in a row, want 2", n)
	}
	// Of so few requests no error rate is judged: it is the breaker that shows.
	if report := s.health(t); report.Breakers[firstModel] != "open" || report.Status != "degraded" {
		t.Errorf("health with an open breaker: %s, %v", report.Status, report.Breakers)
	}
	for range 10 {
		a := ask()
		if time.Since(opened) > 900*time.Millisecond {
			break // a slow machine: the next may be the trial
		}
		wantError(t, a, http.StatusServiceUnavailable, "model_unavailable")
		if n := len(gemini.Requests()); n != 2 {
			t.Errorf("an open breaker let %d calls through", n-2)
		}
	}

	// One trial, which fails: open again.
	time.Sleep(time.Until(opened.Add(1200 * time.Millisecond)))
	asked := len(gemini.Requests())
	gate := make(chan struct{})
	gemini.Handle(func(geminitest.Request) geminitest.Reply { return modelAway.WithGate(0, gate) })
	ctx := bounded(t)
	trial := s.background(ctx, t, map[string]any{"query": "the trial"})
	if _, err := gemini.Await(ctx, asked+1); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		wantError(t, ask(), http.StatusServiceUnavailable, "model_unavailable")
	}
	if n := len(gemini.Requests()) - asked; n != 1 {
		t.Errorf("%d calls at once after the cooldown, want one trial", n)
	}
	close(gate)
	wantError(t, <-trial, http.StatusServiceUnavailable, "model_unavailable")

	// It comes back by itself, and stays.
	gemini.Handle(nil)
	eventually(t, "the model answers again", func() bool { return ask().Status == http.StatusOK })
	for range 5 {
		wantTurn(t, ask())
	}
	eventually(t, "health shows the breaker closed", func() bool { return s.health(t).Breakers[firstModel] == "closed" })
}

// A storm of failures adds a fifth to the load at most, and ten retries that a
// process has saved up.
func TestRetryBudget(t *testing.T) {
	t.Parallel()
	s, gemini := startGemini(t, "BREAKER_FAILURES=1000")
	gemini.Handle(func(geminitest.Request) geminitest.Reply { return modelAway })
	const calls, saved = 100, 10
	ctx := bounded(t)
	var wait sync.WaitGroup
	turns := make(chan struct{}, 10)
	for range calls {
		wait.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			a, err := s.try(ctx, http.MethodPost, "/invoke", map[string]any{"query": "hello"})
			if err != nil || a.Status != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "" {
				t.Errorf("status %d, error %v: %s", a.Status, err, a.Body)
			}
		})
	}
	wait.Wait()
	n := len(gemini.Requests())
	t.Logf("%d calls came to %d at the model", calls, n)
	if n <= calls || n > calls+calls/5+saved {
		t.Errorf("%d calls came to %d at the model, want retries, and at most %d of them", calls, n, calls/5+saved)
	}
}

// Token counts near the API's maximum are added without overflow, and larger ones do
// no harm.
func TestHugeUsage(t *testing.T) {
	t.Parallel()
	const huge = math.MaxInt32
	counts := geminitest.Usage{Prompt: huge / 2, Output: huge / 2} // the total is one number, too
	s, gemini := startGemini(t)
	ask := func(body map[string]any, stream bool) turn {
		gemini.Forget()
		for range 3 {
			gemini.Enqueue(geminitest.Calls(geminitest.FunctionCall{Name: "check_status"}).WithUsage(counts))
		}
		gemini.Enqueue(geminitest.Text("Fine.").WithUsage(counts))
		body["stream"] = stream
		if stream {
			_, got := s.stream(t, body).wantDone(t)
			return got
		}
		return s.invoke(t, body)
	}
	const each = 4 * (huge / 2)
	id := ""
	for i, stream := range []bool{false, true} {
		body := map[string]any{"query": "hello"}
		if id != "" {
			body["session_id"] = id
		}
		got := ask(body, stream)
		id = got.SessionID
		if u := got.Usage; u.PromptTokens != each || u.CompletionTokens != each || u.TotalTokens != 2*each || u.EstimatedCostUSD == nil || *u.EstimatedCostUSD <= 0 {
			t.Errorf("usage: %+v", u)
		}
		page := wantData[sessionPage](t, s.do(t, http.MethodGet, "/sessions/"+id, nil))
		if page.Session.TotalTokens != (i+1)*2*each {
			t.Errorf("the session's total_tokens: %d after %d turns, want %d", page.Session.TotalTokens, i+1, (i+1)*2*each)
		}
	}
	for _, n := range []int{math.MaxInt32 + 1, math.MaxInt64 / 4} {
		gemini.Forget()
		gemini.Enqueue(geminitest.Text("Fine.").WithUsage(geminitest.Usage{Prompt: n, Output: n}))
		a := s.do(t, http.MethodPost, "/invoke", map[string]any{"query": "hello"})
		if a.Status == http.StatusOK {
			if u := wantTurn(t, a).Usage; u.PromptTokens < 0 || u.CompletionTokens < 0 || u.TotalTokens < 0 {
				t.Errorf("usage for counts of %d: %+v", n, u)
			}
			continue
		}
		wantError(t, a, http.StatusBadGateway, "model_failed")
	}
	if got := s.invoke(t, map[string]any{"query": "hello"}); got.Usage.TotalTokens > 1000 {
		t.Errorf("afterwards: %+v", got.Usage)
	}
}
