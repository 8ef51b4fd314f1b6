package model_test

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/gatehouse/internal/model"
	"example.com/gatehouse/session"
)

// In a stream each count is the last that is not zero: some objects are sparser than
// those before.
func TestSparserCountsTakeNothingBack(t *testing.T) {
	t.Parallel()
	full := `{"promptTokenCount":1000,"cachedContentTokenCount":10,"thoughtsTokenCount":40,"candidatesTokenCount":20,"totalTokenCount":1060}`
	for name, last := range map[string]string{
		"nothing":           `{}`,
		"a kind of traffic": `{"trafficType":"ON_DEMAND"}`,
		"the prompt's":      `{"promptTokenCount":1000}`,
		"zeros":             `{"promptTokenCount":0,"candidatesTokenCount":0,"totalTokenCount":0}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body := event(`{"candidates":[{"content":{"parts":[{"text":"x"}]}}],"usageMetadata":`+full+`}`) +
				event(`{"candidates":[{"content":{"parts":[{"text":"y"}]},"finishReason":"STOP"}],"usageMetadata":`+last+`}`)
			a, err := generate(t.Context(), client(t, serve(t, answer(200, body)), false), true)
			want := session.Usage{PromptTokens: 1000, CachedTokens: 10, ThoughtTokens: 40, CompletionTokens: 20, TotalTokens: 1060, Source: session.Counted}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(a.Usage, priced(want)); diff != "" {
				t.Errorf("(-got +want):\n%s", diff)
			}
		})
	}
}

// An attempt costs nothing when it never began, what the model counted when it was
// heard to its end, and else what was reserved.
func TestWhatAnAttemptCosts(t *testing.T) {
	t.Parallel()
	const reserved = 3 + 100
	whole := `{"candidates":[{"content":{"parts":[{"text":"x"}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":7,"candidatesTokenCount":5,"totalTokenCount":12}}`
	half := event(`{"candidates":[{"content":{"parts":[{"text":"x"}]}}],"usageMetadata":{"promptTokenCount":7,"totalTokenCount":7}}`)
	for _, tt := range []struct {
		name   string
		stream bool
		answer http.HandlerFunc
		onText func(string, string) error
		each   int64
	}{
		{"a whole answer", false, answer(200, whole), nil, 12},
		{"three refusals", false, answer(429, failure(429, "busy")), nil, 0},
		{"three failures", true, answer(503, failure(503, "busy")), nil, 0},
		{"a request that is refused", false, answer(400, failure(400, "no")), nil, 0},
		{"an answer that cannot be read", false, answer(200, "<html>"), nil, reserved},
		{"a stream that is cut", true, answer(200, half), nil, 7 + 100},
		{"a stream that fails", true, answer(200, half+event(failure(503, "busy"))), nil, 7 + 100},
		{"a reader that leaves", true, answer(200, half+half), func(string, string) error { return errors.New("gone") }, 7 + 100},
		{"a stream of nothing", true, answer(200, ""), nil, reserved},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := &script{handlers: []http.HandlerFunc{tt.answer}}
			inBubble(t, s, func(t *testing.T, c *model.Client) {
				onText := tt.onText
				if tt.stream && onText == nil {
					onText = dropText
				}
				a, _ := c.Generate(t.Context(), question(), onText)
				total := int64(0)
				for _, spent := range a.Spent {
					total += spent.Usage.TotalTokens
				}
				if want := tt.each * int64(a.Attempts); a.Attempts == 0 || a.Usage.TotalTokens != want || total != want {
					t.Errorf("%d attempts cost %d tokens, %d one by one, want %d", a.Attempts, a.Usage.TotalTokens, total, want)
				}
			})
		})
	}
}

// Who pays is asked again before each attempt that comes after one that has cost
// something, and may end the call.
func TestAnAttemptAfterOneThatHasCost(t *testing.T) {
	t.Parallel()
	errEnough := errors.New("enough")
	for _, tt := range []struct {
		name            string
		first           http.HandlerFunc
		asked, attempts int
	}{
		{"after one that was refused", answer(503, failure(503, "busy")), 0, 2},
		{"after one that broke off", answer(200, ""), 1, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := &script{handlers: []http.HandlerFunc{tt.first, answer(200, event(good("Hello.")))}}
			inBubble(t, s, func(t *testing.T, c *model.Client) {
				asked := 0
				r := question()
				r.Again = func(context.Context, int) error { asked++; return errEnough }
				a, err := c.Generate(t.Context(), r, dropText)
				if asked != tt.asked || a.Attempts != tt.attempts || errors.Is(err, errEnough) != (tt.asked > 0) {
					t.Errorf("asked %d times, %d attempts, %v", asked, a.Attempts, err)
				}
			})
		})
	}
}
