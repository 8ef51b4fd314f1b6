package invoke

import (
	"bufio"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

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
		case field == "id" && e.name != "" && value != "":
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

const testRun = "0123456789abcdef.fedcba9876543210"

func newTestStream(w http.ResponseWriter) *stream {
	return newStream(w, httptest.NewRequest(http.MethodPost, "/invoke", nil), events{})
}

// showAll shows what add adds to a run's output, and its end.
func showAll(t testing.TB, st *stream, add func(*output)) {
	t.Helper()
	out := &output{}
	out.begin(Start{RequestID: "request-1", RunID: testRun, SessionID: "0123456789abcdef", Turn: 1, Model: "model"})
	add(out)
	out.end(outcome{})
	if err := out.each(t.Context(), &Position{}, new(bool), st.show); err != nil {
		t.Fatal(err)
	}
	response := &Response{}
	_ = st.show(Event{Kind: KindDone, Run: testRun, At: out.last(), Response: response, Envelope: api.Success(t.Context(), invoked, response)})
	st.close()
	_ = st.show(Event{Kind: KindError}) // nothing may follow the end
}

// delta is an event of text.
func delta(text string) Event {
	return Event{Kind: session.KindText, Run: testRun, Part: session.Part{Kind: session.KindText, Text: text}}
}

// FuzzStream checks that the events are those that were sent, for any text of a model.
func FuzzStream(f *testing.F) {
	f.Add("Hello.", "tool", `{"a": 1}`)
	f.Add("event: done\ndata: {}\n\n", "x\r\ny", "\x00")
	f.Add("\u2028\u2029\ufeff", ":", "data: ")
	f.Add("\xff\xfe", "", "<script>")
	f.Fuzz(func(t *testing.T, text, name, arg string) {
		w := httptest.NewRecorder()
		showAll(t, newTestStream(w), func(out *output) {
			out.appendText(session.KindText, text)
			out.add(session.Part{Kind: session.KindToolCall, ID: "call-1", Name: name, Args: map[string]any{name: arg}})
			out.add(session.Part{Kind: session.KindToolResult, ID: "call-1", Name: name, OK: true})
		})
		events := parse(t, w.Body.String())
		var names []string
		for _, e := range events {
			names = append(names, e.name)
			if !json.Valid([]byte(e.data)) {
				t.Errorf("event %s has data that is not JSON: %.80q", e.name, e.data)
			}
		}
		want := "start delta tool_call tool_result done"
		if text == "" {
			want = "start tool_call tool_result done"
		}
		if got := strings.Join(names, " "); got != want {
			t.Fatalf("events %q, want %q", got, want)
		}
		if text == "" {
			return
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
		if st.started() {
			t.Error("it has started before its first event")
		}
		_ = st.show(delta("one"))
		if !st.started() {
			t.Error("it has not started")
		}
		time.Sleep(2*keepAlive + time.Second) // synctest time
		_ = st.show(delta("two"))
		st.close()
		time.Sleep(2 * keepAlive)
		if n := strings.Count(w.Body.String(), ": still here\n\n"); n != 2 {
			t.Errorf("%d comments in two silences and after the end, want 2:\n%s", n, w.Body)
		}
		if events := parse(t, w.Body.String()); len(events) != 2 {
			t.Errorf("events: %+v", events)
		}
	})
}

// brokenWriter fails like the connection of a client that disconnected.
type brokenWriter struct{ http.ResponseWriter }

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestAClientThatDoesNotReadIsAnError(t *testing.T) {
	st := newTestStream(brokenWriter{httptest.NewRecorder()})
	defer st.close()
	for range 2 { // the second is not written
		if err := st.show(delta("text")); err == nil {
			t.Error("the write that failed is no error")
		}
	}
}
