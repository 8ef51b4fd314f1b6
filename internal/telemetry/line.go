package telemetry

import (
	"io"
	"log/slog"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"
)

// Nearly every line is that of a request, of texts without anything to escape, numbers and
// groups of these. This file writes such a line itself, into memory that it keeps: slog's
// handler, which asks [cloudNames] about each value, takes twice as long, a hundredth of
// what a turn costs. All other lines are slog's own, and a test holds the two together to
// the byte.

// An output is where lines go, one at a time.
type output struct {
	w io.Writer

	mu   sync.Mutex
	line []byte // memory for the next one
}

// maxKept bounds the memory that an output keeps, in bytes.
const maxKept = 16 << 10

// Write implements [io.Writer], for slog's handler.
func (o *output) Write(line []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.w.Write(line)
}

// write writes a line with these preformatted fields and those of r. False: something in it
// is for slog's handler, and nothing is written.
func (o *output) write(fields []byte, r *slog.Record) (bool, error) {
	if r.Time.IsZero() {
		return false, nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	b := append(o.line[:0], `{"time":"`...)
	b = append(r.Time.AppendFormat(b, time.RFC3339Nano), `",`...)
	b, ok := appendAttr(b, slog.String("severity", severity(r.Level)))
	if ok {
		b, ok = appendAttr(append(b, ','), slog.String("message", r.Message))
	}
	b = append(b, fields...)
	r.Attrs(func(a slog.Attr) bool {
		if ok {
			b, ok = appendAttr(append(b, ','), a)
		}
		return ok
	})
	if cap(b) <= maxKept {
		o.line = b
	}
	if !ok {
		return false, nil
	}
	_, err := o.w.Write(append(b, "}\n"...))
	return true, err
}

// appendAttr appends a to an object. False: it is for slog's handler.
func appendAttr(b []byte, a slog.Attr) ([]byte, bool) {
	kind := a.Value.Kind()
	inline := a.Key == "" && kind == slog.KindGroup // its members are the object's own
	if !inline {
		if a.Key == "" || a.Key == slog.MessageKey || !unescaped(a.Key) {
			return b, false
		}
		b = append(append(append(b, '"'), a.Key...), `":`...)
	}
	switch kind {
	case slog.KindString:
		text := a.Value.String()
		return append(append(append(b, '"'), text...), '"'), unescaped(text)
	case slog.KindInt64:
		return strconv.AppendInt(b, a.Value.Int64(), 10), true
	case slog.KindBool:
		return strconv.AppendBool(b, a.Value.Bool()), true
	case slog.KindGroup:
		members := a.Value.Group()
		ok := len(members) > 0
		if !inline {
			b = append(b, '{')
		}
		for i := 0; ok && i < len(members); i++ {
			if i > 0 {
				b = append(b, ',')
			}
			b, ok = appendAttr(b, members[i])
		}
		if !inline {
			b = append(b, '}')
		}
		return b, ok
	}
	return b, false
}

// unescaped reports whether JSON has text as it is.
func unescaped(text string) bool {
	for i := range len(text) {
		if !unescapedBytes[text[i]] {
			return false
		}
	}
	return true
}

var unescapedBytes = func() (set [256]bool) {
	for c := byte(' '); c < utf8.RuneSelf; c++ {
		set[c] = c != '"' && c != '\\'
	}
	return set
}()
