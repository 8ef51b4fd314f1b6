package telemetry

import (
	"net/http"
	"net/http/httptest"
	"os"
	"syscall"
	"testing"
	"time"

	"example.com/gatehouse/internal/telemetry/telemetrytest"
	"example.com/gatehouse/internal/testclock"
)

// BenchmarkTurn is what a request costs: a request's and six steps' spans and
// all their measurements. The queue is full, as after 600 turns without a
// flush.
func BenchmarkTurn(b *testing.B) {
	tests := []struct {
		name string
		env  []string
	}{
		{"off", []string{"OTEL_SDK_DISABLED", "true"}},
		{"traces", []string{"OTEL_METRICS_EXPORTER", "none", "OTEL_TRACES_EXPORTER", "console"}},
		{"traces, not sampled", []string{"OTEL_METRICS_EXPORTER", "none", "OTEL_TRACES_EXPORTER", "console", "OTEL_TRACES_SAMPLER", "always_off"}},
		{"metrics", []string{"OTEL_METRICS_EXPORTER", "console"}},
		{"both", []string{"OTEL_METRICS_EXPORTER", "console", "OTEL_TRACES_EXPORTER", "console"}},
	}
	for _, tt := range tests {
		b.Run(tt.name, func(b *testing.B) {
			o := observer(b, all(), tt.env...)
			r := httptest.NewRequest(http.MethodPost, "/invoke", nil)
			r.Header.Set("User-Agent", "bench")
			b.ReportAllocs()
			begin := cpu()
			for b.Loop() {
				benchTurn(o, r)
			}
			b.ReportMetric(float64(cpu()-begin)/float64(b.N), "cpu-ns/op")
		})
	}
}

// cpu is what the process has used; on a busy machine it tells more than time.
func cpu() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func benchTurn(o *Observer, r *http.Request) {
	ctx, q := o.StartRequest(r, true)
	_, s := o.StartSecrets(ctx)
	s.End(ctx, "")
	_, s = o.StartLoad(ctx)
	s.End(ctx, "")
	agent, a := o.StartAgent(ctx, "assistant")
	_, s = o.StartModel(agent, "gemini-2.5-flash")
	s.Usage("gemini-2.5-flash-001", 412, 133)
	s.End(agent, "")
	_, s = o.StartTool(agent, "get_time")
	s.End(agent, "")
	a.End(agent, "")
	_, s = o.StartCommit(ctx)
	s.End(ctx, "")
	q.End(ctx, "POST /invoke", 200, "")
}

func BenchmarkStartRequestWithParent(b *testing.B) {
	o := observer(b, all(), "OTEL_SDK_DISABLED", "true")
	for name, header := range map[string][2]string{
		"traceparent": {"Traceparent", parentA},
		"google":      {"X-Cloud-Trace-Context", traceB + "/1;o=1"},
	} {
		b.Run(name, func(b *testing.B) {
			r := httptest.NewRequest(http.MethodPost, "/invoke", nil)
			r.Header.Set(header[0], header[1])
			b.ReportAllocs()
			for b.Loop() {
				o.StartRequest(r, true)
			}
		})
	}
}

// BenchmarkFlushNotDue is the flush of all but one request in ten seconds.
func BenchmarkFlushNotDue(b *testing.B) {
	o := observer(b, all(), "OTEL_METRICS_EXPORTER", "console")
	o.Flush(b.Context())
	b.ReportAllocs()
	for b.Loop() {
		o.Flush(b.Context())
	}
}

// BenchmarkFlush is one of 20 turns to a collector on loopback.
func BenchmarkFlush(b *testing.B) {
	collector := telemetrytest.New(b)
	b.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.HTTP)
	b.Setenv("OTEL_TRACES_EXPORTER", OTLP)
	b.Setenv("OTEL_METRICS_EXPORTER", OTLP)
	s, err := Parse(os.LookupEnv)
	if err != nil {
		b.Fatal(err)
	}
	c := testclock.New(start)
	config := all()
	config.Now = c.Now
	o, err := New(s, config)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		for range 20 {
			turn(o)
		}
		c.Advance(tracesEvery)
		o.Flush(b.Context())
	}
	if err := o.Shutdown(b.Context()); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkNew is what a cold start pays.
func BenchmarkNew(b *testing.B) {
	for _, name := range []string{"laptop", "google"} {
		b.Run(name, func(b *testing.B) {
			var pairs []string
			if name == "google" {
				pairs = []string{"K_SERVICE", "invoke"}
			}
			b.ReportAllocs()
			for b.Loop() {
				observer(b, all(), pairs...)
			}
		})
	}
}
