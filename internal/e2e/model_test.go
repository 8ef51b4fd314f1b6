package e2e_test

import (
	"context"
	"fmt"
	"maps"
	"math"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/slowtest"
)

// turnsOf counts the turns that are stored of a session.
func turnsOf(t *testing.T, s *service, id string) int {
	t.Helper()
	return wantData[sessionPage](t, s.do(t, http.MethodGet, "/sessions/"+id, nil)).Session.Turns
}

// earnRetries makes calls that pay for so many retries.
func (s *service) earnRetries(t *testing.T, retries int) {
	t.Helper()
	for range 5 * retries {
		s.invoke(t, map[string]any{"query": "hello"})
	}
}

func TestEndings(t *testing.T) {
	slowtest.Skip(t, "every end of a model call, by processes")
	t.Parallel()
	const (
		failed  = "model_failed"
		blocked = "content_blocked"
	)
	type ending struct {
		name     string
		replies  []geminitest.Reply
		status   int
		code     string // of an error
		response string
		finish   string
		warnings []string
	}
	truncated := []string{"response_truncated"}
	tests := []ending{
		{"text", []geminitest.Reply{geminitest.Text("Well", " said")}, http.StatusOK, "", "Well said", "STOP", []string{}},
		{"MAX_TOKENS with text", []geminitest.Reply{geminitest.Finish("MAX_TOKENS", "Well")}, http.StatusOK, "", "Well", "MAX_TOKENS", truncated},
		{"a prompt blocked for PROHIBITED_CONTENT", []geminitest.Reply{geminitest.Blocked("PROHIBITED_CONTENT")}, http.StatusUnprocessableEntity, blocked, "", "", nil},
		{"a prompt blocked for SAFETY", []geminitest.Reply{geminitest.Blocked("SAFETY")}, http.StatusUnprocessableEntity, blocked, "", "", nil},
	}
	for _, reason := range []string{"SAFETY", "RECITATION", "PROHIBITED_CONTENT", "BLOCKLIST"} {
		tests = append(tests,
			ending{reason + " without text", []geminitest.Reply{geminitest.Finish(reason, "")}, http.StatusUnprocessableEntity, blocked, "", "", nil},
			ending{reason + " with text", []geminitest.Reply{geminitest.Finish(reason, "Well")}, http.StatusOK, "", "Well", reason, truncated})
	}
	// A model that returns nothing is asked again, and finally reported as failed.
	raw := func(body string) geminitest.Reply {
		return geminitest.Raw(http.StatusOK, "application/json", []byte(body))
	}
	roomy := geminitest.Finish("MAX_TOKENS", "").WithThought("hm").WithUsage(geminitest.Usage{Prompt: 10, Thoughts: 2044})
	for name, reply := range map[string]geminitest.Reply{
		"STOP without parts":                raw(`{"candidates":[{"content":{"role":"model"},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":3130,"totalTokenCount":3130}}`),
		"STOP without text":                 geminitest.Finish("STOP", ""),
		"an empty text":                     geminitest.Text(""),
		"white space":                       geminitest.Text("\n", " "),
		"nothing but a thought":             geminitest.Finish("STOP", "").WithThought("hm"),
		"OTHER":                             geminitest.Finish("OTHER", ""),
		"a reason nobody knows":             geminitest.Finish("TIRED", ""),
		"MALFORMED_FUNCTION_CALL":           geminitest.Finish("MALFORMED_FUNCTION_CALL", ""),
		"a call without a name":             geminitest.Calls(geminitest.FunctionCall{}),
		"no candidate":                      raw(`{}`),
		"a body that is cut inside JSON":    raw(`{"candidates":[{"content":{"role":"model","parts":[{"text":"We`),
		"MAX_TOKENS without text":           geminitest.Finish("MAX_TOKENS", ""),
		"MAX_TOKENS used up by the thought": roomy,
	} {
		again := 3
		if strings.HasPrefix(name, "MAX_TOKENS") {
			again = 2
		}
		tests = append(tests,
			ending{name + ", then text", []geminitest.Reply{reply, geminitest.Text("Well")}, http.StatusOK, "", "Well", "STOP", []string{}},
			ending{name + " again and again", slices.Repeat([]geminitest.Reply{reply}, again), http.StatusBadGateway, failed, "", "", nil})
	}
	s, gemini := startGemini(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			gemini.Forget()
			id := s.invoke(t, map[string]any{"query": "hello"}).SessionID
			s.earnRetries(t, 2*(len(test.replies)-1))
			for _, stream := range []bool{false, true} {
				gemini.Forget()
				gemini.Enqueue(test.replies...)
				before := turnsOf(t, s, id)
				body := map[string]any{"query": "go on", "session_id": id, "stream": stream}
				stored := before
				if test.code != "" {
					s.wantInvokeError(t, body, test.status, test.code)
				} else {
					var got turn
					if stream {
						_, got = s.stream(t, body).wantDone(t)
					} else {
						got = s.invoke(t, body)
					}
					if got.Response != test.response || got.FinishReason != test.finish || got.Turn != before+1 {
						t.Errorf("stream %v: response %q, finish_reason %s, turn %d", stream, got.Response, got.FinishReason, got.Turn)
					}
					if diff := cmp.Diff(got.Warnings, test.warnings); diff != "" {
						t.Errorf("stream %v: warnings (-got +want): %s", stream, diff)
					}
					stored++
				}
				if n := turnsOf(t, s, id); n != stored {
					t.Errorf("stream %v: %d turns stored, want %d", stream, n, stored)
				}
				if n := len(gemini.Requests()); n != len(test.replies) {
					t.Errorf("stream %v: the model was asked %d times, want %d", stream, n, len(test.replies))
				}
			}
		})
	}
}

