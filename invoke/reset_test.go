package invoke_test

import (
	"net/http"
	"strings"
	"testing"

	"google.golang.org/genai"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/geminitest"
)

// An attempt that failed after its text was shown is made again: watchers drop what it
// has shown, wherever they are.
func TestANewAttemptAfterText(t *testing.T) {
	t.Parallel()
	call := geminitest.Parts(members{"text": "Let me see."}, members{"functionCall": members{"name": "floods", "args": members{"bytes": 1}}})
	broken := geminitest.Text("void ", "text")
	for _, tt := range []struct {
		name    string
		replies []geminitest.Reply
		want    string
		resets  []string // the data of each
	}{
		{"a connection that breaks", []geminitest.Reply{broken.CutAfter(1), geminitest.Text("It is one.")}, "It is one.", []string{`{"step":1,"part":0}`}},
		{"an error in the stream", []geminitest.Reply{broken.FailAfter(503, "busy"), geminitest.Text("It is one.")}, "It is one.", []string{`{"step":1,"part":0}`}},
		{"a stream without an end", []geminitest.Reply{broken.Unfinished(), geminitest.Text("It is one.")}, "It is one.", []string{`{"step":1,"part":0}`}},
		{"twice", []geminitest.Reply{broken.CutAfter(1), broken.CutAfter(2), geminitest.Text("It is one.")}, "It is one.", []string{`{"step":1,"part":0}`, `{"step":1,"part":0}`}},
		{"in a later step", []geminitest.Reply{call, broken.CutAfter(2), geminitest.Text("It is one.")}, "Let me see.\n\nIt is one.", []string{`{"step":2,"part":3}`}},
		{"a call that was not heard to its end", []geminitest.Reply{geminitest.Parts(members{"text": "Let me."}, members{"text": "Wait."}).CutAfter(1), call, geminitest.Text("It is one.")},
			"Let me see.\n\nIt is one.", []string{`{"step":1,"part":0}`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			gemini := geminitest.Start(t)
			a, b, _ := instances(t, gemini)
			gemini.Enqueue(tt.replies...)
			own := a.watch(t, http.MethodPost, "/invoke", streamed).until(t, "")
			if got := shows(t, own...); got != tt.want {
				t.Errorf("the client's stream leaves %q", got)
			}
			var resets []string
			void := ""
			for _, e := range own {
				if e.name == "reset" {
					resets = append(resets, e.data)
				} else if e.name == "delta" && len(resets) == 0 {
					void = e.id
				}
			}
			if strings.Join(resets, " ") != strings.Join(tt.resets, " ") {
				t.Errorf("resets %q, want %q", resets, tt.resets)
			}
			if last := own[len(own)-1]; last.name != "done" {
				t.Errorf("the stream ends with %+v", last)
			}
			run := runID(t, own[0])
			if got, finish := stored(t, b, run); got != tt.want || finish != "STOP" {
				t.Errorf("stored: %q, %s", got, finish)
			}
			again := b.watch(t, http.MethodGet, "/runs/"+run+"/events", "").until(t, "done")
			if got := shows(t, again...); got != tt.want {
				t.Errorf("shown again: %q", got)
			}
			// A watcher that left before the reset is shown it, and the step from its start.
			rest := b.watch(t, http.MethodGet, "/runs/"+run+"/events", "", "Last-Event-ID", void).until(t, "done")
			var before []sent
			for _, e := range own {
				before = append(before, e)
				if e.id == void && e.name == "delta" {
					break
				}
			}
			if got := shows(t, append(before, rest...)...); got != tt.want || rest[0].name != "reset" {
				t.Errorf("resumed with %s: %q", rest[0].name, got)
			}
		})
	}
}

// Where no attempt answers, what the last one has shown stays, and an error follows.
func TestAttemptsThatAllFail(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	a, _, _ := instances(t, gemini)
	broken := geminitest.Text("one ", "two").CutAfter(1)
	gemini.Enqueue(broken, broken, broken, geminitest.Text("never"))
	events := a.watch(t, http.MethodPost, "/invoke", streamed).until(t, "")
	if got := shows(t, events[:len(events)-1]...); got != "one " {
		t.Errorf("it shows %q", got)
	}
	if last := events[len(events)-1]; last.name != "error" || !strings.Contains(last.data, "model_unavailable") {
		t.Errorf("it ends with %+v", last)
	}
	if n := len(gemini.Requests()); n != 3 {
		t.Errorf("%d attempts", n)
	}
}

// Reasoning that an attempt has shown is shown once when it is made again.
func TestANewAttemptAfterReasoning(t *testing.T) {
	t.Parallel()
	a := agent.Agent{Name: "agent", MaxTokens: 1000, Model: &genai.GenerateContentConfig{ThinkingConfig: &genai.ThinkingConfig{IncludeThoughts: true}}}
	for _, tt := range []struct {
		name, path, body string
		want             []string
	}{
		{"in a stream", "/invoke", streamed, []string{"start", "reasoning", "reset", "reasoning", "delta", "done"}},
		// A page cannot take it back, and shows both pieces until it is reloaded.
		{"on a page", "/chat", `{"id": "chat-chat-chat-chat", "messages": [{"id": "1", "role": "user", "parts": [{"type": "text", "text": "hello"}]}]}`,
			[]string{"start", "reasoning-start", "reasoning-delta", "reasoning-end", "reasoning-start", "reasoning-delta", "reasoning-end", "text-start", "text-delta", "text-end", "finish"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			gemini := geminitest.Start(t)
			server, _ := serveAgent(t, newMemory(), gemini, a)
			gemini.Enqueue(geminitest.Text("never").WithThought("First.").CutAfter(1), geminitest.Text("It is one.").WithThought("Second."))
			_, body := ask(t, server, tt.path, tt.body)
			names, data := eventsOf(t, body)
			if strings.Join(names, " ") != strings.Join(tt.want, " ") {
				t.Errorf("%q, want %q", names, tt.want)
			}
			id, _ := data[0]["session_id"].(string)
			if tt.path == "/chat" {
				id = "chat-chat-chat-chat"
			}
			turn := readData(t, server, "/sessions/"+id)["turns"].([]any)[0].(members)
			parts := turn["parts"].([]any)
			if len(parts) != 2 || parts[0].(members)["text"] != "Second." {
				t.Errorf("stored: %v", parts)
			}
		})
	}
}
