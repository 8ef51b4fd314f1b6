package e2e_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"mime"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
)

// An envelope is what every JSON answer is.
type envelope struct {
	Success   bool           `json:"success"`
	Message   string         `json:"message"`
	Data      jsontext.Value `json:"data"`
	Error     *string        `json:"error"`
	Details   []detail       `json:"details,omitzero"`
	Retry     jsontext.Value `json:"retry_after_seconds,omitzero"` // of an error an integer or null
	RequestID string         `json:"request_id"`
	Timestamp string         `json:"timestamp"`
}

type detail struct {
	Field string `json:"field"`
	Issue string `json:"issue"`
}

// A turn is the data of an answer to POST /invoke.
type turn struct {
	Response     string     `json:"response"`
	Output       any        `json:"output"`
	RunID        string     `json:"run_id"`
	SessionID    string     `json:"session_id"`
	Turn         int        `json:"turn"`
	Model        string     `json:"model"`
	FinishReason string     `json:"finish_reason"`
	ToolCalls    []toolCall `json:"tool_calls"`
	Sources      []any      `json:"sources"`
	Files        []any      `json:"files"`
	Pending      []any      `json:"pending"`
	Usage        usage      `json:"usage"`
	Timing       timing     `json:"timing"`
	Warnings     []string   `json:"warnings"`
}

// A timing has the phases that took a millisecond.
type timing struct {
	Load   int `json:"load_ms,omitzero"`
	Model  int `json:"model_ms,omitzero"`
	Tools  int `json:"tools_ms,omitzero"`
	Commit int `json:"commit_ms,omitzero"` // only of a turn that this call has stored
}

type toolCall struct {
	Name       string `json:"name"`
	OK         bool   `json:"ok"`
	DurationMS int    `json:"duration_ms"`
}

type usage struct {
	PromptTokens     int      `json:"prompt_tokens"`
	CachedTokens     int      `json:"cached_tokens"`
	ThoughtTokens    int      `json:"thought_tokens"`
	CompletionTokens int      `json:"completion_tokens"`
	TotalTokens      int      `json:"total_tokens"`
	Source           string   `json:"source"`
	EstimatedCostUSD *float64 `json:"estimated_cost_usd"`
}

// stored is the turn as a replay and the session show it.
func (t turn) stored() turn {
	t.Timing.Commit = 0
	return t
}

// tools are the names of the tools that were called, in order.
func (t turn) tools() []string {
	names := make([]string, len(t.ToolCalls))
	for i, call := range t.ToolCalls {
		names[i] = call.Name
	}
	return names
}

// A session is one of a list of sessions.
type session struct {
	SessionID   string `json:"session_id"`
	CreatedAt   string `json:"created_at"`
	UpdatedAt   string `json:"updated_at"`
	ExpiresAt   string `json:"expires_at"`
	Turns       int    `json:"turns"`
	TotalTokens int    `json:"total_tokens"`
	Title       string `json:"title"`
}

type sessionList struct {
	Sessions   []session `json:"sessions"`
	NextCursor *string   `json:"next_cursor"`
}

// A sessionPage is a session with some of its turns.
type sessionPage struct {
	Session    session      `json:"session"`
	Turns      []storedTurn `json:"turns"`
	NextCursor *string      `json:"next_cursor"`
}

type storedTurn struct {
	Turn         int              `json:"turn"`
	RunID        string           `json:"run_id"`
	Query        string           `json:"query"`
	Files        []map[string]any `json:"files"`
	Response     string           `json:"response"`
	Parts        []any            `json:"parts"`
	ToolCalls    []toolCall       `json:"tool_calls"`
	Sources      []any            `json:"sources"`
	Output       any              `json:"output"`
	Usage        usage            `json:"usage"`
	Model        string           `json:"model"`
	FinishReason string           `json:"finish_reason"`
	Warnings     []string         `json:"warnings"`
	Pending      []any            `json:"pending"`
	AgentDigest  string           `json:"agent_digest"`
	Feedback     any              `json:"feedback"`
	RequestID    string           `json:"request_id"`
	CreatedAt    string           `json:"created_at"`
	Timing       timing           `json:"timing"`
}

