package telemetry

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/trace"
)

const (
	traceA  = "0af7651916cd43dd8448eb211c80319c"
	traceB  = "105445aa7843bc8bf206b12000100000"
	parentA = "00-" + traceA + "-b7ad6b7169203331-01"
)

func TestPropagation(t *testing.T) {
	t.Parallel()
	type headers = map[string][]string
	tests := []struct {
		name    string
		headers headers
		trace   string // "": none that is known
		span    string
		sampled bool
	}{
		{"none", nil, "", "", false},
		{"traceparent", headers{"Traceparent": {parentA}}, traceA, "b7ad6b7169203331", true},
		{"not sampled", headers{"Traceparent": {parentA[:54] + "0"}}, traceA, "b7ad6b7169203331", false},
		{"a later version", headers{"Traceparent": {"cc" + parentA[2:] + "-what-comes"}}, traceA, "b7ad6b7169203331", true},
		{"Google's", headers{"X-Cloud-Trace-Context": {traceB + "/1;o=1"}}, traceB, "0000000000000001", true},
		{"Google's, not sampled", headers{"X-Cloud-Trace-Context": {traceB + "/18446744073709551615;o=0"}}, traceB, "ffffffffffffffff", false},
		{"Google's, no options", headers{"X-Cloud-Trace-Context": {traceB + "/2"}}, traceB, "0000000000000002", false},
		{"Google's in capitals", headers{"X-Cloud-Trace-Context": {strings.ToUpper(traceB) + "/2"}}, traceB, "0000000000000002", false},
		{"traceparent wins", headers{"Traceparent": {parentA}, "X-Cloud-Trace-Context": {traceB + "/1;o=0"}}, traceA, "b7ad6b7169203331", true},
		{"a broken traceparent does not", headers{"Traceparent": {"00-x"}, "X-Cloud-Trace-Context": {traceB + "/1;o=1"}}, traceB, "0000000000000001", true},

		{"twice", headers{"Traceparent": {parentA, parentA}}, "", "", false},
		{"no trace", headers{"Traceparent": {"00-" + strings.Repeat("0", 32) + "-b7ad6b7169203331-01"}}, "", "", false},
		{"no span", headers{"Traceparent": {"00-" + traceA + "-0000000000000000-01"}}, "", "", false},
		{"version ff", headers{"Traceparent": {"ff" + parentA[2:]}}, "", "", false},
		{"capitals", headers{"Traceparent": {strings.ToUpper(parentA)}}, "", "", false},
		{"short", headers{"Traceparent": {parentA[:54]}}, "", "", false},
		{"long", headers{"Traceparent": {parentA + "0"}}, "", "", false},
		{"newline", headers{"Traceparent": {parentA + "\n"}}, "", "", false},
		{"newline within", headers{"Traceparent": {"00-" + traceA[:31] + "\n-b7ad6b7169203331-01"}}, "", "", false},
		{"quotes", headers{"Traceparent": {`"` + parentA + `"`}}, "", "", false},
		{"64 KB", headers{"Traceparent": {strings.Repeat("0", 64<<10)}}, "", "", false},
		{"64 KB behind", headers{"Traceparent": {"cc" + parentA[2:] + "-" + strings.Repeat("a", 64<<10)}}, "", "", false},
		{"empty", headers{"Traceparent": {""}}, "", "", false},
		{"Google's without a span", headers{"X-Cloud-Trace-Context": {traceB}}, "", "", false},
		{"Google's with span 0", headers{"X-Cloud-Trace-Context": {traceB + "/0;o=1"}}, "", "", false},
		{"Google's of zeros", headers{"X-Cloud-Trace-Context": {strings.Repeat("0", 32) + "/1;o=1"}}, "", "", false},
		{"Google's too big", headers{"X-Cloud-Trace-Context": {traceB + "/18446744073709551616;o=1"}}, "", "", false},
		{"Google's negative", headers{"X-Cloud-Trace-Context": {traceB + "/-1;o=1"}}, "", "", false},
		{"Google's with more", headers{"X-Cloud-Trace-Context": {traceB + "/1;o=1\n{}"}}, "", "", false},
		{"Google's short", headers{"X-Cloud-Trace-Context": {traceB[1:] + "/1;o=1"}}, "", "", false},
		{"Google's not hexadecimal", headers{"X-Cloud-Trace-Context": {"g" + traceB[1:] + "/1;o=1"}}, "", "", false},
		{"Google's 64 KB", headers{"X-Cloud-Trace-Context": {traceB + "/" + strings.Repeat("1", 64<<10)}}, "", "", false},
	}
	off := observer(t, Config{Project: "p"}, "OTEL_METRICS_EXPORTER", "none")
	on := observer(t, Config{Project: "p"}, "OTEL_METRICS_EXPORTER", "none", "OTEL_TRACES_EXPORTER", "console")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(http.MethodPost, "/", nil)
			r.Header = tt.headers
			if tt.headers == nil {
				r.Header = http.Header{}
			}

			ctx, q := off.StartRequest(r, false)
			defer q.End(ctx, "", 200, "")
			got, ok := off.Trace(ctx)
			want := Trace{}
			if tt.trace != "" {
				want = Trace{"projects/p/traces/" + tt.trace, tt.span, tt.sampled}
			}
			if got != want || ok != (tt.trace != "") {
				t.Errorf("off: %+v, want %+v", got, want)
			}

			ctx, q = on.StartRequest(r, false)
			defer q.End(ctx, "", 200, "")
			got, ok = on.Trace(ctx)
			if !ok || got.SpanID == tt.span {
				t.Errorf("on: %+v: no span of our own", got)
			}
			if tt.trace != "" {
				want = Trace{"projects/p/traces/" + tt.trace, got.SpanID, tt.sampled}
			} else {
				want = Trace{got.Name, got.SpanID, true} // a new trace
			}
			if got != want {
				t.Errorf("on: %+v, want %+v", got, want)
			}
		})
	}
}

