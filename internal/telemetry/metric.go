package telemetry

import (
	"context"
	"errors"
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"

	"example.com/gatehouse/internal/breaker"
)

// Attributes that the conventions have no name for.
const (
	keyErrorCode = attribute.Key("agent.error.code")
	keyLimit     = attribute.Key("agent.limit")
	keyScore     = attribute.Key("agent.feedback.score")
)

// Bucket boundaries, by the semantic conventions for HTTP and for generative
// AI.
var (
	httpSeconds  = []float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}
	modelSeconds = []float64{0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92}
	modelTokens  = []float64{1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864}
)

// The labels of each instrument. They are keys of maps, so that a measurement
// makes nothing new.
type (
	activeLabels  struct{ method, scheme string }
	requestLabels struct {
		method, scheme, route, code string
		status                      int
	}
	modelLabels  struct{ operation, model, err string }
	tokenLabels  struct{ model, kind string }
	commitLabels struct{ err string }
	toolLabels   struct{ tool, err string }
	limitLabels  struct{ limit string }
	scoreLabels  struct{ score int }
	modelLabel   struct{ model string }
)

// instruments are those of the service.
type instruments struct {
	duration metric.Float64Histogram
	active   metric.Int64UpDownCounter
	model    metric.Float64Histogram
	tokens   metric.Int64Histogram
	commit   metric.Float64Histogram
	tool     metric.Float64Histogram
	breaker  metric.Int64Gauge
	limited  metric.Int64Counter
	feedback metric.Int64Counter

	requestSets *sets[requestLabels]
	activeSets  *sets[activeLabels]
	modelSets   *sets[modelLabels]
	tokenSets   *sets[tokenLabels]
	commitSets  *sets[commitLabels]
	toolSets    *sets[toolLabels]
	breakerSets *sets[modelLabel]
	limitSets   *sets[limitLabels]
	scoreSets   *sets[scoreLabels]
}

func newInstruments(m metric.Meter, provider string) (*instruments, error) {
	i := &instruments{}
	var errs [9]error
	i.duration, errs[0] = m.Float64Histogram("http.server.request.duration", metric.WithUnit("s"),
		metric.WithDescription("Duration of HTTP server requests."), metric.WithExplicitBucketBoundaries(httpSeconds...))
	i.active, errs[1] = m.Int64UpDownCounter("http.server.active_requests", metric.WithUnit("{request}"),
		metric.WithDescription("Number of active HTTP server requests."))
	i.model, errs[2] = m.Float64Histogram("gen_ai.client.operation.duration", metric.WithUnit("s"),
		metric.WithDescription("GenAI operation duration."), metric.WithExplicitBucketBoundaries(modelSeconds...))
	i.tokens, errs[3] = m.Int64Histogram("gen_ai.client.token.usage", metric.WithUnit("{token}"),
		metric.WithDescription("Number of input and output tokens used."), metric.WithExplicitBucketBoundaries(modelTokens...))
	i.commit, errs[4] = m.Float64Histogram("agent.session.commit.duration", metric.WithUnit("s"),
		metric.WithDescription("Time to store a turn."), metric.WithExplicitBucketBoundaries(httpSeconds...))
	i.tool, errs[5] = m.Float64Histogram("agent.tool.duration", metric.WithUnit("s"),
		metric.WithDescription("Duration of tool calls."), metric.WithExplicitBucketBoundaries(httpSeconds...))
	i.breaker, errs[6] = m.Int64Gauge("agent.breaker.state", metric.WithUnit("{state}"),
		metric.WithDescription("State of a model's breaker: 0 closed, 1 half open, 2 open."))
	i.limited, errs[7] = m.Int64Counter("agent.rate_limited", metric.WithUnit("{request}"),
		metric.WithDescription("Requests refused by a limit."))
	i.feedback, errs[8] = m.Int64Counter("agent.feedback", metric.WithUnit("{opinion}"),
		metric.WithDescription("Opinions given on turns."))
	i.makeSets(provider)
	return i, errors.Join(errs[:]...)
}

