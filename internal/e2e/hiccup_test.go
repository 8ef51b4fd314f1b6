package e2e_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"example.com/gatehouse/internal/geminitest"
)

// Every form of an upstream's retry delay is respected, and returned to the client in
// the header and the error.
func TestWaitsOfAnUpstreamAreToldTheClient(t *testing.T) {
	t.Parallel()
	const retryInfo = `{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"busy","details":[` +
		`{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"3600.5s"}]}}`
	json := func(status int, body string) geminitest.Reply {
		return geminitest.Raw(status, "application/json", []byte(body))
	}
	tests := []struct {
		name  string
		reply geminitest.Reply
		want  string
	}{
		{"a header", geminitest.Error(http.StatusTooManyRequests, "busy").WithHeader("Retry-After", "3600"), "3600"},
		{"RetryInfo", json(http.StatusTooManyRequests, retryInfo), "3601"},
		{"RetryInfo in a list", json(http.StatusTooManyRequests, "["+retryInfo+"]"), "3601"},
		{"RetryInfo in a 200", json(http.StatusOK, retryInfo), "3601"},
		{"RetryInfo in a list in a 200", json(http.StatusOK, "[\n"+retryInfo+"\n]"), "3601"},
		{"more than a day", geminitest.Error(http.StatusServiceUnavailable, "away").WithHeader("Retry-After", "99999999999"), "86400"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, gemini := startGemini(t)
			gemini.Handle(func(geminitest.Request) geminitest.Reply { return tt.reply })
			for _, stream := range []bool{false, true} {
				e := s.wantInvokeError(t, map[string]any{"query": "hello", "stream": stream}, http.StatusServiceUnavailable, "model_unavailable")
				if string(e.Retry) != tt.want {
					t.Errorf("stream %v: retry_after_seconds %s, want %s", stream, e.Retry, tt.want)
				}
			}
			if n := len(gemini.Requests()); n != 2 {
				t.Errorf("%d requests, want one of each form", n)
			}
		})
	}
	t.Run("after text, in the error event", func(t *testing.T) {
		t.Parallel()
		s, gemini := startGemini(t)
		gemini.Enqueue(geminitest.Raw(http.StatusOK, "text/event-stream",
			[]byte(`data: {"candidates":[{"content":{"role":"model","parts":[{"text":"Once"}]}}]}`+"\n\ndata: "+retryInfo+"\n\n")))
		events := s.stream(t, map[string]any{"query": "hello"}).wantFailure(t, []string{"model_unavailable"})
		if last := string(events[len(events)-1].Data); !strings.Contains(last, `"retry_after_seconds":3601`) {
			t.Errorf("error event: %s", last)
		}
	})
}

// A model that returns nothing after tools have run is asked again like any other, and
// the text before the tool calls is not its answer.
func TestNothingAfterATool(t *testing.T) {
	t.Parallel()
	call := map[string]any{"functionCall": map[string]any{"name": "no_such_tool", "args": map[string]any{}}}
	text := map[string]any{"text": "Let me look."}
	nothing := geminitest.Finish("STOP", "")
	tests := []struct {
		name     string
		replies  []geminitest.Reply
		code     string
		response string
		warnings []string
	}{
		{"once", []geminitest.Reply{geminitest.Parts(text, call), nothing, geminitest.Text("## Result")}, "", "Let me look.\n\n## Result", []string{}},
		{"again and again", []geminitest.Reply{geminitest.Parts(text, call), nothing, nothing, nothing}, "", "Let me look.", []string{"response_truncated"}},
		{"once, without text before", []geminitest.Reply{geminitest.Parts(call), nothing, geminitest.Text("## Result")}, "", "## Result", []string{}},
		{"again and again, without text before", []geminitest.Reply{geminitest.Parts(call), nothing, nothing, nothing}, "model_failed", "", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, gemini := startGemini(t)
			for _, stream := range []bool{false, true} {
				gemini.Forget()
				gemini.Enqueue(tt.replies...)
				body := map[string]any{"query": "hello", "stream": stream}
				var got turn
				switch {
				case tt.code != "" && stream:
					s.stream(t, body).wantFailure(t, []string{tt.code})
				case tt.code != "":
					wantError(t, s.do(t, http.MethodPost, "/invoke", body), http.StatusBadGateway, tt.code)
				case stream:
					_, got = s.stream(t, body).wantDone(t)
				default:
					got = s.invoke(t, body)
				}
				if tt.code == "" && (got.Response != tt.response || !slices.Equal(got.Warnings, tt.warnings)) {
					t.Errorf("stream %v: response %q, warnings %q", stream, got.Response, got.Warnings)
				}
				if n := len(gemini.Requests()); n != len(tt.replies) {
					t.Errorf("stream %v: %d requests, want %d", stream, n, len(tt.replies))
				}
				if tt.code == "" { // what is stored is what was said
					page := wantData[sessionPage](t, s.do(t, http.MethodGet, "/sessions/"+got.SessionID, nil))
					if page.Turns[0].Response != tt.response {
						t.Errorf("stream %v: stored %q", stream, page.Turns[0].Response)
					}
				}
			}
		})
	}
}