func TestUpstreamErrors(t *testing.T) {
	t.Parallel()
	once := func(r geminitest.Reply) func(int) geminitest.Reply {
		return func(n int) geminitest.Reply {
			if n == 0 {
				return r
			}
			return geminitest.Text("At last.")
		}
	}
	always := func(r geminitest.Reply) func(int) geminitest.Reply {
		return func(int) geminitest.Reply { return r }
	}
	html := []byte("<html><body>" + upstreamText + "</body></html>")
	const (
		no     = "no"
		yes    = "yes"
		either = "" // nothing is promised
	)
	tests := []struct {
		name    string
		reply   func(n int) geminitest.Reply
		status  int
		code    string
		retried string
	}{
		{"400", always(geminitest.Error(http.StatusBadRequest, upstreamText)), http.StatusBadGateway, "model_failed", no},
		{"401", always(geminitest.Error(http.StatusUnauthorized, upstreamText)), http.StatusBadGateway, "model_failed", no},
		{"403", always(geminitest.Error(http.StatusForbidden, upstreamText)), http.StatusBadGateway, "model_failed", no},
		{"404", always(geminitest.Error(http.StatusNotFound, upstreamText)), http.StatusServiceUnavailable, "not_ready", no},
		{"429 without end", always(geminitest.Error(http.StatusTooManyRequests, upstreamText)), http.StatusServiceUnavailable, "model_unavailable", yes},
		{"500 without end", always(geminitest.Error(http.StatusInternalServerError, upstreamText)), http.StatusServiceUnavailable, "model_unavailable", yes},
		{"503 without end", always(geminitest.Error(http.StatusServiceUnavailable, upstreamText)), http.StatusServiceUnavailable, "model_unavailable", yes},
		{"a page with 502 without end", always(geminitest.Raw(http.StatusBadGateway, "text/html", html)), http.StatusServiceUnavailable, "model_unavailable", yes},
		{"429 once", once(geminitest.Error(http.StatusTooManyRequests, upstreamText)), http.StatusOK, "", yes},
		{"429 once, to come again in a second", once(geminitest.Error(http.StatusTooManyRequests, upstreamText).WithHeader("Retry-After", "1")), http.StatusOK, "", yes},
		{"500 once", once(geminitest.Error(http.StatusInternalServerError, upstreamText)), http.StatusOK, "", yes},
		{"503 once", once(geminitest.Error(http.StatusServiceUnavailable, upstreamText)), http.StatusOK, "", yes},
		{"499 once", once(geminitest.Error(499, upstreamText)), http.StatusOK, "", yes},
		{"an error in a 200, once", once(geminitest.Raw(http.StatusOK, "application/json", []byte(`{"error":{"code":503,"message":"`+upstreamText+`","status":"UNAVAILABLE"}}`))), http.StatusOK, "", yes},
		{"an error in a list in a 200, once", once(geminitest.Raw(http.StatusOK, "application/json", []byte(`[{"error":{"message":"`+upstreamText+`","status":"CANCELLED"}}]`))), http.StatusOK, "", yes},
		{"an error in a 200 without end", always(geminitest.Raw(http.StatusOK, "application/json", []byte(`{"error":"`+upstreamText+`"}`))), http.StatusServiceUnavailable, "model_unavailable", yes},
		{"429 to come again in an hour", always(geminitest.Error(http.StatusTooManyRequests, upstreamText).WithHeader("Retry-After", "3600")), http.StatusServiceUnavailable, "model_unavailable", no},
		{"a connection cut once", once(geminitest.Cut()), http.StatusOK, "", yes},
		{"a connection cut without end", always(geminitest.Cut()), http.StatusServiceUnavailable, "model_unavailable", yes},
		{"a page", always(geminitest.Raw(http.StatusOK, "text/html", html)), http.StatusBadGateway, "model_failed", either},
		{"an answer that is not JSON", always(geminitest.Raw(http.StatusOK, "application/json", []byte(upstreamText))), http.StatusBadGateway, "model_failed", either},
		{"an answer that is half JSON", always(geminitest.Raw(http.StatusOK, "application/json", []byte(`{"candidates": [`))), http.StatusBadGateway, "model_failed", either},
		{"an event that is not JSON", always(geminitest.Raw(http.StatusOK, "text/event-stream", []byte("data: "+upstreamText+"\n\n"))), http.StatusBadGateway, "model_failed", either},
	}
	for _, test := range tests {
		for _, stream := range []bool{false, true} {
			t.Run(test.name+map[bool]string{false: "", true: ", a stream wanted"}[stream], func(t *testing.T) {
				t.Parallel()
				s, gemini := startGemini(t)
				var mu sync.Mutex
				n := 0
				gemini.Handle(func(geminitest.Request) geminitest.Reply {
					mu.Lock()
					defer mu.Unlock()
					n++
					return test.reply(n - 1)
				})
				body := map[string]any{"query": "hello", "stream": stream}
				switch {
				case test.code != "":
					s.wantInvokeError(t, body, test.status, test.code)
				case stream:
					if _, got := s.stream(t, body).wantDone(t); got.Response != "At last." {
						t.Errorf("response %q", got.Response)
					}
				default:
					if got := s.invoke(t, body); got.Response != "At last." {
						t.Errorf("response %q", got.Response)
					}
				}
				if n := len(gemini.Requests()); test.retried != either && (n > 1) != (test.retried == yes) {
					t.Errorf("the model was asked %d times, tried again: want %s", n, test.retried)
				}
				if logged := s.stdout.String(); strings.Contains(logged, apiKey) {
					t.Error("the log holds the key")
				}
			})
		}
	}
}

