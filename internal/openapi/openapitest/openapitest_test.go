package openapitest_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"example.com/gatehouse/internal/openapi/openapitest"
	"example.com/gatehouse/internal/server"
	"example.com/gatehouse/internal/testagent"
)

// contract is the service's own.
func contract(t *testing.T) (*openapitest.Contract, http.Handler) {
	t.Helper()
	s := server.New(testagent.Options(func(string) (string, bool) { return "", false }, io.Discard))
	w := httptest.NewRecorder()
	s.Both.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1/openapi.json", nil))
	c, err := openapitest.New(w.Body.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return c, s.Both
}

// What the service answers holds, and every change to it is noticed.
func TestCheck(t *testing.T) {
	t.Parallel()
	c, h := contract(t)
	ask := func(method, path, body string) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(t.Context(), method, "http://127.0.0.1"+path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	const question = `{"query": "What is the price of an apple?"}`
	const streamed = `{"query": "What is the price of an apple?", "stream": true}`
	const chatted = `{"id": "chat0123456789ab", "messages": [{"role": "user", "parts": [{"type": "text", "text": "What is the price of an apple?"}]}]}`
	tests := []struct {
		name, method, path, body string
		change                   func(w *httptest.ResponseRecorder, body string) string // nil: as it is
		problem                  string
	}{
		{"a turn", "POST", "/invoke", question, nil, ""},
		{"a stream", "POST", "/invoke", streamed, nil, ""},
		{"a chat", "POST", "/chat", chatted, nil, ""},
		{"a chat without a message", "POST", "/chat", `{"id": "chat0123456789ab", "messages": []}`, nil, ""},
		{"a chat to resume", "GET", "/chat/x/stream", "", nil, ""},
		{"a list", "GET", "/sessions?limit=3", "", nil, ""},
		{"no session", "GET", "/sessions/aaaaaaaaaaaaaaaa", "", nil, ""},
		{"a field that is wrong", "POST", "/", `{}`, nil, ""},
		{"usage", "GET", "/usage", "", nil, ""},
		{"health", "GET", "/health", "", nil, ""},
		{"a path nobody knows", "GET", "/nothing", "", nil, ""},
		{"a method that is not there", "GET", "/invoke", "", nil, ""},
		{"the page", "GET", "/docs", "", nil, ""},
		{"a type", "POST", "/invoke", question, replace(`"turn":1`, `"turn":"1"`), "turn"},
		{"a member more", "POST", "/invoke", question, replace(`"turn":1`, `"turn":1,"secret":1`), "secret"},
		{"a member less", "POST", "/invoke", question, replace(`,"warnings":[]`, ""), "warnings"},
		{"null for a list", "POST", "/invoke", question, replace(`"warnings":[]`, `"warnings":null`), "warnings"},
		{"an error of another status", "GET", "/sessions/aaaaaaaaaaaaaaaa", "", replace("session_not_found", "timeout"), "timeout"},
		{"an unknown error", "GET", "/nothing", "", replace("not_found", "lost"), "enum"},
		{"a status", "GET", "/usage", "", func(w *httptest.ResponseRecorder, body string) string { w.Code = 418; return body }, "418"},
		{"a header less", "GET", "/usage", "", func(w *httptest.ResponseRecorder, body string) string {
			w.Header().Del("X-Request-ID")
			return body
		}, "X-Request-ID"},
		{"another media type", "GET", "/usage", "", func(w *httptest.ResponseRecorder, body string) string {
			w.Header().Set("Content-Type", "text/html")
			return body
		}, "text/html"},
		{"an event's data", "POST", "/invoke", streamed, replace(`{"text":`, `{"words":`), "delta"},
		{"an unknown event", "POST", "/invoke", streamed, replace("event: delta", "event: beta"), "beta"},
		{"an event without an id", "POST", "/invoke", streamed, replace("\nid: ", "\ndata: "), "no id"},
		{"a stream without its end", "POST", "/invoke", streamed, func(_ *httptest.ResponseRecorder, body string) string {
			before, _, _ := strings.Cut(body, "event: done")
			return before
		}, "order"},
		{"an event after the end", "POST", "/invoke", streamed, func(_ *httptest.ResponseRecorder, body string) string {
			return body + "event: delta\ndata: {\"text\":\"\"}\n\n"
		}, "after the end"},
		{"half an event", "POST", "/invoke", streamed, func(_ *httptest.ResponseRecorder, body string) string { return body + "data:" }, "within an event"},
		{"a stream that does not start", "POST", "/invoke", streamed, replace("event: start", "event: delta"), "delta"},
		{"a chat's member more", "POST", "/chat", chatted, replace(`"delta":`, `"secret":1,"delta":`), "part"},
		{"a chat's member of another type", "POST", "/chat", chatted, replace(`"turn":1`, `"turn":"1"`), "part"},
		{"a chat's unknown part", "POST", "/chat", chatted, replace(`"text-start"`, `"text-begin"`), "part"},
		{"a chat's text that is not begun", "POST", "/chat", chatted, replace(`"id":"text-1"`, `"id":"text-2"`), "order"},
		{"a chat's event with a name", "POST", "/chat", chatted, replace("data: ", "event: part\ndata: "), "name"},
		{"a chat that starts twice", "POST", "/chat", chatted, func(_ *httptest.ResponseRecorder, body string) string {
			start, _, _ := strings.Cut(body, "\n\n")
			return start + "\n\n" + body
		}, "order"},
		{"a chat without its last part", "POST", "/chat", chatted, func(_ *httptest.ResponseRecorder, body string) string {
			before, _, _ := strings.Cut(body, `data: {"type":"finish"`)
			return before + "data: [DONE]\n\n"
		}, "order"},
		{"a chat without its end", "POST", "/chat", chatted, replace("data: [DONE]\n\n", ""), "without its end"},
		{"a chat without its header", "POST", "/chat", chatted, func(w *httptest.ResponseRecorder, body string) string {
			w.Header().Del("X-Vercel-Ai-Ui-Message-Stream")
			return body
		}, "x-vercel-ai-ui-message-stream"},
	}
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			// Each is the first question of its chat.
			w := ask(test.method, test.path, strings.Replace(test.body, "chat0123456789ab", fmt.Sprintf("chat-%011d", i), 1))
			body := w.Body.String()
			if test.change != nil {
				body = test.change(w, body)
			}
			err := c.Check(test.method, test.path, w.Code, w.Header(), []byte(body))
			if test.problem == "" {
				if err != nil {
					t.Error(err)
				}
			} else if err == nil || !strings.Contains(err.Error(), test.problem) {
				t.Errorf("%v, want one about %s", err, test.problem)
			}
		})
	}
}

