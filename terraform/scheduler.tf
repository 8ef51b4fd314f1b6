# Calls the health function every minute as an operator would. The response is the
# service's health signal, and its absence raises an alert.

resource "google_cloud_scheduler_job" "health" {
  project          = var.project_id
  name             = "${var.prefix}-health"
  region           = var.region
  schedule         = "* * * * *"
  time_zone        = "Etc/UTC"
  attempt_deadline = "30s"

  retry_config {
    retry_count          = 2
    min_backoff_duration = "5s"
    max_backoff_duration = "10s"
  }

  http_target {
    http_method = "GET"
    uri         = "${google_cloud_run_v2_service.function["health"].uri}/health"

    oidc_token {
      service_account_email = google_service_account.scheduler.email
      audience              = google_cloud_run_v2_service.function["health"].uri
    }
  }

  depends_on = [google_cloud_run_v2_service_iam_member.scheduler]
}
