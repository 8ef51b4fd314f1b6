package invoke_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/genai"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/auth"
	"example.com/gatehouse/internal/drain"
	"example.com/gatehouse/internal/middleware"
	"example.com/gatehouse/internal/model"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/invoke"
	"example.com/gatehouse/session"
	"example.com/gatehouse/tool"
)

// BenchmarkFeatures runs a turn that uses one feature, without limits and a network. It
// reports the bytes of the stored turn, too. Each is one write of a document, as a turn that
// uses none is.
func BenchmarkFeatures(b *testing.B) {
	counter := tool.SessionState[int]("count")
	answer := func(parts, more string) string {
		return `{"candidates":[{"content":{"role":"model","parts":[` + parts + `]},"finishReason":"STOP"` + more + `}],"usageMetadata":{"promptTokenCount":186,"candidatesTokenCount":64,"totalTokenCount":250}}`
	}
	const text = `{"text":"Cloud Run suits most services."}`
	grounding := `,"groundingMetadata":{"webSearchQueries":["q"],"groundingChunks":[{"web":{"title":"A","uri":"https://a.example"}}],"groundingSupports":[{"segment":{"endIndex":9},"groundingChunkIndices":[0]}],"searchEntryPoint":{"renderedContent":"<div>q</div>"}}`
	image := encoded(picture(b, 64))
	for _, tt := range []struct {
		name    string
		agent   agent.Agent
		answers []string // in turn
		body    string
	}{
		{"none", agent.Agent{}, []string{answer(text, "")}, `{"query":"q"}`},
		{"search", agent.Agent{Tools: []tool.Tool{tool.Gemini(&genai.Tool{GoogleSearch: &genai.GoogleSearch{}})}}, []string{answer(text, grounding)}, `{"query":"q"}`},
		{"a file", agent.Agent{}, []string{answer(text, "")}, `{"query":"q","files":[{"type":"image/png","data":"` + image + `"}]}`},
		{"a typed answer", agent.Agent{Output: agent.OutputOf[struct {
			Name string `json:"name"`
		}]()}, []string{answer(`{"text":"{\"name\":\"Cloud Run\"}"}`, "")}, `{"query":"q"}`},
		{"a tool", agent.Agent{Tools: []tool.Tool{tool.New("look", "It looks.", func(context.Context, struct{}) (int, error) { return 1, nil })}},
			[]string{answer(`{"functionCall":{"name":"look","args":{}}}`, ""), answer(text, "")}, `{"query":"q"}`},
		{"a tool with state", agent.Agent{Tools: []tool.Tool{tool.New("look", "It looks.", func(ctx context.Context, _ struct{}) (int, error) {
			return 1, counter.Update(ctx, func(n *int) error { *n++; return nil })
		})}}, []string{answer(`{"functionCall":{"name":"look","args":{}}}`, ""), answer(text, "")}, `{"query":"q"}`},
		{"redaction", agent.Agent{Hooks: agent.Redaction(func(text string) string { return strings.ReplaceAll(text, "x", "y") })}, []string{answer(text, "")}, `{"query":"q"}`},
	} {
		b.Run(tt.name, func(b *testing.B) {
			tt.agent.Name = "bench"
			calls := 0
			client, err := model.New(b.Context(), model.Config{
				APIKey: "x", BaseURL: "http://gemini.test", Models: []string{"gemini-3.5-flash"}, BreakerFailures: 5, BreakerCooldown: time.Minute,
				Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
					_, err := io.Copy(io.Discard, r.Body)
					body := tt.answers[calls%len(tt.answers)]
					calls++
					return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, err
				}),
			})
			if err != nil {
				b.Fatal(err)
			}
			store := &sizedStore{Store: session.NewMemory(time.Hour, session.MemoryLimit, time.Now, telemetry.Discard())}
			config := invoke.Config{
				Agent: tt.agent, Model: client, ModelName: "gemini-3.5-flash", Store: store, Timeout: 30 * time.Second, MaxBodyBytes: 128 << 10,
				MaxOutputTokens: 4096, HistoryTokens: 32000, MaxToolRounds: 8, Log: telemetry.Discard(), Now: time.Now,
			}
			withFiles(b, nil, false)(&config)
			handler := middleware.New(middleware.Config{Log: telemetry.Discard(), Gate: &drain.Gate{}, Now: time.Now, Authenticator: auth.New(&auth.None{})}, invoke.New(config).Routes())
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequestWithContext(b.Context(), http.MethodPost, "/invoke", strings.NewReader(tt.body))
				r.Header.Set("Content-Type", "application/json")
				w := httptest.NewRecorder()
				handler.ServeHTTP(w, r)
				if w.Code != http.StatusOK || !bytes.Contains(w.Body.Bytes(), []byte("Cloud Run")) {
					b.Fatal(w.Code, w.Body)
				}
			}
			b.ReportMetric(float64(store.bytes), "stored-B")
		})
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A sizedStore knows the size of the turn that was stored last.
type sizedStore struct {
	session.Store
	bytes int
}

func (s *sizedStore) Apply(ctx context.Context, base *session.Session, c session.Change) (*session.Session, error) {
	if c.Turn != nil {
		raw, err := json.Marshal(c.Turn)
		if err != nil {
			return nil, err
		}
		s.bytes = len(raw)
	}
	return s.Store.Apply(ctx, base, c)
}
