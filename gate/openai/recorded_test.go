package openai_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/doortest"
	"example.com/gatehouse/internal/geminitest"
)

// replay sends a recorded request with a key, and returns the response's body.
func (s *service) replay(t *testing.T, name, key string) (int, string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata/recorded", name+".http"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	again, err := http.NewRequestWithContext(t.Context(), r.Method, s.URL+r.URL.Path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	again.Header = r.Header
	again.Header.Set("Authorization", "Bearer "+key)
	again.Header.Del("Accept-Encoding") // the client's transport unpacks its own only
	response, answer := doortest.Do(t, again)
	return response.StatusCode, answer
}

// A chat of Open WebUI and one of LibreChat, with the requests by which they make titles,
// tags and further questions, is a session of three turns, of which the last has a picture.
// Both have the first title made beside the first question; here it comes first.
func TestRecordedChats(t *testing.T) {
	t.Parallel()
	for page, c := range map[string]struct {
		chat  string
		calls []string
		left  []int // turns after each call
	}{
		"openwebui": {"e5ac334f-073c-4118-9570-1f9d3a81e247", []string{"1-title", "2-question", "3-follow-ups", "4-tags", "5-question", "6-picture"}, []int{0, 1, 1, 1, 2, 3}},
		"librechat": {"c3f0a1de-7f7d-4f55-93c3-1f8a6f0b2c44", []string{"1-title", "2-question", "3-title", "4-question", "5-picture"}, []int{0, 1, 1, 2, 3}},
	} {
		t.Run(page, func(t *testing.T) {
			t.Parallel()
			s := serveAgent(t, func(ctx context.Context, env agent.Env) (agent.Agent, error) {
				a, err := newAgent(ctx, env)
				a.Name = "conversation-agent"
				return a, err
			}, []string{"FILE_TYPES=image/png"})
			turns := func(key string) int {
				t.Helper()
				status, body, _ := s.do(t, http.MethodGet, "/sessions/"+c.chat, "", "Authorization", "Bearer "+key)
				if status == http.StatusNotFound {
					return 0
				}
				return len(at(body, "data.turns").([]any))
			}
			for i, call := range c.calls {
				s.Gemini.Enqueue(geminitest.Text("Well."))
				status, body := s.replay(t, page+"-"+call, doortest.Key("ada"))
				if status != http.StatusOK || !strings.Contains(body, "Well.") {
					t.Fatalf("%s: %d %s", call, status, body)
				}
				if got := turns(doortest.Key("ada")); got != c.left[i] {
					t.Fatalf("%d turns after %s", got, call)
				}
			}
			// What Bob sends for this chat is a conversation of Bob's own, which has not begun.
			last := c.calls[len(c.calls)-1]
			s.Gemini.Enqueue(geminitest.Text("Hello Bob."))
			if status, body := s.replay(t, page+"-"+last, doortest.Key("bob")); status != http.StatusOK {
				t.Fatalf("%d %s", status, body)
			}
			if a, b := turns(doortest.Key("ada")), turns(doortest.Key("bob")); a != 3 || b != 0 {
				t.Errorf("Ada has %d turns, Bob %d", a, b)
			}
			sent := s.Gemini.Requests()
			if ours := string(sent[len(sent)-2].Raw); !strings.Contains(ours, "image/png") || strings.Contains(ours, "get_current_timestamp") {
				t.Errorf("the model was sent %s", ours)
			}
		})
	}
}
