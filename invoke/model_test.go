package invoke_test

import (
	"net/http"
	"strings"
	"testing"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/invoke"
)

// A request names one of the models that are allowed, and only that request is asked of
// it.
func TestARequestNamesItsModel(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	server, _ := serveAgent(t, newMemory(), gemini, agent.Agent{Name: "agent", MaxTokens: 100}, func(c *invoke.Config) {
		c.ModelsAllowed = []string{"gemini-3.8-flash", "model"}
	})
	const chat = `{"id": "0123456789abcdef", "messages": [{"role": "user", "parts": [{"type": "text", "text": "hello"}]}]`
	for _, tt := range []struct {
		name, path, body string
		asked            string // "": refused
	}{
		{"none", "/invoke", `{"query": "hello"}`, "model"},
		{"one that is allowed", "/invoke", `{"query": "hello", "model": "gemini-3.8-flash"}`, "gemini-3.8-flash"},
		{"the usual one", "/invoke", `{"query": "hello", "model": "model"}`, "model"},
		{"none after it", "/invoke", `{"query": "hello"}`, "model"},
		{"another", "/invoke", `{"query": "hello", "model": "gemini-2.5-pro"}`, ""},
		{"a path", "/invoke", `{"query": "hello", "model": "../gemini-3.8-flash"}`, ""},
		{"an empty one", "/invoke", `{"query": "hello", "model": ""}`, ""},
		{"a number", "/invoke", `{"query": "hello", "model": 5}`, ""},
		{"one that is allowed, of a page", "/chat", chat + `, "model": "gemini-3.8-flash"}`, "gemini-3.8-flash"},
		{"none, of a page", "/chat", chat + `, "after_turn": 1}`, "model"},
		{"another, of a page", "/chat", chat + `, "model": "gemini-2.5-pro"}`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			gemini.Forget()
			status, text := ask(t, server, tt.path, tt.body, "Accept", "application/json, text/event-stream;q=0.5")
			requests := gemini.Requests()
			switch {
			case tt.asked == "" && (status != http.StatusUnprocessableEntity || len(requests) > 0 || !strings.Contains(text, `"field":"model"`)):
				t.Errorf("%d %s after %d model calls", status, text, len(requests))
			case tt.asked != "" && (status != http.StatusOK || len(requests) != 1 || requests[0].Model != tt.asked):
				t.Errorf("%d %s: %+v", status, text, requests)
			case tt.asked != "" && tt.path == "/invoke" && (!strings.Contains(text, `"model":"`+tt.asked+`"`) || !strings.Contains(text, `"warnings":[]`)):
				t.Errorf("it is not who answered: %s", text)
			}
		})
	}
}

// What the request itself asks of a model that does not take it is a warning; what the
// agent sets is not.
func TestWhatAModelDoesNotTake(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	server, _ := serveAgent(t, newMemory(), gemini, agent.Agent{Name: "agent", MaxTokens: 100, Temperature: new(0.5)}, func(c *invoke.Config) {
		c.ModelsAllowed = []string{"gemini-3.8-flash"}
	})
	for body, warned := range map[string]bool{
		`{"query": "hello", "model": "gemini-3.8-flash"}`:                     false,
		`{"query": "hello", "model": "gemini-3.8-flash", "temperature": 0.5}`: true,
	} {
		_, text := ask(t, server, "/invoke", body)
		if warnings := decodeAnswer(t, text).Data.Warnings; (len(warnings) > 0) != warned {
			t.Errorf("%s: %q", body, warnings)
		}
	}
}
