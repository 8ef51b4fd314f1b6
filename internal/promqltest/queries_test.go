package promqltest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/internal/telemetry/telemetrytest"
	"example.com/gatehouse/internal/terraformtest"
)

const root = "../.."

// measured has an Observer measure everything that it can.
func measured(t *testing.T, endpoint string, exporter string) *telemetry.Observer {
	t.Helper()
	env := map[string]string{"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": exporter}
	settings, err := telemetry.Parse(func(name string) (string, bool) { v, ok := env[name]; return v, ok })
	if err != nil {
		t.Fatal(err)
	}
	o, err := telemetry.New(settings, telemetry.Config{
		Service: "invoke", Version: "v1", Project: "my-project", GoogleEndpoint: strings.TrimPrefix(endpoint, "http://"),
		Routes: []string{"POST /invoke"}, Codes: api.Codes(), Models: []string{"model"}, Tools: []string{"tool"}, Provider: "gcp.gemini",
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, code := range append(api.Codes(), "") {
		ctx, request := o.StartRequest(httptest.NewRequest(http.MethodPost, "/invoke", nil), true)
		for _, start := range []func() telemetry.Step{
			func() telemetry.Step { _, s := o.StartCommit(ctx); return s },
			func() telemetry.Step { _, s := o.StartTool(ctx, "tool"); return s },
			func() telemetry.Step { _, s := o.StartAgent(ctx, "agent"); return s },
			func() telemetry.Step { _, s := o.StartModel(ctx, "model"); s.Usage("model", 1, 1); return s },
		} {
			step := start()
			step.End(ctx, code)
		}
		status := http.StatusOK
		if code != "" {
			status = http.StatusInternalServerError
		}
		request.End(ctx, "POST /invoke", status, code)
	}
	for _, limit := range []telemetry.Limit{
		telemetry.LimitRequests, telemetry.LimitCallerRequests, telemetry.LimitTokens, telemetry.LimitCallerTokens, telemetry.LimitServiceTokens, telemetry.LimitConcurrency,
	} {
		o.RateLimited(t.Context(), limit)
	}
	for score := -1; score <= 1; score++ {
		o.Feedback(t.Context(), score)
	}
	o.Breaker(t.Context(), "model", 2)
	return o
}

// listed are the labels whose values are known: all that are measured.
var listed = []string{"gen_ai.operation.name", "gen_ai.token.type", "agent.limit", "agent.error.code", "agent.feedback.score", "http.request.method", "url.scheme"}

// exported are the service's own metrics, as they leave for Google.
func exported(t *testing.T) map[string]Metric {
	t.Helper()
	collector := telemetrytest.New(t)
	o := measured(t, collector.GRPC, telemetry.Google)
	if err := o.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	all := map[string]Metric{}
	for _, resource := range collector.Metrics() {
		for _, scope := range resource.ScopeMetrics {
			for _, m := range scope.Metrics {
				kind, suffix := Gauge, "gauge"
				var attributes [][]*commonpb.KeyValue
				for _, p := range m.GetGauge().GetDataPoints() {
					attributes = append(attributes, p.Attributes)
				}
				if sum := m.GetSum(); sum != nil {
					if sum.IsMonotonic {
						kind, suffix = Counter, "counter"
					}
					for _, p := range sum.DataPoints {
						attributes = append(attributes, p.Attributes)
					}
				}
				if h := m.GetHistogram(); h != nil {
					kind, suffix = Distribution, "histogram"
					for _, p := range h.DataPoints {
						attributes = append(attributes, p.Attributes)
					}
				}
				labels := map[string][]string{"otel_scope_name": nil, "otel_scope_version": nil}
				for _, attrs := range attributes {
					for _, kv := range attrs {
						labels[kv.Key] = append(labels[kv.Key], value(kv.Value))
					}
				}
				for label := range labels {
					if !slices.Contains(listed, label) {
						labels[label] = nil
					}
				}
				all[otlpPrefix+m.Name+"/"+suffix] = Metric{kind, []string{"prometheus_target"}, labels}
			}
		}
	}
	return all
}

func value(v *commonpb.AnyValue) string {
	if n, ok := v.Value.(*commonpb.AnyValue_IntValue); ok {
		return fmt.Sprint(n.IntValue)
	}
	return v.GetStringValue()
}

// scraped is the table of what /metrics shows.
func scraped(t *testing.T) *Table {
	t.Helper()
	o := measured(t, "", telemetry.Prometheus)
	page := httptest.NewRecorder()
	o.Handler().ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	text := expfmt.NewTextParser(model.UTF8Validation)
	families, err := text.TextToMetricFamilies(page.Body)
	if err != nil {
		t.Fatal(err)
	}
	table := &Table{metrics: map[string]Metric{}, Scraped: true}
	for name, family := range families {
		m := Metric{Kind: map[string]Kind{"COUNTER": Counter, "GAUGE": Gauge, "HISTOGRAM": Distribution}[family.GetType().String()], Labels: map[string][]string{}}
		for _, series := range family.Metric {
			for _, label := range series.Label {
				m.Labels[label.GetName()] = nil
			}
		}
		table.metrics[name] = m
	}
	return table
}

// A query is one that somebody or something sends, and where it stands.
type query struct{ from, text, legend string }

// plans are what Terraform plans for the two forms of a deployment.
func plans(t *testing.T) map[string][]terraformtest.Change {
	t.Helper()
	all, skip, failure := terraformtest.Plan(t, root, map[string]string{
		"private":     "",
		"application": "web_access = \"application\"\nauth = [\"oidc\", \"api_key\"]\noidc_issuers = [{ issuer = \"https://issuer.example\", audience = \"a\" }]",
		"prefixed":    "prefix = \"second\"",
	})
	if skip != "" && os.Getenv("CI") == "" {
		t.Skip("NOT TESTED: the queries of terraform/. " + skip)
	}
	if skip+failure != "" {
		t.Fatal(skip + failure)
	}
	return all
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}

// ofPlan returns the queries of a plan's alerts and dashboard.
func ofPlan(t *testing.T, changes []terraformtest.Change) (queries []query) {
	t.Helper()
	for _, c := range changes {
		switch c.Type {
		case "google_monitoring_alert_policy":
			conditions, _ := c.Change.After["conditions"].([]any)
			for _, condition := range conditions {
				if len(list(terraformtest.Dig(condition, "condition_prometheus_query_language"))) == 0 {
					continue
				}
				text, ok := terraformtest.Dig(condition, "condition_prometheus_query_language", "query").(string)
				if !ok {
					t.Errorf("%s: the query is not known in the plan, so it is not checked", c.Address)
					continue
				}
				queries = append(queries, query{from: c.Address, text: text})
			}
		case "google_monitoring_dashboard":
			var dashboard struct {
				MosaicLayout struct {
					Tiles []struct {
						Widget struct {
							Title   string
							XyChart struct {
								DataSets []struct {
									LegendTemplate  string
									TimeSeriesQuery struct{ PrometheusQuery string }
								}
							}
						}
					}
				}
			}
			if err := json.Unmarshal([]byte(c.Change.After["dashboard_json"].(string)), &dashboard); err != nil {
				t.Fatal(err)
			}
			for _, tile := range dashboard.MosaicLayout.Tiles {
				for _, set := range tile.Widget.XyChart.DataSets {
					queries = append(queries, query{"tile " + tile.Widget.Title, set.TimeSeriesQuery.PrometheusQuery, set.LegendTemplate})
				}
			}
		}
	}
	return queries
}

// ofLogs returns the metrics that a plan makes of the logs.
func ofLogs(changes []terraformtest.Change) map[string]Metric {
	all := map[string]Metric{}
	for _, c := range changes {
		if c.Type != "google_logging_metric" {
			continue
		}
		m := Metric{Kind: Counter, Labels: map[string][]string{"log": nil}}
		if terraformtest.Dig(c.Change.After, "metric_descriptor", "value_type") == "DISTRIBUTION" {
			m.Kind = Distribution
		}
		// A log-based metric has the resource of its entries, so a query must
		// name it, though the filter leaves one.
		m.Resources = append(pair(c.Change.After["filter"], "resource.type"), "global")
		labels, _ := terraformtest.Dig(c.Change.After, "metric_descriptor", "labels").([]any)
		for _, label := range labels {
			key := terraformtest.Dig(label, "key").(string)
			m.Labels[key] = nil
			if key == "code" {
				m.Labels[key] = api.Codes()
			}
		}
		all["logging.googleapis.com/user/"+c.Change.After["name"].(string)] = m
	}
	return all
}

// pair returns the values that a filter of Google's demands of a field.
func pair(filter any, field string) (values []string) {
	text, _ := filter.(string)
	for _, m := range regexp.MustCompile(`(?:^|[\s(])`+regexp.QuoteMeta(field)+`\s*=\s*"([^"]*)"`).FindAllStringSubmatch(text, -1) {
		values = append(values, m[1])
	}
	return values
}

// ofDelivery returns the queries that delivery/watch sends.
func ofDelivery(t *testing.T) (queries []query) {
	t.Helper()
	var mu sync.Mutex
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		queries = append(queries, query{from: "delivery/watch", text: r.FormValue("query")})
		_, _ = w.Write([]byte(`{"status": "success", "data": {"result": []}}`))
	}))
	defer server.Close()
	cmd := exec.Command("go", "run", "./delivery/watch", "-project", "p", "-region", "europe-west1", "-old", "invoke-1", "-new", "invoke-2", "-for", "0s")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "MONITORING_TOKEN=t", "CLOUDSDK_API_ENDPOINT_OVERRIDES_MONITORING="+server.URL)
	out, _ := cmd.CombinedOutput() // its exit code is the verdict on figures that are not there
	if len(queries) < 4 {
		t.Fatalf("only %d queries of delivery/watch: %s", len(queries), out)
	}
	return queries
}

