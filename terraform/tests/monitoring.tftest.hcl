# What is watched, and who hears of it.

mock_provider "google" {
  override_during = plan
}

variables {
  project_id = "my-project"
}

run "scheduler" {
  command = plan

  assert {
    condition     = google_cloud_scheduler_job.health.schedule == "* * * * *" && length(google_cloud_scheduler_job.health.http_target[0].oidc_token) == 1 && google_cloud_scheduler_job.health.retry_config[0].retry_count == 2
    error_message = "health is asked each minute, with a token, and again when it fails."
  }
}

run "monitoring" {
  command = plan
  variables {
    alert_emails          = ["ops@example.com"]
    notification_channels = ["projects/my-project/notificationChannels/1"]
    billing_account       = "012345-6789AB-CDEF01"
    run_book_url          = "https://git.example.com/gatehouse/docs/run-book.md"
  }

  assert {
    condition     = length(setsubtract(["availability-fast-burn", "availability-slow-burn", "latency-fast-burn", "latency-slow-burn", "health-ping-missing", "health-ping-failing", "model-unavailable", "session-store-unavailable", "token-budget-spent", "bugs", "misconfigured", "model-ending", "audit-not-delivered"], keys(google_monitoring_alert_policy.this))) == 0
    error_message = "An alert is missing."
  }
  assert {
    condition     = alltrue([for name, a in google_monitoring_alert_policy.this : length(a.notification_channels) == 2])
    error_message = "Every alert must reach those who asked for it."
  }
  assert {
    condition     = alltrue([for name, a in google_monitoring_alert_policy.this : startswith(a.documentation[0].links[0].url, "${var.run_book_url}#") && strcontains(a.documentation[0].content, "docs/run-book.md#${split("#", a.documentation[0].links[0].url)[1]}\n") && strcontains(a.documentation[0].content, "**Do:**")])
    error_message = "Every alert must lead to its page of the run-book, and hold its text."
  }
  assert {
    condition     = alltrue([for name, a in google_monitoring_alert_policy.this : length(a.documentation[0].content) < 8000])
    error_message = "Cloud Monitoring takes 8 KB of documentation."
  }
  assert {
    condition     = alltrue([for name, a in google_monitoring_alert_policy.this : !endswith(name, "-burn") || length(a.conditions) == 2 && a.combiner == "AND"])
    error_message = "A burn must show in a long and in a short window."
  }
  assert {
    condition     = google_monitoring_slo.this["availability"].goal == 0.995 && google_monitoring_slo.this["latency"].request_based_sli[0].distribution_cut[0].range[0].max == 10000
    error_message = "The promises are those of slo; Cloud Run counts latency in milliseconds."
  }
  assert {
    condition     = length(google_billing_budget.this) == 1 && google_billing_budget.this[0].amount[0].specified_amount[0].units == "100"
    error_message = "A billing account gets a budget."
  }
  assert {
    condition     = length(jsondecode(google_monitoring_dashboard.this.dashboard_json).mosaicLayout.tiles) == 13
    error_message = "The dashboard shows all that the run-book points at."
  }
  assert {
    condition     = alltrue([for t in jsondecode(google_monitoring_dashboard.this.dashboard_json).mosaicLayout.tiles : try(t.xPos, 1) != 0 && try(t.yPos, 1) != 0])
    error_message = "The API drops positions of zero: written, they differ in every plan."
  }
}
