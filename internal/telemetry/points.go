package telemetry

import (
	"context"
	"errors"

	colmetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/grpc"
)

// maxPoints is the most that one request to Google may hold: a larger one is
// refused as a whole, and as counters are sent from the start each time, so is
// every later one (https://github.com/gofr-dev/gofr/issues/4266).
const maxPoints = 200

// limitPoints is a gRPC interceptor that sends an export of metrics in requests
// of at most maxPoints.
func limitPoints(ctx context.Context, method string, request, response any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	export, ok := request.(*colmetrics.ExportMetricsServiceRequest)
	if !ok {
		return invoke(ctx, method, request, response, conn, opts...)
	}
	whole := response.(*colmetrics.ExportMetricsServiceResponse)
	var errs []error
	for _, part := range split(export, maxPoints) {
		var answer colmetrics.ExportMetricsServiceResponse
		if err := invoke(ctx, method, part, &answer, conn, opts...); err != nil {
			errs = append(errs, err)
			continue
		}
		if p := answer.PartialSuccess; p != nil {
			whole.PartialSuccess = &colmetrics.ExportMetricsPartialSuccess{
				RejectedDataPoints: whole.PartialSuccess.GetRejectedDataPoints() + p.RejectedDataPoints,
				ErrorMessage:       p.ErrorMessage,
			}
		}
	}
	return errors.Join(errs...)
}

// split returns an export in parts of at most most points each.
func split(export *colmetrics.ExportMetricsServiceRequest, most int) []*colmetrics.ExportMetricsServiceRequest {
	var parts []*colmetrics.ExportMetricsServiceRequest
	room := 0 // in the last part
	for _, resource := range export.ResourceMetrics {
		for _, scope := range resource.ScopeMetrics {
			var into *metricspb.ScopeMetrics // of the last part; nil: it has none of scope
			for _, m := range scope.Metrics {
				for from, n := 0, points(m); from < n; {
					if room == 0 {
						parts, into, room = append(parts, &colmetrics.ExportMetricsServiceRequest{}), nil, most
					}
					if into == nil {
						into = &metricspb.ScopeMetrics{Scope: scope.Scope, SchemaUrl: scope.SchemaUrl}
						last := parts[len(parts)-1]
						last.ResourceMetrics = append(last.ResourceMetrics, &metricspb.ResourceMetrics{
							Resource: resource.Resource, SchemaUrl: resource.SchemaUrl, ScopeMetrics: []*metricspb.ScopeMetrics{into},
						})
					}
					to := min(n, from+room)
					into.Metrics = append(into.Metrics, part(m, from, to))
					room, from = room-(to-from), to
				}
			}
		}
	}
	return parts
}

// points counts the points of m.
func points(m *metricspb.Metric) int {
	return len(m.GetGauge().GetDataPoints()) + len(m.GetSum().GetDataPoints()) + len(m.GetHistogram().GetDataPoints()) +
		len(m.GetExponentialHistogram().GetDataPoints()) + len(m.GetSummary().GetDataPoints())
}

// part returns m with its points [from:to] only.
func part(m *metricspb.Metric, from, to int) *metricspb.Metric {
	p := &metricspb.Metric{Name: m.Name, Description: m.Description, Unit: m.Unit, Metadata: m.Metadata}
	switch d := m.Data.(type) {
	case *metricspb.Metric_Gauge:
		p.Data = &metricspb.Metric_Gauge{Gauge: &metricspb.Gauge{DataPoints: d.Gauge.DataPoints[from:to]}}
	case *metricspb.Metric_Sum:
		p.Data = &metricspb.Metric_Sum{Sum: &metricspb.Sum{
			DataPoints: d.Sum.DataPoints[from:to], AggregationTemporality: d.Sum.AggregationTemporality, IsMonotonic: d.Sum.IsMonotonic,
		}}
	case *metricspb.Metric_Histogram:
		p.Data = &metricspb.Metric_Histogram{Histogram: &metricspb.Histogram{
			DataPoints: d.Histogram.DataPoints[from:to], AggregationTemporality: d.Histogram.AggregationTemporality,
		}}
	case *metricspb.Metric_ExponentialHistogram:
		p.Data = &metricspb.Metric_ExponentialHistogram{ExponentialHistogram: &metricspb.ExponentialHistogram{
			DataPoints: d.ExponentialHistogram.DataPoints[from:to], AggregationTemporality: d.ExponentialHistogram.AggregationTemporality,
		}}
	case *metricspb.Metric_Summary:
		p.Data = &metricspb.Metric_Summary{Summary: &metricspb.Summary{DataPoints: d.Summary.DataPoints[from:to]}}
	}
	return p
}