func TestStreamsThatBreakOff(t *testing.T) {
	t.Parallel()
	either := []string{"model_failed", "model_unavailable"}
	tests := []struct {
		name  string
		reply geminitest.Reply
		codes []string
		text  bool // a delta was sent before it broke off
	}{
		{"cut after text", geminitest.Text("one ", "two ", "three").CutAfter(2), either, true},
		{"ended after text without an ending", geminitest.Text("one ", "two ").Unfinished(), either, true},
		{"an error after text", geminitest.Text("one ", "two ").FailAfter(http.StatusServiceUnavailable, upstreamText), either, true},
		{"an event after text that is not JSON", geminitest.Raw(http.StatusOK, "text/event-stream", []byte(
			"data: {\"candidates\":[{\"content\":{\"role\":\"model\",\"parts\":[{\"text\":\"one\"}]}}]}\n\ndata: "+upstreamText+"\n\n")), either, true},
		{"cut before anything", geminitest.Cut(), nil, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, gemini := startGemini(t)
			id := s.invoke(t, map[string]any{"query": "hello"}).SessionID
			gemini.Forget()
			if test.text {
				gemini.Handle(func(geminitest.Request) geminitest.Reply { return test.reply }) // to each attempt
			} else {
				gemini.Enqueue(test.reply)
			}
			stream := s.stream(t, map[string]any{"query": "go on", "session_id": id})
			if !test.text {
				if _, got := stream.wantDone(t); got.Turn != 2 {
					t.Errorf("turn %d", got.Turn)
				}
				return
			}
			events := stream.wantFailure(t, test.codes)
			if !slices.Contains(names(events), "delta") {
				t.Errorf("events: %v", names(events))
			}
			resets := 0
			for _, name := range names(events) {
				if name == "reset" {
					resets++
				}
			}
			if n := len(gemini.Requests()); resets != n-1 {
				t.Errorf("the model was asked %d times, and %d resets were shown", n, resets)
			}
			if n := turnsOf(t, s, id); n != 1 {
				t.Errorf("%d turns stored, want 1", n)
			}
		})
	}
}