func (i *instruments) makeSets(provider string) {
	i.activeSets = newSets(func(l activeLabels) []attribute.KeyValue {
		return []attribute.KeyValue{semconv.HTTPRequestMethodKey.String(l.method), semconv.URLScheme(l.scheme)}
	})
	i.requestSets = newSets(func(l requestLabels) []attribute.KeyValue {
		attrs := []attribute.KeyValue{semconv.HTTPRequestMethodKey.String(l.method), semconv.URLScheme(l.scheme)}
		attrs = appendText(attrs, semconv.HTTPRouteKey, l.route)
		if l.status != 0 {
			attrs = append(attrs, semconv.HTTPResponseStatusCode(l.status))
		}
		attrs = appendText(attrs, semconv.ErrorTypeKey, serverError(l.status, l.code))
		return appendText(attrs, keyErrorCode, l.code)
	})
	i.modelSets = newSets(func(l modelLabels) []attribute.KeyValue {
		attrs := []attribute.KeyValue{semconv.GenAIOperationNameKey.String(l.operation)}
		attrs = appendText(attrs, semconv.GenAIProviderNameKey, provider)
		attrs = appendText(attrs, semconv.GenAIRequestModelKey, l.model)
		return appendText(attrs, semconv.ErrorTypeKey, l.err)
	})
	i.tokenSets = newSets(func(l tokenLabels) []attribute.KeyValue {
		attrs := []attribute.KeyValue{semconv.GenAIOperationNameKey.String(generateContent), semconv.GenAITokenTypeKey.String(l.kind)}
		attrs = appendText(attrs, semconv.GenAIProviderNameKey, provider)
		return appendText(attrs, semconv.GenAIRequestModelKey, l.model)
	})
	i.commitSets = newSets(func(l commitLabels) []attribute.KeyValue {
		return appendText(nil, semconv.ErrorTypeKey, l.err)
	})
	i.toolSets = newSets(func(l toolLabels) []attribute.KeyValue {
		return appendText([]attribute.KeyValue{semconv.GenAIToolName(l.tool)}, semconv.ErrorTypeKey, l.err)
	})
	i.breakerSets = newSets(func(l modelLabel) []attribute.KeyValue {
		return []attribute.KeyValue{semconv.GenAIRequestModel(l.model)}
	})
	i.limitSets = newSets(func(l limitLabels) []attribute.KeyValue {
		return []attribute.KeyValue{keyLimit.String(l.limit)}
	})
	i.scoreSets = newSets(func(l scoreLabels) []attribute.KeyValue {
		return []attribute.KeyValue{keyScore.Int(l.score)}
	})
}

// appendText adds an attribute that has a value.
func appendText(attrs []attribute.KeyValue, key attribute.Key, value string) []attribute.KeyValue {
	if value == "" {
		return attrs
	}
	return append(attrs, key.String(value))
}

// serverError returns error.type of an answer: by the conventions a server's span
// has one only when the fault is the server's, 5xx.
func serverError(status int, code string) string {
	switch {
	case status < 500:
		return ""
	case code != "":
		return code
	default:
		return strconv.Itoa(status)
	}
}

// Breaker records the state of a model's circuit breaker, as its number.
func (o *Observer) Breaker(ctx context.Context, model string, state breaker.State) {
	if o == nil || o.metrics == nil {
		return
	}
	m := o.metrics
	m.breaker.Record(ctx, int64(state), m.breakerSets.of(modelLabel{o.labels.model(model)}).record...)
}

// A Limit is one that refuses requests; its text is the label.
type Limit string

// The limits.
const (
	LimitRequests       Limit = "requests"        // of an end user, a minute
	LimitCallerRequests Limit = "caller_requests" // of a verified caller, a minute
	LimitTokens         Limit = "tokens"          // of an end user, a day
	LimitCallerTokens   Limit = "caller_tokens"   // of a verified caller, a day
	LimitServiceTokens  Limit = "service_tokens"  // of the whole service, a day
	LimitConcurrency    Limit = "concurrency"     // of this instance
)

// RateLimited counts a request that a limit refused.
func (o *Observer) RateLimited(ctx context.Context, limit Limit) {
	if o == nil || o.metrics == nil {
		return
	}
	switch limit {
	case LimitRequests, LimitCallerRequests, LimitTokens, LimitCallerTokens, LimitServiceTokens, LimitConcurrency:
	default:
		limit = other
	}
	m := o.metrics
	m.limited.Add(ctx, 1, m.limitSets.of(limitLabels{string(limit)}).add...)
}

// Feedback counts an opinion on a turn: below, at or above 0.
func (o *Observer) Feedback(ctx context.Context, score int) {
	if o == nil || o.metrics == nil {
		return
	}
	m := o.metrics
	m.feedback.Add(ctx, 1, m.scoreSets.of(scoreLabels{max(-1, min(1, score))}).add...)
}
