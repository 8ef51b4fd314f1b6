package invoke_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"example.com/gatehouse/internal/geminitest"
)

// deltas returns the joined text of an event stream's deltas, and the done event's
// response.
func deltas(t *testing.T, body string) (joined, response string) {
	t.Helper()
	names, data := eventsOf(t, body)
	for i, name := range names {
		switch name {
		case "delta":
			joined += data[i]["text"].(string)
		case "done":
			response = data[i]["data"].(members)["response"].(string)
		}
	}
	return joined, response
}

// Text of a later step starts a new paragraph, in every representation.
func TestALaterStepIsAParagraph(t *testing.T) {
	t.Parallel()
	call := map[string]any{"functionCall": map[string]any{"name": "floods", "args": map[string]any{"bytes": 1}}}
	text := func(s string) map[string]any { return map[string]any{"text": s} }
	cases := []struct {
		name    string
		replies []geminitest.Reply
		want    string
	}{
		{"text, a call, text", []geminitest.Reply{geminitest.Parts(text("I'll look that up."), call), geminitest.Text("## Res", "ult\n", "- one")}, "I'll look that up.\n\n## Result\n- one"},
		{"a line's end before", []geminitest.Reply{geminitest.Parts(text("Look:\n"), call), geminitest.Text("Done.")}, "Look:\n\nDone."},
		{"a paragraph's end before", []geminitest.Reply{geminitest.Parts(text("Look:\n\n"), call), geminitest.Text("Done.")}, "Look:\n\nDone."},
		{"nothing before", []geminitest.Reply{geminitest.Parts(call), geminitest.Text("Done.")}, "Done."},
		{"three steps, one silent", []geminitest.Reply{geminitest.Parts(text("One."), call), geminitest.Parts(call), geminitest.Parts(text("Two."), call), geminitest.Text("Three.")}, "One.\n\nTwo.\n\nThree."},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			gemini := geminitest.Start(t)
			server, _ := serve(t, newMemory(), gemini)
			gemini.Enqueue(c.replies...)
			_, whole := ask(t, server, "/invoke", `{"query": "hello"}`, "Idempotency-Key", "whole")
			answer := decodeAnswer(t, whole)
			gemini.Enqueue(c.replies...)
			_, streamed := ask(t, server, "/invoke", `{"query": "hello", "stream": true}`, "Idempotency-Key", "stream")
			joined, response := deltas(t, streamed)
			_, replayed := ask(t, server, "/invoke", `{"query": "hello", "stream": true}`, "Idempotency-Key", "whole")
			again, replay := deltas(t, replayed)
			read := get(t, server, "/sessions/"+answer.Data.SessionID)
			for where, got := range map[string]string{
				"whole": answer.Data.Response, "deltas": joined, "done": response, "a replay's deltas": again, "a replay's done": replay,
			} {
				if got != c.want {
					t.Errorf("%s: %q, want %q", where, got, c.want)
				}
			}
			if want, _ := json.Marshal(c.want); !strings.Contains(read, `"response":`+string(want)) {
				t.Errorf("the session holds %s", read)
			}
			// In the chat protocol each step is a separate part.
			gemini.Enqueue(c.replies...)
			_, chat := ask(t, server, "/chat", `{"id": "0123456789abcdef", "messages": [{"role": "user", "parts": [{"type": "text", "text": "hello"}]}]}`)
			if strings.Contains(chat, `"delta":"\n`) || strings.Count(chat, `"type":"text-start"`) != strings.Count(c.want, "\n\n")+1 {
				t.Errorf("chat: %s", chat)
			}
		})
	}
}

func get(t *testing.T, server *httptest.Server, path string) string {
	t.Helper()
	_, body := fetch(t, server, http.MethodGet, path)
	return body
}

// After a turn with large outputs, the history has its question, its answer and the
// beginning of the outputs.
func TestALargeTurnIsRemembered(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	server, _ := serve(t, newMemory(), gemini)
	large := geminitest.FunctionCall{Name: "floods", Args: map[string]any{"bytes": 60_000}}
	gemini.Enqueue(geminitest.Text("A letter is a letter."), geminitest.Calls(large, large, large), geminitest.Text("Ada did."), geminitest.Text("Yes."))
	id := ""
	for i, query := range []string{"What is a letter?", "Who wrote these?", "And who signed it?"} {
		body := map[string]any{"query": query}
		if i > 0 {
			body["session_id"] = id
		}
		raw, _ := json.Marshal(body)
		status, answer := ask(t, server, "/invoke", string(raw))
		if status != http.StatusOK {
			t.Fatalf("%d: %s", status, answer)
		}
		decoded := decodeAnswer(t, answer)
		id = decoded.Data.SessionID
		if i == 2 && !slices.Contains(decoded.Data.Warnings, "history_truncated") {
			t.Errorf("warnings %q", decoded.Data.Warnings)
		}
	}
	requests := gemini.Requests()
	last := requests[len(requests)-1]
	for _, text := range []string{"What is a letter?", "A letter is a letter.", "Who wrote these?", "Ada did.", "of which only the beginning is kept", "xxxx"} {
		if !strings.Contains(string(last.Raw), text) {
			t.Errorf("the model was not sent %q", text)
		}
	}
	if n := len(last.Raw); n > 130_000 {
		t.Errorf("%d bytes were sent", n)
	}
}
