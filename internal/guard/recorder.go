package guard

import (
	"io"
	"net/http"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/telemetry"
)

// A recorder remembers what was answered. Unwrap lets http.ResponseController
// reach the server's own writer, to flush it and set deadlines.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
	body   *trackedBody // nil when there is none to be read
}

// A trackedBody knows whether it was read to its end.
type trackedBody struct {
	io.ReadCloser
	ended bool
}

func (b *trackedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.ended = b.ended || err == io.EOF
	return n, err
}

// flush sends what was written, so that the client has it before the handler
// returns.
func (w *recorder) flush() {
	if w.status != 0 {
		_ = http.NewResponseController(w.ResponseWriter).Flush() // not every writer can
	}
}

func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
		if w.body != nil && !w.body.ended && status >= 400 {
			// The server would wait for the rest of the body before it answers,
			// unless the connection is to be closed.
			w.Header().Set("Connection", "close")
		}
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// outcome is the status for the log: what was sent, or what became of a stream
// after its 200, or of a client that left.
func (w *recorder) outcome(record *telemetry.Record) int {
	if code := record.Code(); code != "" {
		return api.Fail(api.Code(code), nil).Status()
	}
	if w.status == 0 {
		return http.StatusOK // the server sends it when the handler wrote nothing
	}
	return w.status
}
