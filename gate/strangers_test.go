package gate_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"example.com/gatehouse/gate"
	"example.com/gatehouse/gate/a2a"
	"example.com/gatehouse/gate/mcp"
	"example.com/gatehouse/gate/openai"
	"example.com/gatehouse/internal/doortest"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/session"
)

// Who is not let in is answered in the door's own form, and reaches neither the store, all
// calls of which panic here, nor the model.
func TestStrangersReachNothing(t *testing.T) {
	t.Parallel()
	const (
		inOpenAI = `"type":"authentication_error"`
		inRPC    = `"jsonrpc":"2.0"`
		response = "resp_MDEyMzQ1Njc4OWFiY2RlZi4wMTIzNDU2Nzg5YWJjZGVm" // 0123456789abcdef.0123456789abcdef
		run      = "0123456789abcdef.0123456789abcdef"
	)
	key, gemini := doortest.Key("ada"), geminitest.Start(t)
	h, shutdown := gate.Handler(newAgent, openai.Door(), mcp.Door(), a2a.Door(), gate.Store(struct{ session.Store }{}), gate.Log(io.Discard),
		environment(append(doortest.Keys("ada"), "GEMINI_API_KEY=k", "GOOGLE_GEMINI_BASE_URL="+gemini.URL, "CONVERSATION_HEADERS=X-Conversation-Id")...))
	t.Cleanup(func() { _ = shutdown(context.Background()) })
	rpc := func(method, params string) string {
		return `{"jsonrpc":"2.0","id":1,"method":"` + method + `","params":` + params + `}`
	}
	big := strings.Repeat("x", 10<<20)
	for name, c := range map[string]struct{ method, path, body, form string }{
		"a chat completion":     {"POST", "/v1/chat/completions", `{"messages":[{"role":"user","content":"Hello"}]}`, inOpenAI},
		"10 MB of it":           {"POST", "/v1/chat/completions", `{"messages":[{"role":"user","content":"` + big + `"}]}`, inOpenAI},
		"a response":            {"POST", "/v1/responses", `{"input":"Hello","conversation":"0123456789abcdef","background":true}`, inOpenAI},
		"an approval":           {"POST", "/v1/responses", `{"previous_response_id":"` + response + `","input":[{"type":"mcp_approval_response"}]}`, inOpenAI},
		"a response's text":     {"GET", "/v1/responses/" + response, "", inOpenAI},
		"a response's stream":   {"GET", "/v1/responses/" + response + "?stream=true", "", inOpenAI},
		"a response's end":      {"POST", "/v1/responses/" + response + "/cancel", "{}", inOpenAI},
		"a response's removal":  {"DELETE", "/v1/responses/" + response, "", inOpenAI},
		"the models":            {"GET", "/v1/models", "", inOpenAI},
		"a question by MCP":     {"POST", "/mcp", rpc("tools/call", `{"name":"ask","arguments":{"query":"Hello"}}`), inRPC},
		"an answer by MCP":      {"POST", "/mcp", rpc("tools/call", `{"name":"ask","arguments":{"query":"Hello"},"requestState":"`+run+`"}`), inRPC},
		"a task by MCP":         {"POST", "/mcp", rpc("tasks/get", `{"taskId":"`+run+`"}`), inRPC},
		"its end by MCP":        {"POST", "/mcp", rpc("tasks/cancel", `{"taskId":"`+run+`"}`), inRPC},
		"10 MB by MCP":          {"POST", "/mcp", rpc("tools/call", `{"name":"ask","arguments":{"query":"`+big+`"}}`), inRPC},
		"a key in its message":  {"POST", "/mcp", rpc("tools/list", `{"_meta":{"X-API-Key":"`+key+`","Authorization":"Bearer `+key+`"}}`), inRPC},
		"a batch by MCP":        {"POST", "/mcp", "[" + rpc("tools/list", "{}"), inRPC},
		"a message by A2A":      {"POST", "/a2a", rpc("SendMessage", `{"message":{"messageId":"m","role":"ROLE_USER","parts":[{"text":"Hello"}]}}`), inRPC},
		"a task by A2A":         {"POST", "/a2a", rpc("GetTask", `{"id":"`+run+`"}`), inRPC},
		"a stream by A2A":       {"POST", "/a2a", rpc("SendStreamingMessage", `{"message":{"messageId":"m","role":"ROLE_USER","parts":[{"text":"Hello"}]}}`), inRPC},
		"a task's stream":       {"POST", "/a2a", rpc("SubscribeToTask", `{"id":"`+run+`"}`), inRPC},
		"an answer by A2A":      {"POST", "/a2a", rpc("SendMessage", `{"message":{"messageId":"m","taskId":"`+run+`","role":"ROLE_USER","parts":[{"text":"approve"}]}}`), inRPC},
		"a push by A2A":         {"POST", "/a2a", rpc("CreateTaskPushNotificationConfig", `{"taskId":"`+run+`","url":"https://hooks.example.com/"}`), inRPC},
		"10 MB by A2A":          {"POST", "/a2a", rpc("SendMessage", `{"message":{"messageId":"m","role":"ROLE_USER","parts":[{"text":"`+big+`"}]}}`), inRPC},
		"a key as metadata":     {"POST", "/a2a", rpc("ListTasks", `{"metadata":{"X-API-Key":"`+key+`"}}`), inRPC},
		"a key in the URL":      {"POST", "/a2a?key=" + key + "&api_key=" + key + "&access_token=" + key, rpc("ListTasks", `{}`), inRPC},
		"a key in MCP's URL":    {"POST", "/mcp?key=" + key + "&api_key=" + key + "&access_token=" + key, rpc("tools/list", `{}`), inRPC},
		"a list by A2A":         {"POST", "/a2a", rpc("ListTasks", `{}`), inRPC},
		"a cancellation in 0.3": {"POST", "/a2a", rpc("tasks/cancel", `{"id":"`+run+`"}`), inRPC},
		"a batch by A2A":        {"POST", "/a2a", "[" + rpc("GetTask", "{}"), inRPC},
	} {
		for where, credential := range map[string][2]string{
			"no credential":        {"", ""},
			"a key nobody has":     {"X-API-Key", "nobody"},
			"a key as a password":  {"Authorization", "Basic YWRhOmFkYQ=="},
			"somebody else's chat": {"X-Conversation-Id", "0123456789abcdef"},
			"somebody as end user": {"X-End-User", "ada"},
			"a page's cookie":      {"Cookie", "token=ada"},
			"a key as a cookie":    {"Cookie", "X-API-Key=" + key},
			"a key for a proxy":    {"Proxy-Authorization", "Bearer " + key},
			"a key without scheme": {"Authorization", key},
			"a key as end user":    {"X-End-User", key},
		} {
			r := httptest.NewRequestWithContext(t.Context(), c.method, "http://127.0.0.1"+c.path, strings.NewReader(c.body))
			if c.body != "" {
				r.Header.Set("Content-Type", "application/json")
			}
			r.Header.Set("Accept", "application/json, text/event-stream")
			if credential[0] != "" {
				r.Header.Set(credential[0], credential[1])
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if body := w.Body.String(); w.Code != http.StatusUnauthorized || !strings.Contains(body, c.form) || strings.Contains(body, "goroutine") {
				t.Errorf("%s, %s: %d %.300s", name, where, w.Code, body)
			}
		}
	}
	if n := len(gemini.Requests()); n > 0 {
		t.Errorf("the model was asked %d times", n)
	}
}