func TestStream(t *testing.T) {
	t.Parallel()
	s, gemini := startGemini(t)
	gate := make(chan struct{})
	gemini.Enqueue(
		geminitest.Calls(geminitest.FunctionCall{Name: "get_price", Args: map[string]any{"fruit": "apple"}}),
		geminitest.Text("one ", "two\n", "three 🦀").WithGate(1, gate),
	)
	stream := s.stream(t, map[string]any{"query": "hello"})
	before := stream.until(t, "delta") // arrives before the model continues
	close(gate)
	events, got := stream.wantDone(t, before...)
	if diff := cmp.Diff(names(events), []string{"start", "tool_call", "tool_result", "delta", "delta", "delta", "done"}); diff != "" {
		t.Errorf("events (-got +want): %s", diff)
	}
	if got.Response != "one two\nthree 🦀" || !slices.Equal(got.tools(), []string{"get_price"}) {
		t.Errorf("turn: %+v", got)
	}
	call, result := strict[toolCallData](t, events[1].Data), strict[toolResultData](t, events[2].Data)
	if !reflect.DeepEqual(call.Args, map[string]any{"fruit": "apple"}) || !result.OK {
		t.Errorf("tool_call %s, tool_result %s", events[1].Data, events[2].Data)
	}
	if n := turnsOf(t, s, got.SessionID); n != 1 {
		t.Errorf("%d turns stored after done", n)
	}
}

// joined returns a content with consecutive pieces of plain text joined, because the
// chunks of a stream do not matter, and without empty arguments, which Gemini treats
// the same.
func joined(content map[string]any) map[string]any {
	parts, _ := content["parts"].([]any)
	var out []any
	for _, part := range parts {
		object := maps.Clone(part.(map[string]any))
		if call, ok := object["functionCall"].(map[string]any); ok {
			if args, ok := call["args"].(map[string]any); ok && len(args) == 0 {
				call = maps.Clone(call)
				delete(call, "args")
				object["functionCall"] = call
			}
		}
		if text, ok := object["text"].(string); ok && len(object) == 1 && len(out) > 0 {
			last := out[len(out)-1].(map[string]any)
			if before, ok := last["text"].(string); ok && len(last) == 1 {
				out[len(out)-1] = map[string]any{"text": before + text}
				continue
			}
		}
		out = append(out, object)
	}
	return map[string]any{"role": content["role"], "parts": out}
}

// responses are the function responses that a content holds.
func responses(content map[string]any) []map[string]any {
	var list []map[string]any
	parts, _ := content["parts"].([]any)
	for _, part := range parts {
		if response, ok := part.(map[string]any)["functionResponse"].(map[string]any); ok {
			list = append(list, response)
		}
	}
	return list
}

