package invoke

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
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

// parse reads server-sent events as the standard defines: fields by line, an event at
// each blank line, lines ended by LF, CR or both.
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

// FuzzStream checks that the events are those that were sent, for any text of a model.
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
		st.fail(api.Fail(api.Internal, nil)) // nothing may follow the end
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
		time.Sleep(2*keepAlive + time.Second) // synctest time
		_ = st.delta("model", "two")
		st.close()
		time.Sleep(2 * keepAlive)
		if n := strings.Count(w.Body.String(), ": still here\n\n"); n != 2 {
			t.Errorf("%d comments in two silences and after the end, want 2:\n%s", n, w.Body)
		}
		if events := parse(t, w.Body.String()); len(events) != 3 {
			t.Errorf("events: %+v", events)
		}
	})
}

// brokenWriter fails like the connection of a client that disconnected.
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
