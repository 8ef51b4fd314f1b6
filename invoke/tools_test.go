package invoke_test

import (
	"net/http"
	"strings"
	"testing"

	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/session"
	"example.com/gatehouse/tool"
)

type (
	flood struct {
		Bytes int `json:"bytes"`
	}
	flooded struct {
		Text string `json:"text"`
	}
)

// A tool's output goes to the model and into the session only within bounds.
func TestAToolThatFloods(t *testing.T) {
	t.Parallel()
	calls := func(n, size int) geminitest.Reply {
		list := make([]geminitest.FunctionCall, n)
		for i := range list {
			list[i] = geminitest.FunctionCall{Name: "floods", Args: map[string]any{"bytes": size}}
		}
		return geminitest.Calls(list...)
	}
	const nearly = tool.MaxOutputBytes - 64 // leaves room for the JSON around it
	tests := []struct {
		name   string
		reply  geminitest.Reply
		status int
		holds  string
		asked  int // model calls
	}{
		{"as much as a tool may return", calls(1, nearly), http.StatusOK, `"ok":true`, 2},
		{"10 MB", calls(1, 10<<20), http.StatusOK, `"ok":false`, 2},
		{"10 MB from each of a few calls", calls(4, 10<<20), http.StatusOK, `"ok":false`, 2},
		{"eight of 60 kB", calls(8, 60_000), http.StatusOK, `"ok":false`, 2},
		{"more in a round than a turn can hold", calls(32, nearly), http.StatusOK, `"ok":false`, 2},
		{"more calls than a turn can hold", calls(3000, nearly), http.StatusOK, `"tool_rounds_exhausted"`, 2},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			gemini := geminitest.Start(t)
			gemini.Enqueue(test.reply, geminitest.Text("That was much."))
			server, _ := serve(t, newMemory(), gemini)
			status, answer := ask(t, server, "/invoke", `{"query": "hello"}`)
			if status != test.status || !strings.Contains(answer, test.holds) || strings.Contains(answer, "xxxx") {
				t.Errorf("status %d: %.1000s", status, answer)
			}
			requests := gemini.Requests()
			if len(requests) != test.asked {
				t.Fatalf("the model was asked %d times, want %d", len(requests), test.asked)
			}
			last := requests[len(requests)-1]
			if n := len(last.Raw); n > session.MaxTurnBytes {
				t.Errorf("the model was sent %d bytes", n)
			}
			// Each call has a response: an output, or an error that it is too long.
			var called, answered, tooLong int
			for _, content := range last.Contents() {
				for _, p := range content["parts"].([]any) {
					if _, ok := p.(map[string]any)["functionCall"]; ok {
						called++
					}
					if response, ok := p.(map[string]any)["functionResponse"].(map[string]any); ok {
						answered++
						if text, _ := response["response"].(map[string]any)["error"].(string); strings.Contains(text, "more than the ") {
							tooLong++
						}
					}
				}
			}
			if called != answered || strings.Contains(test.holds, "false") != (tooLong > 0) {
				t.Errorf("%d calls, %d responses, %d told to be too long", called, answered, tooLong)
			}
		})
	}
}
