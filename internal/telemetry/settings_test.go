package telemetry

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// env is an environment of pairs.
func env(pairs ...string) func(string) (string, bool) {
	m := make(map[string]string)
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return func(name string) (string, bool) {
		v, ok := m[name]
		return v, ok
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name            string
		env             []string
		traces, metrics string
		sampler         string
	}{
		{"a laptop", nil, None, Prometheus, "ParentBased{root:AlwaysOnSampler"},
		{"on Google Cloud", []string{"K_SERVICE", "invoke"}, Google, Google, "ParentBased{root:AlwaysOnSampler"},
		{"chosen", []string{"OTEL_TRACES_EXPORTER", "otlp", "OTEL_METRICS_EXPORTER", "console"}, OTLP, Console, ""},
		{"off on Google Cloud", []string{"K_SERVICE", "x", "OTEL_TRACES_EXPORTER", "none", "OTEL_METRICS_EXPORTER", "none"}, None, None, ""},
		{"switched off", []string{"K_SERVICE", "x", "OTEL_SDK_DISABLED", "True"}, None, None, ""},
		{"empty is unset", []string{"K_SERVICE", "", "OTEL_TRACES_EXPORTER", "", "OTEL_TRACES_SAMPLER", " "}, None, Prometheus, "ParentBased{root:AlwaysOnSampler"},
		{"never", []string{"OTEL_TRACES_SAMPLER", "always_off"}, None, Prometheus, "AlwaysOffSampler"},
		{"some, without regard to the parent", []string{"OTEL_TRACES_SAMPLER", "traceidratio", "OTEL_TRACES_SAMPLER_ARG", "0.25"}, None, Prometheus, "TraceIDRatioBased{0.25}"},
		{"some", []string{"OTEL_TRACES_SAMPLER", "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG", "0.5"}, None, Prometheus, "ParentBased{root:TraceIDRatioBased{0.5}"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, err := Parse(env(tt.env...))
			if err != nil {
				t.Fatal(err)
			}
			if s.Traces != tt.traces || s.Metrics != tt.metrics {
				t.Errorf("exporters %s, %s; want %s, %s", s.Traces, s.Metrics, tt.traces, tt.metrics)
			}
			if got := s.sampler.Description(); !strings.HasPrefix(got, tt.sampler) {
				t.Errorf("sampler %s, want %s", got, tt.sampler)
			}
		})
	}
}

func TestParseOTLP(t *testing.T) {
	t.Parallel()
	s, err := Parse(env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/protobuf",
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://collector:4317", "OTEL_EXPORTER_OTLP_TIMEOUT", "500"))
	if err != nil {
		t.Fatal(err)
	}
	if want := (otlp{protocol: protocolGRPC, endpoint: true, timeout: 500 * time.Millisecond}); s.otlpTraces != want {
		t.Errorf("traces by %+v, want %+v", s.otlpTraces, want)
	}
	if want := (otlp{protocol: protocolHTTP, timeout: 500 * time.Millisecond}); s.otlpMetrics != want {
		t.Errorf("metrics by %+v, want %+v", s.otlpMetrics, want)
	}
}

func TestParseNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	tests := []struct{ variable, value string }{
		{"OTEL_TRACES_EXPORTER", "prometheus"},
		{"OTEL_TRACES_EXPORTER", "otlp,console"},
		{"OTEL_METRICS_EXPORTER", "Google"},
		{"OTEL_SDK_DISABLED", "yes"},
		{"OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"},
		{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "udp"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4317"},
		{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "https://user:hunter2@"},
		{"OTEL_EXPORTER_OTLP_TIMEOUT", "10s"},
		{"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta"},
		{"OTEL_TRACES_SAMPLER", "jaeger_remote"},
		{"OTEL_BSP_MAX_QUEUE_SIZE", "0"},
		{"OTEL_RESOURCE_ATTRIBUTES", "a=1,b"},
		{"OTEL_RESOURCE_ATTRIBUTES", "a=%zz"},
		{"OTEL_TRACES_EXPORTER", strings.Repeat("x", 1<<16)},
	}
	var all []string
	for _, tt := range tests {
		all = append(all, tt.variable, tt.value)
		_, err := Parse(env(tt.variable, tt.value))
		if err == nil || !strings.HasPrefix(err.Error(), tt.variable+": ") {
			t.Errorf("%s=%.40s: %v", tt.variable, tt.value, err)
			continue
		}
		if text := err.Error(); len(text) > 1024 || strings.Contains(text, "hunter2") {
			t.Errorf("%s: the error is long or tells a secret: %.100s", tt.variable, text)
		}
	}
	for _, arg := range []string{"-1", "1.5", "NaN", "half"} {
		_, err := Parse(env("OTEL_TRACES_SAMPLER", "traceidratio", "OTEL_TRACES_SAMPLER_ARG", arg))
		if err == nil || !strings.HasPrefix(err.Error(), "OTEL_TRACES_SAMPLER_ARG: ") {
			t.Errorf("OTEL_TRACES_SAMPLER_ARG=%s: %v", arg, err)
		}
	}
	if _, err := Parse(env(all...)); strings.Count(fmt.Sprint(err), "\n") < 9 {
		t.Errorf("not every problem at once: %v", err)
	}
}

func TestResource(t *testing.T) {
	t.Parallel()
	s, err := Parse(env("OTEL_RESOURCE_ATTRIBUTES", "service.name=first,team=a%20b, zone = x ", "OTEL_SERVICE_NAME", "second"))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, kv := range newResource(s, Config{Service: "ours", Version: "v1"}).base.Attributes() {
		got[string(kv.Key)] = kv.Value.AsString()
	}
	for key, want := range map[string]string{"service.name": "second", "service.version": "v1", "team": "a b", "zone": "x"} {
		if got[key] != want {
			t.Errorf("%s is %q, want %q", key, got[key], want)
		}
	}
	if len(got["service.instance.id"]) < 16 {
		t.Errorf("service.instance.id is %q", got["service.instance.id"])
	}
}
