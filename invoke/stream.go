package invoke

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"google.golang.org/genai"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/session"
)

const (
	// silence is how long a stream may say nothing before a comment is sent, so
	// that nothing on the way takes it for dead.
	silence = 15 * time.Second
	// writeTimeout bounds one write to a client that does not read.
	writeTimeout = 10 * time.Second
)

// The data of a stream's events; "done" and "error" have the envelope's.
type (
	// Start is the first event's, "start".
	Start struct {
		RequestID string `json:"request_id"`
		SessionID string `json:"session_id" pattern:"^[A-Za-z0-9_-]{16,64}$"`
		Model     string `json:"model"`
	}
	// A Delta is that of "delta": a piece of the answer's text.
	Delta struct {
		Text string `json:"text"`
	}
	// A ToolStart is that of "tool_call": the model wants a tool called.
	ToolStart struct {
		ID   string         `json:"id" doc:"The same in the tool_result that follows."`
		Name string         `json:"name"`
		Args map[string]any `json:"args"`
	}
	// A ToolEnd is that of "tool_result": a tool is done.
	ToolEnd struct {
		ID string `json:"id"`
		session.ToolCall
	}
)

// A dialect is the form in which a stream tells what happens. Each method but
// headers writes whole events to b.
type dialect interface {
	headers(h http.Header)
	start(b *bytes.Buffer, requestID, sessionID, model string) error // before all others
	delta(b *bytes.Buffer, text string) error
	toolCall(b *bytes.Buffer, id, name string, args map[string]any) error
	toolResult(b *bytes.Buffer, id string, call session.ToolCall) error
	done(b *bytes.Buffer, envelope api.Envelope, response *Response) error // the end
	fail(b *bytes.Buffer, envelope api.Envelope) error                     // the end
}

// A stream writes one answer as server-sent events
// (https://html.spec.whatwg.org/multipage/server-sent-events.html), in a
// dialect, whose methods it calls one at a time. Headers go
// out with the first event; before that the request can still be answered
// otherwise. A nil stream does nothing. It is safe for concurrent use.
type stream struct {
	w         http.ResponseWriter
	r         *http.Request
	control   *http.ResponseController
	dialect   dialect
	abandon   context.CancelFunc // ends the turn when the client does not read
	sessionID string

	mu    sync.Mutex
	begun bool
	over  bool
	err   error       // of the first write that failed
	idle  *time.Timer // sends a comment
}

func newStream(w http.ResponseWriter, r *http.Request, d dialect, abandon context.CancelFunc) *stream {
	return &stream{w: w, r: r, control: http.NewResponseController(w), dialect: d, abandon: abandon}
}

// prepare says which session the stream is about, before anything is written.
func (st *stream) prepare(sessionID string) {
	if st != nil {
		st.sessionID = sessionID
	}
}

// replays says, before anything is written, that the answer is an earlier one's.
func (st *stream) replays() {
	if st != nil {
		st.w.Header().Set(headerReplayed, "true")
	}
}

func (st *stream) started() bool {
	if st == nil {
		return false
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.begun
}

// delta sends a piece of the answer's text.
func (st *stream) delta(model, text string) error {
	return st.send(model, func(d dialect, b *bytes.Buffer) error { return d.delta(b, text) })
}

// toolCall says that the model wants a tool called.
func (st *stream) toolCall(model, id string, call *genai.FunctionCall) error {
	args := call.Args
	if args == nil {
		args = map[string]any{}
	}
	return st.send(model, func(d dialect, b *bytes.Buffer) error { return d.toolCall(b, id, call.Name, args) })
}

// toolResult says that a tool is done.
func (st *stream) toolResult(id string, call session.ToolCall) error {
	return st.send("", func(d dialect, b *bytes.Buffer) error { return d.toolResult(b, id, call) })
}

// done ends the stream with the success envelope.
func (st *stream) done(message string, response *Response) {
	_ = st.send(response.Model, func(d dialect, b *bytes.Buffer) error {
		return d.done(b, api.Success(st.r.Context(), message, response), response)
	})
	st.close()
}

// fail ends the stream with the error envelope.
func (st *stream) fail(e *api.Error) {
	telemetry.Fail(st.r.Context(), e.Failure())
	_ = st.send("", func(d dialect, b *bytes.Buffer) error { return d.fail(b, api.Failure(st.r.Context(), e)) })
	st.close()
}

// close ends the stream: nothing is written after it. It must be called before
// the handler returns.
func (st *stream) close() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.over = true
	if st.idle != nil {
		st.idle.Stop()
	}
}

// send writes what the dialect says of one thing, and its start before the first.
func (st *stream) send(model string, tell func(dialect, *bytes.Buffer) error) error {
	if st == nil {
		return nil
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.over || st.err != nil {
		return st.err
	}
	var b bytes.Buffer
	if !st.begun {
		h := st.w.Header()
		h.Set("Content-Type", "text/event-stream; charset=utf-8")
		h.Set("Cache-Control", "no-store, no-transform")
		h.Set("X-Accel-Buffering", "no")
		st.dialect.headers(h)
		if err := st.dialect.start(&b, api.RequestID(st.r.Context()), st.sessionID, model); err != nil {
			return err
		}
		st.begun = true
		st.idle = time.AfterFunc(silence, st.comment)
	}
	if err := tell(st.dialect, &b); err != nil {
		return err
	}
	st.flush(b.Bytes())
	return st.err
}

// comment keeps a silent stream alive.
func (st *stream) comment() {
	st.mu.Lock()
	defer st.mu.Unlock()
	if !st.over && st.err == nil {
		st.flush([]byte(": still here\n\n"))
	}
}

// flush writes b through to the client. The caller holds mu.
func (st *stream) flush(b []byte) {
	_ = st.control.SetWriteDeadline(time.Now().Add(writeTimeout)) // not every writer has one
	if _, st.err = st.w.Write(b); st.err == nil {
		st.err = st.control.Flush()
	}
	if st.err != nil {
		st.abandon()
		return
	}
	st.idle.Reset(silence)
}

// events is the dialect of POST /invoke.
type events struct{}

func (events) headers(http.Header) {}

func (events) start(b *bytes.Buffer, requestID, sessionID, model string) error {
	return appendEvent(b, "start", Start{requestID, sessionID, model})
}

func (events) delta(b *bytes.Buffer, text string) error {
	return appendEvent(b, "delta", Delta{text})
}

func (events) toolCall(b *bytes.Buffer, id, name string, args map[string]any) error {
	return appendEvent(b, "tool_call", ToolStart{id, name, args})
}

func (events) toolResult(b *bytes.Buffer, id string, call session.ToolCall) error {
	return appendEvent(b, "tool_result", ToolEnd{id, call})
}

func (events) done(b *bytes.Buffer, envelope api.Envelope, _ *Response) error {
	return appendEvent(b, "done", envelope)
}

func (events) fail(b *bytes.Buffer, envelope api.Envelope) error {
	return appendEvent(b, "error", envelope)
}

// appendEvent writes an event, without a name where name is "". Its data is one
// line: JSON has no newlines of its own, and escapes those in strings.
func appendEvent(b *bytes.Buffer, name string, data any) error {
	if name != "" {
		b.WriteString("event: ")
		b.WriteString(name)
		b.WriteByte('\n')
	}
	b.WriteString("data: ")
	if err := json.NewEncoder(b).Encode(data); err != nil { // ends with a newline
		return err
	}
	b.WriteByte('\n')
	return nil
}
