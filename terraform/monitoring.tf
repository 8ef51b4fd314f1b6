# Service-level objectives, alerts and the dashboard. Every alert corresponds to a page
# of docs/run-book.md and contains its text.

locals {
  notification_channels = concat(var.notification_channels, [for c in google_monitoring_notification_channel.email : c.id])

  # The run-book's pages, by heading.
  run_book_parts = split("\n## ", file("${path.module}/../docs/run-book.md"))
  run_book       = { for page in slice(local.run_book_parts, 1, length(local.run_book_parts)) : split("\n", page)[0] => page }
  # Their addresses; anchors are as GitHub derives them from headings.
  anchors = { for heading in keys(local.run_book) : heading => replace(lower(replace(heading, "/[^A-Za-z0-9 -]/", "")), " ", "-") }

  requests  = "metric.type=\"run.googleapis.com/request_count\" AND ${local.of_invoke}"
  latencies = "metric.type=\"run.googleapis.com/request_latencies\" AND ${local.of_invoke}"

  slos = {
    availability = var.slo.availability
    latency      = var.slo.latency
  }

  # A burn rate of 1 spends the error budget in exactly 28 days. Fast: a fiftieth of it in
  # an hour; slow: a twentieth in six hours. The short window ends the alert soon after
  # the problem ends.
  burns = {
    fast = { rate = 13.44, long = "3600s", short = "300s", severity = "CRITICAL" }
    slow = { rate = 5.6, long = "21600s", short = "1800s", severity = "ERROR" }
  }

  burn_alerts = merge([
    for slo in keys(local.slos) : {
      for speed, b in local.burns : "${slo}-${speed}-burn" => {
        page     = "${slo == "availability" ? "High server-error rate" : "High latency"} (${speed} burn)"
        severity = b.severity
        burn     = { slo = slo, rate = b.rate, windows = [b.long, b.short] }
        query    = null
        duration = "0s"
      }
    }
  ]...)

  # PromQL, because Cloud Monitoring accepts it before a metric has data: the first apply
  # creates the log-based metrics and their alerts together.
  #
  # The service's metrics arrive by OTLP with the type prometheus.googleapis.com/NAME/KIND.
  # NAME keeps its dots, so PromQL needs it in quotes. Legends cannot contain dots:
  # label_replace copies the labels.
  # https://docs.cloud.google.com/stackdriver/docs/otlp-metrics/overview
  of_invoke_otlp = "monitored_resource=\"prometheus_target\",job=\"${local.service_names.invoke}\""
  of_invoke_prom = "monitored_resource=\"cloud_run_revision\",service_name=\"${local.service_names.invoke}\""
  of_database    = "monitored_resource=\"firestore.googleapis.com/Database\",database_id=\"${local.firestore_database}\""
  log_metric     = { for name in keys(local.log_counts) : name => "logging_googleapis_com:user_${var.prefix}_${name}" }
  query_alerts = {
    health-ping-missing = {
      page     = "Health ping missing"
      severity = "CRITICAL"
      duration = "300s"
      query    = "absent_over_time(run_googleapis_com:request_count{monitored_resource=\"cloud_run_revision\",service_name=\"${local.service_names.health}\"}[5m])"
    }
    health-ping-failing = {
      page     = "Health ping failing"
      severity = "CRITICAL"
      duration = "120s"
      query    = "sum(increase(${local.log_metric.health_ping_failures}{monitored_resource=\"cloud_scheduler_job\"}[5m])) >= 3"
    }
    misconfigured = {
      page     = "Invalid configuration"
      severity = "ERROR"
      duration = "0s"
      query    = "sum(increase(${local.log_metric.misconfigured}{monitored_resource=\"cloud_run_revision\"}[5m])) > 0"
    }
    bugs = {
      page     = "Internal errors"
      severity = "ERROR"
      duration = "0s"
      query    = "sum(increase(${local.log_metric.bugs}{monitored_resource=\"cloud_run_revision\"}[5m])) > 0"
    }
    model-unavailable = {
      page     = "Model unavailable"
      severity = "ERROR"
      duration = "120s"
      query    = "sum(increase(${local.log_metric.errors_by_code}{monitored_resource=\"cloud_run_revision\",code=~\"model_unavailable|model_failed\"}[5m])) >= 5"
    }
    model-ending = {
      page     = "Model near its end date"
      severity = "WARNING"
      duration = "0s"
      query    = "sum by (model) (increase(${local.log_metric.model_ending}{monitored_resource=\"cloud_run_revision\"}[25h])) > 0" # a line a day
    }
    session-store-unavailable = {
      page     = "Session store unavailable"
      severity = "CRITICAL"
      duration = "60s"
      query    = "sum(increase(${local.log_metric.errors_by_code}{monitored_resource=\"cloud_run_revision\",code=\"session_store_unavailable\"}[5m])) >= 5"
    }
    token-budget-spent = {
      page     = "Token budget spent"
      severity = "WARNING"
      duration = "0s"
      query    = "sum(increase(${local.log_metric.errors_by_code}{monitored_resource=\"cloud_run_revision\",code=\"quota_exceeded\"}[10m])) >= 10"
    }
    overloaded = {
      page     = "Service overloaded"
      severity = "WARNING"
      duration = "300s"
      query    = "max(max_over_time(run_googleapis_com:container_instance_count{${local.of_invoke_prom},state=\"active\"}[5m])) >= ${0.9 * var.capacity.max_instances} or sum(increase(${local.log_metric.errors_by_code}{monitored_resource=\"cloud_run_revision\",code=\"overloaded\"}[5m])) >= 10"
    }
    memory-nearly-full = {
      page     = "Memory nearly full"
      severity = "WARNING"
      duration = "300s"
      query    = "histogram_quantile(0.99, sum by (le) (rate(run_googleapis_com:container_memory_utilizations_bucket{${local.of_invoke_prom}}[5m]))) > 0.9"
    }
    audit-not-delivered = {
      page     = "Audit entries not delivered"
      severity = "ERROR"
      duration = "300s"
      query    = "sum(increase(${local.log_metric.audit_fallback}{monitored_resource=\"cloud_run_revision\"}[10m])) > 0"
    }
  }
  secret_alerts = {
    secret-due = {
      page     = "Secret due for rotation"
      severity = "WARNING"
      duration = "0s"
      query    = "sum(pubsub_googleapis_com:subscription_num_undelivered_messages{monitored_resource=\"pubsub_subscription\",subscription_id=\"${var.prefix}-secret-due\"}) > 0"
    }
  }
  of_queue = "monitored_resource=\"cloud_tasks_queue\",queue_id=\"${var.prefix}-runs\""
  task_alerts = {
    # Attempts that come ten minutes after their time, or, where the queue is not empty,
    # none within an hour: the longest pause between two tries is half of that.
    tasks-late = {
      page     = "Tasks late"
      severity = "ERROR"
      duration = "300s"
      query    = "histogram_quantile(0.99, sum by (le) (rate(cloudtasks_googleapis_com:queue_task_attempt_delays_bucket{${local.of_queue}}[10m]))) > 600000 or (min(min_over_time(cloudtasks_googleapis_com:queue_depth{${local.of_queue}}[1h])) > 0 unless sum(increase(cloudtasks_googleapis_com:queue_task_attempt_count{${local.of_queue}}[1h])) > 0)"
    }
  }
  webhook_alerts = {
    webhooks-failing = {
      page     = "Webhooks failing"
      severity = "WARNING"
      duration = "0s"
      query    = "sum(increase(${local.log_metric.webhook_failures}{monitored_resource=\"cloud_run_revision\"}[1h])) >= 10"
    }
  }
  uptime_checks = "monitoring_googleapis_com:uptime_check_check_passed{monitored_resource=\"uptime_url\",check_id=\"${try(google_monitoring_uptime_check_config.invoke[0].uptime_check_id, "")}\"}[5m]"
  uptime_alerts = {
    not-reachable = {
      page     = "Service unreachable"
      severity = "CRITICAL"
      duration = "120s"
      query    = "sum(count_over_time(${local.uptime_checks})) - sum(sum_over_time(${local.uptime_checks})) >= 3"
    }
  }

  alerts = merge(
    local.burn_alerts,
    { for name, a in merge(
      local.query_alerts,
      length(local.wired_secrets) > 0 ? local.secret_alerts : {},
      var.web_access == "application" ? local.uptime_alerts : {},
      local.background ? local.task_alerts : {},
      length(var.webhook_hosts) > 0 ? local.webhook_alerts : {},
    ) : name => merge(a, { burn = null }) },
  )
}