// strict decodes a value that has all fields of T and no other, each once.
func strict[T any](t *testing.T, text []byte) T {
	t.Helper()
	var value T
	if err := json.Unmarshal(text, &value, json.RejectUnknownMembers(true)); err != nil {
		t.Fatalf("not the form of the contract: %v\n%s", err, text)
	}
	again, err := json.Marshal(value, json.FormatNilSliceAsNull(true))
	if err != nil {
		t.Fatal(err)
	}
	var got, want any
	if err := errors.Join(json.Unmarshal(text, &got), json.Unmarshal(again, &want)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Fatalf("a field is missing or has another form (-got +want): %s", diff)
	}
	return value
}

var timestamp = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`)

// parse checks what holds for every envelope.
func parse(t *testing.T, text []byte, requestID string) envelope {
	t.Helper()
	e := strict[envelope](t, text)
	if e.RequestID == "" || e.RequestID != requestID {
		t.Errorf("request_id %q, X-Request-ID %q", e.RequestID, requestID)
	}
	at, err := time.Parse(time.RFC3339, e.Timestamp)
	if err != nil || !timestamp.MatchString(e.Timestamp) {
		t.Errorf("timestamp %q is not UTC with milliseconds", e.Timestamp)
	} else if age := time.Since(at); age < -time.Minute || age > time.Hour {
		t.Errorf("timestamp %q is not of now", e.Timestamp)
	}
	if e.Message == "" {
		t.Error("no message")
	}
	if e.Success != (e.Error == nil) {
		t.Errorf("success %v, error %v", e.Success, e.Error)
	}
	if e.Success && e.Details != nil {
		t.Errorf("details of a success: %v", e.Details)
	}
	if e.Success != (e.Retry == nil) {
		t.Errorf("success %v, retry_after_seconds %s", e.Success, e.Retry)
	}
	for _, d := range e.Details {
		if d.Issue == "" {
			t.Errorf("a detail without an issue: %+v", d)
		}
	}
	return e
}

// checkHeaders checks the headers that every answer has.
func checkHeaders(t *testing.T, header http.Header) {
	t.Helper()
	if id := header.Get("X-Request-ID"); !requestID.MatchString(id) {
		t.Errorf("X-Request-ID: %q", id)
	}
	if got := header.Values("X-Content-Type-Options"); !slices.Equal(got, []string{"nosniff"}) {
		t.Errorf("X-Content-Type-Options: %q", got)
	}
	if got := header.Get("Cache-Control"); !strings.Contains(got, "no-store") {
		t.Errorf("Cache-Control: %q", got)
	}
}

var requestID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,128}$`)

// wantEnvelope checks an answer that is an envelope.
func wantEnvelope(t *testing.T, a answer) envelope {
	t.Helper()
	checkHeaders(t, a.Header)
	media, _, err := mime.ParseMediaType(a.Header.Get("Content-Type"))
	if err != nil || media != "application/json" {
		t.Fatalf("status %d, Content-Type %q, want application/json: %.200s", a.Status, a.Header.Get("Content-Type"), a.Body)
	}
	return parse(t, a.Body, a.Header.Get("X-Request-ID"))
}

// wantData checks a 200 and decodes its data.
func wantData[T any](t *testing.T, a answer) T {
	t.Helper()
	e := wantEnvelope(t, a)
	if a.Status != http.StatusOK || !e.Success {
		t.Fatalf("status %d, want 200: %s", a.Status, a.Body)
	}
	return strict[T](t, e.Data)
}

var sessionID = regexp.MustCompile(`^[A-Za-z0-9_-]{16,64}$`)

// wantTurn checks a 200 of POST /invoke.
func wantTurn(t *testing.T, a answer) turn {
	t.Helper()
	return checkTurn(t, wantData[turn](t, a))
}

