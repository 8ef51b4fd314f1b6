# What a deployment is, with project_id alone.

mock_provider "google" {
  override_during = plan
}

variables {
  project_id = "my-project"
}

run "functions" {
  command = plan

  assert {
    condition     = alltrue([for f in google_cloud_run_v2_service.function : f.template[0].containers[0].startup_probe[0].http_get[0].path == "/health/ready"])
    error_message = "A revision must not take traffic before it is ready."
  }
  assert {
    condition     = alltrue([for f in google_cloud_run_v2_service.function : f.template[0].containers[0].liveness_probe[0].http_get[0].path == "/health/live"])
    error_message = "An instance that hangs must be replaced."
  }
  assert {
    condition     = alltrue([for f in google_cloud_run_v2_service.function : f.template[0].containers[0].name == f.name && length(f.build_config) == 0])
    error_message = "The container has a name, else Cloud Run gives it one; nothing is built by Cloud Run."
  }
  assert {
    condition = alltrue([
      for f in google_cloud_run_v2_service.function : tonumber(trimsuffix(f.template[0].timeout, "s")) > tonumber(trimsuffix(lookup({ for e in f.template[0].containers[0].env : e.name => e.value }, "REQUEST_TIMEOUT", "10s"), "s"))
    ])
    error_message = "Cloud Run must not cut a request off before the service does."
  }
  assert {
    condition = (google_cloud_run_v2_service.function["invoke"].template[0].max_instance_request_concurrency == 80 && google_cloud_run_v2_service.function["invoke"].template[0].scaling[0].max_instance_count == 10 &&
    google_cloud_run_v2_service.function["invoke"].scaling[0].min_instance_count == 0)
    error_message = "By default an instance takes 80 requests, there are at most ten, and none when there is no traffic."
  }
  assert {
    condition     = alltrue([for f in google_cloud_run_v2_service.function : f.template[0].containers[0].resources[0].cpu_idle && f.template[0].containers[0].resources[0].startup_cpu_boost])
    error_message = "CPU is paid for while a request is open, and lent to a start."
  }
  assert {
    condition     = alltrue([for f in google_cloud_run_v2_service.function : f.template[0].volumes[0].empty_dir[0].size_limit == "64Mi" && anytrue([for m in f.template[0].containers[0].volume_mounts : m.mount_path == "/tmp"])])
    error_message = "/tmp must be bounded: its files take the instance's memory."
  }
  assert {
    condition     = alltrue([for f in google_cloud_run_v2_service.function : { for e in f.template[0].containers[0].env : e.name => e.value }["GOMEMLIMIT"] == "396MiB" && f.template[0].containers[0].resources[0].limits.memory == "512Mi"])
    error_message = "The runtime is to know how much memory the instance has: nine tenths, but for /tmp."
  }
  assert {
    condition     = alltrue([for f in google_cloud_run_v2_service.function : f.deletion_protection])
    error_message = "The functions must not be deleted by mistake."
  }
  assert {
    condition     = { for e in google_cloud_run_v2_service.function["invoke"].template[0].containers[0].env : e.name => e.value }["SERVICE_DAILY_TOKEN_LIMIT"] == "20000000"
    error_message = "No bill is without a bound: the whole service has a daily budget of tokens."
  }
  assert {
    condition     = !anytrue([for f in google_cloud_run_v2_service.function : length(f.template[0].vpc_access) > 0 || f.template[0].encryption_key != null]) && length(google_compute_global_address.this) == 0 && length(google_billing_budget.this) == 0
    error_message = "What is optional is off by default."
  }
}