// ofDocuments returns the PromQL of the Markdown pages.
func ofDocuments(t *testing.T) (queries []query) {
	t.Helper()
	fence := regexp.MustCompile("(?ms)^```promql\n(.*?)^```")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".." || d.Name() == "node_modules") {
			return cmpOr(err, fs.SkipDir)
		}
		if filepath.Ext(path) != ".md" {
			return nil
		}
		page, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range fence.FindAllSubmatch(page, -1) {
			queries = append(queries, query{from: path, text: string(bytes.TrimSpace(m[1]))})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return queries
}

func cmpOr(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

// Cloud Monitoring takes every query that the project has.
func TestQueries(t *testing.T) {
	own := exported(t)
	selectors := map[string]int{}
	check := func(table *Table, kind string, q query) {
		n, findings := table.Check(q.text)
		selectors[kind] += n
		for _, f := range findings {
			t.Errorf("%s: %s\n  %s", q.from, f, q.text)
		}
		if q.legend != "" {
			for _, f := range table.legend(q) {
				t.Errorf("%s: %s", q.from, f)
			}
		}
	}
	values := func(prefix string) map[string][]string {
		services := []string{prefix + "invoke", prefix + "health"}
		return map[string][]string{"service_name": services, "job": services, "monitored_resource": slices.Collect(maps.Keys(Resources))}
	}
	for name, changes := range plans(t) {
		prefix, subscription := "", "gatehouse-secret-due"
		if name == "prefixed" {
			prefix, subscription = "second-", "second-secret-due"
		}
		v := values(prefix)
		v["subscription_id"] = []string{subscription}
		table := NewTable(v, Google, own, ofLogs(changes))
		queries := ofPlan(t, changes)
		if len(queries) < 25 {
			t.Errorf("only %d queries in the plan %q", len(queries), name)
		}
		for _, q := range queries {
			check(table, "plan "+name, q)
		}
		for _, f := range table.filters(changes) {
			t.Errorf("plan %s: %s", name, f)
		}
	}
	table := NewTable(values(""), Google, own)
	for _, q := range ofDelivery(t) {
		check(table, "delivery", q)
	}
	local := scraped(t)
	for _, q := range ofDocuments(t) {
		if strings.Contains(q.text, "_seconds_") { // of /metrics: names have their unit there
			check(local, "documents", q)
			continue
		}
		check(table, "documents", q)
	}
	t.Logf("selectors checked: %v", selectors)
}

// legend reports what a legend names and its query's series have not: the API
// interpolates ${label} and shows nothing for a label that is not there.
func (t *Table) legend(q query) (findings []Finding) {
	if strings.Contains(q.legend, "{{") {
		findings = append(findings, finding("the legend %q is in Grafana's form", q.legend))
	}
	known, err := t.Labels(q.text)
	if err != nil {
		return findings // reported with the query
	}
	for _, m := range regexp.MustCompile(`\$\{([^}]*)\}`).FindAllStringSubmatch(q.legend, -1) {
		if !known[m[1]] {
			findings = append(findings, finding("the legend %q names %q, which the query has not", q.legend, m[1]))
		}
		if strings.Contains(m[1], ".") {
			findings = append(findings, finding("the legend %q names a label with a dot", q.legend))
		}
	}
	return findings
}

// filters reports what is wrong with the filters of service-level objectives.
func (t *Table) filters(changes []terraformtest.Change) (findings []Finding) {
	seen := 0
	var visit func(v any)
	visit = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for key, value := range v {
				text, _ := value.(string)
				if strings.HasSuffix(key, "_filter") && text != "" {
					seen++
					findings = append(findings, t.filter(text)...)
				} else {
					visit(value)
				}
			}
		case []any:
			for _, value := range v {
				visit(value)
			}
		}
	}
	for _, c := range changes {
		if c.Type == "google_monitoring_slo" {
			visit(c.Change.After)
		}
	}
	if seen < 3 {
		findings = append(findings, finding("only %d filters of objectives", seen))
	}
	return findings
}

