package openai_test

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
	again, err := http.NewRequestWithContext(t.Context(), r.Method, s.url+r.URL.Path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	again.Header = r.Header
	again.Header.Set("Authorization", "Bearer "+key)
	again.Header.Del("Accept-Encoding") // the client's transport unpacks its own only
	response, err := http.DefaultClient.Do(again)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(answer)
}

// A chat of Open WebUI and one of LibreChat, with the requests by which they make titles
// and tags, is a session of three turns, of which the last has a picture.
func TestRecordedChats(t *testing.T) {
	t.Parallel()
	for page, c := range map[string]struct {
		chat  string
		calls []string
		left  []int // turns after each call
	}{
		"openwebui": {"b6e5c9f2-5f0e-4d0c-9e53-0e7c3b9a7f11", []string{"1-question", "2-title", "3-tags", "4-question", "5-picture"}, []int{1, 1, 1, 2, 3}},
		"librechat": {"c3f0a1de-7f7d-4f55-93c3-1f8a6f0b2c44", []string{"1-question", "2-title", "3-question", "4-picture"}, []int{1, 1, 2, 3}},
	} {
		t.Run(page, func(t *testing.T) {
			t.Parallel()
			s := serve(t, "FILE_TYPES=image/png")
			turns := func(key string) int {
				t.Helper()
				status, body, _ := s.do(t, http.MethodGet, "/sessions/"+c.chat, "", "Authorization", "Bearer "+key)
				if status == http.StatusNotFound {
					return 0
				}
				return len(at(body, "data.turns").([]any))
			}
			for i, call := range c.calls {
				s.gemini.Enqueue(geminitest.Text("Well."))
				status, body := s.replay(t, page+"-"+call, "ada-key")
				if status != http.StatusOK || !strings.Contains(body, "Well.") {
					t.Fatalf("%s: %d %s", call, status, body)
				}
				if got := turns("ada-key"); got != c.left[i] {
					t.Fatalf("%d turns after %s", got, call)
				}
			}
			// What Bob sends for this chat is a conversation of Bob's own, which has not begun.
			last := c.calls[len(c.calls)-1]
			s.gemini.Enqueue(geminitest.Text("Hello Bob."))
			if status, body := s.replay(t, page+"-"+last, "bob-key"); status != http.StatusOK {
				t.Fatalf("%d %s", status, body)
			}
			if a, b := turns("ada-key"), turns("bob-key"); a != 3 || b != 0 {
				t.Errorf("Ada has %d turns, Bob %d", a, b)
			}
			sent := s.gemini.Requests()
			if ours := string(sent[len(sent)-2].Raw); !strings.Contains(ours, "image/png") || strings.Contains(ours, "Hello Ada.") {
				t.Errorf("the model was sent %s", ours)
			}
		})
	}
}
