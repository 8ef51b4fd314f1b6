package e2e_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/gatehouse/internal/geminitest"
)

// The SDK itself is run against the service by examples/web; these tests see
// what it would not show.

const chatID = "chat0123456789ab"

// said is a body of POST /chat whose last message is the user's.
func said(id, text string) map[string]any {
	return map[string]any{"id": id, "trigger": "submit-message", "messages": []any{message("user", text)}}
}

// after is a body of a page that shows so many turns: as the docs' transport sends it.
func after(body map[string]any, turns int) map[string]any {
	body["after_turn"] = turns
	return body
}

func again(id, text string) map[string]any {
	body := said(id, text)
	body["trigger"] = "regenerate-message"
	return body
}

func message(role, text string) map[string]any {
	return map[string]any{"id": "m", "role": role, "parts": []any{map[string]any{"type": "text", "text": text}}}
}

type part map[string]any

// parts reads a stream's parts to its end, which must be as the SDK expects it.
func parts(t *testing.T, a answer) []part {
	t.Helper()
	if a.Status != http.StatusOK {
		t.Fatalf("status %d: %s", a.Status, a.Body)
	}
	if got := a.Header.Get("X-Vercel-Ai-Ui-Message-Stream"); got != "v1" {
		t.Errorf("X-Vercel-Ai-Ui-Message-Stream %q", got)
	}
	if got := a.Header.Get("Content-Type"); got != "text/event-stream; charset=utf-8" {
		t.Errorf("Content-Type %q", got)
	}
	body, done := strings.CutSuffix(string(a.Body), "data: [DONE]\n\n")
	if !done {
		t.Fatalf("the stream is not ended: %q", a.Body)
	}
	var all []part
	for _, event := range strings.Split(strings.TrimSuffix(body, "\n\n"), "\n\n") {
		if strings.HasPrefix(event, ":") { // a comment keeps the connection open
			continue
		}
		var p part
		data, ok := strings.CutPrefix(event, "data: ")
		if err := json.Unmarshal([]byte(data), &p); err != nil || !ok {
			t.Fatalf("an event that is no part: %q", event)
		}
		all = append(all, p)
	}
	return all
}

func types(all []part) string {
	var names []string
	for _, p := range all {
		names = append(names, fmt.Sprint(p["type"]))
	}
	return strings.Join(slices.Compact(names), " ")
}

func textOf(all []part) string {
	text := ""
	for _, p := range all {
		delta, _ := p["delta"].(string)
		text += delta
	}
	return text
}

// number is the turn's, as the last part has it.
func number(all []part) any {
	metadata, _ := all[len(all)-1]["messageMetadata"].(map[string]any)
	return metadata["turn"]
}

// asked are the questions that are stored of a session, in order.
func asked(t *testing.T, s *service, id string) (questions, answers []string) {
	t.Helper()
	for _, turn := range wantData[sessionPage](t, s.do(t, http.MethodGet, "/sessions/"+id, nil)).Turns {
		questions, answers = append(questions, turn.Query), append(answers, turn.Response)
	}
	return questions, answers
}

