# Runs that outlive their request: the queue that delivers them, the account that it
# speaks as, and the schedules.

locals {
  # IAP asks every caller for a person's sign-in, which neither the queue nor the
  # scheduler has.
  background = coalesce(var.background.enabled, var.web_access != "iap")

  queue_location = coalesce(var.background.location, var.region)

  # The scheduler's target, and the audience of its tokens. Of the service's addresses
  # it is the one that the service can work out for itself.
  schedules_url = coalesce(one([for url in google_cloud_run_v2_service.function["invoke"].urls : url if !endswith(url, ".a.run.app")]), google_cloud_run_v2_service.function["invoke"].uri)
}

resource "google_service_account" "tasks" {
  count = local.background ? 1 : 0

  project      = var.project_id
  account_id   = "${var.prefix}-tasks"
  display_name = "${local.title}: tasks of the queue"

  depends_on = [google_project_service.this]
}

resource "google_service_account" "schedules" {
  count = length(var.schedules) > 0 ? 1 : 0

  project      = var.project_id
  account_id   = "${var.prefix}-schedules"
  display_name = "${local.title}: scheduled runs"

  depends_on = [google_project_service.this]
}

# The name of a deleted queue cannot be used again for days. A task holds only the names
# of what is stored.
resource "google_cloud_tasks_queue" "this" {
  count = local.background ? 1 : 0

  project  = var.project_id
  location = local.queue_location
  name     = "${var.prefix}-runs"

  rate_limits {
    max_concurrent_dispatches = var.background.concurrent_runs
    max_dispatches_per_second = 100
  }

  # A webhook is tried for a day: 10 times in the first 35 minutes, then every half hour.
  # The service ends it; the queue's own end is later. After the interval has doubled as
  # often as it may, it grows evenly to the longest.
  retry_config {
    max_attempts       = -1
    max_retry_duration = "90000s"
    min_backoff        = "2s"
    max_backoff        = "1800s"
    max_doublings      = 10
  }

  depends_on = [google_project_service.this]
}

# invoke adds tasks and lets the queue speak as the tasks' account. It can neither read
# nor delete tasks.
resource "google_cloud_tasks_queue_iam_member" "enqueuer" {
  count = local.background ? 1 : 0

  project  = var.project_id
  location = google_cloud_tasks_queue.this[0].location
  name     = google_cloud_tasks_queue.this[0].name
  role     = "roles/cloudtasks.enqueuer"
  member   = google_service_account.function["invoke"].member
}

resource "google_service_account_iam_member" "tasks" {
  count = local.background ? 1 : 0

  service_account_id = google_service_account.tasks[0].name
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.function["invoke"].member
}

# Where Cloud Run's check is off, only the service checks the tokens.
resource "google_cloud_run_v2_service_iam_member" "background" {
  for_each = var.web_access != "private" ? {} : merge(
    { for key in local.function_keys.invoke : "tasks ${key}" => { key = key, member = google_service_account.tasks[0].member } if local.background },
    length(var.schedules) > 0 ? { "schedules invoke" = { key = "invoke", member = google_service_account.schedules[0].member } } : {},
  )

  project  = var.project_id
  name     = google_cloud_run_v2_service.function[each.value.key].name
  location = google_cloud_run_v2_service.function[each.value.key].location
  role     = "roles/run.invoker"
  member   = each.value.member
}

# A delivery that is repeated has the job's name and scheduled time again, which are the
# key of its turn.
resource "google_cloud_scheduler_job" "schedule" {
  for_each = var.schedules

  project          = var.project_id
  name             = "${var.prefix}-run-${each.key}"
  region           = var.region
  schedule         = each.value.cron
  time_zone        = each.value.time_zone
  attempt_deadline = "${max(15, min(1800, var.request_timeout_seconds + 15))}s"

  retry_config {
    retry_count          = 3
    min_backoff_duration = "10s"
    max_backoff_duration = "300s"
  }

  http_target {
    http_method = "POST"
    uri         = "${local.schedules_url}/invoke"
    headers = merge(
      { "Content-Type" = "application/json" },
      each.value.end_user == null ? {} : { "X-End-User" = each.value.end_user },
      local.background ? { "Prefer" = "respond-async" } : {},
    )
    body = base64encode(jsonencode(merge(
      { query = each.value.query },
      each.value.webhook == null ? {} : { webhook = each.value.webhook },
    )))

    oidc_token {
      service_account_email = google_service_account.schedules[0].email
      audience              = local.schedules_url
    }
  }

  depends_on = [google_cloud_run_v2_service_iam_member.background]
}
