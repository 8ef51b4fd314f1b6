package e2e_test

import (
	"fmt"
	"net/http"
	"slices"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"example.com/gatehouse/internal/gcp/audit/loggingtest"
	"example.com/gatehouse/internal/geminitest"
)

// What answered is what is reported, priced, logged, stored and audited, where the
// upstream lets another model answer than it was asked for.
func TestTheModelThatAnswered(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, version, model string
		cost                 *float64 // of a million tokens each way, in dollars; nil where no price is known
		warnings             []string
	}{
		{"as asked", firstModel, firstModel, new(2.8), []string{}},
		{"a dated version of it", firstModel + "-001", firstModel, new(2.8), []string{}},
		{"not said", "", firstModel, new(2.8), []string{}},
		{"another of the table", standIn, standIn, new(1.75), []string{"model_substituted"}},
		{"one that the table does not know", "gemini-9-hyper", "gemini-9-hyper", nil, []string{"model_substituted"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			api := loggingtest.Start(t)
			s, gemini := startGemini(t, audited(api)...)
			gemini.Handle(func(geminitest.Request) geminitest.Reply {
				return geminitest.Text("Well ", "said.").WithUsage(geminitest.Usage{Prompt: 1e6, Output: 1e6}).WithModelVersion(c.version)
			})
			by := as("one")
			unary := s.invoke(t, map[string]any{"query": "hello"}, append(by, "X-Request-ID", "unary")...)
			_, streamed := streamOf(t, s.do(t, http.MethodPost, "/invoke", map[string]any{"query": "hello", "stream": true}, append(by, "X-Request-ID", "stream")...)).wantDone(t)
			for way, got := range map[string]turn{"JSON": unary, "a stream": streamed} {
				if got.Model != c.model || !slices.Equal(got.Warnings, c.warnings) || cmp.Diff(got.Usage.EstimatedCostUSD, c.cost, cmpopts.EquateApprox(0, 1e-9)) != "" {
					t.Errorf("%s: model %s, warnings %q, cost %v", way, got.Model, got.Warnings, got.Usage.EstimatedCostUSD)
				}
				stored := wantData[sessionPage](t, s.do(t, http.MethodGet, "/sessions/"+got.SessionID, nil, by...)).Turns
				if len(stored) != 1 || stored[0].Model != c.model {
					t.Errorf("%s: stored: %+v", way, stored)
				}
			}
			chat := parts(t, s.do(t, http.MethodPost, "/chat", said(chatID, "hello"), append(by, "X-Request-ID", "chat")...))
			metadata, _ := chat[len(chat)-1]["messageMetadata"].(map[string]any)
			if metadata["model"] != c.model || fmt.Sprint(metadata["warnings"]) != fmt.Sprint(c.warnings) {
				t.Errorf("the chat: %v", metadata)
			}
			s.end(t, syscall.SIGTERM)
			entries := byRequest(t, trail(t, api, s.process))
			for _, id := range []string{"unary", "stream", "chat"} {
				s.summary(t, id).wantFields(t, map[string]any{"model": c.model})
				if got := entries[id].Payload["model"]; got != c.model {
					t.Errorf("%s: the audit has the model %v", id, got)
				}
			}
		})
	}
}