func checkTurn(t *testing.T, got turn) turn {
	t.Helper()
	if !sessionID.MatchString(got.SessionID) {
		t.Errorf("session_id %q", got.SessionID)
	}
	if got.Turn < 1 || got.Model == "" || got.FinishReason == "" {
		t.Errorf("turn %d, model %q, finish_reason %q", got.Turn, got.Model, got.FinishReason)
	}
	if got.Usage.Source != "model" && got.Usage.Source != "estimate" {
		t.Errorf("usage.source %q", got.Usage.Source)
	}
	if got.ToolCalls == nil || got.Warnings == nil || got.Sources == nil || got.Files == nil || got.Pending == nil {
		t.Errorf("a list is null: %+v", got)
	}
	if of, id, _ := strings.Cut(got.RunID, "."); of != got.SessionID || !sessionID.MatchString(id) {
		t.Errorf("run_id %q", got.RunID)
	}
	return got
}

// leaks are what no answer may hold: stack traces, paths, what an upstream said.
var leaks = regexp.MustCompile(`goroutine \d|\.go:\d|/root/|/home/|/tmp/|runtime error|panic:|googleapi|genai\.|rpc error|dial tcp|127\.0\.0\.1|` + upstreamText + `|` + apiKey)

// upstreamText is the text in the stand-ins' errors.
const upstreamText = "words of the upstream"

// wantError checks an error of the table. A 503 must have Retry-After.
func wantError(t *testing.T, a answer, status int, code string) envelope {
	t.Helper()
	e := wantEnvelope(t, a)
	checkError(t, e, code)
	if a.Status != status {
		t.Errorf("status %d, want %d: %s", a.Status, status, a.Body)
	}
	if leak := leaks.Find(a.Body); leak != nil {
		t.Errorf("the answer holds %q: %s", leak, a.Body)
	}
	if status == http.StatusServiceUnavailable && code != "unhealthy" && !regexp.MustCompile(`^[1-9]\d*$`).MatchString(a.Header.Get("Retry-After")) {
		t.Errorf("%d %s with Retry-After %q", status, code, a.Header.Get("Retry-After"))
	}
	wait := a.Header.Get("Retry-After")
	if wait == "" {
		wait = "null"
	}
	if string(e.Retry) != wait {
		t.Errorf("retry_after_seconds %s, Retry-After %s", e.Retry, wait)
	}
	return e
}

func checkError(t *testing.T, e envelope, code string) {
	t.Helper()
	if e.Error == nil || *e.Error != code {
		got := "null"
		if e.Error != nil {
			got = *e.Error
		}
		t.Errorf("error %s, want %s: %s", got, code, e.Message)
	}
	if code != "unhealthy" && string(e.Data) != "null" {
		t.Errorf("data of an error: %s", e.Data)
	}
}

// fields are the fields that the details name.
func (e envelope) fields() []string {
	var names []string
	for _, d := range e.Details {
		names = append(names, d.Field)
	}
	return names
}

// wantNoContent checks a 204.
func wantNoContent(t *testing.T, a answer) {
	t.Helper()
	checkHeaders(t, a.Header)
	if a.Status != http.StatusNoContent || len(a.Body) != 0 {
		t.Errorf("status %d, want 204 without a body: %s", a.Status, a.Body)
	}
}

// An event is one of an event stream.
type event struct {
	Name string
	Data jsontext.Value
}

// An eventStream reads the events of an answer as they come.
type eventStream struct {
	Header http.Header
	id     string // X-Request-ID
	body   io.ReadCloser
	lines  *bufio.Reader
}

// stream sends body to POST /invoke, wanting events.
func (s *service) stream(t *testing.T, body any, headers ...string) *eventStream {
	t.Helper()
	if headers == nil {
		headers = []string{"Accept", "text/event-stream"}
	}
	response, err := s.open(bounded(t), http.MethodPost, "/invoke", body, headers...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(response.Body)
		t.Fatalf("status %d, want an event stream: %s", response.StatusCode, text)
	}
	return newStream(t, response.Header, response.Body)
}

