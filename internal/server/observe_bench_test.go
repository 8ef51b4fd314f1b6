package server

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/gatehouse/internal/gcp/audit/loggingtest"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/telemetry/telemetrytest"
)

// newObserved makes a service that does nothing but what is asked of it, with
// the audit only if audit says so.
func newObserved(b *testing.B, audit bool, pairs ...string) *Server {
	b.Helper()
	s, _ := newServer(b, anAgent, append([]string{
		"GOOGLE_CLOUD_PROJECT=project-1", "LOG_LEVEL=error", "AUDIT_LOG=off", "PLAYGROUND=false",
		"OTEL_TRACES_EXPORTER=none", "OTEL_METRICS_EXPORTER=none",
		"RATE_LIMIT_PER_MINUTE=1000000", "CALLER_RATE_LIMIT_PER_MINUTE=1000000",
	}, pairs...)...)
	if err := s.Ready(b.Context()); err != nil {
		b.Fatal(err)
	}
	p := s.parts.Load()
	p.figures = nil
	if !audit {
		p.audit = nil
	}
	p.handlers = s.handlers(p)
	return s
}

// exportTo lets OpenTelemetry's exporters, which read the process's own
// environment, send to c.
func exportTo(b *testing.B, c *telemetrytest.Collector) {
	b.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
	b.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", c.HTTP)
}

// processorTime is what this process has used, of user and system.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// What logs, traces, metrics and the audit cost a turn, each switched on by itself.
// The stand-ins for the model, the collector and the Logging API run in the same
// process, so their part is in the figures too.
func BenchmarkObservability(b *testing.B) {
	collector := telemetrytest.New(b)
	logging := loggingtest.Start(b)
	logs := []string{"LOG_LEVEL=info"}
	exportTo(b, collector)
	traces, metrics := []string{"OTEL_TRACES_EXPORTER=otlp"}, []string{"OTEL_METRICS_EXPORTER=otlp"}
	audit := []string{"AUDIT_LOG=agent-audit", "LOGGING_ENDPOINT=" + logging.Addr}
	for _, bench := range []struct {
		name  string
		audit bool
		env   []string
	}{
		{"nothing", false, nil},
		{"logs", false, logs},
		{"traces", false, traces},
		{"metrics", false, metrics},
		{"audit on stdout", true, nil},
		{"audit by the API", true, audit},
		{"all", true, slices.Concat(logs, traces, metrics, audit)},
	} {
		b.Run(bench.name, func(b *testing.B) {
			gemini := geminitest.Start(b)
			gemini.Quiet()
			s := newObserved(b, bench.audit, append(bench.env, "GEMINI_API_KEY=key", "GOOGLE_GEMINI_BASE_URL="+gemini.URL)...)
			ask := func() {
				r := httptest.NewRequest(http.MethodPost, "/invoke", strings.NewReader(`{"query": "How is the deployment doing?"}`))
				r.Header.Set("Content-Type", "application/json")
				w := httptest.NewRecorder()
				s.Invoke.ServeHTTP(w, r)
				if w.Code != http.StatusOK {
					b.Fatalf("status %d: %s", w.Code, w.Body)
				}
			}
			ask()
			b.ReportAllocs()
			before := processorTime(b)
			for b.Loop() {
				ask()
			}
			b.ReportMetric(float64((processorTime(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
		})
	}
}

// What the export at the end of a request adds to the time until the client has
// its last byte, which is nothing, and until the handler returns. The collector
// answers after 20 ms. Only the first request of a process exports at once, so
// each measurement takes a new service.
func BenchmarkFlush(b *testing.B) {
	collector := telemetrytest.New(b)
	collector.SetMode(telemetrytest.Slow)
	collector.SetDelay(20 * time.Millisecond)
	exportTo(b, collector)
	export := []string{"OTEL_TRACES_EXPORTER=otlp", "OTEL_METRICS_EXPORTER=otlp"}
	for _, bench := range []struct {
		name string
		env  []string
	}{{"without", nil}, {"with", export}} {
		b.Run(bench.name, func(b *testing.B) {
			var last, returned []time.Duration
			for b.Loop() {
				s := newObserved(b, false, bench.env...)
				ended := make(chan time.Time, 1)
				server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					s.Invoke.ServeHTTP(w, r)
					ended <- time.Now()
				}))
				begin := time.Now()
				response, err := http.Get(server.URL + "/sessions")
				if err != nil {
					b.Fatal(err)
				}
				_, err = io.Copy(io.Discard, response.Body)
				_ = response.Body.Close()
				if err != nil || response.StatusCode != http.StatusOK {
					b.Fatalf("status %d: %v", response.StatusCode, err)
				}
				last = append(last, time.Since(begin))
				returned = append(returned, (<-ended).Sub(begin))
				server.Close()
			}
			b.ReportMetric(float64(median(last).Microseconds()), "last-byte-µs")
			b.ReportMetric(float64(median(returned).Microseconds()), "return-µs")
		})
	}
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}