func TestToolRound(t *testing.T) {
	t.Parallel()
	const thought = "I had better look this up."
	calls := geminitest.Calls(
		geminitest.FunctionCall{Name: "list_stock", Args: map[string]any{}, ThoughtSignature: "c2lnbmF0dXJl"},
		geminitest.FunctionCall{Name: "get_price", Args: map[string]any{"fruit": "apple"}, ID: "call-7"},
		geminitest.FunctionCall{Name: "no_such_tool", Args: map[string]any{"x": 1.5, "nested": map[string]any{"list": []any{"a", nil, true}}}},
		geminitest.FunctionCall{Name: "get_price", Args: map[string]any{"fruit": 5.0}},
		geminitest.FunctionCall{Name: "get_price", Args: map[string]any{"fruit": "durian"}},
		geminitest.FunctionCall{Name: "check_status"},
	).WithThought(thought)
	final := geminitest.Text("Take ", "cherries.").WithThoughtSignature("ZmluYWw=").WithThought("That was easy.")
	wantCalls := []toolCall{
		{"list_stock", true, 0}, {"get_price", true, 0}, {"no_such_tool", false, 0},
		{"get_price", false, 0}, {"get_price", false, 0}, {"check_status", true, 0},
	}
	for _, stream := range []bool{false, true} {
		t.Run(map[bool]string{false: "JSON", true: "stream"}[stream], func(t *testing.T) {
			t.Parallel()
			s, gemini := startGemini(t)
			gemini.Enqueue(calls, final)
			body := map[string]any{"query": "Where to?", "stream": stream}
			var got turn
			if stream {
				var events []event
				events, got = s.stream(t, body).wantDone(t)
				ids := map[string]bool{}
				for _, e := range events {
					if e.Name == "tool_call" {
						ids[strict[toolCallData](t, e.Data).ID] = true
					}
				}
				if len(ids) != 6 || !ids["call-7"] {
					t.Errorf("ids of tool calls: %v", ids)
				}
			} else {
				got = s.invoke(t, body)
			}
			if got.Response != "Take cherries." {
				t.Errorf("response %q", got.Response)
			}
			for i := range got.ToolCalls {
				got.ToolCalls[i].DurationMS = 0
			}
			if diff := cmp.Diff(got.ToolCalls, wantCalls); diff != "" {
				t.Errorf("tool_calls (-got +want): %s", diff)
			}

			requests := gemini.Requests()
			if len(requests) != 2 {
				t.Fatalf("the model was asked %d times", len(requests))
			}
			contents := requests[1].Contents()
			if len(contents) != 3 {
				t.Fatalf("%d contents: %v", len(contents), contents)
			}
			if diff := cmp.Diff(joined(contents[1]), joined(calls.Content())); diff != "" {
				t.Errorf("the model's content came back changed (-got +want): %s", diff)
			}
			given := responses(contents[2])
			if len(given) != len(wantCalls) || len(contents[2]["parts"].([]any)) != len(wantCalls) {
				t.Fatalf("function responses: %v", contents[2])
			}
			for i, call := range wantCalls {
				response, _ := given[i]["response"].(map[string]any)
				if given[i]["name"] != call.Name || len(response) == 0 {
					t.Errorf("response %d: %v, want one of %s", i, given[i], call.Name)
				}
				if _, failed := response["error"]; failed == call.OK {
					t.Errorf("response of %s: %v", call.Name, response)
				}
				id, _ := given[i]["id"].(string)
				if want := map[int]string{1: "call-7"}[i]; id != want {
					t.Errorf("response %d has the id %q, want %q", i, id, want)
				}
			}

			// The next turn sends all of it again.
			s.invoke(t, map[string]any{"query": "Sure?", "session_id": got.SessionID})
			next := gemini.Requests()[2].Contents()
			if len(next) != 5 {
				t.Fatalf("the next turn sent %d contents: %v", len(next), next)
			}
			if diff := cmp.Diff(next[:3], contents); diff != "" {
				t.Errorf("the next turn sent other contents (-got +want): %s", diff)
			}
			if diff := cmp.Diff(joined(next[3]), joined(final.Content())); diff != "" {
				t.Errorf("the answer came back changed (-got +want): %s", diff)
			}
			stored := s.do(t, http.MethodGet, "/sessions/"+got.SessionID, nil)
			if strings.Contains(string(stored.Body), thought) || strings.Contains(string(stored.Body), "c2lnbmF0dXJl") {
				t.Errorf("the session shows thoughts: %s", stored.Body)
			}
		})
	}
}

func TestToolDeclarations(t *testing.T) {
	t.Parallel()
	s, gemini := startGemini(t)
	s.invoke(t, map[string]any{"query": "hello"})
	r := gemini.Requests()[0]
	if r.Model != "gemini-3.5-flash-lite" {
		t.Errorf("model %s", r.Model)
	}
	if r.Body["systemInstruction"] == nil {
		t.Error("no system instruction")
	}
	for _, name := range []string{"list_stock", "get_price", "check_status"} {
		if !strings.Contains(string(r.Raw), `"name":"`+name+`"`) {
			t.Errorf("%s is not declared", name)
		}
	}
}

// offersTools reports whether a request lets the model call functions.
func offersTools(r geminitest.Request) bool {
	tools, _ := r.Body["tools"].([]any)
	return len(tools) > 0
}

