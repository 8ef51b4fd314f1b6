package telemetry

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	colmetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	"golang.org/x/oauth2"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"example.com/gatehouse/internal/telemetry/telemetrytest"
	"example.com/gatehouse/internal/testclock"
)

// metadataServer stands in for the one of Cloud Run.
func metadataServer(t *testing.T) {
	t.Helper()
	answers := map[string]string{
		"/computeMetadata/v1/project/project-id": "project-1",
		"/computeMetadata/v1/instance/region":    "projects/1/regions/europe-west1",
		"/computeMetadata/v1/instance/id":        "instance-7",
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Metadata-Flavor", "Google")
		answer, ok := answers[r.URL.Path]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
		}
		fmt.Fprint(w, answer)
	}))
	t.Cleanup(server.Close)
	t.Setenv("GCE_METADATA_HOST", strings.TrimPrefix(server.URL, "http://"))
	t.Setenv("K_SERVICE", "invoke")
	t.Setenv("K_REVISION", "invoke-00001")
	t.Setenv("K_CONFIGURATION", "invoke")
}

// What leaves for Google has the resource that the Telemetry API demands.
func TestGoogle(t *testing.T) {
	metadataServer(t)
	google := telemetrytest.New(t)
	google.SetMode(telemetrytest.Fail)
	config := all()
	config.GoogleEndpoint = strings.TrimPrefix(google.GRPC, "http://")
	o := observer(t, config, "K_SERVICE", "invoke")
	turn(o)
	o.Flush(t.Context())
	if o.queue.len() != spansOfATurn {
		t.Errorf("%d spans kept while the API is away", o.queue.len())
	}
	google.SetMode(telemetrytest.Take)
	if err := o.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}

	traces, metrics := google.ResourceSpans(), google.Metrics()
	if len(traces) != 1 || len(google.Spans()) != spansOfATurn || len(metrics) != 1 {
		t.Fatalf("%d exports of %d spans, %d of metrics", len(traces), len(google.Spans()), len(metrics))
	}
	for signal, attrs := range map[string]map[string]string{
		"traces": text(traces[0].Resource.Attributes), "metrics": text(metrics[0].Resource.Attributes),
	} {
		for key, want := range map[string]string{
			"gcp.project_id": "project-1", "service.name": "gatehouse", // job
			"cloud.region": "europe-west1", "cloud.platform": "gcp_cloud_run", // location, cluster
		} {
			if attrs[key] != want {
				t.Errorf("%s: %s is %q, want %q", signal, key, attrs[key], want)
			}
		}
		if attrs["service.instance.id"] == "" {
			t.Errorf("%s: no instance in %v", signal, attrs)
		}
	}
}

// Exports carry the credentials' token, and the project whose quota they use.
func TestGoogleCredentials(t *testing.T) {
	metadataServer(t)
	server := httptest.NewUnstartedServer(nil) // for its certificate
	server.StartTLS()
	t.Cleanup(server.Close)
	google := telemetrytest.NewTLS(t, credentials.NewTLS(&tls.Config{Certificates: server.TLS.Certificates}))
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())

	config := all()
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(google.GRPC, "http://"))
	config.GoogleEndpoint = "telemetry.test:" + port
	config.GoogleOptions = []option.ClientOption{
		option.WithTokenSource(oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "secret", TokenType: "Bearer"})),
		option.WithEndpoint("127.0.0.1:" + port),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(roots, ""))),
	}
	o := observer(t, config, "K_SERVICE", "invoke")
	turn(o)
	if err := o.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	headers := google.Headers()
	if len(headers) != 2 {
		t.Fatalf("%d exports, want traces and metrics", len(headers))
	}
	for _, h := range headers {
		if got := h.Get("authorization"); !slices.Equal(got, []string{"Bearer secret"}) {
			t.Errorf("authorization %q", got)
		}
		if got := h.Get("x-goog-user-project"); !slices.Equal(got, []string{"project-1"}) {
			t.Errorf("x-goog-user-project %q", got)
		}
	}
}

// A process that has gathered more series than a request may hold sends them in
// several.
func TestGoogleTakes200PointsAtOnce(t *testing.T) {
	metadataServer(t)
	google := telemetrytest.New(t)
	config := all()
	config.GoogleEndpoint = strings.TrimPrefix(google.GRPC, "http://")
	for n := range 450 {
		config.Tools = append(config.Tools, fmt.Sprint("tool_", n))
	}
	o := observer(t, config, "K_SERVICE", "invoke", "OTEL_TRACES_EXPORTER", "none")
	turn(o)
	for _, tool := range config.Tools {
		_, s := o.StartTool(t.Context(), tool)
		s.End(t.Context(), "")
	}
	if err := o.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	tools, sizes := map[string]bool{}, []int(nil)
	for _, r := range google.Metrics() {
		size := 0
		for _, scope := range r.ScopeMetrics {
			for _, m := range scope.Metrics {
				size += points(m)
				for _, p := range m.GetHistogram().GetDataPoints() {
					if m.Name == "agent.tool.duration" {
						attrs := text(p.Attributes)
						tools[attrs["gen_ai.tool.name"]+attrs["error.type"]] = true
					}
				}
			}
		}
		sizes = append(sizes, size)
	}
	if len(tools) != len(config.Tools)+1 { // one failed in the turn
		t.Errorf("%d series of tools arrived, want %d", len(tools), len(config.Tools)+1)
	}
	if len(sizes) != 3 || slices.Max(sizes) > 200 {
		t.Errorf("requests of %v points", sizes)
	}
}

