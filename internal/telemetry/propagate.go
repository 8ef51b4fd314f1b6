package telemetry

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// Headers that name the trace a request belongs to. A longer one is no trace
// context: W3C's has 55 bytes, and 512 of state are what must be carried on.
const (
	headerW3C   = "Traceparent"
	headerState = "Tracestate"
	headerCloud = "X-Cloud-Trace-Context"

	maxParent = 256
	maxState  = 4096
)

// withRemote returns ctx with the remote span that h names. W3C's header wins over
// Google's; a header that is malformed or repeated is ignored.
func withRemote(ctx context.Context, h http.Header) context.Context {
	if parent := only(h, headerW3C, maxParent); parent != "" {
		carrier := w3c{parent: parent, state: strings.Join(h[headerState], ",")}
		if len(carrier.state) > maxState {
			carrier.state = ""
		}
		if with := (propagation.TraceContext{}).Extract(ctx, carrier); with != ctx {
			return with
		}
	}
	if sc := cloudTrace(only(h, headerCloud, maxParent)); sc.IsValid() {
		return trace.ContextWithRemoteSpanContext(ctx, sc)
	}
	return ctx
}

// only is the value of a header that was sent once and is not too long.
func only(h http.Header, name string, most int) string {
	if values := h[name]; len(values) == 1 && len(values[0]) <= most {
		return values[0]
	}
	return ""
}

// A w3c carries W3C's two headers to the propagator.
type w3c struct{ parent, state string }

func (c w3c) Get(key string) string {
	switch key {
	case "traceparent":
		return c.parent
	case "tracestate":
		return c.state
	}
	return ""
}

func (c w3c) Keys() []string     { return []string{"traceparent", "tracestate"} }
func (c w3c) Set(string, string) {}

// cloudTrace reads "TRACE_ID/SPAN_ID;o=OPTIONS": the trace in 32 hexadecimal
// digits, the span in decimal, and o=1 when it is sampled
// (https://cloud.google.com/trace/docs/trace-context). A few lines instead of
// Google's propagator, which needs regular expressions for it.
func cloudTrace(value string) trace.SpanContext {
	id, rest, _ := strings.Cut(value, "/")
	span, options, _ := strings.Cut(rest, ";")
	var c trace.SpanContextConfig
	if len(id) != 2*len(c.TraceID) {
		return trace.SpanContext{}
	}
	if _, err := hex.Decode(c.TraceID[:], []byte(id)); err != nil {
		return trace.SpanContext{}
	}
	n, err := strconv.ParseUint(span, 10, 64)
	if err != nil {
		return trace.SpanContext{}
	}
	switch options {
	case "", "o=0":
	case "o=1":
		c.TraceFlags = trace.FlagsSampled
	default:
		return trace.SpanContext{}
	}
	binary.BigEndian.PutUint64(c.SpanID[:], n)
	c.Remote = true
	return trace.NewSpanContext(c)
}

// A Trace is what a log line needs to be found from its trace.
type Trace struct {
	Name    string // "projects/P/traces/T", or T alone when the project is not known
	SpanID  string // 16 hexadecimal digits
	Sampled bool
}

// Trace is the trace that ctx belongs to: the span made here or, when traces
// are off, the one the caller sent. False: there is none.
func (o *Observer) Trace(ctx context.Context) (Trace, bool) {
	if o == nil {
		return TraceIn(ctx, "")
	}
	return TraceIn(ctx, o.project)
}

// TraceIn is the trace that ctx belongs to, as project names it; an empty project
// is one that is not known.
func TraceIn(ctx context.Context, project string) (Trace, bool) {
	sc := trace.SpanContextFromContext(ctx)
	if !sc.IsValid() {
		return Trace{}, false
	}
	t := Trace{Name: sc.TraceID().String(), SpanID: sc.SpanID().String(), Sampled: sc.IsSampled()}
	if project != "" {
		t.Name = "projects/" + project + "/traces/" + t.Name
	}
	return t, true
}