# Secret Manager publishes every change of a secret; this subscription only keeps the
# reminders.
resource "google_pubsub_subscription" "secret_due" {
  count = length(local.wired_secrets) > 0 ? 1 : 0

  project                    = var.project_id
  labels                     = local.labels
  name                       = "${var.prefix}-secret-due"
  topic                      = google_pubsub_topic.rotation[0].id
  filter                     = "attributes.eventType = \"SECRET_ROTATE\""
  message_retention_duration = "2592000s"

  expiration_policy {
    ttl = "" # never, though nobody pulls for months
  }
}

resource "google_monitoring_notification_channel" "email" {
  for_each = toset(var.alert_emails)

  project      = var.project_id
  display_name = "${local.title}: ${each.value}"
  type         = "email"
  labels       = { email_address = each.value }

  depends_on = [google_project_service.this]
}

resource "google_monitoring_custom_service" "this" {
  project      = var.project_id
  service_id   = var.prefix
  display_name = local.title

  depends_on = [google_project_service.this]
}

resource "google_monitoring_slo" "this" {
  for_each = local.slos

  project             = var.project_id
  service             = google_monitoring_custom_service.this.service_id
  slo_id              = each.key
  display_name        = each.key == "availability" ? "Requests that do not fail by our fault" : "Requests answered within ${var.slo.latency_seconds} s"
  goal                = each.value
  rolling_period_days = 28

  request_based_sli {
    dynamic "good_total_ratio" {
      for_each = each.key == "availability" ? [1] : []
      content {
        total_service_filter = local.requests
        bad_service_filter   = "${local.requests} AND metric.labels.response_code_class=\"5xx\""
      }
    }
    dynamic "distribution_cut" {
      for_each = each.key == "latency" ? [1] : []
      content {
        distribution_filter = "${local.latencies} AND metric.labels.response_code_class=\"2xx\""
        range {
          max = 1000 * var.slo.latency_seconds
        }
      }
    }
  }
}

