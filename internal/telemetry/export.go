package telemetry

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/exporters/stdout/stdoutmetric"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// A builder makes exporters. None of them retries by itself, which would be a
// timer in the background, and none has its own deadline unless the environment
// sets one, for it would pass while the instance is frozen: a [lane] does both.
type builder struct {
	settings Settings
	config   Config
}

// noDeadline stands for none where an exporter must have one.
const noDeadline = 24 * time.Hour

// traces returns an exporter, and what closes its connection besides Shutdown;
// nil: nothing.
func (b *builder) traces(ctx context.Context) (sdktrace.SpanExporter, func() error, error) {
	switch b.settings.Traces {
	case Google:
		return b.googleTraces(ctx)
	case OTLP:
		return b.settings.otlpTraces.traces(ctx)
	case Console:
		exporter, err := stdouttrace.New(stdouttrace.WithWriter(b.config.Console))
		return exporter, nil, err
	}
	return nil, nil, fmt.Errorf("no exporter %q", b.settings.Traces)
}

// metrics is traces for metrics.
func (b *builder) metrics(ctx context.Context) (sdkmetric.Exporter, func() error, error) {
	switch b.settings.Metrics {
	case Google:
		return b.googleMetrics(ctx)
	case OTLP:
		return b.settings.otlpMetrics.metrics(ctx)
	case Console:
		exporter, err := stdoutmetric.New(stdoutmetric.WithWriter(b.config.Console))
		return exporter, nil, err
	}
	return nil, nil, fmt.Errorf("no exporter %q", b.settings.Metrics)
}
