package telemetry

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// A Record gathers what becomes known of a request on its way, for the one
// line that sums it up. It is safe for concurrent use.
type Record struct {
	mu    sync.Mutex
	attrs []slog.Attr
	route string
	code  string
	cause error
}

// Code is how the request failed, "" when it did not.
func (r *Record) Code() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.code
}

// Route is the route that the request took, "" for none.
func (r *Record) Route() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.route
}

// SetRoute names the route that the request took, as the program writes it and
// not as a caller does.
func SetRoute(ctx context.Context, route string) {
	if r := recordFrom(ctx); r != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.route = route
	}
}

// Note adds fields to the request's line; nothing happens without a [Record]
// in ctx.
func Note(ctx context.Context, attrs ...slog.Attr) {
	if r := recordFrom(ctx); r != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.attrs = append(r.attrs, attrs...)
	}
}

// Fail says how the request failed: by which code of the contract, and why.
// The last failure counts.
func Fail(ctx context.Context, code string, cause error) {
	if r := recordFrom(ctx); r != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.code, r.cause = code, cause
	}
}

// A Summary is what is known of a request from outside.
type Summary struct {
	Method, Path, UserAgent, RemoteIP string
	RequestID                         string
	Status                            int // 0: nothing was written
	Bytes                             int64
	Latency                           time.Duration
}

// maxValue bounds each value that a caller wrote, in bytes.
const maxValue = 256

// Log writes the line that sums the request up. Client mistakes are warnings,
// ours are errors.
func (r *Record) Log(ctx context.Context, logger *slog.Logger, s Summary) {
	r.mu.Lock()
	defer r.mu.Unlock()
	level := slog.LevelInfo
	switch {
	case s.Status >= 500:
		level = slog.LevelError
	case s.Status >= 400:
		level = slog.LevelWarn
	}
	if !logger.Enabled(ctx, level) {
		return
	}
	attrs := make([]slog.Attr, 0, 8+len(r.attrs))
	attrs = append(attrs,
		slog.Group("httpRequest",
			slog.String("requestMethod", Truncate(s.Method, maxValue)),
			slog.String("requestUrl", Truncate(s.Path, maxValue)),
			slog.Int("status", s.Status),
			slog.String("responseSize", strconv.FormatInt(s.Bytes, 10)),
			slog.String("userAgent", Truncate(s.UserAgent, maxValue)),
			slog.String("remoteIp", Truncate(s.RemoteIP, maxValue)),
			slog.String("latency", fmt.Sprintf("%.6fs", s.Latency.Seconds())),
		),
		slog.String("request_id", s.RequestID),
		slog.String("route", r.route),
	)
	if r.code != "" {
		attrs = append(attrs, slog.String("code", r.code))
	}
	if r.cause != nil {
		attrs = append(attrs, slog.String("error", Truncate(r.cause.Error(), 2*maxValue)))
	}
	attrs = append(attrs, r.attrs...)
	text := http.StatusText(s.Status)
	if s.Status == 499 {
		text = "Client Closed Request"
	}
	logger.LogAttrs(ctx, level, fmt.Sprintf("%s %d %s", cmp.Or(r.route, "no route"), s.Status, text), attrs...)
}
