// Package telemetry is what an operator sees of the service: log lines in the
// form that Cloud Logging parses, one of them for each request (log.go,
// record.go); traces and metrics by OpenTelemetry (trace.go, metric.go).
//
// An instance on Cloud Run has CPU only while a request is open, so nothing is
// left to a goroutine in the background: ended spans wait in a bounded queue,
// metrics in their instruments, and [Observer.Flush] exports both at the end of
// a request, after the client has its bytes. An [Observer] is made from
// [Settings], which [Parse] reads from the environment, and a [Config], which
// lists the only values that may become labels.
//
// The exporters are built by the first flush, so a cold start waits for
// neither credentials nor connections nor the metadata server.
package telemetry

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/api/option"

	"example.com/gatehouse/internal/truncate"
)

// scope names this package as the source of the spans and metrics.
const scope = "example.com/gatehouse"

// A Config lists what is observed. A label's value that it does not list becomes
// "other" (in error.type, "_OTHER"), so that no caller can add a time series.
type Config struct {
	Service string // service.name, unless the environment names another
	Version string // service.version
	Project string // of Google Cloud; where exports go and log lines find their traces

	Routes   []string // patterns such as "POST /invoke"
	Codes    []string // the contract's error codes
	Models   []string
	Tools    []string
	Provider string // gen_ai.provider.name, such as "gcp.gemini"

	Log     *slog.Logger     // of failed exports, at most once a minute
	Console io.Writer        // of the console exporters; nil: standard error, for standard output holds the log
	Now     func() time.Time // nil: time.Now

	// GoogleEndpoint is the host:port of a regional or private endpoint of the
	// Telemetry API; "" is the global one. Loopback stands in for the API.
	GoogleEndpoint string
	// GoogleOptions are for the connection to it, such as other credentials.
	GoogleOptions []option.ClientOption
}

// An Observer makes spans and counts. It is safe for concurrent use; all that a
// nil Observer does is nothing.
type Observer struct {
	project string
	now     func() time.Time
	tracer  trace.Tracer // nil: off
	metrics *instruments // nil: off
	labels  labels
	vendor  attribute.KeyValue // gen_ai.provider.name
	queue   *queue             // nil: no traces
	lanes   []*lane
	handler http.Handler // nil: no /metrics
	closers []func(context.Context) error
}

// New makes an Observer. It does no I/O, starts no goroutine, and touches no global.
func New(s Settings, c Config) (*Observer, error) {
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Console == nil {
		c.Console = os.Stderr
	}
	res := newResource(s, c)
	build := &builder{settings: s, config: c}
	o := &Observer{
		project: c.Project,
		now:     c.Now,
		labels:  newLabels(c),
		vendor:  semconv.GenAIProviderNameKey.String(c.Provider),
	}
	if s.Traces != None {
		o.queue = newQueue(s.queueSize)
		provider := sdktrace.NewTracerProvider(
			sdktrace.WithResource(res.base),
			sdktrace.WithSampler(s.sampler),
			sdktrace.WithSpanProcessor(o.queue),
			sdktrace.WithRawSpanLimits(spanLimits()),
		)
		o.tracer = provider.Tracer(scope, trace.WithInstrumentationVersion(c.Version))
		sender := &spanSender{lazy[sdktrace.SpanExporter]{build: build.traces, resource: res}, o.queue}
		o.lanes = append(o.lanes, newLane("traces", tracesEvery, sender, c.Now, c.Log))
		o.closers = append(o.closers, provider.Shutdown)
	}
	if s.Metrics == None {
		return o, nil
	}
	var reader sdkmetric.Reader
	if s.Metrics == Prometheus {
		var err error
		if reader, o.handler, err = newPrometheus(); err != nil {
			return nil, err
		}
	} else {
		manual := sdkmetric.NewManualReader()
		reader = manual
		sender := &metricSender{lazy: lazy[sdkmetric.Exporter]{build: build.metrics, resource: res}, reader: manual}
		o.lanes = append(o.lanes, newLane("metrics", metricsEvery, sender, c.Now, c.Log))
	}
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithResource(res.base), sdkmetric.WithReader(reader))
	o.closers = append(o.closers, provider.Shutdown)
	var err error
	o.metrics, err = newInstruments(provider.Meter(scope), c.Provider)
	if err != nil {
		return nil, err
	}
	return o, nil
}

// LogErrors makes log the place where OpenTelemetry reports the errors that it returns
// to nobody, in the whole process: it is for programs, whose process is theirs.
func LogErrors(log *slog.Logger) {
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		log.Warn("OpenTelemetry reports an error.", slog.String("error", truncate.Text(err.Error(), maxProblem)))
	}))
}

// Handler serves the metrics in Prometheus' format; nil unless they are
// exported so.
func (o *Observer) Handler() http.Handler {
	if o == nil {
		return nil
	}
	return o.handler
}

// maxProblem bounds an error of an exporter's, or a value that a variable has, in
// bytes of a log line.
const maxProblem = 512

// attributeLength bounds a span attribute's text, in bytes.
const attributeLength = 1024

// spanLimits are the SDK's, which OTEL_SPAN_* and OTEL_ATTRIBUTE_* set, but
// never without a bound on a value.
func spanLimits() sdktrace.SpanLimits {
	limits := sdktrace.NewSpanLimits()
	if limits.AttributeValueLengthLimit < 0 {
		limits.AttributeValueLengthLimit = attributeLength
	}
	return limits
}
