package local

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"

	"example.com/gatehouse/internal/exactjson"
)

// isTerminal reports whether people read what is written to f.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// A readable writes the log's lines for people: what a line means at a glance,
// and the rest only when something went wrong. What is no line of the log goes
// through as it is. Each call of Write is one line, as the log writes them.
type readable struct {
	out   io.Writer
	color bool
}

// shown are the fields of a line that people see, in this order.
var shown = []string{"code", "error", "tokens", "model", "attempts", "model_ms", "store_ms", "turn", "replayed", "variables", "request_id", "stack_trace"}

// quiet are those that only a line of trouble shows.
var quiet = map[string]bool{"request_id": true, "stack_trace": true}

func (r *readable) Write(line []byte) (int, error) {
	var fields map[string]any
	if exactjson.Unmarshal(line, &fields) != nil || fields["severity"] == nil { // a number is shown as it was written
		return r.out.Write(line)
	}
	if fields["audit"] == true {
		return len(line), nil // the request's own line has it
	}
	_, err := io.WriteString(r.out, r.line(fields))
	return len(line), err
}

func (r *readable) line(fields map[string]any) string {
	var b strings.Builder
	clock := "--:--:--"
	if at, err := time.Parse(time.RFC3339Nano, text(fields["time"])); err == nil {
		clock = at.Local().Format(time.TimeOnly)
	}
	severity := text(fields["severity"])
	fmt.Fprintf(&b, "%s %s %s", r.dim(clock), r.mark(severity), text(fields["message"]))
	if request, ok := fields["httpRequest"].(map[string]any); ok {
		if latency, err := time.ParseDuration(text(request["latency"])); err == nil {
			fmt.Fprintf(&b, " %s", r.dim("in "+latency.Round(100*time.Microsecond).String()))
		}
	}
	trouble := severity != "INFO" && severity != "DEBUG"
	for _, name := range shown {
		if value, ok := fields[name]; ok && (trouble || !quiet[name]) {
			fmt.Fprintf(&b, " %s%s", r.dim(name+"="), quoted(text(value)))
		}
	}
	return b.String() + "\n"
}

// text is a value in words; control characters, which could draw on the
// terminal, are not let through.
func text(value any) string {
	var s string
	switch value := value.(type) {
	case nil:
		return ""
	case string:
		s = value
	default:
		encoded, _ := json.Marshal(value) // it was decoded from JSON
		s = string(encoded)
	}
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// quoted is s, in quotes where it is more than one word, or lines of its own.
func quoted(s string) string {
	switch {
	case strings.Contains(s, "\n"):
		return "\n    " + strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n    ")
	case s == "" || strings.ContainsAny(s, " \""):
		return strconv.Quote(s)
	}
	return s
}

func (r *readable) dim(s string) string { return r.paint("2", s) }

func (r *readable) mark(severity string) string {
	switch severity {
	case "ERROR", "CRITICAL":
		return r.paint("31", "error")
	case "WARNING":
		return r.paint("33", "warn ")
	case "DEBUG":
		return r.paint("2", "debug")
	}
	return r.paint("32", "info ")
}

// paint writes s in a color of the terminal's own
// (https://en.wikipedia.org/wiki/ANSI_escape_code#Select_Graphic_Rendition_parameters).
func (r *readable) paint(color, s string) string {
	if !r.color {
		return s
	}
	return "\x1b[" + color + "m" + s + "\x1b[0m"
}