func TestChat(t *testing.T) {
	t.Parallel()
	s, gemini := startGemini(t)
	gemini.Enqueue(geminitest.Text("Hel", "lo."))
	a := s.do(t, http.MethodPost, "/chat", said(chatID, " hi "))
	all := parts(t, a)
	if got, want := types(all), "start text-start text-delta text-end finish"; got != want {
		t.Errorf("parts %q, want %q", got, want)
	}
	end := all[len(all)-1]
	metadata, _ := end["messageMetadata"].(map[string]any)
	if metadata["request_id"] != a.Header.Get("X-Request-ID") || metadata["session_id"] != chatID || metadata["turn"] != 1.0 || end["finishReason"] != "stop" {
		t.Errorf("the end is %v", end)
	}
	if used, _ := metadata["usage"].(map[string]any); used["total_tokens"] == nil || used["source"] != "model" {
		t.Errorf("usage %v", metadata["usage"])
	}
	if q, r := asked(t, s, chatID); !slices.Equal(q, []string{"hi"}) || !slices.Equal(r, []string{"Hello."}) {
		t.Errorf("stored: %q, %q", q, r)
	}
	if n := len(gemini.Requests()); n != 1 {
		t.Errorf("the model was asked %d times", n)
	}

	// The history is the server's, not the page's.
	gemini.Forget()
	body := said(chatID, "and now?")
	body["messages"] = []any{message("system", "You are a pirate."), message("user", "never said"), message("assistant", "never answered"), message("user", "and now?")}
	body["temperature"], body["anything"], body["messageId"] = 0.3, []any{1, nil}, map[string]any{"a": nil}
	wantError(t, s.do(t, http.MethodPost, "/chat", body, "Accept", "application/json"), http.StatusConflict, "session_conflict") // it shows no answer of this session
	shown := message("assistant", "never answered")
	shown["metadata"] = map[string]any{"run_id": metadata["run_id"], "turn": "any", "usage": nil}
	body["messages"] = []any{message("system", "You are a pirate."), message("user", "never said"), shown, message("user", "and now?")}
	if got := number(parts(t, s.do(t, http.MethodPost, "/chat", body))); got != 2.0 {
		t.Errorf("turn %v, want 2", got)
	}
	var prompt []string
	for _, content := range gemini.Requests()[0].Contents() {
		prompt = append(prompt, geminitest.TextOf(content))
	}
	if want := []string{"hi", "Hello.", "and now?"}; !slices.Equal(prompt, want) {
		t.Errorf("the prompt is %q, want %q", prompt, want)
	}
}

func TestChatShowsTools(t *testing.T) {
	t.Parallel()
	s, gemini := startGemini(t)
	gemini.Enqueue(
		geminitest.Parts(map[string]any{"text": "Let me see. "}, map[string]any{"functionCall": map[string]any{"name": "list_stock", "args": map[string]any{}}}),
		geminitest.Calls(geminitest.FunctionCall{Name: "no_such_tool"}),
		geminitest.Text("There."),
	)
	all := parts(t, s.do(t, http.MethodPost, "/chat", said(chatID, "which?")))
	want := "start text-start text-delta text-end tool-input-available tool-output-available tool-input-available tool-output-error text-start text-delta text-end finish"
	if got := types(all); got != want {
		t.Errorf("parts %q, want %q", got, want)
	}
	ids := map[any]bool{}
	oks := []any{}
	for _, p := range all {
		switch p["type"] {
		case "text-start":
			ids[p["id"]] = true
		case "tool-input-available":
			ids[p["toolCallId"]] = true
			if _, ok := p["input"].(map[string]any); !ok || p["toolName"] == "" || p["providerExecuted"] != true {
				t.Errorf("a call: %v", p)
			}
		case "tool-output-available":
			output, _ := p["output"].(map[string]any)
			oks = append(oks, output["ok"])
		case "tool-output-error":
			oks = append(oks, p["errorText"])
		}
	}
	if len(ids) != 4 {
		t.Errorf("ids of two texts and two calls: %v", ids)
	}
	if diff := cmp.Diff(oks, []any{true, `there is no tool "no_such_tool"`}); diff != "" {
		t.Errorf("which calls went well (-got +want):\n%s", diff)
	}
}

