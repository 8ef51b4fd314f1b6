package telemetry

import (
	"context"
	"io"
	"log/slog"
	"path"
	"runtime"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"example.com/gatehouse/internal/truncate"
)

// A Source describes the process in every line, and finds the trace of a line.
type Source struct {
	// Service and Version are what Error Reporting groups by.
	Service, Version string
	// Labels are on every line, for filters and log-based metrics.
	Labels map[string]string
	// Trace is the trace that a context belongs to; nil: none does.
	Trace func(context.Context) (Trace, bool)
}

// NewLogger writes one JSON object a line to w with Cloud Logging's field
// names (https://cloud.google.com/logging/docs/structured-logging).
func NewLogger(w io.Writer, level slog.Leveler, s Source) *slog.Logger {
	inner := slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: cloudNames})
	h := &handler{Handler: inner, trace: s.Trace}
	if s.Service != "" {
		h.context = slog.Group("serviceContext", slog.String("service", s.Service), slog.String("version", s.Version))
	}
	if len(s.Labels) > 0 {
		h.Handler = inner.WithAttrs([]slog.Attr{slog.Any("logging.googleapis.com/labels", s.Labels)})
	}
	return slog.New(h)
}

// stackKey is the field that Error Reporting reads a stack from; a line that has
// it also names the service
// (https://cloud.google.com/error-reporting/docs/formatting-error-messages).
const stackKey = "stack_trace"

// A handler adds to each line its trace and its place in the source.
type handler struct {
	slog.Handler
	trace   func(context.Context) (Trace, bool)
	context slog.Attr // of Error Reporting
}

func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	failed := false
	r.Attrs(func(a slog.Attr) bool {
		failed = a.Key == stackKey
		return !failed
	})
	attrs := make([]slog.Attr, 0, 5)
	if failed {
		attrs = append(attrs, h.context)
	}
	if h.trace != nil {
		if t, ok := h.trace(ctx); ok {
			attrs = append(attrs,
				slog.String("logging.googleapis.com/trace", t.Name),
				slog.String("logging.googleapis.com/spanId", t.SpanID),
				slog.Bool("logging.googleapis.com/trace_sampled", t.Sampled))
		}
	}
	if r.PC != 0 {
		attrs = append(attrs, location(r.PC))
	}
	r.AddAttrs(attrs...)
	return h.Handler.Handle(ctx, r)
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *h
	with.Handler = h.Handler.WithAttrs(attrs)
	return &with
}

func (h *handler) WithGroup(name string) slog.Handler {
	with := *h
	with.Handler = h.Handler.WithGroup(name)
	return &with
}

// locations are those of the program's own logging calls: as many as there are.
var locations sync.Map // program counter → slog.Attr

// location is where in the source a line was written, without the path of the
// machine that built the program.
func location(pc uintptr) slog.Attr {
	if known, ok := locations.Load(pc); ok {
		return known.(slog.Attr)
	}
	frame, _ := runtime.CallersFrames([]uintptr{pc}).Next()
	a := slog.Group("logging.googleapis.com/sourceLocation",
		slog.String("file", path.Base(path.Dir(frame.File))+"/"+path.Base(frame.File)),
		slog.Int("line", frame.Line),
		slog.String("function", path.Base(frame.Function)))
	locations.Store(pc, a)
	return a
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
		// An attribute that somebody calls level is not the line's.
		if level, ok := a.Value.Any().(slog.Level); ok {
			return slog.String("severity", severity(level))
		}
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

// plain is at most n bytes of what a caller or an upstream wrote, fit for a log
// line: nothing in it grows when it is quoted, or the line could pass its bound.
func plain(s string, n int) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '"':
			return '\''
		case r == '\\':
			return '/'
		case r == '\n' || r == '\t':
			return ' '
		case r == utf8.RuneError || !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, truncate.Text(s, n))
}
