package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A sender exports what one signal has. Its methods are never called at once.
type sender interface {
	send(ctx context.Context) error
	pending() int // what would be lost now
	close(ctx context.Context) error
}

// batchSize is how many spans one call to the collector holds.
const batchSize = 512

// A spanSender sends the queue's spans.
type spanSender struct {
	queue    *queue
	resource *source
	build    func(context.Context) (sdktrace.SpanExporter, error)
	exporter sdktrace.SpanExporter // nil: not built yet
}

// send sends what the queue holds now. What could not be delivered is queued
// again.
func (s *spanSender) send(ctx context.Context) (err error) {
	left := s.queue.len()
	if left == 0 {
		return nil
	}
	if s.exporter == nil {
		if s.exporter, err = s.build(ctx); err != nil {
			s.exporter = nil
			return fmt.Errorf("making the exporter: %w", err)
		}
	}
	res, err := s.resource.get(ctx)
	if err != nil {
		return fmt.Errorf("asking the metadata server: %w", err)
	}
	for left > 0 {
		spans := s.queue.take(min(left, batchSize))
		if len(spans) == 0 {
			break
		}
		left -= len(spans)
		if err := s.exporter.ExportSpans(ctx, withResource(spans, res)); err != nil {
			if retryable(err) {
				s.queue.giveBack(spans)
			} else {
				s.queue.dropped.Add(int64(len(spans)))
			}
			return err
		}
	}
	return nil
}

func (s *spanSender) pending() int { return s.queue.len() }

func (s *spanSender) close(ctx context.Context) error {
	if s.exporter == nil {
		return nil
	}
	return s.exporter.Shutdown(ctx)
}

// withResource gives spans the resource that was found out after they began.
func withResource(spans []sdktrace.ReadOnlySpan, res *resource.Resource) []sdktrace.ReadOnlySpan {
	out := make([]sdktrace.ReadOnlySpan, len(spans))
	for i, s := range spans {
		out[i] = resourceSpan{s, res}
	}
	return out
}

type resourceSpan struct {
	sdktrace.ReadOnlySpan
	resource *resource.Resource
}

func (s resourceSpan) Resource() *resource.Resource { return s.resource }

// A metricSender sends the instruments' state. Values add up from the start, so
// the next export holds what a failed one did.
type metricSender struct {
	reader   *sdkmetric.ManualReader
	resource *source
	build    func(context.Context) (sdkmetric.Exporter, error)
	exporter sdkmetric.Exporter // nil: not built yet
	data     metricdata.ResourceMetrics
}

func (s *metricSender) send(ctx context.Context) (err error) {
	if s.exporter == nil {
		if s.exporter, err = s.build(ctx); err != nil {
			s.exporter = nil
			return fmt.Errorf("making the exporter: %w", err)
		}
	}
	res, err := s.resource.get(ctx)
	if err != nil {
		return fmt.Errorf("asking the metadata server: %w", err)
	}
	if err := s.reader.Collect(ctx, &s.data); err != nil {
		return fmt.Errorf("collecting: %w", err)
	}
	s.data.Resource = res
	return s.exporter.Export(ctx, &s.data)
}

func (s *metricSender) pending() int { return 0 }

func (s *metricSender) close(ctx context.Context) error {
	if s.exporter == nil {
		return nil
	}
	return s.exporter.Shutdown(ctx)
}

// retryable reports whether spans that could not be sent should be sent again:
// when no answer came, or one by which the collector took nothing and may do so
// later. What it took in part must not be sent twice, and what it refuses for
// good would keep back all that comes after it.
func retryable(err error) bool {
	if _, ok := errors.AsType[*url.Error](err); ok { // OTLP over HTTP: no answer, or one that [unavailable] treats as none
		return true
	}
	if s, ok := status.FromError(err); ok {
		return s.Code() != codes.InvalidArgument
	}
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