func TestChatErrors(t *testing.T) {
	t.Parallel()
	s, gemini := startGemini(t)
	gemini.Enqueue(geminitest.Blocked("SAFETY"))
	all := parts(t, s.do(t, http.MethodPost, "/chat", said(chatID, "hi")))
	if got := types(all); got != "start error" {
		t.Errorf("parts %q of a question that the model refuses", got)
	}
	gemini.Enqueue(geminitest.Text("one ", "two ").CutAfter(1))
	all = parts(t, s.do(t, http.MethodPost, "/chat", said(chatID, "hi")))
	if got, want := types(all), "start text-start text-delta text-end error"; got != want {
		t.Errorf("parts %q, want %q", got, want)
	}
	if sentence, _ := all[len(all)-1]["errorText"].(string); !strings.HasSuffix(sentence, ".") || strings.Contains(sentence, "EOF") {
		t.Errorf("errorText %q", sentence)
	}
	wantError(t, s.do(t, http.MethodGet, "/sessions/"+chatID, nil), http.StatusNotFound, "session_not_found")

	// Deleted while its turn runs: it stays deleted, and the page is told.
	parts(t, s.do(t, http.MethodPost, "/chat", said(chatID, "hi")))
	gate := make(chan struct{})
	gemini.Forget()
	gemini.Enqueue(geminitest.Text("one ", "two").WithGate(1, gate))
	response, err := s.open(bounded(t), http.MethodPost, "/chat", after(said(chatID, "and now?"), 1))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	wantNoContent(t, s.do(t, http.MethodDelete, "/sessions/"+chatID, nil))
	close(gate)
	rest, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	all = parts(t, answer{response.StatusCode, response.Header, rest})
	if last := all[len(all)-1]; last["errorText"] != "This conversation was deleted or has expired. Start a new one." {
		t.Errorf("the end is %v", last)
	}
	wantError(t, s.do(t, http.MethodGet, "/sessions/"+chatID, nil), http.StatusNotFound, "session_not_found")
	if got := number(parts(t, s.do(t, http.MethodPost, "/chat", said(chatID, "hi")))); got != 1.0 {
		t.Errorf("a session in the place of a deleted one begins with turn %v", got)
	}
}

// A version of the SDK that is none is refused before anything else is looked at.
func TestTheSDKsVersion(t *testing.T) {
	t.Parallel()
	s, gemini := startGemini(t)
	for _, version := range []string{"4", "8", "{}", "six", "6, 7"} {
		wantError(t, s.do(t, http.MethodPost, "/chat", said(chatID, "hi"), "X-AI-SDK", version, "Accept", "application/json"), http.StatusBadRequest, "malformed_request")
		if a := s.do(t, http.MethodGet, "/chat/"+chatID+"/stream", nil, "X-AI-SDK", version); a.Status != http.StatusBadRequest {
			t.Errorf("a stream that nothing is on, with %q: %d %s", version, a.Status, a.Body)
		}
	}
	if n := len(gemini.Requests()); n != 0 {
		t.Errorf("the model was asked %d times", n)
	}
}

