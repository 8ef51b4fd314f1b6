package telemetry

import (
	"cmp"
	"context"
	"fmt"

	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/api/option"
	gtransport "google.golang.org/api/transport/grpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"example.com/gatehouse/internal/loopback"
)

// Google Cloud takes traces and metrics by OTLP, with the instance's own
// credentials. Cloud Trace keeps spans as they are. Cloud Monitoring keeps a
// metric as prometheus.googleapis.com/NAME/KIND (counter, gauge or histogram)
// of the monitored resource prometheus_target, and the dots of names and labels
// stay: in PromQL {"gen_ai.client.token.usage_sum"}. What it demands of a
// resource is in resource.go.
// https://docs.cloud.google.com/stackdriver/docs/reference/telemetry/v1.metrics
// https://docs.cloud.google.com/stackdriver/docs/otlp-metrics/overview
const (
	googleEndpoint = "telemetry.googleapis.com:443"
	googleScope    = "https://www.googleapis.com/auth/cloud-platform"
)

// dialGoogle returns a connection to the Telemetry API, which is made by the
// first export. An endpoint on loopback stands in for the API: it is spoken to
// in plaintext and without credentials.
func (b *builder) dialGoogle(ctx context.Context, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	endpoint := cmp.Or(b.config.GoogleEndpoint, googleEndpoint)
	more = append(more, grpc.WithKeepaliveParams(brokenConnection))
	if loopback.HostPort(endpoint) {
		return grpc.NewClient(endpoint, append(more, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	}
	opts := []option.ClientOption{
		option.WithEndpoint(endpoint),
		option.WithScopes(googleScope),
		option.WithTelemetryDisabled(), // an export is not traced
	}
	if b.config.Project != "" { // else exports count against the credentials' own
		opts = append(opts, option.WithQuotaProject(b.config.Project)) // the header x-goog-user-project
	}
	for _, o := range more {
		opts = append(opts, option.WithGRPCDialOption(o))
	}
	conn, err := gtransport.Dial(ctx, append(opts, b.config.GoogleOptions...)...)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", endpoint, err)
	}
	return conn, nil
}

// googleTraces exports to Cloud Trace.
func (b *builder) googleTraces(ctx context.Context) (sdktrace.SpanExporter, func() error, error) {
	conn, err := b.dialGoogle(ctx)
	if err != nil {
		return nil, nil, err
	}
	exporter, err := otlptracegrpc.New(ctx, otlptracegrpc.WithGRPCConn(conn),
		otlptracegrpc.WithTimeout(noDeadline), otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig{}))
	return exporter, conn.Close, err
}

// googleMetrics exports to Cloud Monitoring.
func (b *builder) googleMetrics(ctx context.Context) (sdkmetric.Exporter, func() error, error) {
	conn, err := b.dialGoogle(ctx, grpc.WithChainUnaryInterceptor(limitPoints))
	if err != nil {
		return nil, nil, err
	}
	exporter, err := otlpmetricgrpc.New(ctx, otlpmetricgrpc.WithGRPCConn(conn),
		otlpmetricgrpc.WithTimeout(noDeadline), otlpmetricgrpc.WithRetry(otlpmetricgrpc.RetryConfig{}))
	return exporter, conn.Close, err
}
