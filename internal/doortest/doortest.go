// Package doortest serves an agent behind the gate with one of its doors, for the tests of
// the doors.
package doortest

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/gate"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/server"
	"example.com/gatehouse/internal/testlog"
)

// A Service is an agent behind the gate, on a model that the test scripts. It ends with the
// test.
type Service struct {
	URL    string
	Gemini *geminitest.Server
	Log    *testlog.Buffer
}

// Start serves the agent that newAgent makes with options, one of which is the door, and
// with the variables env, each "NAME=value", of which the last counts.
func Start(t *testing.T, newAgent agent.NewFunc, env []string, options ...gate.Option) *Service {
	t.Helper()
	s := &Service{Gemini: geminitest.Start(t), Log: &testlog.Buffer{}}
	variables := map[string]string{"GEMINI_API_KEY": "k", "GOOGLE_GEMINI_BASE_URL": s.Gemini.URL}
	for _, pair := range env {
		name, value, _ := strings.Cut(pair, "=")
		variables[name] = value
	}
	h, shutdown := gate.Handler(newAgent, append(options, gate.Log(s.Log),
		gate.Environment(func(name string) (string, bool) { value, ok := variables[name]; return value, ok }))...)
	listener := httptest.NewServer(h)
	s.URL = listener.URL
	t.Cleanup(func() {
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		listener.CloseClientConnections()
		listener.Close()
		_ = shutdown(context.Background())
	})
	return s
}

// Queue is the option of a queue in the process, as on a laptop.
func Queue(o *server.Options) { o.LocalQueue = true }

// Key is the API key by which [Keys] admits name.
func Key(name string) string { return "key-of-" + name + "-0123456789" }

// Keys returns the variables that admit names by their API keys.
func Keys(names ...string) []string {
	var keys []map[string]string
	for _, name := range names {
		keys = append(keys, map[string]string{"name": name, "sha256": fmt.Sprintf("%x", sha256.Sum256([]byte(Key(name))))})
	}
	encoded, _ := json.Marshal(keys) // texts
	return []string{"AUTH=api_key", "API_KEYS=" + string(encoded)}
}

// Post sends a body of JSON, with headers that are each a name and its value, and returns
// the response with its body.
func Post(t *testing.T, url, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return Do(t, r)
}

// Do sends a request and returns the response with its body. It follows no redirect.
func Do(t *testing.T, r *http.Request) (*http.Response, string) {
	t.Helper()
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(body)
}