func TestToolRoundsEnd(t *testing.T) {
	t.Parallel()
	call := geminitest.Calls(geminitest.FunctionCall{Name: "check_status"})
	tests := []struct {
		name string
		last geminitest.Reply
		code string
	}{
		{"an answer at last", geminitest.Text("At last."), ""},
		{"no text at last", geminitest.Finish("STOP", ""), "model_failed"},
		{"a call even without tools", call, "model_failed"},
	}
	for _, test := range tests {
		for _, stream := range []bool{false, true} {
			t.Run(test.name+map[bool]string{false: "", true: ", in a stream"}[stream], func(t *testing.T) {
				t.Parallel()
				s, gemini := startGemini(t, "MAX_TOOL_ROUNDS=2")
				gemini.Handle(func(r geminitest.Request) geminitest.Reply {
					if offersTools(r) {
						return call
					}
					return test.last
				})
				body := map[string]any{"query": "hello", "stream": stream}
				var got turn
				switch {
				case test.code != "" && stream:
					s.stream(t, body).wantFailure(t, []string{test.code})
				case test.code != "":
					wantError(t, s.do(t, http.MethodPost, "/invoke", body), http.StatusBadGateway, test.code)
				case stream:
					_, got = s.stream(t, body).wantDone(t)
				default:
					got = s.invoke(t, body)
				}
				if test.code == "" {
					if got.Response != "At last." || !slices.Equal(got.Warnings, []string{"tool_rounds_exhausted"}) || len(got.ToolCalls) != 2 {
						t.Errorf("turn: %+v", got)
					}
				}
				var offered []bool
				for _, r := range gemini.Requests() {
					offered = append(offered, offersTools(r))
				}
				want := []bool{true, true, false}
				if test.name == "no text at last" { // is asked again
					want = append(want, false, false)
				}
				if !slices.Equal(offered, want) {
					t.Errorf("requests offered tools: %v", offered)
				}
			})
		}
	}
}

func TestSettingsTravelWithTheRequest(t *testing.T) {
	t.Parallel()
	s, gemini := startGemini(t, "MODEL=gemini-3.1-flash-lite") // which takes a temperature
	const calls = 16
	all := make(chan struct{}) // closed when all are being answered
	var mu sync.Mutex
	seen := map[string][2]float64{}
	gemini.Handle(func(r geminitest.Request) geminitest.Reply {
		mu.Lock()
		defer mu.Unlock()
		settings, _ := r.Body["generationConfig"].(map[string]any)
		temperature, _ := settings["temperature"].(float64)
		tokens, _ := settings["maxOutputTokens"].(float64)
		seen[r.Prompt()] = [2]float64{temperature, tokens}
		if len(seen) == calls {
			close(all)
		}
		return geminitest.Text("Heard.").WithGate(0, all)
	})
	want := map[string][2]float64{"as usual": {0.5, 2048}}
	bodies := []map[string]any{{"query": "as usual"}}
	for i := range calls - 1 {
		query := fmt.Sprintf("question %d", i)
		want[query] = [2]float64{float64(i) / 8, float64(100 + i)}
		bodies = append(bodies, map[string]any{"query": query, "temperature": float64(i) / 8, "max_tokens": 100 + i, "stream": i%2 == 0})
	}
	ctx := bounded(t)
	var wait sync.WaitGroup
	for _, body := range bodies {
		wait.Go(func() {
			a, err := s.try(ctx, http.MethodPost, "/invoke", body)
			if err != nil || a.Status != http.StatusOK {
				t.Errorf("%v: status %d, %v", body, a.Status, err)
			}
		})
	}
	wait.Wait()
	mu.Lock()
	defer mu.Unlock()
	for query, w := range want {
		got := seen[query]
		if math.Abs(got[0]-w[0]) > 1e-6 || got[1] != w[1] {
			t.Errorf("%s: temperature and tokens %v, want %v", query, got, w)
		}
	}
}

func TestOutputLimit(t *testing.T) {
	t.Parallel()
	s := startLocal(t, "MAX_OUTPUT_TOKENS=3000")
	s.invoke(t, map[string]any{"query": "hello", "max_tokens": 3000})
	wantError(t, s.do(t, http.MethodPost, "/invoke", map[string]any{"query": "hello", "max_tokens": 3001}), http.StatusUnprocessableEntity, "validation_failed")
}