run "image" {
  command = plan
  variables {
    image = "us-central1-docker.pkg.dev/my-project/gatehouse/gatehouse@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  }

  assert {
    condition = alltrue([
      for f in google_cloud_run_v2_service.function : f.template[0].containers[0].image == var.image && { for e in f.template[0].containers[0].env : e.name => e.value }["FUNCTION_TARGET"] == f.name
    ])
    error_message = "One image serves both functions, each by its target."
  }
}

run "image_of_a_named_project" {
  command = plan
  variables {
    image          = "us-central1-docker.pkg.dev/images-project/gatehouse/gatehouse@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    image_projects = ["images-project"]
  }

  assert {
    condition     = alltrue([for f in google_cloud_run_v2_service.function : f.template[0].containers[0].image == var.image])
    error_message = "An image of another project runs where that project is named."
  }
}

run "no_service_without_an_image" {
  expect_failures = [google_cloud_run_v2_service.function]
}

run "roles" {
  command = plan
  variables {
    delivery      = { repository = "projects/p/locations/us-central1/connections/c/repositories/r" }
    load_balancer = { domain = "agent.example.com" }
  }

  assert {
    condition = alltrue([
      for role in concat(
        [for m in google_project_iam_member.function : m.role], [for m in google_project_iam_member.database : m.role], [google_project_iam_member.build_log.role, google_project_iam_member.build_source.role],
        [for m in google_project_iam_member.deliver : m.role], [for m in google_project_iam_member.infrastructure : m.role],
      ) : !contains(["roles/owner", "roles/editor", "roles/viewer", "roles/run.invoker", "roles/secretmanager.secretAccessor", "roles/iam.serviceAccountUser", "roles/iam.serviceAccountTokenCreator"], role)
    ])
    error_message = "No account has a basic role, and none may invoke, read secrets or act as others all over the project."
  }
  assert {
    condition     = toset([for m in google_project_iam_member.function : m.role]) == toset(["roles/aiplatform.user", "roles/logging.logWriter", "roles/serviceusage.serviceUsageConsumer", "roles/telemetry.metricsWriter", "roles/telemetry.tracesWriter"])
    error_message = "The functions' roles on the project are those that have no smaller place."
  }
  assert {
    condition     = google_project_iam_member.database["invoke"].role == "roles/datastore.user" && google_project_iam_member.database["health"].role == "roles/datastore.viewer"
    error_message = "invoke writes to the database, health reads it."
  }
  assert {
    condition     = alltrue([for m in google_project_iam_member.database : m.condition[0].expression == "resource.name == \"projects/my-project/databases/(default)\""])
    error_message = "The roles on Firestore hold for this database alone."
  }
  assert {
    condition     = toset([for m in google_project_iam_member.deliver : m.role]) == toset(["roles/cloudbuild.builds.viewer", "roles/logging.logWriter", "roles/monitoring.viewer"]) && alltrue([for m in google_cloud_run_v2_service_iam_member.deliver : m.role == "roles/run.developer"])
    error_message = "The delivery may make revisions of the two functions, and change nothing else."
  }
  assert {
    condition     = google_cloudbuild_trigger.infrastructure[0].approval_config[0].approval_required && google_service_account.delivery["infrastructure"].account_id != google_service_account.delivery["deliver"].account_id
    error_message = "Infrastructure is applied by an account of its own, after an approval."
  }
  assert {
    condition     = !anytrue([for p in google_project_iam_custom_role.plan[0].permissions : can(regex("(entities|versions|logEntries|create|update|delete|set[A-Z])", p))])
    error_message = "Who compares reads settings alone."
  }
}

run "delivery" {
  command = plan
  variables {
    delivery = { repository = "projects/p/locations/us-central1/connections/c/repositories/r" }
  }

  assert {
    condition = (google_cloudbuild_trigger.deliver[0].substitutions["_VAR_FILE"] == "environments/my-project.tfvars" && google_cloudbuild_trigger.infrastructure[0].substitutions["_VAR_FILE"] == "environments/my-project.tfvars" &&
    contains(google_cloudbuild_trigger.infrastructure[0].included_files, "environments/my-project.tfvars"))
    error_message = "What is compared and applied is what the deployment sets, never the defaults."
  }
  assert {
    condition     = google_cloudbuild_trigger.deliver[0].substitutions["_SMOKE_KEY_SECRET"] == "" && length(google_secret_manager_secret_iam_member.smoke_key) == 0
    error_message = "By default the delivery reads no secret."
  }
  assert {
    condition     = contains(keys(google_project_service.this), "iamcredentials.googleapis.com")
    error_message = "The delivery speaks as plan and as smoke, by an API that is off in a new project."
  }
  assert {
    condition     = length(google_kms_crypto_key_iam_member.delivery) == 0
    error_message = "Without a key of one's own nobody has roles on it."
  }
}

run "delivery_where_nobody_is_checked_in_front" {
  command = plan
  variables {
    web_access = "application"
    auth       = ["api_key"]
    delivery   = { repository = "projects/p/locations/us-central1/connections/c/repositories/r", var_file = "live.tfvars", smoke_key_secret = "smoke-key" }
  }

  assert {
    condition     = length(google_secret_manager_secret_iam_member.smoke_key) == 1 && google_secret_manager_secret_iam_member.smoke_key[0].secret_id == "smoke-key" && google_secret_manager_secret_iam_member.smoke_key[0].role == "roles/secretmanager.secretAccessor"
    error_message = "The delivery reads the key that its smoke test calls by, and no other secret."
  }
  assert {
    condition     = google_cloudbuild_trigger.deliver[0].substitutions["_SMOKE_KEY_SECRET"] == "smoke-key" && google_cloudbuild_trigger.deliver[0].substitutions["_VAR_FILE"] == "live.tfvars"
    error_message = "The delivery is told which secret holds the key, and where its variables are."
  }
  assert {
    condition     = keys(google_cloud_run_v2_service_iam_member.smoke) == ["health"]
    error_message = "health stands behind Cloud Run's check here too, and the smoke test calls it as its account."
  }
}

run "delivery_with_a_key_of_ones_own" {
  command = plan
  variables {
    kms_key  = "projects/keys/locations/us-central1/keyRings/r/cryptoKeys/k"
    delivery = { repository = "projects/p/locations/us-central1/connections/c/repositories/r" }
  }

  assert {
    condition     = { for who, m in google_kms_crypto_key_iam_member.delivery : who => m.role } == { infrastructure = "roles/cloudkms.admin", plan = "roles/iam.securityReviewer" }
    error_message = "The key may lie in another project: who applies may give roles on it, who compares may see them."
  }
  assert {
    condition     = contains(google_project_iam_custom_role.plan[0].permissions, "serviceusage.services.use")
    error_message = "The provider counts its calls on the project, which the plan's account must be allowed."
  }
}

run "telemetry_elsewhere" {
  command = plan
  variables {
    otel = { OTEL_TRACES_EXPORTER = "otlp", OTEL_EXPORTER_OTLP_ENDPOINT = "https://collector.example.com" }
  }

  assert {
    condition = alltrue([
      for f in google_cloud_run_v2_service.function : { for e in f.template[0].containers[0].env : e.name => e.value }["OTEL_EXPORTER_OTLP_ENDPOINT"] == "https://collector.example.com"
    ])
    error_message = "OpenTelemetry's own variables reach both functions."
  }
}

run "firestore" {
  command = plan

  assert {
    condition = (google_firestore_database.this.type == "FIRESTORE_NATIVE" && google_firestore_database.this.location_id == "us-central1" &&
      google_firestore_database.this.delete_protection_state == "DELETE_PROTECTION_ENABLED" && google_firestore_database.this.deletion_policy == "ABANDON" &&
    google_firestore_database.this.point_in_time_recovery_enablement == "POINT_IN_TIME_RECOVERY_ENABLED")
    error_message = "The database must be hard to delete and easy to recover."
  }
  assert {
    condition     = google_firestore_backup_schedule.daily.retention == "604800s" && length(google_firestore_backup_schedule.daily.daily_recurrence) == 1
    error_message = "There is a backup a day, kept for a week."
  }
  assert {
    condition = alltrue([
      for collection in ["sessions", "archive", "usage", "limits", "figures"] :
      google_firestore_field.expires_at[collection].field == "expires_at" && length(google_firestore_field.expires_at[collection].ttl_config) == 1
    ])
    error_message = "Documents of every collection must go when they expire."
  }
  assert {
    condition     = alltrue([for f in google_firestore_field.unindexed : length(f.index_config) == 1 && length(f.index_config[0].indexes) == 0])
    error_message = "An exempted field has no index."
  }
  assert {
    condition     = strcontains(google_firebaserules_ruleset.deny.source[0].files[0].content, "allow read, write: if false;") && google_firebaserules_release.firestore.name == "cloud.firestore"
    error_message = "No client reads the database itself."
  }
}

run "scheduler" {
  command = plan

  assert {
    condition     = google_cloud_scheduler_job.health.schedule == "* * * * *" && length(google_cloud_scheduler_job.health.http_target[0].oidc_token) == 1 && google_cloud_scheduler_job.health.retry_config[0].retry_count == 2
    error_message = "health is asked each minute, with a token, and again when it fails."
  }
}

run "logging" {
  command = plan
  variables {
    audit_log = { retention_days = 3650, locked = true }
  }

  assert {
    condition     = google_logging_project_bucket_config.audit.retention_days == 3650 && google_logging_project_bucket_config.audit.locked
    error_message = "The audit trail is kept, and locked, as asked."
  }
  assert {
    condition     = strcontains(google_logging_project_sink.audit.filter, "agent-audit") && google_logging_project_sink.audit.filter == google_logging_project_exclusion.audit.filter
    error_message = "What goes to the audit bucket must go there alone."
  }
  assert {
    condition     = alltrue([for f in google_cloud_run_v2_service.function : strcontains(google_logging_project_sink.audit.filter, "log_id(\"${ { for e in f.template[0].containers[0].env : e.name => e.value }["AUDIT_LOG"]}\")")])
    error_message = "The sink must take the log that the functions write."
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
    condition     = length(jsondecode(google_monitoring_dashboard.this.dashboard_json).mosaicLayout.tiles) == 12
    error_message = "The dashboard shows all that the run-book points at."
  }
  assert {
    condition     = alltrue([for t in jsondecode(google_monitoring_dashboard.this.dashboard_json).mosaicLayout.tiles : try(t.xPos, 1) != 0 && try(t.yPos, 1) != 0])
    error_message = "The API drops positions of zero: written, they differ in every plan."
  }
}

run "with_a_key_of_ones_own" {
  command = plan
  variables {
    kms_key = "projects/p/locations/us-central1/keyRings/r/cryptoKeys/k"
    vpc     = { network = "n", subnetwork = "s", all_traffic = true }
  }

  assert {
    condition = (google_firestore_database.this.cmek_config[0].kms_key_name == var.kms_key &&
      google_artifact_registry_repository.this.kms_key_name == var.kms_key && alltrue([for f in google_cloud_run_v2_service.function : f.template[0].encryption_key == var.kms_key]) &&
    alltrue([for s in google_secret_manager_secret.this : s.replication[0].user_managed[0].replicas[0].customer_managed_encryption[0].kms_key_name == var.kms_key]))
    error_message = "The key must encrypt all that it is said to."
  }
  assert {
    condition     = alltrue([for m in google_kms_crypto_key_iam_member.agent : m.crypto_key_id == var.kms_key && m.role == "roles/cloudkms.cryptoKeyEncrypterDecrypter"])
    error_message = "Google's services need the key, and only to use it."
  }
  assert {
    condition     = alltrue([for f in google_cloud_run_v2_service.function : f.template[0].vpc_access[0].egress == "ALL_TRAFFIC" && f.template[0].vpc_access[0].network_interfaces[0].subnetwork == "s"])
    error_message = "The functions leave through the network named."
  }
}
