package gate_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/gate"
	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/server"
	"example.com/gatehouse/session"
)

func newAgent(context.Context, agent.Env) (agent.Agent, error) {
	return agent.Agent{Name: "a"}, nil
}

// environment returns an option that sets the variables.
func environment(pairs ...string) gate.Option {
	return gate.Environment(func(name string) (string, bool) {
		for _, pair := range pairs {
			if key, value, _ := strings.Cut(pair, "="); key == name {
				return value, true
			}
		}
		return "", false
	})
}

func call(t *testing.T, h http.Handler, method, path, body string) (int, string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, "http://127.0.0.1"+path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func TestHandler(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	closed := 0
	made := 0
	h, shutdown := gate.Handler(func(context.Context, agent.Env) (agent.Agent, error) {
		made++
		return agent.Agent{Name: "a", Description: "Knows rates.", Examples: []string{"What is a euro worth?"}, Close: func(context.Context) error { closed++; return nil }}, nil
	}, environment("GEMINI_API_KEY=k", "GOOGLE_GEMINI_BASE_URL="+gemini.URL), gate.Log(io.Discard))
	if made != 0 {
		t.Error("the agent was made before the first request")
	}
	for range 2 {
		if status, text := call(t, h, "POST", "/invoke", `{"query": "hello"}`); status != 200 || !strings.Contains(text, "stand-in") {
			t.Errorf("%d %s", status, text)
		}
	}
	if status, text := call(t, h, "GET", "/health", ""); status != 200 || !strings.Contains(text, `"name":"a"`) {
		t.Errorf("%d %s", status, text)
	}
	for _, path := range []string{"/", "/openapi.json"} {
		if status, text := call(t, h, "GET", path, ""); status != 200 || !strings.Contains(text, "Knows rates.") || !strings.Contains(text, "What is a euro worth?") {
			t.Errorf("%s does not say what the agent is for: %d %.300s", path, status, text)
		}
	}
	if err := shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if status, text := call(t, h, "POST", "/invoke", `{"query": "hello"}`); status != 503 || !strings.Contains(text, "shutting_down") {
		t.Errorf("after shutdown: %d %s", status, text)
	}
	if made != 1 || closed != 1 {
		t.Errorf("made %d times and closed %d times, want once", made, closed)
	}
}

// What an agent leaves out is the model's own, and the deployment's.
func TestZeroValues(t *testing.T) {
	t.Parallel()
	const own = `{"query": "hello", "temperature": 1.5, "max_tokens": 50}`
	tests := []struct {
		name, body, want string
		agent            agent.Agent
	}{
		{"nothing set", `{"query": "hello"}`, `{"maxOutputTokens": 900}`, agent.Agent{}},
		{"the agent's own", `{"query": "hello"}`, `{"maxOutputTokens": 600, "temperature": 0.5}`, agent.Agent{Temperature: new(0.5), MaxTokens: 600}},
		{"a temperature of 0", `{"query": "hello"}`, `{"maxOutputTokens": 900, "temperature": 0}`, agent.Agent{Temperature: new(0.0)}},
		{"more than MAX_OUTPUT_TOKENS", `{"query": "hello"}`, `{"maxOutputTokens": 900}`, agent.Agent{MaxTokens: 5000}},
		{"the request's, of an agent that sets nothing", own, `{"maxOutputTokens": 50, "temperature": 1.5}`, agent.Agent{}},
		{"the request's, of an agent that sets them", own, `{"maxOutputTokens": 50, "temperature": 1.5}`, agent.Agent{Temperature: new(0.0), MaxTokens: 600}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			gemini := geminitest.Start(t)
			h, shutdown := gate.Handler(func(context.Context, agent.Env) (agent.Agent, error) {
				a := test.agent
				a.Name = "a"
				return a, nil
			}, environment("GEMINI_API_KEY=k", "GOOGLE_GEMINI_BASE_URL="+gemini.URL, "MODEL=gemini-2.5-flash", "MAX_OUTPUT_TOKENS=900"), gate.Log(t.Output()))
			if status, text := call(t, h, "POST", "/invoke", test.body); status != 200 {
				t.Fatalf("%d %s", status, text)
			}
			var sent struct{ GenerationConfig map[string]any }
			if err := json.Unmarshal(gemini.Requests()[0].Raw, &sent); err != nil {
				t.Fatal(err)
			}
			delete(sent.GenerationConfig, "thinkingConfig") // not the agent's
			var want map[string]any
			if err := json.Unmarshal([]byte(test.want), &want); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, sent.GenerationConfig); diff != "" {
				t.Errorf("what the model is sent (-want +got):\n%s", diff)
			}
			if err := shutdown(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// An ownStore is a store that no package of the service knows.
type ownStore struct {
	session.Store
	loaded, applied, pinged atomic.Int32
}

func (s *ownStore) Load(ctx context.Context, key session.Key) (*session.Session, error) {
	s.loaded.Add(1)
	return s.Store.Load(ctx, key)
}

func (s *ownStore) Apply(ctx context.Context, of *session.Session, c session.Change) (*session.Session, error) {
	s.applied.Add(1)
	return s.Store.Apply(ctx, of, c)
}

func (s *ownStore) Ping(ctx context.Context) error {
	s.pinged.Add(1)
	return s.Store.Ping(ctx)
}

func newMemory() session.Store {
	return session.NewMemory(time.Hour, session.MemoryLimit, time.Now, slog.New(slog.DiscardHandler))
}

func TestAStoreOfOnesOwn(t *testing.T) {
	t.Parallel()
	store := &ownStore{Store: newMemory()}
	gemini := geminitest.Start(t)
	h, shutdown := gate.Handler(newAgent, environment("GEMINI_API_KEY=k", "GOOGLE_GEMINI_BASE_URL="+gemini.URL), gate.Log(t.Output()), gate.Store(store))
	var answer struct {
		Data struct {
			SessionID string `json:"session_id"`
		}
	}
	status, text := call(t, h, "POST", "/invoke", `{"query": "hello"}`)
	if err := json.Unmarshal([]byte(text), &answer); err != nil || status != 200 {
		t.Fatalf("%d %s: %v", status, text, err)
	}
	if status, text := call(t, h, "POST", "/invoke", `{"query": "again", "session_id": "`+answer.Data.SessionID+`"}`); status != 200 || !strings.Contains(text, `"turn":2`) {
		t.Errorf("the second turn: %d %s", status, text)
	}
	if status, text := call(t, h, "GET", "/health", ""); status != 200 || !strings.Contains(text, `"status":"healthy"`) {
		t.Errorf("%d %s", status, text)
	}
	if loaded, applied, pinged := store.loaded.Load(), store.applied.Load(), store.pinged.Load(); loaded < 1 || applied != 2 || pinged < 1 {
		t.Errorf("the store is asked %d times for sessions, to append %d times, and probed %d times", loaded, applied, pinged)
	}
	if err := shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// A store of one's own does not soften what production refuses.
func TestAStoreInProduction(t *testing.T) {
	t.Parallel()
	production := []string{"ENVIRONMENT=production", "AUTH=api_key", `API_KEYS=[{"name":"a","sha256":"` + strings.Repeat("0f", 32) + `"}]`, "GEMINI_API_KEY=k", "GOOGLE_CLOUD_PROJECT=p", "FIRESTORE_EMULATOR_HOST=127.0.0.1:1",
		"LOGGING_ENDPOINT=127.0.0.1:1", "TELEMETRY_ENDPOINT=127.0.0.1:1"} // else credentials would be looked for
	tests := []struct {
		name   string
		store  session.Store
		env    []string
		status int
	}{
		{"a store of one's own", &ownStore{Store: newMemory()}, nil, 200},
		{"limits that are counted in memory", &ownStore{Store: newMemory()}, []string{"SESSION_STORE=memory"}, 503},
		{"the store in memory", newMemory(), nil, 503},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h, shutdown := gate.Handler(newAgent, environment(append(test.env, production...)...), gate.Log(t.Output()), gate.Store(test.store))
			status, text := call(t, h, "GET", "/health/ready", "")
			if status != test.status || status != 200 && !strings.Contains(text, `"SESSION_STORE"`) {
				t.Errorf("%d %s", status, text)
			}
			if err := shutdown(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// The stand-in for Gemini is in the local program only.
func TestHandlerWithoutAModel(t *testing.T) {
	t.Parallel()
	h, shutdown := gate.Handler(newAgent, environment(), gate.Log(io.Discard))
	status, text := call(t, h, "GET", "/health/ready", "")
	if status != 503 || !strings.Contains(text, `"GEMINI_API_KEY"`) {
		t.Errorf("%d %s", status, text)
	}
	if err := shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// It is the one test that registers: a program does so once.
func TestRegister(t *testing.T) {
	t.Setenv("FUNCTION_TARGET", "")
	_ = os.Unsetenv("FUNCTION_TARGET")
	before := slog.Default()
	t.Cleanup(func() { slog.SetDefault(before); log.SetOutput(os.Stderr) })
	var out bytes.Buffer
	gemini := geminitest.Start(t)
	gate.Register(newAgent, environment("GEMINI_API_KEY=k", "GOOGLE_GEMINI_BASE_URL="+gemini.URL), gate.Log(&out))
	if out.Len() != 0 {
		t.Errorf("registering wrote %s", &out)
	}
	door := gate.Door("openai", func(server.Room) []api.Route { return nil })
	for name, again := range map[string]func(){
		"a door twice": func() { gate.Handler(newAgent, door, door) },
		"twice":        func() { gate.Register(newAgent) },
		"nothing":      func() { gate.Register(nil) },
		"no handler's": func() { gate.Handler(nil) },
		"no store":     func() { gate.Store(nil) },
	} {
		if err := panics(again); err == nil || !strings.HasPrefix(err.Error(), "gate: ") {
			t.Errorf("%s: %v, want a panic of the package's own", name, err)
		}
	}
}

func panics(f func()) (err error) {
	defer func() {
		if text, ok := recover().(string); ok {
			err = errors.New(text)
		}
	}()
	f()
	return nil
}