func TestUsage(t *testing.T) {
	t.Parallel()
	round := geminitest.Calls(geminitest.FunctionCall{Name: "check_status"}).WithUsage(geminitest.Usage{Prompt: 100_000, Thoughts: 30_000, Output: 50_000})
	last := geminitest.Text("Fine.").WithUsage(geminitest.Usage{Prompt: 200_000, Thoughts: 10_000, Output: 60_000})
	dollars := func(x float64) *float64 { return &x }
	tests := []struct {
		name    string
		env     []string
		replies []geminitest.Reply
		want    usage
	}{
		{"rounds are summed", nil, []geminitest.Reply{round, last}, usage{
			300_000, 0, 40_000, 110_000, 450_000, "model", dollars(0.3*0.30 + 0.15*2.50)}},
		{"an answer that was asked for once more counts too", nil, []geminitest.Reply{geminitest.Finish("MALFORMED_FUNCTION_CALL", "").WithUsage(geminitest.Usage{Prompt: 100_000, Output: 10_000}), last}, usage{
			300_000, 0, 10_000, 70_000, 380_000, "model", dollars(0.3*0.30 + 0.08*2.50)}},
		{"a model that is not on the price list", []string{"MODEL=gemini-of-tomorrow"}, []geminitest.Reply{last}, usage{
			200_000, 0, 10_000, 60_000, 270_000, "model", nil}},
	}
	for _, test := range tests {
		for _, stream := range []bool{false, true} {
			t.Run(test.name+map[bool]string{false: "", true: ", in a stream"}[stream], func(t *testing.T) {
				t.Parallel()
				s, gemini := startGemini(t, test.env...)
				gemini.Enqueue(test.replies...)
				body := map[string]any{"query": "hello", "stream": stream}
				var got turn
				if stream {
					_, got = s.stream(t, body).wantDone(t)
				} else {
					got = s.invoke(t, body)
				}
				near := cmp.Comparer(func(a, b float64) bool { return math.Abs(a-b) < 1e-5 })
				if diff := cmp.Diff(got.Usage, test.want, near); diff != "" {
					t.Errorf("usage (-got +want): %s", diff)
				}
				page := wantData[sessionPage](t, s.do(t, http.MethodGet, "/sessions/"+got.SessionID, nil))
				if page.Session.TotalTokens != test.want.TotalTokens {
					t.Errorf("the session's total_tokens %d, want %d", page.Session.TotalTokens, test.want.TotalTokens)
				}
				if diff := cmp.Diff(page.Turns[0].Usage, test.want, near); diff != "" {
					t.Errorf("the stored turn's usage (-got +want): %s", diff)
				}
			})
		}
	}
	t.Run("cached tokens are a part of the prompt", func(t *testing.T) {
		t.Parallel()
		s, gemini := startGemini(t)
		gemini.Enqueue(geminitest.Text("Fine.").WithUsage(geminitest.Usage{Prompt: 100_000, Cached: 40_000, Output: 100}))
		got := s.invoke(t, map[string]any{"query": "hello"}).Usage
		if got.PromptTokens != 100_000 || got.CachedTokens != 40_000 || got.TotalTokens != 100_100 {
			t.Errorf("usage: %+v", got)
		}
		if full := 0.1*0.30 + 0.0001*2.50; got.EstimatedCostUSD == nil || *got.EstimatedCostUSD >= full {
			t.Errorf("estimated_cost_usd %v, want less than without the cache, %v", got.EstimatedCostUSD, full)
		}
	})
	t.Run("an answer without counts is estimated", func(t *testing.T) {
		t.Parallel()
		s, gemini := startGemini(t)
		gemini.Enqueue(geminitest.Text("Fine, thank you.").WithoutUsage())
		got := s.invoke(t, map[string]any{"query": "hello"}).Usage
		if got.Source != "estimate" || got.PromptTokens == 0 || got.CompletionTokens == 0 || got.TotalTokens != got.PromptTokens+got.CompletionTokens {
			t.Errorf("usage: %+v", got)
		}
	})
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		replies []geminitest.Reply
		stream  bool
	}{
		{"no answer", []geminitest.Reply{geminitest.Silence()}, false},
		{"half an answer", []geminitest.Reply{geminitest.Text("one", "two").SilentAfter(1)}, false},
		{"no answer after a tool", []geminitest.Reply{geminitest.Calls(geminitest.FunctionCall{Name: "check_status"}), geminitest.Silence()}, false},
		{"no first word of a stream", []geminitest.Reply{geminitest.Silence()}, true},
		{"a stream that falls silent", []geminitest.Reply{geminitest.Text("one", "two").SilentAfter(1)}, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, gemini := startGemini(t, "REQUEST_TIMEOUT=2s")
			id := s.invoke(t, map[string]any{"query": "hello"}).SessionID
			gemini.Forget()
			gemini.Enqueue(test.replies...)
			body := map[string]any{"query": "go on", "session_id": id, "stream": test.stream}
			s.wantInvokeError(t, body, http.StatusGatewayTimeout, "timeout")
			if _, err := gemini.AwaitCancelled(bounded(t), len(test.replies)-1); err != nil {
				t.Error(err)
			}
			if n := turnsOf(t, s, id); n != 1 {
				t.Errorf("%d turns stored, want 1", n)
			}
		})
	}
}