resource "google_monitoring_alert_policy" "this" {
  for_each = local.alerts

  project               = var.project_id
  display_name          = "${local.title}: ${each.value.page}"
  severity              = each.value.severity
  combiner              = "AND"
  notification_channels = local.notification_channels

  dynamic "conditions" {
    for_each = each.value.burn != null ? each.value.burn.windows : []
    content {
      display_name = "${each.value.burn.slo} budget burns ${each.value.burn.rate} times too fast over ${conditions.value}"
      condition_threshold {
        filter          = "select_slo_burn_rate(\"${google_monitoring_slo.this[each.value.burn.slo].id}\", \"${conditions.value}\")"
        comparison      = "COMPARISON_GT"
        threshold_value = each.value.burn.rate
        duration        = "0s"
      }
    }
  }

  dynamic "conditions" {
    for_each = each.value.query[*]
    content {
      display_name = each.key
      condition_prometheus_query_language {
        query                     = conditions.value
        duration                  = each.value.duration
        evaluation_interval       = "60s"
        disable_metric_validation = true
      }
    }
  }

  documentation {
    mime_type = "text/markdown"
    subject   = "${local.title}: ${each.value.page} (${var.environment})"
    content   = "Run-book: docs/run-book.md#${local.anchors[each.value.page]}\n\n## ${local.run_book[each.value.page]}"

    dynamic "links" {
      for_each = var.run_book_url[*]
      content {
        display_name = "Run-book: ${each.value.page}"
        url          = "${links.value}#${local.anchors[each.value.page]}"
      }
    }
  }

  alert_strategy {
    auto_close = "86400s"
  }

  depends_on = [google_project_service.this, google_logging_metric.count]
}

# An uptime check from outside if invoke is public. It calls only the public probe.
resource "google_monitoring_uptime_check_config" "invoke" {
  count = var.web_access == "application" ? 1 : 0

  project      = var.project_id
  display_name = "${local.title}: invoke"
  period       = "60s"
  timeout      = "10s"

  http_check {
    path         = "/health/ready"
    port         = 443
    use_ssl      = true
    validate_ssl = true
  }

  monitored_resource {
    type = "uptime_url"
    labels = {
      project_id = var.project_id
      host       = var.load_balancer != null ? var.load_balancer.domain : trimprefix(google_cloud_run_v2_service.function["invoke"].uri, "https://")
    }
  }

  depends_on = [google_project_service.this]
}

resource "google_monitoring_dashboard" "this" {
  project = var.project_id
  dashboard_json = jsonencode({
    displayName = local.title
    mosaicLayout = {
      columns = 48
      tiles = [
        # The API omits positions of zero, so they are omitted here too; otherwise every plan
        # would differ (terraform-provider-google 16173).
        for i, chart in concat(local.charts, local.background ? local.task_charts : []) : merge(i % 3 == 0 ? {} : { xPos = 16 * (i % 3) }, i < 3 ? {} : { yPos = 16 * floor(i / 3) }, {
          width                                                                                                          = 16
          height                                                                                                         = 16
          widget = {
            title = chart.title
            xyChart = {
              dataSets = [
                for name, query in chart.queries : {
                  plotType       = "LINE"
                  legendTemplate = name
                  timeSeriesQuery = {
                    prometheusQuery = query
                    unitOverride    = chart.unit
                  }
                }
              ]
            }
          }
        })
      ]
    }
  })

  depends_on = [google_project_service.this]
}

