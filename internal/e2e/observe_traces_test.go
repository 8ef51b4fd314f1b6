package e2e_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/slowtest"
	"example.com/gatehouse/internal/telemetry/telemetrytest"
)

// traced is the environment of a service that exports to c.
func traced(c *telemetrytest.Collector, more ...string) []string {
	return append([]string{"OTEL_TRACES_EXPORTER=otlp", "OTEL_METRICS_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
		"OTEL_EXPORTER_OTLP_ENDPOINT=" + c.HTTP, "GOOGLE_CLOUD_PROJECT=project-1"}, more...)
}

// A span is one that a collector has, made easy to compare.
type span struct {
	*tracepb.Span
	Attributes map[string]any
}

// spansOf are the spans that c has, each once.
func spansOf(c *telemetrytest.Collector) []span {
	var spans []span
	seen := map[string]bool{}
	for _, s := range c.Spans() {
		if id := string(s.SpanId); !seen[id] {
			seen[id] = true
			spans = append(spans, span{s, attributes(s.Attributes)})
		}
	}
	return spans
}

func attributes(list []*commonpb.KeyValue) map[string]any {
	all := map[string]any{}
	for _, a := range list {
		switch v := a.Value.Value.(type) {
		case *commonpb.AnyValue_StringValue:
			all[a.Key] = v.StringValue
		case *commonpb.AnyValue_IntValue:
			all[a.Key] = v.IntValue
		case *commonpb.AnyValue_BoolValue:
			all[a.Key] = v.BoolValue
		case *commonpb.AnyValue_DoubleValue:
			all[a.Key] = v.DoubleValue
		}
	}
	return all
}

// tree writes spans of one trace as a tree: names, indented by their parents,
// in the order in which they began.
func tree(spans []span) string {
	slices.SortStableFunc(spans, func(a, b span) int { return int(int64(a.StartTimeUnixNano) - int64(b.StartTimeUnixNano)) })
	known := map[string]bool{}
	for _, s := range spans {
		known[string(s.SpanId)] = true
	}
	var b strings.Builder
	var write func(parent string, depth int)
	write = func(parent string, depth int) {
		for _, s := range spans {
			at := string(s.ParentSpanId)
			if at == parent || depth == 0 && !known[at] {
				fmt.Fprintf(&b, "%s%s\n", strings.Repeat("  ", depth), s.Name)
				write(string(s.SpanId), depth+1)
			}
		}
	}
	write("", 0)
	return b.String()
}

// has checks some of a span's attributes.
func (s span) has(t *testing.T, want map[string]any) {
	t.Helper()
	for name, value := range want {
		if s.Attributes[name] != value {
			t.Errorf("span %q: %s is %v, want %v", s.Name, name, s.Attributes[name], value)
		}
	}
}

func traceOf(spans []span, id string) []span {
	return slices.DeleteFunc(slices.Clone(spans), func(s span) bool { return hex.EncodeToString(s.TraceId) != id })
}

func named(t *testing.T, spans []span, name string) span {
	t.Helper()
	for _, s := range spans {
		if s.Name == name {
			return s
		}
	}
	t.Errorf("no span %q", name)
	return span{Span: &tracepb.Span{}}
}

const callerSpan = "00f067aa0ba902b7"

// traceID returns a different trace id for each n.
func traceID(n int) string { return fmt.Sprintf("4bf92f3577b34da6a3ce929d%08x", n) }

func parent(n int) []string {
	return []string{"traceparent", "00-" + traceID(n) + "-" + callerSpan + "-01"}
}

