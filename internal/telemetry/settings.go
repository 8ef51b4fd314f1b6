package telemetry

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"

	"example.com/gatehouse/internal/truncate"
)

// The exporters.
const (
	Google     = "google"
	OTLP       = "otlp"
	Console    = "console"
	None       = "none"
	Prometheus = "prometheus" // metrics only
)

// The protocols of OTLP.
const (
	protocolGRPC = "grpc"
	protocolHTTP = "http/protobuf"
)

// Settings are the environment's, checked.
type Settings struct {
	Traces, Metrics string // exporters

	otlpTraces, otlpMetrics otlp
	sampler                 sdktrace.Sampler
	resource                []attribute.KeyValue
	queueSize               int // spans
	googleCloud             bool
}

// An otlp is how one signal speaks OTLP. What its exporter reads by itself is
// only noted.
type otlp struct {
	protocol               string
	timeout                time.Duration // noDeadline unless the environment has one
	endpoint, certificates bool
}

// A Problem is what is wrong with a variable.
type Problem struct{ Variable, Issue string }

// Problems is the error of [Parse].
type Problems []Problem

func (p Problems) Error() string {
	var lines []string
	for _, one := range p {
		lines = append(lines, one.Variable+": "+one.Issue)
	}
	return strings.Join(lines, "\n")
}

// Parse reads the standard OTEL_* variables by lookup. Its error is [Problems],
// all of them. What only OTLP has (headers, certificates, compression) is read by
// the exporters from the process's environment.
func Parse(lookup func(string) (string, bool)) (Settings, error) {
	e := &environment{lookup: lookup}
	s := Settings{googleCloud: e.get("K_SERVICE") != ""}
	traces, metrics := None, Prometheus
	if s.googleCloud {
		traces, metrics = Google, Google
	}
	s.Traces = e.oneOf("OTEL_TRACES_EXPORTER", traces, Google, OTLP, Console, None)
	s.Metrics = e.oneOf("OTEL_METRICS_EXPORTER", metrics, Google, OTLP, Console, None, Prometheus)
	if e.bool("OTEL_SDK_DISABLED") {
		s.Traces, s.Metrics = None, None
	}
	s.otlpTraces, s.otlpMetrics = e.otlp("TRACES_"), e.otlp("METRICS_")
	// An export that failed goes with the next only while values add up from
	// the start: with delta temporality it would be lost.
	e.oneOf("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "cumulative", "cumulative")
	s.sampler = e.sampler()
	s.resource = e.resource()
	s.queueSize = e.int("OTEL_BSP_MAX_QUEUE_SIZE", 4096, 1, 1<<16)
	if len(e.problems) > 0 {
		return s, e.problems
	}
	return s, nil
}

// An environment reads variables and collects their problems. As OpenTelemetry
// demands, an empty variable counts as unset.
type environment struct {
	lookup   func(string) (string, bool)
	problems Problems
}

func (e *environment) get(name string) string {
	value, _ := e.lookup(name)
	return strings.TrimSpace(value)
}

func (e *environment) wrong(name, format string, args ...any) {
	e.problems = append(e.problems, Problem{name, fmt.Sprintf(format, args...)})
}

func (e *environment) oneOf(name, fallback string, allowed ...string) string {
	value := e.get(name)
	if value == "" {
		return fallback
	}
	if !slices.Contains(allowed, value) {
		e.wrong(name, "%q is not one of %s", truncate.Text(value, maxProblem), strings.Join(allowed, ", "))
		return fallback
	}
	return value
}

func (e *environment) bool(name string) bool {
	switch value := e.get(name); strings.ToLower(value) {
	case "true":
		return true
	case "", "false":
	default:
		e.wrong(name, "%q is neither true nor false", truncate.Text(value, maxProblem))
	}
	return false
}

func (e *environment) int(name string, fallback, least, most int) int {
	value := e.get(name)
	if value == "" {
		return fallback
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < least || n > most {
		e.wrong(name, "%q is not a number from %d to %d", truncate.Text(value, maxProblem), least, most)
		return fallback
	}
	return n
}

// otlp reads how OTLP is spoken for one signal: its own variable, then the one
// for all signals.
func (e *environment) otlp(signal string) otlp {
	o := otlp{protocol: protocolHTTP, timeout: noDeadline}
	for _, signal := range []string{"", signal} {
		prefix := "OTEL_EXPORTER_OTLP_" + signal
		o.protocol = e.oneOf(prefix+"PROTOCOL", o.protocol, protocolGRPC, protocolHTTP)
		if ms := e.int(prefix+"TIMEOUT", 0, 1, 1<<31-1); ms > 0 {
			o.timeout = time.Duration(ms) * time.Millisecond
		}
		o.certificates = e.get(prefix+"CERTIFICATE") != "" || e.get(prefix+"CLIENT_CERTIFICATE") != "" || o.certificates
		value := e.get(prefix + "ENDPOINT")
		if value == "" {
			continue
		}
		o.endpoint = true
		u, err := url.Parse(value)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			// Not quoted: it may hold a credential.
			e.wrong(prefix+"ENDPOINT", "not a URL with http:// or https:// and a host (%d characters)", len(value))
		}
	}
	return o
}

// sampler follows OTEL_TRACES_SAMPLER; a parent's decision holds by default.
func (e *environment) sampler() sdktrace.Sampler {
	const arg = "OTEL_TRACES_SAMPLER_ARG"
	value := e.oneOf("OTEL_TRACES_SAMPLER", "parentbased_always_on", "always_on", "always_off", "traceidratio",
		"parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio")
	root, parentBased := strings.CutPrefix(value, "parentbased_")
	sampler := sdktrace.AlwaysSample()
	switch root {
	case "always_off":
		sampler = sdktrace.NeverSample()
	case "traceidratio":
		fraction := 1.0
		if value := e.get(arg); value != "" {
			var err error
			if fraction, err = strconv.ParseFloat(value, 64); err != nil || !(fraction >= 0 && fraction <= 1) {
				e.wrong(arg, "%q is not a number from 0 to 1", truncate.Text(value, maxProblem))
			}
		}
		sampler = sdktrace.TraceIDRatioBased(fraction)
	}
	if parentBased {
		sampler = sdktrace.ParentBased(sampler)
	}
	return sampler
}

// resource reads the environment's attributes of the process. Values are
// percent-encoded.
func (e *environment) resource() []attribute.KeyValue {
	const name = "OTEL_RESOURCE_ATTRIBUTES"
	var attrs []attribute.KeyValue
	for pair := range strings.SplitSeq(e.get(name), ",") {
		if pair = strings.TrimSpace(pair); pair == "" {
			continue
		}
		key, value, found := strings.Cut(pair, "=")
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if key = strings.TrimSpace(key); !found || key == "" || err != nil {
			e.wrong(name, "%q is not key=value", truncate.Text(pair, maxProblem))
			continue
		}
		attrs = append(attrs, attribute.String(key, value))
	}
	if service := e.get("OTEL_SERVICE_NAME"); service != "" {
		attrs = append(attrs, semconv.ServiceName(service))
	}
	return attrs
}