func TestClientGoes(t *testing.T) {
	t.Parallel()
	for _, stream := range []bool{false, true} {
		t.Run(map[bool]string{false: "while it waits for JSON", true: "in the middle of a stream"}[stream], func(t *testing.T) {
			t.Parallel()
			s, gemini := startGemini(t)
			id := s.invoke(t, map[string]any{"query": "hello"}).SessionID
			gemini.Forget()
			gemini.Enqueue(geminitest.Text("one", "two").SilentAfter(1))
			ctx, cancel := context.WithCancel(bounded(t))
			defer cancel()
			body := map[string]any{"query": "go on", "session_id": id, "stream": stream}
			var left time.Time
			if stream {
				events := s.stream(t, body)
				events.until(t, "delta")
				left = time.Now()
				_ = events.body.Close()
			} else {
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					_, _ = s.try(ctx, http.MethodPost, "/invoke", body)
				}()
				if _, err := gemini.Await(ctx, 1); err != nil {
					t.Fatal(err)
				}
				left = time.Now()
				cancel()
				<-ended
			}
			request, err := gemini.AwaitCancelled(bounded(t), 0)
			if err != nil {
				t.Fatal(err)
			}
			if took := request.Cancelled.Sub(left); took > time.Second {
				t.Errorf("the model call was cancelled after %v", took)
			}
			if _, err := s.stdout.Await(bounded(t), regexp.MustCompile(`"status":499`)); err != nil {
				t.Errorf("no log line with 499: %v", err)
			}
			want := 1
			if stream { // what was shown is kept
				want = 2
			}
			if n := turnsOf(t, s, id); n != want {
				t.Errorf("%d turns stored, want %d", n, want)
			}
		})
	}
}

func TestShutdown(t *testing.T) {
	t.Parallel()
	s, gemini := startGemini(t)
	const turns = 8
	gate := make(chan struct{})
	for range turns {
		gemini.Enqueue(geminitest.Text("Done in time.").WithGate(0, gate))
	}
	ctx := bounded(t)
	answers := make([]answer, turns)
	var inFlight sync.WaitGroup
	for i := range turns {
		inFlight.Go(func() {
			var err error
			answers[i], err = s.try(ctx, http.MethodPost, "/invoke", map[string]any{"query": "hello", "stream": i%2 == 0})
			if err != nil {
				t.Errorf("a turn in flight: %v", err)
			}
		})
	}
	if _, err := gemini.Await(ctx, turns); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if _, err := s.stdout.Await(ctx, regexp.MustCompile(`Ending`)); err != nil {
		t.Fatal(err)
	}
	// What comes between the signal and the refusal is still answered.
	var refused answer
	for {
		a, err := s.try(ctx, http.MethodPost, "/invoke", map[string]any{"query": "Too late?"})
		if err != nil {
			t.Fatalf("a new request while one is in flight: %v", err)
		}
		if a.Status != http.StatusOK {
			refused = a
			break
		}
	}
	wantError(t, refused, http.StatusServiceUnavailable, "shutting_down")
	close(gate)
	inFlight.Wait()
	for i, a := range answers {
		if a.Status == 0 {
			continue // said already
		}
		var got turn
		if i%2 == 0 {
			_, got = streamOf(t, a).wantDone(t)
		} else {
			got = wantTurn(t, a)
		}
		if got.Response != "Done in time." {
			t.Errorf("response %q", got.Response)
		}
	}
	if code := s.wait(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