func TestSpans(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"http/protobuf", "grpc"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			c := telemetrytest.New(t)
			env := traced(c)
			if protocol == "grpc" {
				env = append(env, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "OTEL_EXPORTER_OTLP_ENDPOINT="+c.GRPC)
			}
			s, gemini := startGemini(t, env...)
			gemini.Enqueue(geminitest.Calls(geminitest.FunctionCall{Name: "check_status"}).WithUsage(geminitest.Usage{Prompt: 100, Output: 7}),
				geminitest.Text("All is well.").WithUsage(geminitest.Usage{Prompt: 150, Output: 20}))
			s.invoke(t, map[string]any{"query": prompt}, parent(1)...)
			gemini.Enqueue(geminitest.Error(400, "no"))
			wantError(t, s.do(t, http.MethodPost, "/invoke", map[string]any{"query": prompt}, parent(2)...), 502, "model_failed")
			gemini.Enqueue(geminitest.Text("one ", "two"))
			s.stream(t, map[string]any{"query": prompt, "stream": true}, parent(3)...).wantDone(t)
			wantError(t, s.do(t, http.MethodGet, "/sessions/"+unknownSession, nil, parent(4)...), 404, "session_not_found")
			s.end(t, syscall.SIGTERM)

			agent := "invoke_agent " + agentName(t, spansOf(c))
			usual := "POST /invoke\n  load session\n  " + agent + "\n    generate_content gemini-3.5-flash-lite\n  commit session\n"
			for n, want := range map[int]string{
				1: strings.Replace(usual, "lite\n", "lite\n    execute_tool check_status\n    generate_content gemini-3.5-flash-lite\n", 1),
				2: strings.TrimSuffix(usual, "  commit session\n"),
				3: usual,
				4: "GET /sessions/{id}\n",
			} {
				if got := tree(traceOf(spansOf(c), traceID(n))); got != want {
					t.Errorf("trace %d:\n%s\nwant:\n%s", n, got, want)
				}
			}
			turn := traceOf(spansOf(c), traceID(1))
			request := named(t, turn, "POST /invoke")
			if request.Kind != tracepb.Span_SPAN_KIND_SERVER || hex.EncodeToString(request.ParentSpanId) != callerSpan {
				t.Errorf("the request's span: %v", request.Span)
			}
			request.has(t, map[string]any{"http.request.method": "POST", "http.route": "/invoke", "http.response.status_code": int64(200), "url.scheme": "http", "error.type": nil})
			model := named(t, turn, "generate_content gemini-3.5-flash-lite")
			if model.Kind != tracepb.Span_SPAN_KIND_CLIENT {
				t.Errorf("the model's span: %v", model.Kind)
			}
			model.has(t, map[string]any{"gen_ai.operation.name": "generate_content", "gen_ai.request.model": "gemini-3.5-flash-lite", "gen_ai.provider.name": "gcp.gemini",
				"gen_ai.usage.input_tokens": int64(100), "gen_ai.usage.output_tokens": int64(7)})
			named(t, turn, "execute_tool check_status").has(t, map[string]any{"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "check_status"})
			named(t, turn, agent).has(t, map[string]any{"gen_ai.operation.name": "invoke_agent"})

			failed := traceOf(spansOf(c), traceID(2))
			for _, name := range []string{"POST /invoke", agent, "generate_content gemini-3.5-flash-lite"} {
				s := named(t, failed, name)
				s.has(t, map[string]any{"error.type": "model_failed"})
				if s.Status.GetCode() != tracepb.Status_STATUS_CODE_ERROR {
					t.Errorf("%s: status %v", name, s.Status)
				}
			}
			named(t, failed, "POST /invoke").has(t, map[string]any{"http.response.status_code": int64(502), "agent.error.code": "model_failed"})
			refused := named(t, traceOf(spansOf(c), traceID(4)), "GET /sessions/{id}")
			refused.has(t, map[string]any{"http.response.status_code": int64(404), "agent.error.code": "session_not_found", "error.type": nil})
			if refused.Status.GetCode() == tracepb.Status_STATUS_CODE_ERROR {
				t.Error("a client's mistake is the server's error")
			}
			for _, r := range c.ResourceSpans() {
				if got := attributes(r.Resource.Attributes); got["service.name"] != "gatehouse" || got["service.version"] == nil {
					t.Errorf("resource: %v", got)
				}
				if text := r.String(); strings.Contains(text, "my number") || strings.Contains(text, unknownSession) || strings.Contains(text, apiKey) {
					t.Errorf("a span holds what callers sent: %s", text)
				}
			}
			seen := metricNames(c)
			for _, name := range []string{"http.server.request.duration", "http.server.active_requests", "gen_ai.client.operation.duration",
				"gen_ai.client.token.usage", "agent.session.commit.duration", "agent.tool.duration"} {
				if !slices.Contains(seen, name) {
					t.Errorf("no metric %s among %v", name, seen)
				}
			}
		})
	}
}

