package observe

import (
	"context"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	"go.opentelemetry.io/otel/trace"
)

// A Request is one that is being answered. The zero Request is none.
type Request struct {
	o              *Observer
	span           trace.Span // nil: none, or not sampled
	begin          time.Time
	method, scheme string
}

// StartRequest begins a request's span, as a child of the one it was sent from,
// and counts it as active. tls tells whether the client came by HTTPS. The
// context belongs to all that is done for the request: [Observer.Trace] finds
// the trace in it, when traces are off too. [Request.End] must be called.
func (o *Observer) StartRequest(r *http.Request, tls bool) (context.Context, Request) {
	ctx := withRemote(r.Context(), r.Header)
	if o == nil || o.tracer == nil && o.metrics == nil {
		return ctx, Request{}
	}
	q := Request{o: o, begin: o.now(), method: methodOf(r.Method), scheme: "http"}
	if tls {
		q.scheme = "https"
	}
	if o.tracer != nil {
		var span trace.Span
		// Named anew when the route is known.
		ctx, span = o.tracer.Start(ctx, q.method, trace.WithSpanKind(trace.SpanKindServer))
		if span.IsRecording() {
			q.span = span
			span.SetAttributes(
				semconv.HTTPRequestMethodKey.String(q.method),
				semconv.URLScheme(q.scheme),
				semconv.UserAgentOriginal(r.UserAgent()),
				// Not url.path: it holds session ids; http.route has what is public of it.
			)
		}
	}
	if m := o.metrics; m != nil {
		m.active.Add(ctx, 1, m.activeSets.of(activeLabels{q.method, q.scheme}).add...)
	}
	return ctx, q
}

// End ends the request: route is its pattern ("POST /invoke"; "" when there is
// none), status what was answered, code the contract's error, "" when there was
// none. ctx is the one that StartRequest gave.
func (q Request) End(ctx context.Context, route string, status int, code string) {
	if q.o == nil {
		return
	}
	path, status := q.o.labels.route(route), statusOf(status)
	code = q.o.labels.code(code)
	if m := q.o.metrics; m != nil {
		m.active.Add(ctx, -1, m.activeSets.of(activeLabels{q.method, q.scheme}).add...)
		m.duration.Record(ctx, q.o.now().Sub(q.begin).Seconds(),
			m.requestSets.of(requestLabels{q.method, q.scheme, path, code, status}).record...)
	}
	if q.span == nil {
		return
	}
	attrs := make([]attribute.KeyValue, 0, 4)
	if path != "" && path != other {
		q.span.SetName(q.method + " " + path)
		attrs = append(attrs, semconv.HTTPRoute(path))
	}
	if status != 0 {
		attrs = append(attrs, semconv.HTTPResponseStatusCode(status))
	}
	attrs = appendText(attrs, keyErrorCode, code)
	if err := serverError(status, code); err != "" {
		attrs = append(attrs, semconv.ErrorTypeKey.String(err))
		q.span.SetStatus(codes.Error, err)
	}
	q.span.SetAttributes(attrs...)
	q.span.End()
}
