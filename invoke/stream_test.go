package invoke

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"google.golang.org/genai"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/session"
)

// An event as a client parses it.
type event struct{ name, data string }

// parse reads server-sent events as the standard says: fields by line, an event
// at each blank line, lines ended by LF, CR or both.
func parse(t testing.TB, body string) []event {
	t.Helper()
	body = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(body)
	var events []event
	var e event
	lines := bufio.NewScanner(strings.NewReader(body))
	lines.Buffer(nil, 1<<26)
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case lines.Text() == "":
			if e != (event{}) {
				events = append(events, e)
			}
			e = event{}
		case field == "": // a comment
		case field == "event" && e.name == "":
			e.name = value
		case field == "data" && e.data == "":
			e.data = value
		default:
			t.Fatalf("a line that no event of ours has: %.80q", lines.Text())
		}
	}
	if e != (event{}) {
		t.Fatalf("the last event is not ended: %+v", e)
	}
	return events
}

func newTestStream(w http.ResponseWriter) *stream {
	r := httptest.NewRequest(http.MethodPost, "/invoke", nil)
	st := newStream(w, r.WithContext(api.WithRequestID(r.Context(), "request-1")), events{}, func() {})
	st.prepare("session-1")
	return st
}

// FuzzStream: whatever the model says, the events are those that were sent.
func FuzzStream(f *testing.F) {
	f.Add("Hello.", "tool", `{"a": 1}`)
	f.Add("event: done\ndata: {}\n\n", "x\r\ny", "\x00")
	f.Add("\u2028\u2029\ufeff", ":", "data: ")
	f.Add("\xff\xfe", "", "<script>")
	f.Fuzz(func(t *testing.T, text, name, arg string) {
		w := httptest.NewRecorder()
		st := newTestStream(w)
		if err := st.delta("model", text); err != nil {
			t.Fatal(err)
		}
		if err := st.toolCall("model", "call-1", &genai.FunctionCall{Name: name, Args: map[string]any{name: arg}}); err != nil {
			t.Fatal(err)
		}
		if err := st.toolResult("call-1", session.ToolCall{Name: name, OK: true}); err != nil {
			t.Fatal(err)
		}
		st.done("done", &Response{Response: text})
		st.fail(api.Fail(api.Internal, nil)) // nothing follows the end
		events := parse(t, w.Body.String())
		var names []string
		for _, e := range events {
			names = append(names, e.name)
			if !json.Valid([]byte(e.data)) {
				t.Errorf("event %s has data that is not JSON: %.80q", e.name, e.data)
			}
		}
		if got, want := strings.Join(names, " "), "start delta tool_call tool_result done"; got != want {
			t.Fatalf("events %q, want %q", got, want)
		}
		var delta struct{ Text string }
		if err := json.Unmarshal([]byte(events[1].data), &delta); err != nil {
			t.Fatal(err)
		}
		if utf8.ValidString(text) && delta.Text != text {
			t.Errorf("the text %q arrived as %q", text, delta.Text)
		}
	})
}

func TestASilentStreamIsKeptAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := httptest.NewRecorder()
		st := newTestStream(w)
		_ = st.delta("model", "one")
		time.Sleep(2*silence + time.Second) // the bubble's time, not ours
		_ = st.delta("model", "two")
		st.close()
		time.Sleep(2 * silence)
		if n := strings.Count(w.Body.String(), ": still here\n\n"); n != 2 {
			t.Errorf("%d comments in two silences and after the end, want 2:\n%s", n, w.Body)
		}
		if events := parse(t, w.Body.String()); len(events) != 3 {
			t.Errorf("events: %+v", events)
		}
	})
}

// brokenWriter fails like a connection whose client has gone.
type brokenWriter struct{ http.ResponseWriter }

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestAClientThatDoesNotReadEndsTheTurn(t *testing.T) {
	r := httptest.NewRequest(http.MethodPost, "/invoke", nil)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	st := newStream(brokenWriter{httptest.NewRecorder()}, r, events{}, cancel)
	if err := st.delta("model", "text"); err == nil {
		t.Error("the write that failed is no error")
	}
	if ctx.Err() == nil {
		t.Error("the turn goes on")
	}
	if err := st.delta("model", "more"); err == nil {
		t.Error("the stream is written to again")
	}
}

func TestHistory(t *testing.T) {
	turn := func(number, size int) session.Record {
		contents := fmt.Sprintf(`[{"role":"user","parts":[{"text":"%d"}]},{"role":"model","parts":[{"text":"%s"}]}]`, number, strings.Repeat("x", size))
		r, err := session.Turn{ID: "id", Contents: json.RawMessage(contents)}.Record(number)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	s := &session.Session{Meta: session.Meta{Turns: 4}, Recent: []session.Record{turn(2, 10_000), turn(3, 4000), turn(4, 4000)}}
	cases := []struct {
		name   string
		tokens int
		first  string // the oldest question of the prompt
		turns  int
		cut    bool
	}{
		{"no room", 0, "", 0, true},
		{"room for less than the last turn", 500, "", 0, true},
		{"room for the last turn", 1500, "4", 1, true},
		{"room for two", 3000, "3", 2, true},
		{"room for all that is at hand, one is archived", 100_000, "2", 3, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			turns, cut, err := history(s, c.tokens)
			if err != nil {
				t.Fatal(err)
			}
			if len(turns) != c.turns || cut != c.cut {
				t.Fatalf("%d turns, cut %v; want %d turns, cut %v", len(turns), cut, c.turns, c.cut)
			}
			if first := `[{"role":"user","parts":[{"text":"` + c.first + `"}]},`; c.turns > 0 && !strings.HasPrefix(string(turns[0]), first) {
				t.Errorf("the prompt begins with %.80s, want %s", turns[0], first)
			}
		})
	}
	s.Turns, s.Recent = 3, []session.Record{turn(1, 10), turn(2, 10), turn(3, 10)}
	if turns, cut, err := history(s, 1000); err != nil || cut || len(turns) != 3 {
		t.Errorf("a session that fits: %d turns, cut %v, %v", len(turns), cut, err)
	}
}