func TestTracestate(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		lines []string
		want  string
	}{
		{"none", nil, ""},
		{"one", []string{"a=1,b=2"}, "a=1,b=2"},
		{"two lines", []string{"a=1", "b=2"}, "a=1,b=2"},
		{"broken", []string{"a"}, ""},
		{"newline", []string{"a=1\nb=2"}, ""},
		{"64 KB", []string{"a=" + strings.Repeat("x", 64<<10)}, ""},
		{"too many", []string{strings.Repeat("a=1,", 64) + "b=1"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx := withRemote(t.Context(), http.Header{"Traceparent": {parentA}, "Tracestate": tt.lines})
			sc := trace.SpanContextFromContext(ctx)
			if got := sc.TraceState().String(); got != tt.want || sc.TraceID().String() != traceA {
				t.Errorf("trace %s, state %q, want %q", sc.TraceID(), got, tt.want)
			}
		})
	}
}

func TestSampling(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		sampler string
		parent  string
		want    int // spans of two
	}{
		{"by default", "", "", 2},
		{"the parent is sampled", "parentbased_always_off", parentA, 2},
		{"the parent is not", "parentbased_always_on", parentA[:54] + "0", 0},
		{"no parent", "parentbased_always_off", "", 0},
		{"always, with an unsampled parent", "always_on", parentA[:54] + "0", 2},
		{"never, with a sampled parent", "always_off", parentA, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := observer(t, Config{}, "OTEL_TRACES_EXPORTER", "console", "OTEL_METRICS_EXPORTER", "none", "OTEL_TRACES_SAMPLER", tt.sampler)
			r := httptest.NewRequest(http.MethodPost, "/", nil)
			if tt.parent != "" {
				r.Header.Set("traceparent", tt.parent)
			}
			ctx, q := o.StartRequest(r, false)
			below, step := o.StartLoad(ctx)
			step.End(below, "")
			q.End(ctx, "", 200, "")
			if got := o.queue.len(); got != tt.want {
				t.Errorf("%d spans, want %d", got, tt.want)
			}
		})
	}
}

func FuzzPropagation(f *testing.F) {
	f.Add(parentA, "a=1", traceB+"/1;o=1")
	f.Fuzz(func(t *testing.T, parent, state, cloud string) {
		ctx := withRemote(t.Context(), http.Header{"Traceparent": {parent}, "Tracestate": {state}, "X-Cloud-Trace-Context": {cloud}})
		o := &Observer{project: "p"}
		got, ok := o.Trace(ctx)
		if ok && (len(got.Name) != len("projects/p/traces/")+32 || len(got.SpanID) != 16 || strings.ContainsAny(got.Name+got.SpanID, "\n\"")) {
			t.Errorf("%+v", got)
		}
	})
}