// Empty answers that were healed move neither health nor the next call, and are
// charged as they were counted.
func TestEmptyAnswersAreHealed(t *testing.T) {
	t.Parallel()
	nothing := geminitest.Finish("STOP", "").WithUsage(geminitest.Usage{Prompt: 3130})
	t.Run("by asking again", func(t *testing.T) {
		t.Parallel()
		s, gemini := startGemini(t)
		for range 12 {
			s.earnRetries(t, 1)
			gemini.Enqueue(nothing, geminitest.Text("Well").WithUsage(geminitest.Usage{Prompt: 3130, Output: 7}))
			got := s.invoke(t, map[string]any{"query": "hello"})
			if got.Response != "Well" || got.Usage.TotalTokens != 2*3130+7 || got.Usage.Source != "model" {
				t.Errorf("%q, usage %+v", got.Response, got.Usage)
			}
		}
		if health := s.health(t); health.Status != "healthy" || health.ErrorCount == nil || *health.ErrorCount != 0 {
			t.Errorf("health %+v", health)
		}
	})
	t.Run("by a fallback", func(t *testing.T) {
		t.Parallel()
		s, gemini := startGemini(t, "MODEL_FALLBACKS=gemini-3.1-flash-lite")
		gemini.Handle(func(r geminitest.Request) geminitest.Reply {
			if r.Model == "gemini-3.1-flash-lite" {
				return geminitest.Text("Well")
			}
			return nothing
		})
		got := s.invoke(t, map[string]any{"query": "hello"})
		if got.Response != "Well" || !slices.Contains(got.Warnings, "fallback_model") || len(gemini.Requests()) != 4 {
			t.Errorf("%+v after %d requests", got, len(gemini.Requests()))
		}
	})
	t.Run("in chat", func(t *testing.T) {
		t.Parallel()
		s, gemini := startGemini(t)
		gemini.Enqueue(nothing, geminitest.Text("Well"))
		a := s.do(t, http.MethodPost, "/chat", map[string]any{
			"id": "a-chat-of-sixteen", "trigger": "submit-message",
			"messages": []any{map[string]any{"id": "m", "role": "user", "parts": []any{map[string]any{"type": "text", "text": "hello"}}}},
		})
		if a.Status != http.StatusOK || !strings.Contains(string(a.Body), `"delta":"Well"`) || strings.Contains(string(a.Body), `"type":"error"`) {
			t.Errorf("%d %s", a.Status, a.Body)
		}
	})
}

// Thinking that used up max_tokens leaves room the second time.
func TestThoughtLeavesRoomForTheAnswer(t *testing.T) {
	t.Parallel()
	s, gemini := startGemini(t, "MODEL=gemini-2.5-flash", "THINKING_LEVEL=high")
	gemini.Enqueue(
		geminitest.Finish("MAX_TOKENS", "").WithThought("hm").WithUsage(geminitest.Usage{Prompt: 10, Thoughts: 2044}),
		geminitest.Text("Well"))
	if got := s.invoke(t, map[string]any{"query": "hello"}); got.Response != "Well" || got.Usage.ThoughtTokens != 2044 {
		t.Errorf("%+v", got)
	}
	setting := func(r geminitest.Request) (most, budget float64) {
		config, _ := r.Body["generationConfig"].(map[string]any)
		thinking, _ := config["thinkingConfig"].(map[string]any)
		most, _ = config["maxOutputTokens"].(float64)
		budget, _ = thinking["thinkingBudget"].(float64)
		return most, budget
	}
	requests := gemini.Requests()
	most, thought := setting(requests[0])
	more, less := setting(requests[1])
	if len(requests) != 2 || more != 2*most || less >= thought {
		t.Errorf("%d requests: %v tokens with %v of thought, then %v with %v", len(requests), most, thought, more, less)
	}
}