// streamOf is the event stream in an answer that was read whole.
func streamOf(t *testing.T, a answer) *eventStream {
	t.Helper()
	if a.Status != http.StatusOK {
		t.Fatalf("status %d, want an event stream: %s", a.Status, a.Body)
	}
	return newStream(t, a.Header, io.NopCloser(bytes.NewReader(a.Body)))
}

func newStream(t *testing.T, header http.Header, body io.ReadCloser) *eventStream {
	t.Helper()
	checkHeaders(t, header)
	for name, want := range map[string]string{
		"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no",
	} {
		if got := header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	return &eventStream{header, header.Get("X-Request-ID"), body, bufio.NewReader(body)}
}

// next returns the next event, or false at the end of the stream.
func (s *eventStream) next(t *testing.T) (event, bool) {
	t.Helper()
	var e event
	var data []string
	for {
		line, err := s.lines.ReadString('\n')
		if err != nil {
			if !errors.Is(err, io.EOF) || line != "" || e.Name != "" || data != nil {
				t.Fatalf("the stream broke off: %v after %q", err, line)
			}
			return event{}, false
		}
		line = strings.TrimSuffix(line, "\n")
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "" && (e.Name != "" || data != nil):
			e.Data = jsontext.Value(strings.Join(data, "\n"))
			var object map[string]any
			if err := json.Unmarshal(e.Data, &object); err != nil {
				t.Fatalf("event %s holds no JSON object: %v\n%s", e.Name, err, e.Data)
			}
			return e, true
		case line == "", name == "": // between events; a comment
		case name == "event":
			e.Name = value
		case name == "id" && value != "":
		case name == "data":
			data = append(data, value)
		default:
			t.Fatalf("a line that is neither event nor data: %q", line)
		}
	}
}

// until reads up to the first event with this name and returns all it read.
func (s *eventStream) until(t *testing.T, name string) []event {
	t.Helper()
	var events []event
	for {
		e, ok := s.next(t)
		if !ok {
			t.Fatalf("the stream ended before %s: %v", name, names(events))
		}
		events = append(events, e)
		if e.Name == name {
			return events
		}
	}
}

// rest reads the stream to its end.
func (s *eventStream) rest(t *testing.T) []event {
	t.Helper()
	var events []event
	for {
		e, ok := s.next(t)
		if !ok {
			return events
		}
		events = append(events, e)
	}
}

func names(events []event) []string {
	list := make([]string, len(events))
	for i, e := range events {
		list[i] = e.Name
	}
	return list
}

// compact leaves out repetitions that follow each other.
func compact(events []event) []string { return slices.Compact(names(events)) }

// The data of the events, but for done and error, which are envelopes.
type (
	startData struct {
		RequestID string `json:"request_id"`
		RunID     string `json:"run_id"`
		SessionID string `json:"session_id"`
		Turn      int    `json:"turn"`
		Model     string `json:"model"`
	}
	deltaData struct {
		Text string `json:"text"`
	}
	toolCallData struct {
		ID   string         `json:"id"`
		Name string         `json:"name"`
		Args map[string]any `json:"args"`
	}
	toolResultData struct {
		ID         string `json:"id"`
		Name       string `json:"name"`
		OK         bool   `json:"ok"`
		DurationMS int    `json:"duration_ms"`
		Error      string `json:"error,omitzero"`
		Result     any    `json:"result,omitzero"`
	}
)

type resetData struct {
	Step int `json:"step"`
	Part int `json:"part"`
}

