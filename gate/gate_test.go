package gate_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/gate"
	"example.com/gatehouse/internal/geminitest"
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
	for name, again := range map[string]func(){
		"twice":        func() { gate.Register(newAgent) },
		"nothing":      func() { gate.Register(nil) },
		"no handler's": func() { gate.Handler(nil) },
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