// agentName is what the agent is called, from the span of its run.
func agentName(t *testing.T, spans []span) string {
	t.Helper()
	for _, s := range spans {
		if name, ok := s.Attributes["gen_ai.agent.name"].(string); ok {
			return name
		}
	}
	t.Fatal("no span of an agent's run")
	return ""
}

func metricNames(c *telemetrytest.Collector) []string {
	var names []string
	for _, r := range c.Metrics() {
		for _, scope := range r.ScopeMetrics {
			for _, m := range scope.Metrics {
				names = append(names, m.Name)
			}
		}
	}
	return names
}

// requestsCounted is how many requests the last export of metrics counts.
func requestsCounted(c *telemetrytest.Collector) (n uint64) {
	all := c.Metrics()
	if len(all) == 0 {
		return 0
	}
	for _, scope := range all[len(all)-1].ScopeMetrics {
		for _, m := range scope.Metrics {
			if m.Name == "http.server.request.duration" {
				for _, p := range m.GetHistogram().DataPoints {
					n += p.Count
				}
			}
		}
	}
	return n
}

// The buildpack's program ends on SIGTERM as cmd/local does: with code 0, once
// everything is delivered.
func TestDeployedDeliversAtItsEnd(t *testing.T) {
	t.Parallel()
	env, _ := deployment(t)
	c := telemetrytest.New(t)
	s := startDeployed(t, "invoke", append(env, slices.DeleteFunc(traced(c), func(v string) bool { return strings.HasPrefix(v, "GOOGLE_") })...)...)
	const turns = 5
	for n := range turns {
		s.do(t, http.MethodPost, "/", map[string]any{"query": "hello"}, append(parent(n+1), "Authorization", bearer(t, "ann", nil))...)
	}
	if code := s.end(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for n := range turns {
		named(t, traceOf(spansOf(c), traceID(n+1)), "POST /")
	}
	if n := requestsCounted(c); n != turns {
		t.Errorf("%d requests counted, want %d", n, turns)
	}
	if strings.Contains(s.stdout.String()+s.stderr.String(), "Failed to start") {
		t.Error("the log says that the framework failed to start")
	}
}

// The caller decides whether its trace is sampled; log lines name the trace in either
// case.
func TestTraceHeaders(t *testing.T) {
	t.Parallel()
	c := telemetrytest.New(t)
	s, _ := startGemini(t, traced(c)...)
	w3c := func(flags string) string { return "00-" + traceID(1) + "-" + callerSpan + "-" + flags }
	tests := []struct {
		name     string
		headers  []string
		follows  bool // the caller's trace
		exported bool
	}{
		{"none", nil, false, true},
		{"traceparent, sampled", []string{"traceparent", w3c("01")}, true, true},
		{"traceparent, not sampled", []string{"traceparent", w3c("00")}, true, false},
		{"Google's, sampled", []string{"X-Cloud-Trace-Context", traceID(1) + "/67667974448284343;o=1"}, true, true},
		{"Google's, not sampled", []string{"X-Cloud-Trace-Context", traceID(1) + "/67667974448284343;o=0"}, true, false},
		{"both: W3C's counts", []string{"traceparent", w3c("01"), "X-Cloud-Trace-Context", traceID(2) + "/1;o=0"}, true, true},
		{"both, W3C's broken", []string{"traceparent", "nonsense", "X-Cloud-Trace-Context", traceID(1) + "/67667974448284343;o=1"}, true, true},
		{"zeros", []string{"traceparent", "00-00000000000000000000000000000000-0000000000000000-01"}, false, true},
		{"version ff", []string{"traceparent", "ff" + w3c("01")[2:]}, false, true},
		{"upper case", []string{"traceparent", strings.ToUpper(w3c("01"))}, false, true},
		{"too long", []string{"traceparent", w3c("01") + strings.Repeat("-x", 8<<10)}, false, true},
		{"two", []string{"traceparent", w3c("01"), "traceparent", w3c("01")}, false, true},
		{"quotes and braces", []string{"traceparent", `","severity":"EMERGENCY`}, false, true},
		{"Google's, with a name", []string{"X-Cloud-Trace-Context", "projects/evil/traces/" + traceID(1) + ";o=1"}, false, true},
	}
	want, notWanted := 0, map[string]bool{}
	for i, test := range tests {
		id := fmt.Sprintf("trace-%d", i)
		s.do(t, http.MethodGet, "/", nil, append(test.headers, "X-Request-ID", id)...)
		l := s.summary(t, id)
		trace, _ := l["logging.googleapis.com/trace"].(string)
		own, _ := l["logging.googleapis.com/spanId"].(string)
		hash, full := strings.CutPrefix(trace, "projects/project-1/traces/")
		if !full || !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(hash) || !regexp.MustCompile(`^[0-9a-f]{16}$`).MatchString(own) {
			t.Errorf("%s: trace %q, span %q", test.name, trace, own)
		}
		if follows := hash == traceID(1); follows != test.follows {
			t.Errorf("%s: trace %s: the caller's is followed: %v", test.name, hash, follows)
		}
		if sampled := l["logging.googleapis.com/trace_sampled"]; sampled != test.exported {
			t.Errorf("%s: sampled %v", test.name, sampled)
		}
		if test.exported {
			want++
		} else {
			notWanted[own] = true
		}
	}
	s.end(t, syscall.SIGTERM)
	spans := spansOf(c)
	if len(spans) != want {
		t.Errorf("%d spans exported, want %d", len(spans), want)
	}
	for _, s := range spans {
		if notWanted[hex.EncodeToString(s.SpanId)] {
			t.Errorf("a span that nobody sampled: %v", s.Span)
		}
	}
}

// An instance that is frozen as soon as each answer is out, as Cloud Run may do,
// is late with what happened in the last 10 s at most, and loses nothing.
func TestFrozenAfterEachAnswer(t *testing.T) {
	slowtest.Skip(t, "an instance that is frozen after each answer")
	t.Parallel()
	c := telemetrytest.New(t)
	s, _ := startGemini(t, traced(c)...)
	// One connection: a request on it is served once the handler of the one
	// before has returned.
	s.client.Transport.(*http.Transport).MaxConnsPerHost = 1
	ctx := bounded(t)
	signal := func(sig os.Signal) {
		t.Helper()
		if err := s.cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
	}
	const interval = 10 * time.Second
	var answered []time.Time
	latest, checked := 0, 0
	for begin := time.Now(); time.Since(begin) < 2*interval+4*time.Second; {
		signal(syscall.SIGCONT)
		n := len(answered) + 1
		a, err := s.try(ctx, http.MethodGet, "/", nil, parent(n)...)
		now := time.Now()
		signal(syscall.SIGSTOP)
		if err != nil || a.Status != http.StatusOK {
			t.Fatalf("request %d: %v, status %d", n, err, a.Status)
		}
		answered = append(answered, now)
		have := map[string]bool{}
		for _, s := range c.Spans() {
			have[hex.EncodeToString(s.TraceId)] = true
		}
		latest = max(latest, len(have))
		// The request before this one has flushed, unless that was done less than
		// 10 s before: what was answered until then must have come.
		for i, when := range answered {
			if n >= 2 && when.Before(answered[n-2].Add(-interval-500*time.Millisecond)) {
				checked++
				if !have[traceID(i+1)] {
					t.Errorf("request %d, answered %v ago, is not exported yet", i+1, now.Sub(when))
				}
			}
		}
		if err := rest(ctx, 300*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	if checked == 0 || latest == 0 || latest == len(answered) {
		t.Errorf("of %d requests %d had been exported, and %d were looked for: this shows nothing", len(answered), latest, checked)
	}
	signal(syscall.SIGCONT)
	s.end(t, syscall.SIGTERM)
	have := map[string]int{}
	for _, s := range spansOf(c) {
		have[hex.EncodeToString(s.TraceId)]++
	}
	for i := range answered {
		if have[traceID(i+1)] != 1 {
			t.Errorf("request %d has %d spans in the end", i+1, have[traceID(i+1)])
		}
	}
	if n := requestsCounted(c); n != uint64(len(answered)) {
		t.Errorf("%d requests counted, want %d", n, len(answered))
	}
	t.Logf("%d requests, %d of them exported while the process was frozen after its answers", len(answered), latest)
}

// A collector in trouble: clients have their last byte as soon as without, and
// handlers return within the bound.
func TestCollectorInTrouble(t *testing.T) {
	t.Parallel()
	const bound = 300 * time.Millisecond
	for name, mode := range map[string]telemetrytest.Mode{"hangs": telemetrytest.Hang, "answers 500": telemetrytest.Fail, "refuses": telemetrytest.Refuse, "is slow": telemetrytest.Slow, "is away": -1} {
		t.Run("it "+name, func(t *testing.T) {
			t.Parallel()
			c := telemetrytest.New(t)
			c.SetMode(mode)
			c.SetDelay(5 * time.Second)
			env := traced(c)
			if mode < 0 {
				env = append(env, "OTEL_EXPORTER_OTLP_ENDPOINT=http://"+unused(t))
			}
			// The first request of a process flushes. Others use this machine, so
			// the best of some counts.
			var last, returned time.Duration
			for range 5 {
				s, gemini := startGemini(t, env...)
				gemini.Enqueue(geminitest.Text("one"))
				begin := time.Now()
				events := s.stream(t, map[string]any{"query": "hello", "stream": true})
				events.until(t, "done")
				last = time.Since(begin)
				events.rest(t)
				returned = time.Since(begin) - last // the stream stays open until then
				if mode == telemetrytest.Hang && returned < bound*9/10 {
					t.Errorf("the handler waited only %v for a collector that hangs: this shows nothing", returned)
				}
				if last < bound && returned < bound+bound/2 {
					break
				}
			}
			t.Logf("the last byte after %v, the handler's return %v later", last, returned)
			if last >= bound {
				t.Errorf("the client had its last byte after %v", last)
			}
			if returned >= bound+bound/2 {
				t.Errorf("the handler returned %v later", returned)
			}
		})
	}
}

// With a collector that hangs, what waits for it is bounded.
func TestTelemetryDoesNotGrow(t *testing.T) {
	slowtest.Skip(t, "the memory of telemetry without a collector")
	t.Parallel()
	c := telemetrytest.New(t)
	c.SetMode(telemetrytest.Hang)
	s, _ := startGemini(t, traced(c, "LOG_LEVEL=error")...)
	batch := func() int {
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				for range 1500 {
					if a, err := s.try(context.Background(), http.MethodGet, "/", nil, "User-Agent", strings.Repeat("x", 900)); err != nil || a.Status != http.StatusOK {
						t.Errorf("%v, status %d", err, a.Status)
						return
					}
				}
			})
		}
		group.Wait()
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
		if err != nil {
			if os.Getenv("CI") != "" {
				t.Fatal(err)
			}
			t.Skipf("NOT TESTED: the memory of a process, which only Linux tells at /proc (%v)", err)
		}
		match := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(status)
		kib, _ := strconv.Atoi(string(match[1]))
		return kib
	}
	first := batch()
	second := batch()
	t.Logf("resident memory: %d KiB after 12 000 requests, %d KiB after 24 000", first, second)
	if most := 16 << 10; second > first+most { // 12 000 spans of more than 2 KiB would be 24 MiB
		t.Errorf("memory grew from %d to %d KiB", first, second)
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	s, gemini := startGemini(t, keys(), "AUTH=api_key", "OPERATORS=key:one")
	wantError(t, s.do(t, http.MethodGet, "/metrics", nil), 401, "unauthenticated")
	wantError(t, s.do(t, http.MethodGet, "/metrics", nil, "X-API-Key", "guessed"), 401, "unauthenticated")
	for _, other := range []string{"two", "person"} {
		wantError(t, s.do(t, http.MethodGet, "/metrics", nil, as(other)...), 403, "permission_denied")
	}
	read := func() string {
		t.Helper()
		a := s.do(t, http.MethodGet, "/metrics", nil, as("one")...)
		if a.Status != http.StatusOK || !strings.HasPrefix(a.Header.Get("Content-Type"), "text/plain") {
			t.Fatalf("status %d, %q: %s", a.Status, a.Header.Get("Content-Type"), a.Body)
		}
		return string(a.Body)
	}
	hostile := func(n int) {
		evil := fmt.Sprintf("evil-%d", n)
		gemini.Enqueue(geminitest.Calls(geminitest.FunctionCall{Name: evil}), geminitest.Text("done"))
		s.do(t, http.MethodPost, "/invoke", map[string]any{"query": evil}, as("one", "X-End-User", evil, "X-Request-ID", evil)...)
		s.do(t, http.MethodPost, "/invoke", map[string]any{"query": evil, "session_id": "evil-session-00000" + strconv.Itoa(n)}, as("one")...)
		s.do(t, http.MethodGet, "/"+evil, nil, as("one")...)
		s.do(t, http.MethodGet, "/sessions/"+evil+"?"+evil, nil, as("one")...)
		s.do(t, strings.ToUpper(strings.ReplaceAll(evil, "-", "")), "/invoke", nil, as("one", "User-Agent", evil, "Origin", "https://"+evil+".example.com")...)
		s.do(t, http.MethodGet, "/sessions", nil, "X-API-Key", evil, "Host", evil, "X-Forwarded-Proto", evil, "X-Forwarded-For", evil)
	}
	s.invoke(t, map[string]any{"query": "hello"}, as("one")...)
	hostile(0)
	before := read()
	for n := range 20 {
		hostile(n + 1)
	}
	after := read()
	if strings.Contains(after, "evil") || strings.Contains(after, "EVIL") {
		t.Errorf("a caller's text is a label: %s", after)
	}
	series := func(text string) (names []string) {
		for line := range strings.Lines(text) {
			if !strings.HasPrefix(line, "#") {
				names = append(names, line[:strings.LastIndexByte(line, ' ')])
			}
		}
		return names
	}
	more := slices.DeleteFunc(series(after), func(name string) bool { return slices.Contains(series(before), name) })
	// The first reading is itself counted by the second.
	more = slices.DeleteFunc(more, func(name string) bool { return strings.Contains(name, `http_route="/metrics"`) })
	if len(more) > 0 {
		t.Errorf("callers made %d more series: %v", len(more), more)
	}
	problems, err := promlint.New(bytes.NewReader([]byte(after))).Lint()
	if err != nil {
		t.Errorf("not Prometheus' format: %v", err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	for _, name := range []string{"http_server_request_duration_seconds_count", "http_server_active_requests", "gen_ai_client_operation_duration_seconds_count",
		"gen_ai_client_token_usage", "agent_session_commit_duration_seconds_count", "agent_tool_duration_seconds_count", "agent_breaker_state"} {
		if !strings.Contains(after, "\n"+name) {
			t.Errorf("no series of %s", name)
		}
	}
}

// Telemetry for Google goes to its Telemetry API, or to TELEMETRY_ENDPOINT, with the
// quota project that it requires.
func TestTelemetryForGoogle(t *testing.T) {
	t.Parallel()
	c := telemetrytest.New(t)
	s, gemini := startGemini(t, "OTEL_TRACES_EXPORTER=google", "OTEL_METRICS_EXPORTER=google", "GOOGLE_CLOUD_PROJECT=project-1",
		"TELEMETRY_ENDPOINT="+strings.TrimPrefix(c.GRPC, "http://"))
	gemini.Enqueue(geminitest.Text("Hello."))
	s.invoke(t, map[string]any{"query": "Hello?"})
	s.end(t, syscall.SIGTERM)

	names := map[string]bool{}
	for _, r := range c.Metrics() {
		for _, scope := range r.ScopeMetrics {
			for _, m := range scope.Metrics {
				names[m.Name] = true
			}
		}
		checkProject(t, "metrics", r.Resource)
	}
	for _, r := range c.ResourceSpans() {
		checkProject(t, "traces", r.Resource)
	}
	if !names["http.server.request.duration"] || !names["gen_ai.client.token.usage"] {
		t.Errorf("metrics %v", names)
	}
	if !slices.ContainsFunc(c.Spans(), func(s *tracepb.Span) bool { return s.Name == "POST /invoke" }) {
		t.Errorf("no span of the request among %d", len(c.Spans()))
	}
}

func checkProject(t *testing.T, signal string, r *resourcepb.Resource) {
	t.Helper()
	for _, kv := range r.Attributes {
		if kv.Key == "gcp.project_id" && kv.Value.GetStringValue() == "project-1" {
			return
		}
	}
	t.Errorf("%s without their project: %v", signal, r.Attributes)
}
