# Runs that outlive their request, and who may bring them about.

mock_provider "google" {
  override_during = plan

  mock_resource "google_cloud_run_v2_service" {
    defaults = {
      uri  = "https://invoke-abc123-uc.a.run.app"
      urls = ["https://invoke-123456789012.us-central1.run.app", "https://invoke-abc123-uc.a.run.app"]
    }
  }
}

variables {
  project_id = "my-project"
}

run "queue" {
  command = plan

  assert {
    condition = (google_cloud_tasks_queue.this[0].name == "gatehouse-runs" && google_cloud_tasks_queue.this[0].location == "us-central1" &&
    google_cloud_tasks_queue.this[0].rate_limits[0].max_concurrent_dispatches == 50)
    error_message = "There is a queue by default, and it bounds how many runs go on at once."
  }
  assert {
    condition     = tonumber(trimsuffix(google_cloud_tasks_queue.this[0].retry_config[0].max_retry_duration, "s")) > 86400 && google_cloud_tasks_queue.this[0].retry_config[0].max_backoff == "1800s"
    error_message = "A task is tried for longer than the day after which the service gives a webhook up."
  }
  assert {
    condition     = contains(keys(google_project_service.this), "cloudtasks.googleapis.com")
    error_message = "The queue needs its API."
  }
  assert {
    condition = (length(google_cloud_tasks_queue_iam_member.enqueuer) == 1 && google_cloud_tasks_queue_iam_member.enqueuer[0].role == "roles/cloudtasks.enqueuer" &&
    length(google_service_account_iam_member.tasks) == 1 && google_service_account_iam_member.tasks[0].role == "roles/iam.serviceAccountUser")
    error_message = "invoke adds tasks to this queue alone, and speaks as no account but the tasks'."
  }
  assert {
    condition     = keys(google_cloud_run_v2_service_iam_member.background) == ["tasks invoke"]
    error_message = "The tasks' account may call invoke, and nothing else."
  }
  assert {
    condition     = local.environment.invoke.RUN_TIMEOUT == "25m" && google_cloud_run_v2_service.function["invoke"].template[0].timeout == "1560s" && google_cloud_run_v2_service.function["health"].template[0].timeout == "30s"
    error_message = "Cloud Run must let a run in the background come to its end."
  }
  assert {
    condition     = alltrue([for name in ["TASKS_QUEUE", "TASKS_ACCOUNT"] : contains(keys(local.environment.invoke), name) && !contains(keys(local.environment.health), name)])
    error_message = "invoke is told its queue; health has none."
  }
  assert {
    condition     = length(google_cloud_scheduler_job.schedule) == 0 && length(google_service_account.schedules) == 0 && !contains(keys(local.environment.invoke), "WEBHOOK_HOSTS")
    error_message = "Schedules and webhooks are only there when they are named."
  }
  assert {
    condition     = contains(keys(google_monitoring_alert_policy.this), "tasks-late") && !contains(keys(google_monitoring_alert_policy.this), "webhooks-failing")
    error_message = "Late tasks raise an alert; webhooks only where there are any."
  }
}

run "without_a_queue" {
  command = plan
  variables {
    background = { enabled = false }
  }

  assert {
    condition     = length(google_cloud_tasks_queue.this) + length(google_service_account.tasks) + length(google_cloud_run_v2_service_iam_member.background) == 0
    error_message = "Without background nothing of it is made."
  }
  assert {
    condition     = !contains(keys(local.environment.invoke), "TASKS_QUEUE") && google_cloud_run_v2_service.function["invoke"].template[0].timeout == "45s" && !contains(keys(google_monitoring_alert_policy.this), "tasks-late")
    error_message = "Without background the service is as it was."
  }
}

run "behind_iap" {
  command = plan
  variables {
    web_access  = "iap"
    iap_members = ["group:people@example.com"]
  }

  assert {
    condition     = length(google_cloud_tasks_queue.this) == 0
    error_message = "IAP lets no queue through."
  }
}

run "where_the_service_checks_tokens_itself" {
  command = plan
  variables {
    web_access = "application"
    auth       = ["api_key"]
  }

  assert {
    condition     = length(google_cloud_tasks_queue.this) == 1 && length(google_cloud_run_v2_service_iam_member.background) == 0
    error_message = "Where Cloud Run's check is off, nobody needs its role."
  }
}

run "schedules" {
  command = plan
  variables {
    webhook_hosts = ["hooks.example.com"]
    schedules = {
      digest = { cron = "0 7 * * 1-5", time_zone = "Europe/Berlin", query = "What changed since yesterday?", end_user = "ada", webhook = "https://hooks.example.com/digest" }
      sweep  = { cron = "*/30 * * * *", query = "Sweep." }
    }
  }

  assert {
    condition = (google_cloud_scheduler_job.schedule["digest"].name == "gatehouse-run-digest" && google_cloud_scheduler_job.schedule["digest"].http_target[0].uri == "https://invoke-123456789012.us-central1.run.app/invoke" &&
    google_cloud_scheduler_job.schedule["digest"].http_target[0].oidc_token[0].audience == "https://invoke-123456789012.us-central1.run.app")
    error_message = "A schedule calls the service by the address that it knows as its own."
  }
  assert {
    condition = (google_cloud_scheduler_job.schedule["digest"].http_target[0].headers == tomap({ "Content-Type" = "application/json", "Prefer" = "respond-async", "X-End-User" = "ada" }) &&
      jsondecode(base64decode(google_cloud_scheduler_job.schedule["digest"].http_target[0].body)) == { query = "What changed since yesterday?", webhook = "https://hooks.example.com/digest" } &&
    google_cloud_scheduler_job.schedule["sweep"].http_target[0].headers == tomap({ "Content-Type" = "application/json", "Prefer" = "respond-async" }))
    error_message = "A schedule asks its query, for its end user, in the background."
  }
  assert {
    condition     = keys(google_cloud_run_v2_service_iam_member.background) == ["schedules invoke", "tasks invoke"] && contains(keys(local.environment.invoke), "SCHEDULES_ACCOUNT")
    error_message = "Schedules have an account of their own, which invoke knows."
  }
  assert {
    condition     = local.environment.invoke.WEBHOOK_HOSTS == "hooks.example.com" && endswith(local.environment.invoke.WEBHOOK_SECRETS_SECRET, "/versions/latest") && contains(keys(google_monitoring_alert_policy.this), "webhooks-failing")
    error_message = "Webhooks are signed, and failing ones raise an alert."
  }
}

run "signed_card" {
  command = plan
  variables {
    doors = { sign_card = true, card_keys_url = "https://keys.example.com/jwks.json" }
  }

  assert {
    condition     = local.environment.invoke.CARD_URL == "https://invoke-${local.project_number}.us-central1.run.app" && local.environment.invoke.CARD_KEYS_URL == "https://keys.example.com/jwks.json"
    error_message = "A signed card names the service's own address."
  }
  assert {
    condition     = endswith(local.environment.invoke.CARD_KEYS_SECRET, "/versions/latest") && contains(keys(google_secret_manager_secret_iam_member.function), "invoke:card-keys")
    error_message = "The card is signed with the keys in card-keys, which invoke may read."
  }
}