locals {
  charts = [
    {
      title   = "Traffic"
      unit    = "1/s"
      queries = { "$${response_code_class}" = "sum by (response_code_class) (rate(run_googleapis_com:request_count{${local.of_invoke_prom}}[$${__interval}]))" }
    },
    {
      title   = "Errors by code"
      unit    = "1/s"
      queries = { "$${code}" = "sum by (code) (rate(${local.log_metric.errors_by_code}{monitored_resource=\"cloud_run_revision\"}[$${__interval}]))" }
    },
    {
      title = "Latency"
      unit  = "ms"
      queries = {
        for q in ["0.5", "0.95", "0.99"] : "p${q}" => "histogram_quantile(${q}, sum by (le) (rate(run_googleapis_com:request_latencies_bucket{${local.of_invoke_prom}}[$${__interval}])))"
      }
    },
    {
      title = "Where the time goes, p95"
      unit  = "ms"
      queries = {
        model = "histogram_quantile(0.95, sum by (le) (rate(logging_googleapis_com:user_${var.prefix}_model_ms_bucket{monitored_resource=\"cloud_run_revision\"}[$${__interval}])))"
        store = "histogram_quantile(0.95, sum by (le) (rate(logging_googleapis_com:user_${var.prefix}_store_ms_bucket{monitored_resource=\"cloud_run_revision\"}[$${__interval}])))"
      }
    },
    {
      title   = "Model tokens"
      unit    = "1"
      queries = { tokens = "sum(increase(logging_googleapis_com:user_${var.prefix}_tokens_sum{monitored_resource=\"cloud_run_revision\"}[$${__interval}]))" }
    },
    {
      title   = "Tokens by kind and model, which are what a turn costs"
      unit    = "1"
      queries = { "$${model} $${kind}" = "sum by (model, kind) (label_replace(label_replace(increase({\"gen_ai.client.token.usage_sum\",${local.of_invoke_otlp}}[$${__interval}]), \"model\", \"$1\", \"gen_ai.request.model\", \"(.*)\"), \"kind\", \"$1\", \"gen_ai.token.type\", \"(.*)\"))" }
    },
    {
      title   = "Instances"
      unit    = "1"
      queries = { "$${service_name} $${state}" = "sum by (service_name, state) (max_over_time(run_googleapis_com:container_instance_count{monitored_resource=\"cloud_run_revision\"}[$${__interval}]))" }
    },
    {
      title   = "Cold starts, p95"
      unit    = "ms"
      queries = { "$${service_name}" = "histogram_quantile(0.95, sum by (service_name, le) (rate(run_googleapis_com:container_startup_latencies_bucket{monitored_resource=\"cloud_run_revision\"}[$${__interval}])))" }
    },
    {
      title   = "Breaker: 0 closed, 1 half open, 2 open"
      unit    = "1"
      queries = { "$${model}" = "max by (model) (label_replace({\"agent.breaker.state\",${local.of_invoke_otlp}}, \"model\", \"$1\", \"gen_ai.request.model\", \"(.*)\"))" }
    },
    {
      title = "Firestore documents"
      unit  = "1/s"
      queries = {
        read    = "sum(rate(firestore_googleapis_com:document_read_ops_count{${local.of_database}}[$${__interval}]))"
        written = "sum(rate(firestore_googleapis_com:document_write_ops_count{${local.of_database}}[$${__interval}]))"
        expired = "sum(rate(firestore_googleapis_com:document_ttl_deletion_count{${local.of_database}}[$${__interval}]))"
      }
    },
    {
      title   = "Refused by limits"
      unit    = "1/s"
      queries = { "$${code}" = "sum by (code) (rate(${local.log_metric.errors_by_code}{monitored_resource=\"cloud_run_revision\",code=~\"rate_limited|quota_exceeded|overloaded\"}[$${__interval}]))" }
    },
    {
      title = "CPU and memory, p99"
      unit  = "1"
      queries = {
        cpu    = "histogram_quantile(0.99, sum by (le) (rate(run_googleapis_com:container_cpu_utilizations_bucket{${local.of_invoke_prom}}[$${__interval}])))"
        memory = "histogram_quantile(0.99, sum by (le) (rate(run_googleapis_com:container_memory_utilizations_bucket{${local.of_invoke_prom}}[$${__interval}])))"
      }
    },
  ]
  task_charts = [
    {
      title = "Tasks: in the queue, and tried"
      unit  = "1"
      queries = {
        "in the queue"      = "max(max_over_time(cloudtasks_googleapis_com:queue_depth{${local.of_queue}}[$${__interval}]))"
        "$${response_code}" = "sum by (response_code) (increase(cloudtasks_googleapis_com:queue_task_attempt_count{${local.of_queue}}[$${__interval}]))"
      }
    },
  ]
}
