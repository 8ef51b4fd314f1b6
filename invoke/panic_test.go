package invoke_test

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/auth"
	"example.com/gatehouse/internal/drain"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/middleware"
	"example.com/gatehouse/internal/model"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/internal/testlog"
	"example.com/gatehouse/invoke"
	"example.com/gatehouse/session"
	"example.com/gatehouse/tool"
)

const theSecret = "the secret of the panic"

// A panicking store panics when a turn is stored.
type panicking struct{ session.Store }

func (p panicking) Apply(ctx context.Context, s *session.Session, c session.Change) (*session.Session, error) {
	if c.Turn != nil {
		panic(theSecret)
	}
	return p.Store.Apply(ctx, s, c)
}

func newMemory() *session.Memory {
	return session.NewMemory(time.Hour, session.MemoryLimit, time.Now, telemetry.Discard())
}

// serve runs an agent with two tools, on a store, behind the middleware.
func serve(t *testing.T, store session.Store, gemini *geminitest.Server) (*httptest.Server, *testlog.Buffer) {
	t.Helper()
	tools := []tool.Tool{
		tool.New("fails", "It fails.", func(context.Context, struct{}) (string, error) { panic(theSecret) }),
		tool.New("floods", "It returns as many bytes as it is asked for.", func(_ context.Context, in flood) (flooded, error) {
			return flooded{strings.Repeat("x", in.Bytes)}, nil
		}),
	}
	return serveAgent(t, store, gemini, agent.Agent{Name: "agent", Tools: tools, MaxTokens: 100})
}

// serveAgent runs an agent on a store, behind the middleware.
func serveAgent(t *testing.T, store session.Store, gemini *geminitest.Server, a agent.Agent, edits ...func(*invoke.Config)) (*httptest.Server, *testlog.Buffer) {
	t.Helper()
	return serveFor(t, store, gemini, a, 10*time.Second, edits...)
}

// serveFor is serveAgent with the time of a turn.
func serveFor(t *testing.T, store session.Store, gemini *geminitest.Server, a agent.Agent, timeout time.Duration, edits ...func(*invoke.Config)) (*httptest.Server, *testlog.Buffer) {
	t.Helper()
	written := &testlog.Buffer{}
	logger := telemetry.NewLogger(written, nil, telemetry.Source{})
	client, err := model.New(t.Context(), model.Config{APIKey: "key", BaseURL: gemini.URL, Loopback: true, Models: []string{"model"}, BreakerFailures: 5, BreakerCooldown: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	config := invoke.Config{
		Agent: a, Model: client, ModelName: "model", Store: store,
		Timeout: timeout, MaxBodyBytes: 1 << 17, MaxOutputTokens: 4096, HistoryTokens: 32000, MaxToolRounds: 8,
		Log: logger, Now: time.Now,
	}
	for _, edit := range edits {
		edit(&config)
	}
	s := invoke.New(config)
	server := httptest.NewServer(middleware.New(middleware.Config{Log: logger, Gate: &drain.Gate{}, Authenticator: auth.New(&auth.None{}), Now: time.Now}, s.Routes()))
	t.Cleanup(server.Close)
	return server, written
}

// ask sends a question and reads the answer, which must come whole.
func ask(t *testing.T, server *httptest.Server, path, body string, headers ...string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	var b bytes.Buffer
	if _, err := b.ReadFrom(response.Body); err != nil {
		t.Fatalf("the answer broke off: %v: %s", err, b.String())
	}
	return response.StatusCode, b.String()
}

func TestAPanicInATurn(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, path, body string
		status           int
		ends             string // how the answer does
	}{
		{"JSON", "/invoke", `{"query": "hello"}`, http.StatusInternalServerError, `"error":"internal"`},
		{"a stream that has begun", "/invoke", `{"query": "hello", "stream": true}`, http.StatusOK, "event: error\n"},
		{"a chat that has begun", "/chat", `{"id": "AAAAAAAAAAAAAAAAAAAAAA", "messages": [{"role": "user", "parts": [{"type": "text", "text": "hello"}]}], "trigger": "submit-message"}`,
			http.StatusOK, `"type":"error"`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server, written := serve(t, panicking{newMemory()}, geminitest.Start(t))
			for range 2 { // and the process goes on; the second has the first's key
				status, answer := ask(t, server, test.path, test.body, "Idempotency-Key", "key")
				if status != test.status || !strings.Contains(answer, test.ends) || strings.Contains(answer, `"event: done`) {
					t.Errorf("status %d: %s", status, answer)
				}
				if strings.Contains(answer, theSecret) || strings.Contains(answer, ".go:") {
					t.Errorf("the answer tells of the panic: %s", answer)
				}
			}
			server.Close() // the log is written after the answer
			if logged := written.String(); strings.Count(logged, "A handler panicked.") != 2 || !strings.Contains(logged, theSecret) || !strings.Contains(logged, "panic_test.go") {
				t.Errorf("the log: %s", logged)
			}
		})
	}
}

func TestAPanicInATool(t *testing.T) {
	t.Parallel()
	for _, stream := range []string{"false", "true"} {
		t.Run("stream: "+stream, func(t *testing.T) {
			t.Parallel()
			gemini := geminitest.Start(t)
			gemini.Enqueue(geminitest.Calls(geminitest.FunctionCall{Name: "fails"}), geminitest.Text("It failed."))
			server, written := serve(t, newMemory(), gemini)
			status, answer := ask(t, server, "/invoke", `{"query": "hello", "stream": `+stream+`}`)
			if status != http.StatusOK || !strings.Contains(answer, "It failed.") || !strings.Contains(answer, `"ok":false`) || strings.Contains(answer, theSecret) {
				t.Errorf("status %d: %s", status, answer)
			}
			if bytes.Contains(gemini.Requests()[1].Raw, []byte(theSecret)) {
				t.Errorf("the model is told of the panic: %s", gemini.Requests()[1].Raw)
			}
			if logged := written.String(); !strings.Contains(logged, "A tool panicked.") || !strings.Contains(logged, theSecret) || !strings.Contains(logged, "panic_test.go") {
				t.Errorf("the log: %s", logged)
			}
		})
	}
}
