package invoke_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/auth"
	"example.com/gatehouse/internal/drain"
	"example.com/gatehouse/internal/limit"
	"example.com/gatehouse/internal/middleware"
	"example.com/gatehouse/internal/model"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/internal/testagent"
	"example.com/gatehouse/invoke"
	"example.com/gatehouse/session"
)

// canned is a model that returns a constant answer.
type canned string

func (c canned) RoundTrip(r *http.Request) (*http.Response, error) {
	_, err := io.Copy(io.Discard, r.Body)
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(string(c))), Request: r}, err
}

const cannedAnswer = `{"candidates":[{"content":{"role":"model","parts":[{"text":"Cloud Run suits most services."}]},"finishReason":"STOP"}],` +
	`"usageMetadata":{"promptTokenCount":186,"candidatesTokenCount":64,"totalTokenCount":250}}`

// BenchmarkTurn runs a whole turn behind package middleware, without a network: the agent's
// tools and instruction, limits, and a session in memory.
func BenchmarkTurn(b *testing.B) {
	for _, turns := range []int{0, 20} {
		b.Run(fmt.Sprintf("after %d turns", turns), func(b *testing.B) {
			h := benchService(b)
			body := `{"query": "Which deployment option suits a small service, and why?"}`
			ask := func(body string) *httptest.ResponseRecorder {
				r := httptest.NewRequestWithContext(b.Context(), http.MethodPost, "/invoke", strings.NewReader(body))
				r.Header.Set("Content-Type", "application/json")
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r)
				if w.Code != 200 {
					b.Fatal(w.Code, w.Body)
				}
				return w
			}
			b.ReportAllocs()
			if turns == 0 {
				for b.Loop() {
					ask(body)
				}
				return
			}
			// The session grows while it is used, equally in every comparison with the
			// same number of iterations.
			for range turns {
				var answer struct {
					Data struct {
						SessionID string `json:"session_id"`
					} `json:"data"`
				}
				if err := json.Unmarshal(ask(body).Body.Bytes(), &answer); err != nil {
					b.Fatal(err)
				}
				body = fmt.Sprintf(`{"query": "And then?", "session_id": %q}`, answer.Data.SessionID)
			}
			for b.Loop() {
				ask(body)
			}
		})
	}
}

// BenchmarkNewConnection runs turns each on a goroutine of its own, whose stack has to grow.
func BenchmarkNewConnection(b *testing.B) {
	h := benchService(b)
	done := make(chan int)
	for b.Loop() {
		go func() {
			r := httptest.NewRequestWithContext(b.Context(), http.MethodPost, "/invoke", strings.NewReader(`{"query": "Which deployment option suits a small service, and why?"}`))
			r.Header.Set("Content-Type", "application/json")
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			done <- w.Code
		}()
		if code := <-done; code != 200 {
			b.Fatal(code)
		}
	}
}

func benchService(b *testing.B) http.Handler {
	client, err := model.New(b.Context(), model.Config{
		APIKey: "x", BaseURL: "http://gemini.test", Transport: canned(cannedAnswer), Models: []string{"gemini-2.5-flash"},
		BreakerFailures: 5, BreakerCooldown: time.Minute,
	})
	if err != nil {
		b.Fatal(err)
	}
	limits := limit.Limits{PerMinute: 1_000_000, CallerPerMinute: 10_000_000}
	limiter := limit.New(limit.Config{Counters: limit.NewMemory(time.Now), MaxInstances: 1, Now: time.Now, Log: telemetry.Discard()})
	ours, err := testagent.New(b.Context(), agent.Env{})
	if err != nil {
		b.Fatal(err)
	}
	s := invoke.New(invoke.Config{
		Agent: ours,
		Model: client, ModelName: "gemini-2.5-flash", Store: session.NewMemory(time.Hour, session.MemoryLimit, time.Now, telemetry.Discard()),
		Timeout: 30 * time.Second, MaxBodyBytes: 128 << 10, MaxOutputTokens: 4096, HistoryTokens: 32000, MaxToolRounds: 8,
		Limiter: limiter, Limits: limits, Log: telemetry.Discard(), Now: time.Now,
	})
	return middleware.New(middleware.Config{
		Log: telemetry.Discard(), Gate: &drain.Gate{}, Now: time.Now, Authenticator: auth.New(&auth.None{}), Limiter: limiter, Limits: limits,
	}, s.Routes())
}
