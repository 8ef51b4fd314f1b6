package middleware

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"

	"example.com/gatehouse/internal/gcp/audit"
	"example.com/gatehouse/internal/telemetry"
)

// finish does what is left once the handler has returned: it sends the answer, ends
// the trace, counts, and writes the log's line and the audit's entry. After a panic
// it runs too.
func (m *middleware) finish(ctx context.Context, w *recorder, r *http.Request, state *requestState) {
	w.flush() // the client has its answer; what follows costs it nothing
	record, status := state.record, w.outcome(state.record)
	state.span.End(ctx, record.Route(), status, string(record.Code()))
	if limit := limitOf(record.Failure()); limit != "" {
		m.Observer.RateLimited(ctx, limit)
	}
	record.Log(ctx, m.Log, telemetry.Summary{
		Method: r.Method, Path: m.path(record, r), UserAgent: r.UserAgent(), RemoteIP: m.remoteIP(r),
		RequestID: state.id, Status: status, Bytes: w.bytes, Latency: m.Now().Sub(state.begin),
	})
	if state.probe {
		return
	}
	if !state.uncounted {
		m.Figures.Count(status, string(record.Code()))
	}
	var room [1]audit.Entry // as many as most requests have, on the stack
	m.deliver(ctx, m.auditEntries(ctx, room[:0], state, status))
}

// deliver writes the audit and lets telemetry be exported, side by side: what an
// instance does not do before its handler returns may never be done. Each has a
// bound of its own, and ctx does not end with the client's connection.
func (m *middleware) deliver(ctx context.Context, entries []audit.Entry) {
	var group sync.WaitGroup
	// These are due every few seconds only: waking another thread at each request would
	// be a tenth of what a turn costs (BenchmarkTurn of package invoke).
	if m.Figures.Due() {
		group.Go(func() { m.runAfter(ctx, func() { m.Figures.Flush(ctx) }) })
	}
	if m.Limiter != nil && m.Limiter.Due() {
		group.Go(func() { m.runAfter(ctx, func() { m.Limiter.Flush(ctx) }) })
	}
	if m.Observer.Due() {
		group.Go(func() { m.runAfter(ctx, func() { m.Observer.Flush(ctx) }) })
	}
	if len(entries) > 0 {
		m.runAfter(ctx, func() { m.Audit.write(ctx, entries) })
	}
	group.Wait()
}

// remoteIP is the address the request came from, as far as it can be believed.
func (m *middleware) remoteIP(r *http.Request) string {
	if m.Proxied {
		if ip := net.ParseIP(lastOf(r, "X-Forwarded-For")); ip != nil {
			return ip.String()
		}
	}
	host, _, _ := net.SplitHostPort(r.RemoteAddr) // "" on an error
	return host
}

// lastOf is the last entry of a header that proxies append to: the nearest's.
func lastOf(r *http.Request, name string) string {
	values := r.Header.Values(name)
	if len(values) == 0 {
		return ""
	}
	list := values[len(values)-1]
	return strings.TrimSpace(list[strings.LastIndexByte(list, ',')+1:])
}

// path is the request's for the log: the route's, which holds no session's id,
// or what an unknown one was.
func (m *middleware) path(record *telemetry.Record, r *http.Request) string {
	if _, path, ok := strings.Cut(record.Route(), " "); ok {
		return path
	}
	return r.URL.Path
}

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
	if err == io.EOF {
		b.ended = true
	}
	return n, err
}

// track returns r, whose body w knows to be read to its end or not.
func (w *recorder) track(r *http.Request) *http.Request {
	if r.ContentLength != 0 && r.ProtoMajor == 1 {
		w.body = &trackedBody{ReadCloser: r.Body}
		r.Body = w.body
	}
	return r
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
	if failure := record.Failure(); failure != nil {
		return failure.Status()
	}
	if w.status == 0 {
		return http.StatusOK // the server sends it when the handler wrote nothing
	}
	return w.status
}
