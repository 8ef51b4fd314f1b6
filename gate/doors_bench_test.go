package gate_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// What a door adds to a turn of a new session, one at a time: the medians of seven
// interleaved rounds, and their median. The model is the stand-in within the process, so
// that what is left is the gate and the door.
func BenchmarkDoors(b *testing.B) {
	const rounds, calls = 7, 200
	h := allDoors(b)
	// The id is a session's of 16 characters, or a message's, and used once.
	doors := []struct{ name, path, body string }{
		{"invoke", "/invoke", `{"query":"Hello"}`},
		{"invoke-stream", "/invoke", `{"query":"Hello","stream":true}`},
		{"chat", "/chat", `{"id":"ID","messages":[{"role":"user","parts":[{"type":"text","text":"Hello"}]}]}`},
		{"responses", "/v1/responses", `{"input":"Hello"}`},
		{"completions", "/v1/chat/completions", `{"messages":[{"role":"user","content":"Hello"}]}`},
		{"mcp", "/mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"ask","arguments":{"query":"Hello"}}}`},
		{"a2a", "/a2a", `{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{"message":{"messageId":"ID","role":"ROLE_USER","parts":[{"text":"Hello"}]}}}`},
	}
	number := 0
	ask := func(path, body string) time.Duration {
		number++
		r := httptest.NewRequestWithContext(b.Context(), http.MethodPost, "http://127.0.0.1"+path, strings.NewReader(strings.Replace(body, "ID", fmt.Sprintf("%016d", number), 1)))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Accept", "application/json, text/event-stream")
		if path == "/invoke" && !strings.Contains(body, "stream") {
			r.Header.Set("Accept", "application/json")
		}
		w := httptest.NewRecorder()
		began := time.Now()
		h.ServeHTTP(w, r)
		took := time.Since(began)
		if text := w.Body.String(); w.Code != http.StatusOK || strings.Contains(text, `"isError":true`) || strings.Contains(text, `"error":{`) {
			b.Fatalf("%s: %d %s", path, w.Code, text)
		}
		return took
	}
	medians := make([][]time.Duration, len(doors))
	for b.Loop() {
		clear(medians)
		for round := range rounds + 1 { // the first one warms up
			for i, door := range doors {
				taken := make([]time.Duration, calls)
				for n := range taken {
					taken[n] = ask(door.path, door.body)
				}
				if round > 0 {
					medians[i] = append(medians[i], median(taken))
				}
			}
		}
	}
	for i, door := range doors {
		b.ReportMetric(float64(median(medians[i]).Nanoseconds())/1e6, door.name+"-ms")
	}
	b.ReportMetric(0, "ns/op")
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}
