# The audit log's bucket with a separate retention, and the log-based metrics.

locals {
  audit_log = local.unprefixed ? "agent-audit" : "${var.prefix}-audit"

  # Including entries that could not be delivered and were printed instead.
  audit_filter = "log_id(\"${local.audit_log}\") OR (log_id(\"run.googleapis.com/stdout\") AND jsonPayload.audit=true)"

  of_functions = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=(\"${local.service_names.invoke}\" OR \"${local.service_names.health}\")"
  of_invoke    = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${local.service_names.invoke}\""

  log_counts = {
    errors_by_code = {
      description = "Requests that failed, by the contract's error code."
      filter      = "${local.of_invoke} AND jsonPayload.code:*"
      labels      = { code = "EXTRACT(jsonPayload.code)", route = "EXTRACT(jsonPayload.route)" }
    }
    bugs = {
      description = "Requests that a bug ended: panics, and errors that nothing expected."
      filter      = "${local.of_functions} AND severity>=ERROR AND (jsonPayload.stack_trace:\"panic:\" OR jsonPayload.code=\"internal\")"
      labels      = {}
    }
    misconfigured = {
      description = "Starts that found the configuration wrong."
      filter      = "${local.of_functions} AND severity=CRITICAL"
      labels      = {}
    }
    model_ending = {
      description = "Models near their end date or past it: a line a day of each instance."
      filter      = "${local.of_functions} AND jsonPayload.message=(\"Model is near its end date.\" OR \"Model has passed its end date.\")"
      labels      = { model = "EXTRACT(jsonPayload.model)" }
    }
    audit_fallback = {
      description = "Audit entries that could not be delivered and were printed."
      filter      = "${local.of_functions} AND jsonPayload.audit=true"
      labels      = {}
    }
    webhook_failures = {
      description = "Webhooks that a receiver did not take, a line for each try."
      filter      = "${local.of_invoke} AND jsonPayload.message=(\"A webhook was not taken.\" OR \"A webhook was given up.\")"
      labels      = {}
    }
    health_ping_failures = {
      description = "Health pings that failed after their retries."
      filter      = "resource.type=\"cloud_scheduler_job\" AND resource.labels.job_id=\"${google_cloud_scheduler_job.health.name}\" AND severity>=ERROR"
      labels      = {}
    }
  }

  log_values = {
    tokens = {
      description = "Model tokens of a turn."
      value       = "EXTRACT(jsonPayload.tokens)"
      field       = "tokens"
      unit        = "1"
    }
    model_ms = {
      description = "Milliseconds that a turn waited for the model."
      value       = "EXTRACT(jsonPayload.model_ms)"
      field       = "model_ms"
      unit        = "ms"
    }
    store_ms = {
      description = "Milliseconds that a turn waited for the session store."
      value       = "EXTRACT(jsonPayload.store_ms)"
      field       = "store_ms"
      unit        = "ms"
    }
  }
}

resource "google_logging_project_bucket_config" "audit" {
  project        = var.project_id
  location       = var.region
  bucket_id      = "${var.prefix}-audit"
  retention_days = var.audit_log.retention_days
  locked         = var.audit_log.locked

  depends_on = [google_project_service.this]
}

# A sink to a bucket in the same project needs no grant.
resource "google_logging_project_sink" "audit" {
  project                = var.project_id
  name                   = "${var.prefix}-audit"
  destination            = "logging.googleapis.com/${google_logging_project_bucket_config.audit.id}"
  filter                 = local.audit_filter
  unique_writer_identity = true
}

# Otherwise it would also be stored, and charged, in the default bucket.
resource "google_logging_project_exclusion" "audit" {
  project = var.project_id
  name    = "${var.prefix}-audit"
  filter  = local.audit_filter

  depends_on = [google_logging_project_sink.audit]
}

resource "google_logging_metric" "count" {
  for_each = local.log_counts

  project          = var.project_id
  name             = "${var.prefix}/${each.key}"
  filter           = each.value.filter
  label_extractors = each.value.labels

  metric_descriptor {
    display_name = each.value.description
    metric_kind  = "DELTA"
    value_type   = "INT64"
    unit         = "1"

    dynamic "labels" {
      for_each = each.value.labels
      content {
        key        = labels.key
        value_type = "STRING"
      }
    }
  }

  depends_on = [google_project_service.this]
}

resource "google_logging_metric" "value" {
  for_each = local.log_values

  project         = var.project_id
  name            = "${var.prefix}/${each.key}"
  filter          = "${local.of_invoke} AND jsonPayload.${each.value.field}:*"
  value_extractor = each.value.value

  metric_descriptor {
    display_name = each.value.description
    metric_kind  = "DELTA"
    value_type   = "DISTRIBUTION"
    unit         = each.value.unit
  }
  bucket_options {
    exponential_buckets {
      scale              = 1
      growth_factor      = 2
      num_finite_buckets = 32
    }
  }

  depends_on = [google_project_service.this]
}
