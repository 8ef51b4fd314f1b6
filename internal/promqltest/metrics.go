// Package promqltest checks that Cloud Monitoring accepts the project's queries: those
// of its alerts, dashboard, service-level objectives, delivery and documents.
//
// [Google] lists the metrics of Google's services. This service's metrics are
// collected from its instruments, and log-based metrics are read from the plan, so
// that neither is a copy that could become outdated. It is a separate module, because
// the parser is Prometheus', which neither importers nor deployments need.
package promqltest

import "strings"

// A Kind is the kind of a metric's values.
type Kind string

// The kinds. Distributions and histograms are queried by their _bucket, _sum and
// _count.
const (
	Gauge        Kind = "gauge"
	Counter      Kind = "counter" // cumulative or delta: PromQL treats both as a counter
	Distribution Kind = "distribution"
)

// A Metric is a metric type of Cloud Monitoring.
type Metric struct {
	Kind      Kind
	Resources []string            // types of the monitored resources that have it
	Labels    map[string][]string // the metric's own labels and values; nil: any
}

// Resources lists the labels of each type of monitored resource
// (https://docs.cloud.google.com/monitoring/api/resources).
var Resources = map[string][]string{
	"cloud_run_revision":                {"project_id", "service_name", "revision_name", "location", "configuration_name"},
	"cloud_run_job":                     {"project_id", "job_name", "location"},
	"cloud_run_worker_pool":             {"project_id", "worker_pool_name", "location"},
	"cloud_scheduler_job":               {"project_id", "job_id", "location"},
	"uptime_url":                        {"project_id", "host"},
	"firestore.googleapis.com/Database": {"resource_container", "location", "database_id"},
	"pubsub_topic":                      {"project_id", "topic_id"},
	"pubsub_subscription":               {"project_id", "subscription_id"},
	"cloud_tasks_queue":                 {"project_id", "location", "queue_id", "target_type"},
	"prometheus_target":                 {"project_id", "location", "cluster", "namespace", "job", "instance"},
}

// Google lists the metrics of Google's services that the project's queries may use
// (https://docs.cloud.google.com/monitoring/api/metrics_gcp).
var Google = map[string]Metric{
	"run.googleapis.com/request_count":     {Counter, []string{"cloud_run_revision"}, map[string][]string{"response_code": nil, "response_code_class": classes}},
	"run.googleapis.com/request_latencies": {Distribution, []string{"cloud_run_revision"}, map[string][]string{"response_code": nil, "response_code_class": classes}},
	"run.googleapis.com/container/instance_count": {Gauge, []string{"cloud_run_revision", "cloud_run_worker_pool"},
		map[string][]string{"state": {"active", "idle"}}},
	"run.googleapis.com/container/startup_latencies":   {Distribution, everyContainer, nil},
	"run.googleapis.com/container/cpu/utilizations":    {Distribution, everyContainer, map[string][]string{"container_name": nil}},
	"run.googleapis.com/container/memory/utilizations": {Distribution, everyContainer, map[string][]string{"container_name": nil}},

	"firestore.googleapis.com/document/read_ops_count":     {Counter, []string{"firestore.googleapis.com/Database"}, map[string][]string{"type": {"LOOKUP", "QUERY"}}},
	"firestore.googleapis.com/document/write_ops_count":    {Counter, []string{"firestore.googleapis.com/Database"}, map[string][]string{"op": {"CREATE", "UPDATE"}}},
	"firestore.googleapis.com/document/ttl_deletion_count": {Counter, []string{"firestore.googleapis.com/Database"}, nil},

	"pubsub.googleapis.com/topic/send_message_operation_count":    {Counter, []string{"pubsub_topic"}, nil},
	"pubsub.googleapis.com/subscription/num_undelivered_messages": {Gauge, []string{"pubsub_subscription"}, nil},

	"cloudtasks.googleapis.com/queue/depth":               {Gauge, []string{"cloud_tasks_queue"}, nil},
	"cloudtasks.googleapis.com/queue/task_attempt_count":  {Counter, []string{"cloud_tasks_queue"}, map[string][]string{"response_code": nil}},
	"cloudtasks.googleapis.com/queue/task_attempt_delays": {Distribution, []string{"cloud_tasks_queue"}, nil},

	"monitoring.googleapis.com/uptime_check/check_passed": {Gauge,
		[]string{"uptime_url", "gce_instance", "gae_app", "k8s_service", "cloud_run_revision", "servicedirectory_service", "aws_ec2_instance", "aws_elb_load_balancer"},
		map[string][]string{"check_id": nil, "checked_resource_id": nil, "checker_location": nil, "contacted": nil}},
}

var (
	classes        = []string{"1xx", "2xx", "3xx", "4xx", "5xx"}
	everyContainer = []string{"cloud_run_revision", "cloud_run_job", "cloud_run_worker_pool"}
)

// PromQL returns the name of a metric type in PromQL. Metrics received by OTLP keep
// their names, including dots. In others the first slash becomes a colon, and every
// other character that is not a letter or digit an underscore
// (https://docs.cloud.google.com/monitoring/promql/promql-mapping).
func PromQL(metricType string) string {
	if name, ok := strings.CutPrefix(metricType, otlpPrefix); ok {
		return name[:strings.LastIndexByte(name, '/')] // without its kind
	}
	domain, path, _ := strings.Cut(metricType, "/")
	return underscores(domain) + ":" + underscores(path)
}

// otlpPrefix is the prefix of the types of metrics received by OTLP, which end with
// their kind (https://docs.cloud.google.com/stackdriver/docs/otlp-metrics/overview).
const otlpPrefix = "prometheus.googleapis.com/"

func underscores(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, s)
}
