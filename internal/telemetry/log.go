// Package telemetry writes what an operator reads: log lines in the form that
// Cloud Logging parses, one of them summing up each request.
package telemetry

import (
	"context"
	"io"
	"log/slog"
)

// NewLogger writes one JSON object a line to w with Cloud Logging's field
// names (https://cloud.google.com/logging/docs/structured-logging).
func NewLogger(w io.Writer, level slog.Leveler) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: cloudNames}))
}

// cloudNames renames slog's own fields to the ones Cloud Logging knows.
func cloudNames(groups []string, a slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return a
	}
	switch a.Key {
	case slog.MessageKey:
		a.Key = "message"
	case slog.LevelKey:
		level, _ := a.Value.Any().(slog.Level)
		return slog.String("severity", severity(level))
	}
	return a
}

// severity is Cloud Logging's word for a level.
func severity(level slog.Level) string {
	switch {
	case level >= LevelCritical:
		return "CRITICAL"
	case level >= slog.LevelError:
		return "ERROR"
	case level >= slog.LevelWarn:
		return "WARNING"
	case level >= slog.LevelInfo:
		return "INFO"
	default:
		return "DEBUG"
	}
}

// LevelCritical is for what keeps the whole service from answering.
const LevelCritical = slog.LevelError + 4

// Discard is a context-free logger that drops everything, for tests.
func Discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// Truncate cuts s to at most n bytes for a log line, at a rune's start.
func Truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xC0 == 0x80 { // inside a rune of UTF-8
		n--
	}
	return s[:n] + "…"
}

type recordKey struct{}

// WithRecord gives r to everything below, so that [Note] and [Fail] find it.
func WithRecord(ctx context.Context, r *Record) context.Context {
	return context.WithValue(ctx, recordKey{}, r)
}

func recordFrom(ctx context.Context) *Record {
	r, _ := ctx.Value(recordKey{}).(*Record)
	return r
}