// checkOrder checks what holds for every whole stream: start first, exactly one
// done or error and that last, only known events in between, results after
// their calls. It returns the deltas joined.
func (s *eventStream) checkOrder(t *testing.T, events []event) string {
	t.Helper()
	if len(events) < 2 {
		t.Fatalf("events: %v", names(events))
	}
	text, step := "", 0 // step is where in text the last model call began
	called := map[string]string{}
	for i, e := range events {
		last := i == len(events)-1
		if (i == 0) != (e.Name == "start") || last != (e.Name == "done" || e.Name == "error") {
			t.Errorf("event %d of %d is %s", i+1, len(events), e.Name)
		}
		switch e.Name {
		case "start":
			start := strict[startData](t, e.Data)
			if start.RequestID != s.id || !strings.HasPrefix(start.RunID, start.SessionID+".") || !sessionID.MatchString(start.SessionID) || start.Turn < 1 || start.Model == "" {
				t.Errorf("start: %s; X-Request-ID %s", e.Data, s.id)
			}
		case "delta":
			delta := strict[deltaData](t, e.Data)
			if delta.Text == "" {
				t.Error("an empty delta")
			}
			text += delta.Text
		case "tool_call":
			call := strict[toolCallData](t, e.Data)
			if call.ID == "" || call.Args == nil || called[call.ID] != "" {
				t.Errorf("tool_call: %s", e.Data)
			}
			called[call.ID] = call.Name
		case "tool_result":
			result := strict[toolResultData](t, e.Data)
			if called[result.ID] != result.Name || result.Name == "" || result.OK != (result.Error == "") {
				t.Errorf("tool_result without its tool_call: %s", e.Data)
			}
			step = len(text)
		case "reset": // what the step has shown is void
			if void := strict[resetData](t, e.Data); void.Step < 1 {
				t.Errorf("reset: %s", e.Data)
			}
			text = text[:step]
		case "done", "error":
		default:
			t.Errorf("unknown event %s", e.Name)
		}
	}
	return text
}

// wantDone reads the rest of a stream that must end well, after the events that
// were read before, and returns all events and the turn.
func (s *eventStream) wantDone(t *testing.T, before ...event) ([]event, turn) {
	t.Helper()
	events := append(before, s.rest(t)...)
	text := s.checkOrder(t, events)
	last := events[len(events)-1]
	if last.Name != "done" {
		t.Fatalf("events: %v, last: %s", compact(events), last.Data)
	}
	e := parse(t, last.Data, s.id)
	got := checkTurn(t, strict[turn](t, e.Data))
	if !e.Success || got.Response != text {
		t.Errorf("success %v, response %q, deltas joined %q", e.Success, got.Response, text)
	}
	if start := strict[startData](t, events[0].Data); start.SessionID != got.SessionID || start.RunID != got.RunID {
		t.Errorf("start names session %s and run %s, done %s and %s", start.SessionID, start.RunID, got.SessionID, got.RunID)
	}
	return events, got
}

// wantInvokeError asks a question and wants an error: as the answer, or of a stream,
// which begins before the model is asked, as its last event.
func (s *service) wantInvokeError(t *testing.T, body map[string]any, status int, code string) envelope {
	t.Helper()
	if body["stream"] != true {
		return wantError(t, s.do(t, http.MethodPost, "/invoke", body), status, code)
	}
	st := s.stream(t, body)
	events := st.wantFailure(t, []string{code})
	return parse(t, events[len(events)-1].Data, st.id)
}

// wantFailure reads the rest of a stream that must end with an error event.
func (s *eventStream) wantFailure(t *testing.T, codes []string, before ...event) []event {
	t.Helper()
	events := append(before, s.rest(t)...)
	s.checkOrder(t, events)
	last := events[len(events)-1]
	if last.Name != "error" {
		t.Fatalf("events: %v, last: %s", compact(events), last.Data)
	}
	e := parse(t, last.Data, s.id)
	if e.Error == nil || !slices.Contains(codes, *e.Error) || e.Success || string(e.Data) != "null" {
		t.Errorf("error event, want %v: %s", codes, last.Data)
	}
	if leak := leaks.Find(last.Data); leak != nil {
		t.Errorf("the error holds %q: %s", leak, last.Data)
	}
	return events
}
