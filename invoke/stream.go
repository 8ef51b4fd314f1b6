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
	// keepAlive is how long a stream may be idle before a comment is sent, so that
	// proxies do not close the connection.
	keepAlive = 15 * time.Second
	// writeTimeout bounds one write to a client that does not read.
	writeTimeout = 10 * time.Second
)

// The data of a stream's events. "done" and "error" have the envelope of other
// responses.
type (
	// Start is the data of "start", the first event.
	Start struct {
		RequestID string `json:"request_id"`
		SessionID string `json:"session_id" pattern:"^[A-Za-z0-9_-]{16,64}$"`
		Model     string `json:"model"`
	}
	// A Delta is the data of "delta": a piece of the answer's text.
	Delta struct {
		Text string `json:"text"`
	}
	// A ToolStart is the data of "tool_call": the model requests a tool call.
	ToolStart struct {
		ID   string         `json:"id" doc:"The same in the tool_result that follows."`
		Name string         `json:"name"`
		Args map[string]any `json:"args"`
	}
	// A ToolEnd is the data of "tool_result": a tool call has ended.
	ToolEnd struct {
		ID string `json:"id"`
		session.ToolCall
	}
)

// A dialect is the format of a stream. Each method but headers appends complete events
// to b.
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
// (https://html.spec.whatwg.org/multipage/server-sent-events.html) in a dialect, whose
// methods it calls one at a time. Response headers are sent with the first event;
// until then the request can still get an ordinary response. A nil stream does
// nothing. A stream is safe for concurrent use.
type stream struct {
	w         http.ResponseWriter
	r         *http.Request
	control   *http.ResponseController
	dialect   dialect
	abandon   context.CancelFunc // cancels the turn if the client does not read
	sessionID string

	mu    sync.Mutex
	begun bool
	over  bool
	err   error       // of the first failed write
	idle  *time.Timer // sends a comment
}

func newStream(w http.ResponseWriter, r *http.Request, d dialect, abandon context.CancelFunc) *stream {
	return &stream{w: w, r: r, control: http.NewResponseController(w), dialect: d, abandon: abandon}
}

// prepare sets the session that the stream is about. It must precede the first event.
func (st *stream) prepare(sessionID string) {
	if st != nil {
		st.sessionID = sessionID
	}
}

// markReplayed marks the answer as that of an earlier call. It must precede the first
// event.
func (st *stream) markReplayed() {
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

// toolCall sends that the model requests a tool call.
func (st *stream) toolCall(model, id string, call *genai.FunctionCall) error {
	args := call.Args
	if args == nil {
		args = map[string]any{}
	}
	return st.send(model, func(d dialect, b *bytes.Buffer) error { return d.toolCall(b, id, call.Name, args) })
}

// toolResult sends that a tool call has ended.
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

// close ends the stream: nothing is written after it. The handler must call it before
// it returns, because the ResponseWriter is invalid afterwards.
func (st *stream) close() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.over = true
	if st.idle != nil {
		st.idle.Stop()
	}
}

// send writes what the dialect makes of one event, preceded by its start event the
// first time.
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
		// no-transform and X-Accel-Buffering keep proxies (nginx, compressing ones) from
		// buffering events.
		h.Set("Cache-Control", "no-store, no-transform")
		h.Set("X-Accel-Buffering", "no")
		st.dialect.headers(h)
		if err := st.dialect.start(&b, api.RequestID(st.r.Context()), st.sessionID, model); err != nil {
			return err
		}
		st.begun = true
		st.idle = time.AfterFunc(keepAlive, st.comment)
	}
	if err := tell(st.dialect, &b); err != nil {
		return err
	}
	st.flush(b.Bytes())
	return st.err
}

// comment writes a comment to keep an idle connection open.
func (st *stream) comment() {
	st.mu.Lock()
	defer st.mu.Unlock()
	if !st.over && st.err == nil {
		st.flush([]byte(": still here\n\n"))
	}
}

// flush writes b through to the client. The caller holds mu.
func (st *stream) flush(b []byte) {
	_ = st.control.SetWriteDeadline(time.Now().Add(writeTimeout)) // not every ResponseWriter supports it
	if _, st.err = st.w.Write(b); st.err == nil {
		st.err = st.control.Flush()
	}
	if st.err != nil {
		// The client does not read: stop paying for the model.
		st.abandon()
		return
	}
	st.idle.Reset(keepAlive)
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

// appendEvent writes an event; name may be "". Data is one line, because JSON escapes
// newlines in strings.
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
