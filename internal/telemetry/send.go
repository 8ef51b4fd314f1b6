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

// An exporter is one of traces or metrics.
type exporter interface{ Shutdown(context.Context) error }

// A lazy exporter is built, and the resource asked for, when there is something
// to send. It is not safe for concurrent use.
type lazy[E exporter] struct {
	build    func(context.Context) (E, func() error, error)
	resource *source

	built      bool
	exporter   E
	disconnect func() error // may be nil
}

func (l *lazy[E]) get(ctx context.Context) (e E, res *resource.Resource, err error) {
	if !l.built {
		if l.exporter, l.disconnect, err = l.build(ctx); err != nil {
			if l.disconnect != nil {
				_ = l.disconnect()
			}
			return e, nil, fmt.Errorf("making the exporter: %w", err)
		}
		l.built = true
	}
	if res, err = l.resource.get(ctx); err != nil {
		return e, nil, fmt.Errorf("asking the metadata server: %w", err)
	}
	return l.exporter, res, nil
}

func (l *lazy[E]) close(ctx context.Context) error {
	if !l.built {
		return nil
	}
	err := l.exporter.Shutdown(ctx)
	if l.disconnect != nil {
		err = errors.Join(err, l.disconnect())
	}
	return err
}

// A spanSender sends the queue's spans.
type spanSender struct {
	lazy[sdktrace.SpanExporter]
	queue *queue
}

// send sends what the queue holds now. What could not be delivered is queued
// again.
func (s *spanSender) send(ctx context.Context) error {
	left := s.queue.len()
	if left == 0 {
		return nil
	}
	exporter, res, err := s.get(ctx)
	if err != nil {
		return err
	}
	for left > 0 {
		spans := s.queue.take(min(left, batchSize))
		if len(spans) == 0 {
			break
		}
		left -= len(spans)
		if err := exporter.ExportSpans(ctx, withResource(spans, res)); err != nil {
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

// withResource returns spans with the resource, which was not known when they
// began.
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
	lazy[sdkmetric.Exporter]
	reader *sdkmetric.ManualReader
	data   metricdata.ResourceMetrics
}

func (s *metricSender) send(ctx context.Context) error {
	exporter, res, err := s.get(ctx)
	if err != nil {
		return err
	}
	if err := s.reader.Collect(ctx, &s.data); err != nil {
		return fmt.Errorf("collecting: %w", err)
	}
	s.data.Resource = res
	return exporter.Export(ctx, &s.data)
}

func (s *metricSender) pending() int { return 0 }

// retryable reports whether spans that could not be sent should be sent again:
// when no answer came, or one by which the collector took nothing and may do so
// later. What it took in part must not be sent twice, and what it refuses for
// good would keep back all that comes after it; so would what gRPC cannot encode,
// which is Internal (by OTLP not to be tried again either).
func retryable(err error) bool {
	if _, ok := errors.AsType[*url.Error](err); ok { // OTLP over HTTP: no answer, or one that [unavailable] treats as none
		return true
	}
	if s, ok := status.FromError(err); ok {
		return s.Code() != codes.InvalidArgument && s.Code() != codes.Internal
	}
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
