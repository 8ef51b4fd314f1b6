package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"example.com/gatehouse/internal/geminitest"
)

// exported reads the lines of an export.
func exported(t *testing.T, s *service, headers ...string) (kinds []string, lines []map[string]any) {
	t.Helper()
	a := s.do(t, http.MethodGet, "/export", nil, headers...)
	if a.Status != http.StatusOK || a.Header.Get("Content-Type") != "application/jsonl" {
		t.Fatalf("%d %v: %s", a.Status, a.Header, a.Body)
	}
	for text := range strings.Lines(string(a.Body)) {
		var line map[string]any
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		kinds, lines = append(kinds, line["kind"].(string)), append(lines, line)
	}
	return kinds, lines
}

func TestAnExportHasEverythingOfAnOwner(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, s *service, gemini *geminitest.Server) {
		const turns = 23 // more than a page
		var id string
		for i := range turns {
			gemini.Enqueue(geminitest.Text(fmt.Sprint("Answer ", i)))
			body := map[string]any{"query": fmt.Sprint("Question ", i)}
			if id != "" {
				body["session_id"] = id
			}
			id = s.invoke(t, body).SessionID
		}
		gemini.Enqueue(geminitest.Text("Other."))
		s.invoke(t, map[string]any{"query": "Bob's question"}, "X-End-User", "bob")
		if a := s.do(t, http.MethodPut, "/sessions/"+id+"/turns/2/feedback", map[string]any{"score": 1, "comment": "good"}); a.Status != http.StatusNoContent {
			t.Fatalf("feedback: %d %s", a.Status, a.Body)
		}

		kinds, lines := exported(t, s)
		want := slices.Concat([]string{"session", "turn", "turn", "feedback"}, slices.Repeat([]string{"turn"}, turns-2), []string{"usage", "end"})
		if !slices.Equal(kinds, want) {
			t.Errorf("kinds: %v", kinds)
		}
		if f := lines[3]; f["comment"] != "good" || f["score"] != 1.0 || f["turn"] != 2.0 || f["session_id"] != id {
			t.Errorf("feedback: %v", f)
		}
		if last := lines[len(lines)-3]; last["query"] != fmt.Sprint("Question ", turns-1) || last["response"] != fmt.Sprint("Answer ", turns-1) {
			t.Errorf("the last turn: %v", last)
		}
		if kinds, lines := exported(t, s, "X-End-User", "bob"); !slices.Equal(kinds, []string{"session", "turn", "usage", "end"}) || lines[1]["query"] != "Bob's question" {
			t.Errorf("bob's: %v", lines)
		}
		if a := s.do(t, http.MethodDelete, "/sessions", nil); a.Status != http.StatusNoContent {
			t.Fatalf("deleting all: %d", a.Status)
		}
		if kinds, _ := exported(t, s); !slices.Equal(kinds, []string{"usage", "end"}) {
			t.Errorf("after deleting all: %v", kinds)
		}
	})
}
