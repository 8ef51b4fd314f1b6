package invoke_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/session"
)

// An answer that is longer than a turn can hold ends where the turn does, for everybody: who
// watches it here or elsewhere, who reads it as JSON, who comes later, and the model that is
// asked next.
func TestAnAnswerThatIsLongerThanATurn(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, unit string
		pieces     int // of 15 KiB
	}{
		{"plain text", "word ", 40},
		{"plain text that would fit without what is spared", "word ", 29},
		{"text that JSON escapes", "<\n\"\u2028", 40},
		{"text of several bytes a character", "🦀é", 40},
	} {
		for _, calls := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, after a call: %t", tt.name, calls), func(t *testing.T) {
				t.Parallel()
				gemini := geminitest.Start(t)
				a, b, _ := instances(t, gemini)
				var pieces []string
				for range tt.pieces {
					pieces = append(pieces, strings.Repeat(tt.unit, (15<<10)/len(tt.unit)))
				}
				whole := strings.Join(pieces, "")
				before := ""
				answer := func(gate chan struct{}) {
					if calls {
						before = "Let me see.\n\n"
						gemini.Enqueue(geminitest.Parts(members{"text": "Let me see."}, members{"functionCall": members{"name": "floods", "args": members{"bytes": 1}}}))
					}
					reply := geminitest.Text(pieces...)
					if gate != nil {
						reply = reply.WithGate(20, gate)
					}
					gemini.Enqueue(reply)
				}
				gate := make(chan struct{})
				answer(gate)
				own := a.watch(t, http.MethodPost, "/invoke", streamed)
				start := own.until(t, "start")
				run := runID(t, start[0])
				first := own.until(t, "delta")
				a.journaled(t, run, tt.unit)
				elsewhere := b.watch(t, http.MethodGet, "/runs/"+run+"/events", "")
				close(gate)
				events := append(start, append(first, own.until(t, "done")...)...)
				if end := events[len(events)-1]; !strings.Contains(end.data, `"warnings":["response_truncated"]`) {
					t.Errorf("the stream ends with %.300s", end.data)
				}
				text, finish := stored(t, b, run)
				if finish != "STOP" || !strings.HasPrefix(before+whole, text) || len(text) < len(before)+50<<10 || len(text) >= len(whole) {
					t.Errorf("stored are %d bytes of %d, %s", len(text), len(whole), finish)
				}
				for name, got := range map[string]string{
					"its client":          shows(t, events...),
					"a watcher elsewhere": shows(t, elsewhere.until(t, "done")...),
					"who comes later":     shows(t, b.watch(t, http.MethodGet, "/runs/"+run+"/events", "").until(t, "done")...),
				} {
					if got != text {
						t.Errorf("%s has %d bytes, and %d are stored", name, len(got), len(text))
					}
				}
				answer(nil)
				_, body := ask(t, a.Server, "/invoke", `{"query": "hello"}`)
				got := decodeAnswer(t, body).Data
				if text, _ := stored(t, b, got.RunID); got.Response != text || len(got.Warnings) != 1 {
					t.Errorf("JSON has %d bytes and %v, and %d are stored", len(got.Response), got.Warnings, len(text))
				}
				id, _, _ := session.SplitRunID(run)
				gemini.Enqueue(geminitest.Text("So it is."))
				ask(t, a.Server, "/invoke", `{"query": "And then?", "session_id": "`+id+`"}`)
				requests := gemini.Requests()
				raw, _ := json.Marshal(requests[len(requests)-1].Contents())
				var contents []struct{ Parts []struct{ Text string } }
				if err := json.Unmarshal(raw, &contents); err != nil {
					t.Fatal(err)
				}
				for _, c := range contents {
					for _, p := range c.Parts {
						if len(p.Text) > len(text) || strings.Contains(p.Text, tt.unit) && !strings.HasPrefix(whole, p.Text) && !strings.HasPrefix(before+whole, p.Text) {
							t.Errorf("the model is told %d bytes", len(p.Text))
						}
					}
				}
			})
		}
	}
}

// Of an answer that a turn cannot hold for what it has beside its text, the text is kept.
func TestAnAnswerWithALargeSignature(t *testing.T) {
	t.Parallel()
	gemini, store := geminitest.Start(t), newMemory()
	s := asked(t, store, gemini, agent.Agent{})
	gemini.Enqueue(geminitest.Parts(members{"text": "Well.", "thoughtSignature": strings.Repeat("QUJD", session.MaxTurnBytes/4)}))
	response, record := firstTurn(t, s, store)
	if response.Response != "Well." || len(record.Data) > 4<<10 || !strings.Contains(string(record.Data), `"Well."`) {
		t.Errorf("%.200v, %.200v", response, record)
	}
}