// A split loses, doubles and disorders nothing, for all kinds and sizes.
func TestSplit(t *testing.T) {
	t.Parallel()
	number := func(n int) []*metricspb.NumberDataPoint {
		return slices.Repeat([]*metricspb.NumberDataPoint{{}}, n)
	}
	metrics := []*metricspb.Metric{
		{Name: "gauge", Data: &metricspb.Metric_Gauge{Gauge: &metricspb.Gauge{DataPoints: number(3)}}},
		{Name: "none", Data: &metricspb.Metric_Gauge{Gauge: &metricspb.Gauge{}}},
		{Name: "sum", Data: &metricspb.Metric_Sum{Sum: &metricspb.Sum{DataPoints: number(4), IsMonotonic: true}}},
		{Name: "histogram", Data: &metricspb.Metric_Histogram{Histogram: &metricspb.Histogram{DataPoints: []*metricspb.HistogramDataPoint{{}, {}}}}},
		{Name: "exponential", Data: &metricspb.Metric_ExponentialHistogram{ExponentialHistogram: &metricspb.ExponentialHistogram{DataPoints: []*metricspb.ExponentialHistogramDataPoint{{}}}}},
		{Name: "summary", Data: &metricspb.Metric_Summary{Summary: &metricspb.Summary{DataPoints: []*metricspb.SummaryDataPoint{{}}}}},
	}
	export := &colmetrics.ExportMetricsServiceRequest{ResourceMetrics: []*metricspb.ResourceMetrics{
		{SchemaUrl: "one", ScopeMetrics: []*metricspb.ScopeMetrics{{Metrics: metrics[:2]}, {Metrics: metrics[2:]}}},
		{SchemaUrl: "two", ScopeMetrics: []*metricspb.ScopeMetrics{{Metrics: metrics[:1]}}},
	}}
	var got []string
	for _, part := range split(export, 5) {
		line := ""
		for _, r := range part.ResourceMetrics {
			line += r.SchemaUrl + ":"
			for _, s := range r.ScopeMetrics {
				for _, m := range s.Metrics {
					line += fmt.Sprintf(" %s %d", m.Name, points(m))
				}
			}
			line += "; "
		}
		got = append(got, line)
	}
	want := []string{
		"one: gauge 3; one: sum 2; ",
		"one: sum 2 histogram 2 exponential 1; ",
		"one: summary 1; two: gauge 3; ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if parts := split(&colmetrics.ExportMetricsServiceRequest{}, 5); len(parts) != 0 {
		t.Errorf("%d parts of nothing", len(parts))
	}
}

// A busy instance's export, once a minute, is what docs/cost.md bills: a sample
// for each number, and for each histogram two and one for each bucket that holds
// something (https://cloud.google.com/stackdriver/pricing).
func TestSamplesOfABusyInstance(t *testing.T) {
	metadataServer(t)
	google := telemetrytest.New(t)
	config := all()
	config.GoogleEndpoint = strings.TrimPrefix(google.GRPC, "http://")
	c := testclock.New(start)
	config.Now = c.Now
	o := observer(t, config, "K_SERVICE", "invoke", "OTEL_TRACES_EXPORTER", "none")
	for n := range 100 { // durations of a usual spread, from 5 ms to 8 s
		r := httptest.NewRequest(http.MethodPost, "/invoke", nil)
		ctx, q := o.StartRequest(r, true)
		after := func(d time.Duration) { c.Advance(d * time.Duration(1+n%8)) }
		_, load := o.StartLoad(ctx)
		after(5 * time.Millisecond)
		load.End(ctx, "")
		agent, a := o.StartAgent(ctx, "assistant")
		for range 2 {
			_, m := o.StartModel(agent, "gemini-2.5-flash")
			after(400 * time.Millisecond)
			m.Usage("gemini-2.5-flash", int64(400*(1+n%8)), int64(100*(1+n%4)))
			m.End(agent, "")
		}
		_, tool := o.StartTool(agent, "get_time")
		after(20 * time.Millisecond)
		tool.End(agent, "")
		a.End(agent, "")
		_, commit := o.StartCommit(ctx)
		after(10 * time.Millisecond)
		commit.End(ctx, "")
		q.End(ctx, "POST /invoke", 200, "")
	}
	if err := o.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	series, samples := 0, 0
	for _, r := range google.Metrics() {
		for _, scope := range r.ScopeMetrics {
			for _, m := range scope.Metrics {
				series += points(m)
				samples += len(m.GetGauge().GetDataPoints()) + len(m.GetSum().GetDataPoints())
				for _, p := range m.GetHistogram().GetDataPoints() {
					samples += 2
					for _, n := range p.BucketCounts {
						if n > 0 {
							samples++
						}
					}
				}
			}
		}
	}
	t.Logf("%d series, %d samples a minute", series, samples)
	if series != 8 || samples != 41 {
		t.Errorf("%d series and %d samples; docs/cost.md bills 8 and 41", series, samples)
	}
}
