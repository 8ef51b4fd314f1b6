package openai

import (
	"bytes"
	"encoding/json"
	"runtime"
	"strings"
	"testing"

	"example.com/gatehouse/invoke"
	"example.com/gatehouse/session"
)

// A run that is taken over begins its last step again. OpenAI's clients cannot take text back, so
// their stream ends with an error, and not as a whole answer does.
func TestTextThatIsVoid(t *testing.T) {
	t.Parallel()
	const run = "0123456789abcdef.fedcba9876543210"
	text := func(text string, attempt int) invoke.Event {
		return invoke.Event{
			Kind: session.KindText, Run: run, At: invoke.Position{Attempt: attempt, Offset: len(text)}, Part: session.Part{Kind: session.KindText, Text: text},
		}
	}
	for name, d := range map[string]invoke.Dialect{"a completion": &completion{}, "a response": &response{fields: object{}, output: []object{}}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var b bytes.Buffer
			for _, e := range []invoke.Event{
				{Kind: invoke.KindStart, Run: run, Start: &invoke.Start{Model: "m"}},
				text("The first", 0),
				{Kind: invoke.KindReset, Run: run, At: invoke.Position{Attempt: 1}, Reset: session.Reset{Step: 1}},
				text("The second", 1),
				{Kind: invoke.KindDone, Run: run, Response: &invoke.Response{Response: "The second", FinishReason: "STOP"}},
			} {
				if err := d.Event(&b, e); err != nil {
					t.Fatalf("%s: %v", e.Kind, err)
				}
			}
			sent := b.String()
			if !strings.Contains(sent, "The first") || strings.Count(sent, `"code":"shutting_down"`) != 1 {
				t.Errorf("no error: %s", sent)
			}
			for _, after := range []string{"The second", "[DONE]", "response.completed", `"finish_reason":"stop"`} {
				if strings.Contains(sent, after) {
					t.Errorf("%s after the error: %s", after, sent)
				}
			}
		})
	}
}

// Showing an answer costs what it has, and not the square of its parts.
func TestAnAnswerOfManyParts(t *testing.T) {
	const parts, part = 20_000, "0123456789"
	s := &response{fields: object{}, output: []object{}}
	s.begin("0123456789abcdef.fedcba9876543210", "m")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range parts {
		s.show(session.Part{Kind: session.KindText, Text: part})
	}
	s.close()
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 1000*parts*uint64(len(part)) {
		t.Errorf("%d bytes of memory for %d parts", used, parts)
	}
	if encoded, err := json.Marshal(s.output); err != nil || !strings.Contains(string(encoded), `"text":"`+strings.Repeat(part, parts)+`"`) {
		t.Errorf("%d bytes, %v", len(encoded), err)
	}
}
