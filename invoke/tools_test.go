package invoke_test

import (
	"net/http"
	"strings"
	"testing"

	"example.com/gatehouse/internal/geminitest"
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

// What a tool gives goes to the model and into the session only within bounds.
func TestAToolThatFloods(t *testing.T) {
	t.Parallel()
	calls := func(n, size int) geminitest.Reply {
		list := make([]geminitest.FunctionCall, n)
		for i := range list {
			list[i] = geminitest.FunctionCall{Name: "floods", Args: map[string]any{"bytes": size}}
		}
		return geminitest.Calls(list...)
	}
	const nearly = tool.MaxOutputBytes - 64 // with the JSON around it
	tests := []struct {
		name   string
		reply  geminitest.Reply
		status int
		holds  string
		asked  int // calls of the model
	}{
		{"as much as a tool may give", calls(1, nearly), http.StatusOK, `"ok":true`, 2},
		{"10 MB", calls(1, 10<<20), http.StatusOK, `"ok":false`, 2},
		{"10 MB from each of a few calls", calls(4, 10<<20), http.StatusOK, `"ok":false`, 2},
		{"more in a round than a turn can hold", calls(32, nearly), http.StatusBadGateway, `"error":"model_failed"`, 1},
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
			if n := len(requests[len(requests)-1].Raw); n > tool.MaxOutputBytes+16<<10 {
				t.Errorf("the model was sent %d bytes", n)
			}
		})
	}
}
