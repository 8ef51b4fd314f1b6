package telemetry

import (
	"context"
	"net/http"
	"strings"
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
// and counts it as active. tls reports whether the client came by HTTPS. The
// context belongs to all that is done for the request: [Observer.Trace] finds
// the trace in it, when traces are off too. [Request.End] must be called.
func (o *Observer) StartRequest(r *http.Request, tls bool) (context.Context, Request) {
	ctx := withRemote(r.Context(), r.Header)
	if o == nil || o.tracer == nil && o.metrics == nil {
		return ctx, Request{}
	}
	q := Request{o: o, begin: o.now(), method: o.labels.method(r.Method), scheme: "http"}
	if tls {
		q.scheme = "https"
	}
	if o.tracer != nil {
		var span trace.Span
		// Renamed when the route is known.
		ctx, span = o.tracer.Start(ctx, q.method, trace.WithSpanKind(trace.SpanKindServer))
		if span.IsRecording() {
			q.span = span
			span.SetAttributes(
				semconv.HTTPRequestMethodKey.String(q.method),
				semconv.URLScheme(q.scheme),
				// A header may hold any bytes. One span whose text is not UTF-8 could not be
				// encoded, and by gRPC would keep back all that follow it.
				semconv.UserAgentOriginal(strings.ToValidUTF8(r.UserAgent(), "\uFFFD")),
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
// none. ctx is the one that StartRequest returned.
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

// Values of gen_ai.operation.name.
const (
	generateContent = "generate_content"
	invokeAgent     = "invoke_agent"
	executeTool     = "execute_tool"
)

// A Step is a part of a request: a span, and where there is an instrument for
// it, its duration. The zero Step is none. It is not safe for concurrent use.
type Step struct {
	o     *Observer
	span  trace.Span // nil: none, or not sampled
	begin time.Time
	kind  stepKind
	name  string // of the model, tool or agent

	input, output int64 // tokens; less than 0: not known
}

type stepKind int

const (
	stepLoad stepKind = iota
	stepCommit
	stepSecrets
	stepAgent
	stepModel
	stepTool
)

// StartLoad begins the loading of a session. As with all Start methods,
// [Step.End] must be called, and the context is for what is done in the step.
func (o *Observer) StartLoad(ctx context.Context) (context.Context, Step) {
	return o.start(ctx, stepLoad, "")
}

// StartCommit begins the storing of a turn.
func (o *Observer) StartCommit(ctx context.Context) (context.Context, Step) {
	return o.start(ctx, stepCommit, "")
}

// StartSecrets begins the fetching of secrets.
func (o *Observer) StartSecrets(ctx context.Context) (context.Context, Step) {
	return o.start(ctx, stepSecrets, "")
}

// StartAgent begins a run of the agent, tool rounds and all. The agent's name
// is the service's own, never a caller's.
func (o *Observer) StartAgent(ctx context.Context, agent string) (context.Context, Step) {
	return o.start(ctx, stepAgent, agent)
}

// StartModel begins one call of a model.
func (o *Observer) StartModel(ctx context.Context, model string) (context.Context, Step) {
	if o == nil {
		return ctx, Step{}
	}
	return o.start(ctx, stepModel, o.labels.model(model))
}

// StartTool begins one call of a tool.
func (o *Observer) StartTool(ctx context.Context, tool string) (context.Context, Step) {
	if o == nil {
		return ctx, Step{}
	}
	return o.start(ctx, stepTool, o.labels.tool(tool))
}

func (o *Observer) start(ctx context.Context, kind stepKind, name string) (context.Context, Step) {
	if o == nil || o.tracer == nil && o.metrics == nil {
		return ctx, Step{}
	}
	s := Step{o: o, begin: o.now(), kind: kind, name: name, input: -1, output: -1}
	if o.tracer != nil && wanted(ctx) {
		ctx, s.span = s.startSpan(ctx)
	}
	return ctx, s
}

// wanted reports whether a step's span can be sampled: what is below a span of
// ours that is not, never is.
func wanted(ctx context.Context) bool {
	parent := trace.SpanFromContext(ctx)
	sc := parent.SpanContext()
	return !sc.IsValid() || sc.IsRemote() || parent.IsRecording()
}

func (s *Step) startSpan(ctx context.Context) (context.Context, trace.Span) {
	name, kind := "", trace.SpanKindInternal
	switch s.kind {
	case stepLoad:
		name = "load session"
	case stepCommit:
		name = "commit session"
	case stepSecrets:
		name = "fetch secrets"
	case stepAgent:
		name = invokeAgent + " " + s.name
	case stepModel:
		name, kind = generateContent+" "+s.name, trace.SpanKindClient
	case stepTool:
		name = executeTool + " " + s.name
	}
	ctx, span := s.o.tracer.Start(ctx, name, trace.WithSpanKind(kind))
	if !span.IsRecording() {
		return ctx, nil
	}
	switch s.kind {
	case stepAgent:
		span.SetAttributes(semconv.GenAIOperationNameKey.String(invokeAgent), semconv.GenAIAgentName(s.name), s.o.vendor)
	case stepModel:
		span.SetAttributes(semconv.GenAIOperationNameKey.String(generateContent), semconv.GenAIRequestModel(s.name), s.o.vendor)
	case stepTool:
		span.SetAttributes(semconv.GenAIOperationNameKey.String(executeTool), semconv.GenAIToolName(s.name),
			semconv.GenAIToolType("function"))
	}
	return ctx, span
}

// Usage records what a model's answer reports: the model that really answered ("": not
// known) and the tokens. Called again, it adds up.
func (s *Step) Usage(model string, input, output int64) {
	if s.o == nil {
		return
	}
	s.input, s.output = max(s.input, 0)+input, max(s.output, 0)+output
	if s.span != nil && model != "" {
		s.span.SetAttributes(semconv.GenAIResponseModel(model))
	}
}

// End ends the step. failure is "" or one of the configured codes, why it
// failed.
func (s *Step) End(ctx context.Context, failure string) {
	if s.o == nil {
		return
	}
	failure = s.o.labels.code(failure)
	if s.o.metrics != nil {
		s.measure(ctx, s.o.metrics, failure)
	}
	if s.span == nil {
		return
	}
	if s.input >= 0 {
		s.span.SetAttributes(semconv.GenAIUsageInputTokens(int(s.input)), semconv.GenAIUsageOutputTokens(int(s.output)))
	}
	if failure != "" {
		s.span.SetAttributes(semconv.ErrorTypeKey.String(failure))
		s.span.SetStatus(codes.Error, failure)
	}
	s.span.End()
}

// measure records what there is an instrument for.
func (s *Step) measure(ctx context.Context, m *instruments, failure string) {
	seconds := s.o.now().Sub(s.begin).Seconds()
	switch s.kind {
	case stepCommit:
		m.commit.Record(ctx, seconds, m.commitSets.of(commitLabels{failure}).record...)
	case stepTool:
		m.tool.Record(ctx, seconds, m.toolSets.of(toolLabels{s.name, failure}).record...)
	case stepAgent:
		m.model.Record(ctx, seconds, m.modelSets.of(modelLabels{invokeAgent, "", failure}).record...)
	case stepModel:
		m.model.Record(ctx, seconds, m.modelSets.of(modelLabels{generateContent, s.name, failure}).record...)
		if s.input >= 0 {
			m.tokens.Record(ctx, s.input, m.tokenSets.of(tokenLabels{s.name, "input"}).record...)
			m.tokens.Record(ctx, s.output, m.tokenSets.of(tokenLabels{s.name, "output"}).record...)
		}
	}
}
