package telemetry

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"example.com/gatehouse/internal/breaker"
)

// page is what /metrics shows.
func page(t *testing.T, o *Observer) string {
	t.Helper()
	w := httptest.NewRecorder()
	o.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("/metrics answered %d", w.Code)
	}
	return w.Body.String()
}

// everything uses each instrument, with texts of a caller's where one could
// come in.
func everything(o *Observer, text string, status int) {
	r := httptest.NewRequest(http.MethodPost, "/", nil)
	r.Method = text
	r.URL.Path = "/" + text
	r.Header.Set("User-Agent", text)
	ctx, q := o.StartRequest(r, false)
	_, s := o.StartModel(ctx, text)
	s.Usage(text, 1, 2)
	s.End(ctx, text)
	_, s = o.StartTool(ctx, text)
	s.End(ctx, text)
	_, s = o.StartCommit(ctx)
	s.End(ctx, text)
	o.Breaker(ctx, text, breaker.Open)
	o.RateLimited(ctx, Limit(text))
	o.Feedback(ctx, status)
	q.End(ctx, "POST /"+text, status, text)
}

func TestNoCallerAddsASeries(t *testing.T) {
	t.Parallel()
	o := observer(t, all())
	turn(o)
	everything(o, "first", -1)
	everything(o, "first", 0)
	for status := 100; status < 600; status++ { // all that HTTP knows, and what it does not
		everything(o, "status", status)
	}
	before := strings.Count(page(t, o), "\n")
	for n := range 3000 {
		everything(o, fmt.Sprintf("hostile-%d", n), n)
	}
	everything(o, "hostile\n\"} 1\n"+strings.Repeat("x", 64<<10), 200)
	got := page(t, o)
	if after := strings.Count(got, "\n"); after != before || strings.Contains(got, "hostile") {
		t.Errorf("%d lines became %d", before, after)
	}
}

func TestLabels(t *testing.T) {
	t.Parallel()
	o := observer(t, all())
	turn(o)
	everything(o, "x", 503)
	ctx, q := o.StartRequest(httptest.NewRequest(http.MethodGet, "/sessions/123", nil), true)
	o.Breaker(ctx, "gemini-2.5-flash", breaker.HalfOpen)
	o.RateLimited(ctx, LimitTokens)
	q.End(ctx, "GET /sessions/{id}", 429, "rate_limited")
	got := page(t, o)
	for _, want := range []string{
		`http_server_request_duration_seconds_bucket{http_request_method="POST",http_response_status_code="200",http_route="/invoke",url_scheme="https",le="7.5"} 1`,
		`http_server_request_duration_seconds_count{agent_error_code="rate_limited",http_request_method="GET",http_response_status_code="429",http_route="/sessions/{id}",url_scheme="https"} 1`,
		`http_server_request_duration_seconds_count{agent_error_code="_OTHER",error_type="_OTHER",http_request_method="_OTHER",http_response_status_code="503",http_route="other",url_scheme="http"} 1`,
		`http_server_active_requests{http_request_method="POST",url_scheme="https"} 0`,
		`gen_ai_client_operation_duration_seconds_bucket{gen_ai_operation_name="generate_content",gen_ai_provider_name="gcp.gemini",gen_ai_request_model="gemini-2.5-flash",le="81.92"} 1`,
		`gen_ai_client_operation_duration_seconds_count{gen_ai_operation_name="invoke_agent",gen_ai_provider_name="gcp.gemini"} 1`,
		`gen_ai_client_token_usage_sum{gen_ai_operation_name="generate_content",gen_ai_provider_name="gcp.gemini",gen_ai_request_model="gemini-2.5-flash",gen_ai_token_type="input"} 412`,
		`gen_ai_client_token_usage_sum{gen_ai_operation_name="generate_content",gen_ai_provider_name="gcp.gemini",gen_ai_request_model="gemini-2.5-flash",gen_ai_token_type="output"} 133`,
		`gen_ai_client_token_usage_bucket{gen_ai_operation_name="generate_content",gen_ai_provider_name="gcp.gemini",gen_ai_request_model="other",gen_ai_token_type="output",le="6.7108864e+07"} 1`,
		`agent_session_commit_duration_seconds_count 1`,
		`agent_session_commit_duration_seconds_count{error_type="_OTHER"} 1`,
		`agent_tool_duration_seconds_count{error_type="timeout",gen_ai_tool_name="get_time"} 1`,
		`agent_tool_duration_seconds_count{error_type="_OTHER",gen_ai_tool_name="other"} 1`,
		`agent_breaker_state{gen_ai_request_model="gemini-2.5-flash"} 1`,
		`agent_breaker_state{gen_ai_request_model="other"} 2`,
		`agent_rate_limited_total{agent_limit="tokens"} 1`,
		`agent_rate_limited_total{agent_limit="other"} 1`,
		`agent_feedback_total{agent_feedback_score="1"} 1`,
	} {
		if !slices.Contains(strings.Split(got, "\n"), want) {
			t.Errorf("no line %s", want)
		}
	}
	if t.Failed() {
		t.Log(regexp.MustCompile(`(?m)^\S+_bucket.*\n`).ReplaceAllString(got, ""))
	}
}

// promlint is what promtool check metrics does.
func TestPrometheusLint(t *testing.T) {
	t.Parallel()
	o := observer(t, all())
	turn(o)
	everything(o, "x", 503)
	problems, err := promlint.New(bytes.NewReader([]byte(page(t, o)))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// All that a nil Observer, or one that is off, does is nothing.
func TestOff(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]*Observer{"nil": nil, "off": observer(t, all(), "OTEL_SDK_DISABLED", "true")} {
		turn(o)
		everything(o, "x", 200)
		o.Flush(t.Context())
		if o.Handler() != nil {
			t.Errorf("%s: not off", name)
		}
		if err := o.Shutdown(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
