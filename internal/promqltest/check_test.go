package promqltest

import (
	"slices"
	"strings"
	"testing"
)

// Check reports each query that Cloud Monitoring rejects or that can never return
// anything.
func TestCheck(t *testing.T) {
	t.Parallel()
	table := NewTable(map[string][]string{"service_name": {"invoke", "health"}}, Google, map[string]Metric{
		"logging.googleapis.com/user/gatehouse/errors":            {Counter, []string{"cloud_run_revision", "cloud_scheduler_job"}, map[string][]string{"code": {"internal", "timeout"}}},
		"prometheus.googleapis.com/agent.tool.duration/histogram": {Distribution, []string{"prometheus_target"}, map[string][]string{"gen_ai.tool.name": nil}},
		"prometheus.googleapis.com/agent.breaker.state/gauge":     {Gauge, []string{"prometheus_target"}, map[string][]string{"gen_ai.request.model": nil}},
	})
	const errors = "logging_googleapis_com:user_gatehouse_errors"
	tests := []struct{ name, query, want string }{
		{"a counter", `sum by (response_code_class) (rate(run_googleapis_com:request_count[5m]))`, ""},
		{"a dashboard's interval", `sum(rate(run_googleapis_com:request_count{response_code_class="5xx"}[${__interval}]))`, ""},
		{"a name with dots", `histogram_quantile(0.95, sum by (le, "gen_ai.tool.name") (rate({"agent.tool.duration_bucket", job="invoke"}[5m])))`, ""},
		{"a label without dots, for a legend", `max by (model) (label_replace({"agent.breaker.state"}, "model", "$1", "gen_ai.request.model", "(.*)"))`, ""},
		{"some of a label's values", `sum(increase(` + errors + `{monitored_resource="cloud_run_revision", code=~"internal|timeout"}[5m]))`, ""},
		{"that there is nothing", `absent_over_time(run_googleapis_com:request_count{service_name="health"}[5m])`, ""},

		{"no PromQL", `sum by (`, "parse error"},
		{"no metric", `vector(1)`, "names no metric"},
		{"an unknown metric", `rate(workload_googleapis_com:agent_tool_duration_count[5m])`, "unknown metric"},
		{"dots as underscores", `rate(agent_tool_duration_count[5m])`, "unknown metric"},
		{"several monitored resources, none named", `sum(increase(` + errors + `{code="internal"}[5m]))`, "several types of monitored resources"},
		{"an uptime check without its resource", `sum(count_over_time(monitoring_googleapis_com:uptime_check_check_passed[5m]))`, "several types of monitored resources"},
		{"a monitored resource of another metric", `rate(run_googleapis_com:request_count{monitored_resource="uptime_url"}[5m])`, "not written for"},
		{"an unknown label", `rate(run_googleapis_com:request_count{code="500"}[5m])`, `no label "code"`},
		{"a label of another resource", `sum(increase(` + errors + `{monitored_resource="cloud_scheduler_job", service_name="invoke"}[5m]))`, `no label "service_name"`},
		{"a value that never is", `rate(run_googleapis_com:request_count{response_code_class="500"}[5m])`, `never "500"`},
		{"a value of another deployment", `rate(run_googleapis_com:request_count{service_name="other"}[5m])`, `never "other"`},
		{"one of several values that never is", `sum(increase(` + errors + `{monitored_resource="cloud_run_revision", code=~"internal|too_late"}[5m]))`, `never "too_late"`},
		{"an expression that nothing matches", `rate(run_googleapis_com:request_count{response_code_class=~"[67]xx"}[5m])`, "no value of"},
		{"grouping by what is not there", `sum by (http_route) (rate({"agent.tool.duration_count"}[5m]))`, `grouping by "http_route"`},
		{"renaming what is not there", `sum by (model) (label_replace({"agent.breaker.state"}, "model", "$1", "gen_ai_request_model", "(.*)"))`, "label_replace reads"},
		{"a distribution as a whole", `rate({"agent.tool.duration"}[5m])`, "is a distribution"},
		{"a bucket of what has none", `rate(run_googleapis_com:request_count_bucket[5m])`, "unknown metric"},
		{"a quantile without buckets", `histogram_quantile(0.9, sum by (le) (rate(run_googleapis_com:request_latencies_count[5m])))`, `grouping by "le"`},
		{"a quantile that sums the buckets away", `histogram_quantile(0.9, sum(rate(run_googleapis_com:request_latencies_bucket[5m])))`, "no le"},
		{"a counter as it is", `sum(run_googleapis_com:request_count)`, "wants rate"},
		{"a gauge's rate", `rate({"agent.breaker.state"}[5m])`, "is for counters"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, findings := table.Check(tt.query)
			if tt.want == "" && len(findings) > 0 || tt.want != "" && !slices.ContainsFunc(findings, func(f Finding) bool { return strings.Contains(string(f), tt.want) }) {
				t.Errorf("%s\nfindings: %q, want %q", tt.query, findings, tt.want)
			}
		})
	}
}
