package observe

import (
	"slices"

	gcpmetric "github.com/GoogleCloudPlatform/opentelemetry-operations-go/exporter/metric"
	gcptrace "github.com/GoogleCloudPlatform/opentelemetry-operations-go/exporter/trace"
	"go.opentelemetry.io/otel"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
)

// clientOptions are for both APIs. The exporters' own calls are not traced.
func (b *builder) clientOptions() []option.ClientOption {
	return slices.Concat([]option.ClientOption{
		option.WithTelemetryDisabled(),
		option.WithGRPCDialOption(grpc.WithKeepaliveParams(brokenConnection)),
	}, b.config.GoogleOptions)
}

// googleTraces exports to Cloud Trace.
func (b *builder) googleTraces() (sdktrace.SpanExporter, error) {
	exporter, err := gcptrace.New(
		gcptrace.WithProjectID(b.config.Project), // "": the credentials'
		gcptrace.WithTraceClientOptions(b.clientOptions()),
		gcptrace.WithTimeout(noDeadline),
		gcptrace.WithErrorHandler(otel.ErrorHandlerFunc(func(error) {})), // it returns them, too
	)
	if err != nil {
		return nil, err
	}
	return exporter, nil
}

// googleMetrics exports to Cloud Monitoring. The monitored resource
// (generic_task) names service and instance, so the labels need not.
func (b *builder) googleMetrics() (sdkmetric.Exporter, error) {
	return gcpmetric.New(
		gcpmetric.WithProjectID(b.config.Project),
		gcpmetric.WithMonitoringClientOptions(b.clientOptions()...),
		gcpmetric.WithFilteredResourceAttributes(gcpmetric.NoAttributes),
	)
}