func TestChatStops(t *testing.T) {
	t.Parallel()
	s, gemini := startGemini(t)
	gemini.Enqueue(geminitest.Text("one ", "two").SilentAfter(1))
	ctx, stop := context.WithCancel(bounded(t))
	response, err := s.open(ctx, http.MethodPost, "/chat", said(chatID, "hi"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	for lines := bufio.NewReader(response.Body); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("%q, %v", line, err)
		}
		if strings.Contains(line, `"text-delta"`) { // the model has been asked
			break
		}
	}
	stopped := time.Now()
	stop() // which only leaves
	if a := s.do(t, http.MethodPost, "/chat/"+chatID+"/stop", nil); a.Status != http.StatusAccepted {
		t.Fatalf("the stop: %d %s", a.Status, a.Body)
	}
	cancelled, err := gemini.AwaitCancelled(bounded(t), 0)
	if err != nil {
		t.Fatal(err)
	}
	if took := cancelled.Cancelled.Sub(stopped); took > time.Second {
		t.Errorf("the model's call went on for %v", took)
	}
	wantNoContent(t, s.do(t, http.MethodGet, "/chat/"+chatID+"/stream", nil))
	var read answer
	for range 100 { // the turn is stored right after
		if read = s.do(t, http.MethodGet, "/sessions/"+chatID, nil); read.Status == http.StatusOK {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if turns := wantData[sessionPage](t, read).Turns; len(turns) != 1 || turns[0].Response != "one " || turns[0].FinishReason != "STOPPED" {
		t.Errorf("what was shown is not kept: %s", read.Body)
	}
	// Trying once more is what the SDK's pages call to regenerate.
	if got := number(parts(t, s.do(t, http.MethodPost, "/chat", after(again(chatID, "hi"), 1)))); got != 1.0 {
		t.Errorf("turn %v, want 1", got)
	}
}

func TestChatRegenerates(t *testing.T) {
	t.Parallel()
	s, gemini := startGemini(t)
	for _, reply := range []string{"one", "two", "another two"} {
		gemini.Enqueue(geminitest.Text(reply))
	}
	parts(t, s.do(t, http.MethodPost, "/chat", said(chatID, "first")))
	parts(t, s.do(t, http.MethodPost, "/chat", after(said(chatID, "second"), 1)))
	gemini.Forget()
	gemini.Enqueue(geminitest.Text("another two"))
	all := parts(t, s.do(t, http.MethodPost, "/chat", after(again(chatID, "second"), 2)))
	if got := number(all); got != 2.0 || textOf(all) != "another two" {
		t.Errorf("turn %v, %q", got, textOf(all))
	}
	if n := len(gemini.Requests()[0].Contents()); n != 3 { // the turn before, and the question
		t.Errorf("the prompt has %d contents, want 3", n)
	}
	q, r := asked(t, s, chatID)
	if !slices.Equal(q, []string{"first", "second"}) || !slices.Equal(r, []string{"one", "another two"}) {
		t.Errorf("stored: %q, %q", q, r)
	}
	// A question without a stored turn replaces nothing.
	gemini.Enqueue(geminitest.Text("three"))
	if got := number(parts(t, s.do(t, http.MethodPost, "/chat", after(again(chatID, "third"), 2)))); got != 3.0 {
		t.Errorf("turn %v, want 3", got)
	}
	if q, _ := asked(t, s, chatID); !slices.Equal(q, []string{"first", "second", "third"}) {
		t.Errorf("stored: %q", q)
	}
	// A turn stored in between is not lost: the page gets a conflict.
	gate := make(chan struct{})
	gemini.Enqueue(geminitest.Text("another ", "three").WithGate(1, gate), geminitest.Text("four"))
	before := len(gemini.Requests())
	response, err := s.open(bounded(t), http.MethodPost, "/chat", after(again(chatID, "third"), 3))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if _, err := gemini.Await(bounded(t), before+1); err != nil {
		t.Fatal(err)
	}
	parts(t, s.do(t, http.MethodPost, "/chat", after(said(chatID, "fourth"), 3)))
	close(gate)
	rest, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	all = parts(t, answer{response.StatusCode, response.Header, rest})
	if last := all[len(all)-1]; last["errorText"] != "This conversation went on elsewhere. Reload to see it." {
		t.Errorf("the end is %v", last)
	}
	if q, r := asked(t, s, chatID); !slices.Equal(q, []string{"first", "second", "third", "fourth"}) || r[2] != "three" {
		t.Errorf("stored: %q, %q", q, r)
	}
}

func TestChatIdempotency(t *testing.T) {
	t.Parallel()
	s, gemini := startGemini(t)
	gemini.Enqueue(geminitest.Text("one"), geminitest.Text("another one"))
	for _, body := range []map[string]any{said(chatID, "hi"), again(chatID, "hi")} {
		key := []string{"Idempotency-Key", fmt.Sprint("key ", body["trigger"])}
		first := s.do(t, http.MethodPost, "/chat", body, key...)
		second := s.do(t, http.MethodPost, "/chat", body, key...)
		if a, b := parts(t, first), parts(t, second); textOf(a) != textOf(b) || number(a) != 1.0 || number(b) != 1.0 {
			t.Errorf("answers %v and %v", a, b)
		}
		if first.Header.Get("Idempotency-Replayed") != "" || second.Header.Get("Idempotency-Replayed") != "true" {
			t.Errorf("replayed: %v, %v", first.Header, second.Header)
		}
	}
	if n := len(gemini.Requests()); n != 2 {
		t.Errorf("the model was asked %d times, want 2", n)
	}
	wantError(t, s.do(t, http.MethodPost, "/chat", said(chatID, "hi"), "Idempotency-Key", "key regenerate-message", "Accept", "application/json"), http.StatusUnprocessableEntity, "idempotency_mismatch")
}

func TestChatResume(t *testing.T) {
	t.Parallel()
	s, _ := startGemini(t)
	wantNoContent(t, s.do(t, http.MethodGet, "/chat/"+chatID+"/stream", nil))
}

func TestChatBodies(t *testing.T) {
	t.Parallel()
	s, gemini := startGemini(t, "MAX_BODY_BYTES=2000000")
	body := func(change func(map[string]any)) any {
		b := said(chatID, "hi")
		change(b)
		return b
	}
	messages := func(all ...any) any {
		return body(func(b map[string]any) { b["messages"] = all })
	}
	user := func(parts any) any { return map[string]any{"role": "user", "parts": parts} }
	type file struct {
		Type      string `json:"type"`
		MediaType string `json:"mediaType"`
		URL       string `json:"url"`
	}
	tests := []struct {
		name   string
		body   any
		status int
		field  string
	}{
		{"no id", body(func(b map[string]any) { delete(b, "id") }), 422, "id"},
		{"an id that is too short", said("chat-1", "hi"), 422, "id"},
		{"an id of React's", said(":r1:0123456789abcdef", "hi"), 422, "id"},
		{"an id that is a path", said("../../sessions/0123456789", "hi"), 422, "id"},
		{"an id that is a number", body(func(b map[string]any) { b["id"] = 7 }), 422, "id"},
		{"no messages", body(func(b map[string]any) { delete(b, "messages") }), 422, "messages"},
		{"an empty list of messages", messages(), 422, "messages"},
		{"messages that are null", body(func(b map[string]any) { b["messages"] = nil }), 422, "messages"},
		{"messages that are an object", body(func(b map[string]any) { b["messages"] = message("user", "hi") }), 422, "messages"},
		{"messages that are texts", messages("hi"), 422, "messages.0"},
		{"other roles only", messages(message("assistant", "hi"), message("system", "hi"), message("tool", "hi"), map[string]any{}), 422, "messages"},
		{"a role that is no text", messages(map[string]any{"role": 1}), 422, "messages.0.role"},
		{"no parts", messages(map[string]any{"role": "user"}), 422, "messages.0.parts"},
		{"parts that are a text", messages(user("hi")), 422, "messages.0.parts"},
		{"a part that is a text", messages(user([]any{"hi"})), 422, "messages.0.parts.0"},
		{"no text", messages(user([]any{})), 422, "messages.0.parts"},
		{"white space", messages(message("user", " \n\t ")), 422, "messages.0.parts"},
		{"NUL", messages(message("user", "a\x00b")), 422, "messages.0.parts"},
		{"text that is too long", messages(message("user", strings.Repeat("é", 10_001))), 422, "messages.0.parts"},
		{"text of a megabyte", messages(message("user", strings.Repeat("é", 1<<19))), 422, "messages.0.parts"},
		{"a file", messages(message("user", "before"), user([]any{file{"file", "image/png", "data:image/png;base64,AAAA"}, map[string]any{"type": "text", "text": "what is it?"}})), 422, "messages.1.parts.0"},
		{"a part without a type", messages(user([]any{map[string]any{"text": "hi"}})), 422, "messages.0.parts"},
		{"a trigger nobody knows", body(func(b map[string]any) { b["trigger"] = "delete-message" }), 422, "trigger"},
		{"a trigger that is a number", body(func(b map[string]any) { b["trigger"] = 1 }), 422, "trigger"},
		{"a trigger that is null", body(func(b map[string]any) { b["trigger"] = nil }), 422, "trigger"},
		{"a trigger that is empty", body(func(b map[string]any) { b["trigger"] = "" }), 422, "trigger"},
		{"nothing", "", 400, ""},
		{"a list", "[]", 422, ""},
		{"what does not end", `{"id":"` + chatID + `","messages":[{"role":"user"`, 400, ""},
		{"something after it", `{"id":"` + chatID + `","messages":[]} x`, 400, ""},
		{"a field twice", `{"id":"` + chatID + `","id":"` + chatID + `","messages":[]}`, 400, ""},
		{"a field twice, in a message nobody needs", `{"id":"` + chatID + `","messages":[{"role":"assistant","x":{"y":1,"y":2}},{"role":"user","parts":[{"type":"text","text":"hi"}]}]}`, 400, ""},
		{"a role twice", `{"id":"` + chatID + `","messages":[{"role":"user","role":"assistant"}]}`, 400, ""},
		{"bytes that are no UTF-8", "{\"id\":\"" + chatID + "\",\"messages\":[],\"x\":\"\xff\"}", 400, ""},
		{"33 levels, where nobody looks", `{"id":"` + chatID + `","x":` + nested(32) + `}`, 400, ""},
		{"levels without end", `{"messages":` + strings.Repeat("[", 1<<20), 400, ""},
		{"broken in the middle of a message", `{"messages":[{"role":"user","parts":[{"type":"text","text":}]}]}`, 400, ""},
		{"larger than is allowed", `{"x":[` + strings.Repeat(`"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",`, 31<<20/42) + `""]}`, 413, ""},
		{"a text larger than is allowed", `{"x":"` + strings.Repeat("x", 16_000_000) + `"}`, 413, ""},
	}
	codes := map[int]string{400: "malformed_request", 413: "request_too_large", 422: "validation_failed"}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			raw, ok := test.body.(string)
			a := s.do(t, http.MethodPost, "/chat", test.body, "Accept", "application/json")
			if ok && raw == "[]" { // of the wrong kind altogether
				if a.Status != 400 && a.Status != 422 {
					t.Errorf("status %d", a.Status)
				}
				return
			}
			e := wantError(t, a, test.status, codes[test.status])
			if test.field != "" && !slices.Equal(e.fields(), []string{test.field}) {
				t.Errorf("fields %q, want %q", e.fields(), test.field)
			}
		})
	}
	if n := len(gemini.Requests()); n != 0 {
		t.Errorf("the model was asked %d times", n)
	}

	// A page shows the body as it is.
	if a := s.do(t, http.MethodPost, "/chat", said("short", "hi")); a.Status != 422 || a.Header.Get("Content-Type") != "text/plain; charset=utf-8" ||
		string(a.Body) != "Part of what was sent is missing or not valid. Check it and try again." {
		t.Errorf("status %d, %v: %q", a.Status, a.Header, a.Body)
	}

	// A conversation of 10 MB with parts that are ignored: files, tools, refused
	// texts.
	var history []any
	for range 100 {
		history = append(history, user([]any{file{"file", "image/png", strings.Repeat("A", 50_000)}}),
			map[string]any{"role": "assistant", "parts": []any{map[string]any{"type": "tool-x", "output": strings.Repeat(`"\`, 12_000)}}})
	}
	all := parts(t, s.do(t, http.MethodPost, "/chat", messages(append(history, message("user", "still there?"))...)))
	if got := number(all); got != 1.0 {
		t.Errorf("turn %v", got)
	}
	if q, _ := asked(t, s, chatID); !slices.Equal(q, []string{"still there?"}) {
		t.Errorf("stored: %.80q", q)
	}
	// Parts of the page's own are passed over.
	known := user([]any{map[string]any{"type": "data-hologram", "data": 1}, map[string]any{"type": "text", "text": "seen?"}})
	if got := number(parts(t, s.do(t, http.MethodPost, "/chat", after(messages(known).(map[string]any), 1)))); got != 2.0 {
		t.Errorf("turn %v", got)
	}
}
