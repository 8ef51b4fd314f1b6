package api_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"go.uber.org/goleak"

	"example.com/gatehouse/internal/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// envelope is an answer as a client reads it.
type envelope struct {
	Success   bool            `json:"success"`
	Message   string          `json:"message"`
	Data      json.RawMessage `json:"data"`
	Error     *string         `json:"error"`
	Details   []api.Detail    `json:"details"`
	RequestID string          `json:"request_id"`
	Timestamp string          `json:"timestamp"`
}

// read reads the envelope of an answer.
func read(t testing.TB, w *httptest.ResponseRecorder) envelope {
	t.Helper()
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type %q", got)
	}
	var e envelope
	if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil {
		t.Fatalf("the answer %.200q: %v", w.Body, err)
	}
	return e
}

// request is one with the headers given as name, value, name, value, ….
func request(t testing.TB, method, target string, headers ...string) *http.Request {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}