func (t *Table) filter(text string) (findings []Finding) {
	types, resources := pair(text, "metric.type"), pair(text, "resource.type")
	if len(types) != 1 || len(resources) != 1 {
		return []Finding{finding("not one metric and one resource: %s", text)}
	}
	m, ok := t.metrics[PromQL(types[0])]
	if !ok || !slices.Contains(m.Resources, resources[0]) {
		return []Finding{finding("no metric %s of %s", types[0], resources[0])}
	}
	for _, field := range regexp.MustCompile(`(metric|resource)\.labels\.(\w+)="([^"]*)"`).FindAllStringSubmatch(text, -1) {
		known, values := m.Labels, m.Labels[field[2]]
		if field[1] == "resource" {
			known = map[string][]string{}
			for _, label := range Resources[resources[0]] {
				known[label] = t.values[label]
			}
			values = known[field[2]]
		}
		if _, ok := known[field[2]]; !ok || values != nil && !slices.Contains(values, field[3]) {
			findings = append(findings, finding("%s.labels.%s is never %q: %s", field[1], field[2], field[3], text))
		}
	}
	return findings
}

// docs/observability.md's table lists the metrics that there are.
func TestTheDocumentListsEveryMetric(t *testing.T) {
	page, err := os.ReadFile(root + "/docs/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## Metrics\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var documented, there []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_.]+)` \\|").FindAllStringSubmatch(section, -1) {
		documented = append(documented, m[1])
	}
	for metricType := range exported(t) {
		there = append(there, PromQL(metricType))
	}
	slices.Sort(documented)
	slices.Sort(there)
	if !slices.Equal(documented, there) {
		t.Errorf("documented %v\nexported   %v", documented, there)
	}
}
