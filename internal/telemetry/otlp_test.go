package telemetry

import (
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"example.com/gatehouse/internal/telemetry/telemetrytest"
	"example.com/gatehouse/internal/testclock"
	"github.com/google/go-cmp/cmp"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
)

// all is a Config that lists something of everything.
func all() Config {
	return Config{
		Service: "gatehouse", Version: "v1", Project: "project-1",
		Routes:   []string{"POST /invoke", "GET /sessions/{id}"},
		Codes:    []string{"internal", "model_unavailable", "rate_limited", "timeout"},
		Models:   []string{"gemini-2.5-flash"},
		Tools:    []string{"get_time"},
		Provider: "gcp.gemini",
	}
}

// otlpObserver exports to an endpoint.
func otlpObserver(t *testing.T, c Config, endpoint, protocol string) *Observer {
	t.Helper()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
	t.Setenv("OTEL_TRACES_EXPORTER", OTLP)
	t.Setenv("OTEL_METRICS_EXPORTER", OTLP)
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
	s, err := Parse(os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	o, err := New(s, c)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// turn is a request with all that belongs to one.
func turn(o *Observer) {
	r := httptest.NewRequest(http.MethodPost, "/invoke", nil)
	r.Header.Set("User-Agent", "test")
	ctx, q := o.StartRequest(r, true)
	run := func(step Step, failure string) { step.End(ctx, failure) }
	_, s := o.StartSecrets(ctx)
	run(s, "")
	_, s = o.StartLoad(ctx)
	run(s, "")
	agent, a := o.StartAgent(ctx, "assistant")
	_, s = o.StartModel(agent, "gemini-2.5-flash")
	s.Usage("gemini-2.5-flash-001", 412, 133)
	run(s, "")
	_, s = o.StartTool(agent, "get_time")
	run(s, "timeout")
	a.End(agent, "")
	_, s = o.StartCommit(ctx)
	run(s, "")
	q.End(ctx, "POST /invoke", 200, "")
}

// spansOfATurn is how many spans turn makes.
const spansOfATurn = 7

func text(attrs []*commonpb.KeyValue) map[string]string {
	m := map[string]string{}
	for _, kv := range attrs {
		switch v := kv.Value.Value.(type) {
		case *commonpb.AnyValue_IntValue:
			m[kv.Key] = time.Duration(v.IntValue).String()
		default:
			m[kv.Key] = kv.Value.GetStringValue()
		}
	}
	return m
}

func TestOTLP(t *testing.T) {
	for _, protocol := range []string{protocolHTTP, protocolGRPC} {
		t.Run(protocol, func(t *testing.T) {
			collector := telemetrytest.New(t)
			c := testclock.New(start)
			config := all()
			config.Now = c.Now
			o := otlpObserver(t, config, collector.Endpoint(protocol), protocol)
			if collector.Calls() != 0 {
				t.Error("something was sent by New")
			}
			turn(o)
			o.Flush(t.Context())
			checkSpans(t, collector.ResourceSpans())
			checkMetrics(t, collector.Metrics(), 1)

			turn(o)
			c.Advance(9 * time.Second)
			o.Flush(t.Context())
			if got := len(collector.Spans()); got != spansOfATurn {
				t.Errorf("%d spans after 9 s, want those of the first turn", got)
			}
			c.Advance(time.Second)
			o.Flush(t.Context())
			if got := len(collector.Spans()); got != 2*spansOfATurn {
				t.Errorf("%d spans after 10 s", got)
			}
			turn(o)
			if err := o.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			if got := len(collector.Spans()); got != 3*spansOfATurn || o.queue.dropped.Load() != 0 {
				t.Errorf("%d spans after the end", got)
			}
			exports := collector.Metrics()
			checkMetrics(t, exports[len(exports)-1:], 3)
		})
	}
}

func checkSpans(t *testing.T, exports []*tracepb.ResourceSpans) {
	t.Helper()
	got := map[string]map[string]string{}
	ids := map[string][]byte{}
	parents := map[string][]byte{}
	for _, r := range exports {
		resource := text(r.Resource.Attributes)
		if resource["service.name"] != "gatehouse" || resource["service.version"] != "v1" || resource["service.instance.id"] == "" {
			t.Errorf("resource %v", resource)
		}
		for _, s := range r.ScopeSpans {
			for _, span := range s.Spans {
				got[span.Name] = text(span.Attributes)
				ids[span.Name], parents[span.Name] = span.SpanId, span.ParentSpanId
			}
		}
	}
	n := func(n int) string { return time.Duration(n).String() }
	want := map[string]map[string]string{
		"POST /invoke": {"http.request.method": "POST", "url.scheme": "https", "http.route": "/invoke",
			"http.response.status_code": n(200), "user_agent.original": "test"},
		"fetch secrets":  {},
		"load session":   {},
		"commit session": {},
		"invoke_agent assistant": {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "assistant",
			"gen_ai.provider.name": "gcp.gemini"},
		"generate_content gemini-2.5-flash": {"gen_ai.operation.name": "generate_content", "gen_ai.provider.name": "gcp.gemini",
			"gen_ai.request.model": "gemini-2.5-flash", "gen_ai.response.model": "gemini-2.5-flash-001",
			"gen_ai.usage.input_tokens": n(412), "gen_ai.usage.output_tokens": n(133)},
		"execute_tool get_time": {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "get_time",
			"gen_ai.tool.type": "function", "error.type": "timeout"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("spans (-want +got):\n%s", diff)
	}
	if string(parents["load session"]) != string(ids["POST /invoke"]) ||
		string(parents["execute_tool get_time"]) != string(ids["invoke_agent assistant"]) {
		t.Error("the spans are not one below the other")
	}
}

// checkMetrics wants the exports to hold all instruments of n turns.
func checkMetrics(t *testing.T, exports []*metricspb.ResourceMetrics, n uint64) {
	t.Helper()
	if len(exports) != 1 {
		t.Fatalf("%d exports of metrics", len(exports))
	}
	counts := map[string]uint64{}
	for _, s := range exports[0].ScopeMetrics {
		for _, m := range s.Metrics {
			for _, p := range m.GetHistogram().GetDataPoints() {
				counts[m.Name+" "+m.Unit] += p.Count
			}
			for _, p := range m.GetSum().GetDataPoints() {
				counts[m.Name+" "+m.Unit] += uint64(p.GetAsInt())
			}
		}
	}
	want := map[string]uint64{
		"http.server.request.duration s":        n,
		"http.server.active_requests {request}": 0,
		"gen_ai.client.operation.duration s":    2 * n,
		"gen_ai.client.token.usage {token}":     2 * n,
		"agent.session.commit.duration s":       n,
		"agent.tool.duration s":                 n,
	}
	if diff := cmp.Diff(want, counts); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}

// A header of bytes that are not UTF-8 does not keep its span, and all that follow it, from
// being exported.
func TestAUserAgentThatIsNotUTF8(t *testing.T) {
	for _, protocol := range []string{protocolHTTP, protocolGRPC} {
		t.Run(protocol, func(t *testing.T) {
			collector := telemetrytest.New(t)
			o := otlpObserver(t, all(), collector.Endpoint(protocol), protocol)
			for _, agent := range []string{"a\xffb", "test"} {
				r := httptest.NewRequest(http.MethodPost, "/invoke", nil)
				r.Header.Set("User-Agent", agent)
				ctx, q := o.StartRequest(r, true)
				q.End(ctx, "POST /invoke", 200, "")
			}
			if err := o.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			var got []string
			for _, span := range collector.Spans() {
				got = append(got, text(span.Attributes)["user_agent.original"])
			}
			if diff := cmp.Diff([]string{"a\uFFFDb", "test"}, got); diff != "" || o.queue.dropped.Load() != 0 {
				t.Errorf("%d dropped (-want +got):\n%s", o.queue.dropped.Load(), diff)
			}
		})
	}
}
