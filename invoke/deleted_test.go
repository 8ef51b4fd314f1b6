package invoke_test

import (
	"net/http"
	"strings"
	"testing"

	"example.com/gatehouse/internal/geminitest"
)

// POST /chat with the id of a deleted session starts a new session. Other routes find
// nothing.
func TestAnIdAfterItsSessionWasDeleted(t *testing.T) {
	t.Parallel()
	const id = "0123456789abcdef"
	gemini := geminitest.Start(t)
	server, _ := serve(t, newMemory(), gemini)
	chat := func(text string, headers ...string) (int, string) {
		return ask(t, server, "/chat", `{"id": "`+id+`", "messages": [{"role": "user", "parts": [{"type": "text", "text": "`+text+`"}]}]}`, headers...)
	}
	remove := func() {
		t.Helper()
		if response, _ := fetch(t, server, http.MethodDelete, "/sessions/"+id); response.StatusCode != http.StatusNoContent {
			t.Fatalf("deleted with status %d", response.StatusCode)
		}
	}
	for i, headers := range [][]string{nil, nil, {"Idempotency-Key", "a key in it"}, nil} {
		status, answer := chat("hello", headers...)
		if status != http.StatusOK || !strings.Contains(answer, `"turn":1`) {
			t.Fatalf("%d: status %d: %s", i, status, answer)
		}
		if requests := gemini.Requests(); len(requests[len(requests)-1].Contents()) != 1 {
			t.Errorf("%d: the model was sent what was deleted", i)
		}
		remove()
		if status, answer := ask(t, server, "/invoke", `{"query": "hello", "session_id": "`+id+`"}`); status != http.StatusNotFound {
			t.Errorf("%d: on /invoke status %d: %s", i, status, answer)
		}
		if read := get(t, server, "/sessions/"+id); !strings.Contains(read, "session_not_found") {
			t.Errorf("%d: read: %s", i, read)
		}
		if list := get(t, server, "/sessions"); !strings.Contains(list, `"sessions":[]`) {
			t.Errorf("%d: listed: %s", i, list)
		}
	}
}