// A stream is checked while it comes, however it is cut.
func TestStream(t *testing.T) {
	t.Parallel()
	c, h := contract(t)
	for path, body := range map[string]string{
		"/invoke": `{"query": "What is the price of an apple?", "stream": true}`,
		"/chat":   `{"id": "chat0123456789ab", "messages": [{"role": "user", "parts": [{"type": "text", "text": "What is the price of an apple?"}]}]}`,
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://127.0.0.1"+path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		s, err := c.Stream(http.MethodPost, path, w.Code, w.Header())
		if err != nil || s == nil {
			t.Fatalf("%s: %v, %v", path, s, err)
		}
		sent := w.Body.Bytes()
		for i := range sent {
			if i > 0 && s.End() == nil {
				t.Fatalf("%s: %d bytes of %d are a whole stream", path, i, len(sent))
			}
			if _, err := s.Write(sent[i : i+1]); err != nil {
				t.Fatalf("%s: byte %d: %v", path, i, err)
			}
		}
		if err := s.End(); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if _, err := s.Write([]byte("data: {}\n\n")); err == nil || s.End() == nil {
			t.Errorf("%s: something may follow the end", path)
		}
		if s, err := c.Stream(http.MethodPost, "/usage", w.Code, w.Header()); s != nil || err == nil {
			t.Errorf("a stream of another operation: %v, %v", s, err)
		}
		w.Header().Del("X-Request-ID")
		if s, err := c.Stream(http.MethodPost, path, w.Code, w.Header()); s != nil || err == nil {
			t.Errorf("%s without a header: %v, %v", path, s, err)
		}
	}
}

// The document's examples are what it says of them.
func TestExamples(t *testing.T) {
	t.Parallel()
	c, _ := contract(t)
	if n, err := c.CheckExamples(); err != nil || n < 3 {
		t.Errorf("%d examples: %v", n, err)
	}
}

func replace(old, new string) func(*httptest.ResponseRecorder, string) string {
	return func(_ *httptest.ResponseRecorder, body string) string { return strings.Replace(body, old, new, 1) }
}
