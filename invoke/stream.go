package invoke

import (
	"bytes"
	"fmt"
	"net/http"
	"sync"
	"time"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/rescue"
	"example.com/gatehouse/internal/telemetry"
)

// keepAlive is how long a stream may be idle before a comment is sent, so that proxies do not
// close the connection.
const keepAlive = 15 * time.Second

// Only the watcher that writes to a stream waits for its client. The run goes on into its
// output, so that a client which does not read costs a goroutine for the time of
// [api.BoundWrite], and no time of the run.

// A stream writes the events of a run as server-sent events
// (https://html.spec.whatwg.org/multipage/server-sent-events.html) in a dialect, whose
// methods it calls one at a time. Response headers are sent with the first event;
// until then the request can still get an ordinary response. A stream is safe for
// concurrent use.
type stream struct {
	w       http.ResponseWriter
	r       *http.Request
	control *http.ResponseController
	dialect Dialect

	mu    sync.Mutex
	begun bool
	over  bool
	err   error       // of the first failed write
	idle  *time.Timer // sends a comment
}

func newStream(w http.ResponseWriter, r *http.Request, d Dialect) *stream {
	return &stream{w: w, r: r, control: http.NewResponseController(w), dialect: d}
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

// started reports whether an event was written.
func (st *stream) started() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.begun
}

// show writes an event.
func (st *stream) show(e Event) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.over || st.err != nil {
		return st.err
	}
	// The headers wait for the first event, because what fails before it has a status and a
	// body of another type.
	if !st.begun {
		h := st.w.Header()
		h.Set("Content-Type", "text/event-stream; charset=utf-8")
		// no-transform and X-Accel-Buffering keep proxies (nginx, compressing ones) from
		// buffering events.
		h.Set("Cache-Control", "no-store, no-transform")
		h.Set("X-Accel-Buffering", "no")
		if e.Start != nil && e.Start.replayed {
			h.Set(headerReplayed, "true")
		}
		st.dialect.Headers(h)
		st.begun = true
		st.idle = time.AfterFunc(keepAlive, st.comment)
	}
	var b bytes.Buffer
	err := rescue.Call(func() error { return st.dialect.Event(&b, e) })
	if err != nil {
		return st.fail(e, err)
	}
	st.flush(b.Bytes())
	return st.err
}

// fail ends the stream with the error of an event that the dialect could not write, in the
// dialect's form, and returns it: the client has not left, and cannot be shown the run. The
// caller holds mu.
func (st *stream) fail(e Event, cause error) error {
	ctx := st.r.Context()
	failed := api.Fail(api.Internal, fmt.Errorf("writing the event %s: %w", e.Kind, cause))
	telemetry.Fail(ctx, failed)
	var b bytes.Buffer
	if rescue.Call(func() error {
		return st.dialect.Event(&b, Event{Kind: KindError, Run: e.Run, At: e.At, Envelope: api.Failure(ctx, failed)})
	}) == nil {
		st.flush(b.Bytes())
	}
	st.over, st.err = true, failed
	return failed
}

// comment writes a comment to keep an idle connection open. It runs in the timer's goroutine,
// beside show. A failed write is kept for the next event, which returns it.
func (st *stream) comment() {
	st.mu.Lock()
	defer st.mu.Unlock()
	if !st.over && st.err == nil {
		st.flush([]byte(": still here\n\n"))
	}
}

// flush writes b through to the client. The caller holds mu.
func (st *stream) flush(b []byte) {
	if len(b) == 0 {
		return
	}
	api.BoundWrite(st.control)
	if _, st.err = st.w.Write(b); st.err == nil {
		st.err = st.control.Flush()
	}
	if st.err == nil {
		st.idle.Reset(keepAlive)
	}
}
