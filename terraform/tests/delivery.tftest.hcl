# Who builds, compares, delivers and applies, and what each may do.

mock_provider "google" {
  override_during = plan
}

variables {
  project_id = "my-project"
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
        [for m in google_project_iam_member.function : m.role], [for m in google_project_iam_member.telemetry : m.role], [for m in google_project_iam_member.database : m.role], [google_project_iam_member.build_log.role, google_project_iam_member.build_source.role],
        [for m in google_project_iam_member.deliver : m.role], [for m in google_project_iam_member.infrastructure : m.role],
      ) : !contains(["roles/owner", "roles/editor", "roles/viewer", "roles/run.invoker", "roles/secretmanager.secretAccessor", "roles/iam.serviceAccountUser", "roles/iam.serviceAccountTokenCreator"], role)
    ])
    error_message = "No account has a basic role, and none may invoke, read secrets or act as others all over the project."
  }
  assert {
    condition     = google_project_iam_custom_role.function.permissions == toset(["aiplatform.endpoints.predict", "serviceusage.services.use"]) && alltrue([for m in google_project_iam_member.function : m.role == "projects/my-project/roles/gatehouseFunction"])
    error_message = "A function asks the model, and may do nothing else with Vertex AI."
  }
  assert {
    condition     = toset([for m in google_project_iam_member.telemetry : m.role]) == toset(["roles/logging.logWriter", "roles/telemetry.metricsWriter", "roles/telemetry.tracesWriter"])
    error_message = "A function writes its telemetry, and reads nobody's."
  }
  assert {
    condition     = google_project_iam_custom_role.database["health"].permissions == toset(["datastore.databases.get", "datastore.entities.get", "datastore.entities.list"]) && !anytrue([for p in google_project_iam_custom_role.database["invoke"].permissions : !can(regex("^datastore\\.(databases\\.get|entities\\.(create|delete|get|list|update))$", p))])
    error_message = "invoke writes to the database, health reads it."
  }
  assert {
    condition     = alltrue([for m in google_project_iam_member.database : m.condition[0].expression == "resource.name == \"projects/my-project/databases/(default)\""])
    error_message = "The roles on Firestore hold for this database alone."
  }
  assert {
    condition = (toset([for m in google_project_iam_member.deliver : m.role]) == toset(["projects/my-project/roles/gatehouseDeliver", "roles/logging.logWriter"]) && alltrue([for m in google_cloud_run_v2_service_iam_member.deliver : m.role == "projects/my-project/roles/gatehouseRevise"]) &&
    !anytrue([for role in google_project_iam_custom_role.delivery : anytrue([for p in role.permissions : can(regex("delete|create|setIamPolicy|actAs|sign", p))])]))
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
  assert {
    condition     = toset(keys(google_service_account_iam_member.infrastructure)) == toset(["build", "deliver", "health", "infrastructure", "invoke", "scheduler", "weekly"])
    error_message = "Who applies may act as every account that something is made to run as, itself included: its own trigger names it."
  }
}

run "evaluation_on_a_model" {
  command = plan
  variables {
    delivery = {
      repository = "projects/p/locations/us-central1/connections/c/repositories/r"
      evaluation = { model = "gemini-3.5-flash-lite", judge = "gemini-3.8-flash", report_bucket = "reports" }
    }
    models_allowed = ["gemini-3.6-flash"]
  }
  override_resource {
    target          = google_service_account.delivery["deliver"]
    override_during = plan
    values          = { email = "deliver@accounts", member = "serviceAccount:deliver@accounts" }
  }

  assert {
    condition     = google_project_iam_member.evaluation[0].role == "projects/my-project/roles/gatehouseFunction" && google_project_iam_member.evaluation[0].member == "serviceAccount:deliver@accounts"
    error_message = "The account that runs the cases may ask a model."
  }
  assert {
    condition = (google_storage_bucket_iam_member.evaluation[0].bucket == "reports" && google_storage_bucket_iam_member.evaluation[0].role == "roles/storage.objectCreator" &&
    google_storage_bucket_iam_member.evaluation[0].member == "serviceAccount:deliver@accounts")
    error_message = "It may add a report to the bucket, and read none."
  }
  assert {
    condition = (google_cloudbuild_trigger.deliver[0].substitutions["_EVALUATION_MODEL"] == "gemini-3.5-flash-lite" && google_cloudbuild_trigger.deliver[0].substitutions["_JUDGE"] == "gemini-3.8-flash" &&
    google_cloudbuild_trigger.deliver[0].substitutions["_REPORT_BUCKET"] == "reports")
    error_message = "The build knows the models and the bucket."
  }
  assert {
    condition     = google_cloudbuild_trigger.weekly[0].substitutions["_MODEL_FALLBACKS"] == "${local.models.fallback},gemini-3.6-flash"
    error_message = "What a request may name is compared with today too."
  }
}

run "evaluation_offline" {
  command = plan
  variables {
    delivery = { repository = "projects/p/locations/us-central1/connections/c/repositories/r" }
  }

  assert {
    condition = (length(google_project_iam_member.evaluation) == 0 && length(google_storage_bucket_iam_member.evaluation) == 0 &&
    length(setintersection(keys(google_cloudbuild_trigger.deliver[0].substitutions), ["_EVALUATION_MODEL", "_JUDGE", "_REPORT_BUCKET"])) == 0)
    error_message = "By default the cases ask no model, and the account may ask none."
  }
}

run "delivery" {
  command = plan
  variables {
    delivery = { repository = "projects/p/locations/us-central1/connections/c/repositories/r" }
  }

  assert {
    condition = (google_cloudbuild_trigger.deliver[0].substitutions["_VAR_FILE"] == "environments/my-project.tfvars" && google_cloudbuild_trigger.infrastructure[0].substitutions["_VAR_FILE"] == "environments/my-project.tfvars" &&
    length(setsubtract(["terraform/**", "environments/*.tf", "environments/my-project.tfvars", "go.mod", "go.sum", "delivery/**", "scripts/**", "docs/run-book.md"], google_cloudbuild_trigger.infrastructure[0].included_files)) == 0)
    error_message = "What is compared and applied is what the deployment sets, never the defaults; a change of anything that it is applied by or from asks for an approval."
  }
  assert {
    condition     = !contains(keys(google_cloudbuild_trigger.deliver[0].substitutions), "_SMOKE_KEY_SECRET") && length(google_secret_manager_secret_iam_member.smoke_key) == 0
    error_message = "By default the delivery reads no secret."
  }
  assert {
    condition = (google_cloudbuild_trigger.weekly[0].filename == "delivery/weekly.yaml" && google_cloudbuild_trigger.weekly[0].substitutions["_MODEL"] == local.models.default &&
      jsondecode(base64decode(google_cloud_scheduler_job.weekly[0].http_target[0].body)).source.branchName == "main" &&
    google_project_iam_custom_role.weekly[0].permissions == toset(["cloudbuild.builds.create"]))
    error_message = "Once a week the models that are deployed are compared with today, by an account that can do nothing else."
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
