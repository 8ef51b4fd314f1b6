# Who may call what, in each web_access.

mock_provider "google" {
  override_during = plan

  mock_data "google_project" {
    defaults = { number = "123456789012" }
  }
  override_resource {
    target = google_service_account.scheduler
    values = { email = "scheduler@accounts", member = "serviceAccount:scheduler@accounts" }
  }
  override_resource {
    target = google_service_account.function["invoke"]
    values = { email = "invoke@accounts", member = "serviceAccount:invoke@accounts" }
  }
  override_resource {
    target = google_service_account.function["health"]
    values = { email = "health@accounts", member = "serviceAccount:health@accounts" }
  }
}

variables {
  project_id = "my-project"
}

run "private_by_default" {
  command = plan

  assert {
    condition     = alltrue([for f in google_cloud_run_v2_service.function : !f.invoker_iam_disabled && !f.iap_enabled])
    error_message = "With web_access private Cloud Run must check every caller of both functions."
  }
  assert {
    condition     = alltrue([for e in local.environment : e.AUTH == "iam" && e.IAM_ENFORCED == "true"])
    error_message = "Behind the check both functions take its word, and are told that it is on."
  }
  assert {
    condition     = google_cloud_run_v2_service_iam_member.scheduler.member == "serviceAccount:scheduler@accounts" && google_cloud_run_v2_service_iam_member.scheduler.name == "health" && google_cloud_run_v2_service_iam_member.scheduler.role == "roles/run.invoker"
    error_message = "The scheduler must be able to call health."
  }
  assert {
    condition     = length(google_cloud_run_v2_service_iam_member.invoker) == 0 && length(google_cloud_run_v2_service_iam_member.operator) == 0 && length(google_cloud_run_v2_service_iam_member.iap) == 0 && length(google_cloud_run_v2_service_iam_member.deliver) == 0 && length(google_cloud_run_v2_service_iam_member.smoke) == 0
    error_message = "Nobody else may call anything until the variables name them."
  }
  assert {
    condition     = length(google_secret_manager_secret_iam_member.function) == 0 && toset(keys(google_secret_manager_secret.this)) == toset(["gemini-api-key", "allowed-origins", "api-keys", "models-table", "webhook-secrets", "card-keys"])
    error_message = "The secrets are there, and no function reads one that it is not told of."
  }
  assert {
    condition     = length(google_monitoring_uptime_check_config.invoke) == 0
    error_message = "Nothing outside can reach a private function to check it."
  }
}

run "private_with_invokers" {
  command = plan
  variables {
    invokers        = ["serviceAccount:backend@other.iam.gserviceaccount.com", "group:people@example.com"]
    health_invokers = ["user:operator@example.com"]
  }

  assert {
    condition = toset([for m in google_cloud_run_v2_service_iam_member.invoker : "${m.name} ${m.role} ${m.member}"]) == toset([
      "invoke roles/run.invoker serviceAccount:backend@other.iam.gserviceaccount.com", "invoke roles/run.invoker group:people@example.com",
    ])
    error_message = "Those named in invokers may call invoke, and nothing else."
  }
  assert {
    condition     = [for m in google_cloud_run_v2_service_iam_member.operator : "${m.name} ${m.role} ${m.member}"] == ["health roles/run.invoker user:operator@example.com"]
    error_message = "Those named in health_invokers may call health, and nothing else."
  }
}

run "gemini_enterprise" {
  command = plan
  variables {
    invokers = ["user:a@example.com"]
    doors    = { gemini_enterprise = { project_number = "123456789012", app = "my-app" } }
  }

  assert {
    condition = toset([for m in google_cloud_run_v2_service_iam_member.invoker : "${m.name} ${m.member}"]) == toset([
      "invoke user:a@example.com", "invoke serviceAccount:service-123456789012@gcp-sa-discoveryengine.iam.gserviceaccount.com",
    ])
    error_message = "The service agent of the app's project may call invoke, beside those named in invokers."
  }
}

run "application" {
  command = plan
  variables {
    web_access      = "application"
    auth            = ["oidc", "api_key"]
    oidc_issuers    = [{ issuer = "https://securetoken.google.com/p", audience = "p", claims = { email_verified = "true" } }, { issuer = "https://accounts.google.com", audience = "app", claims = { hd = "example.com" } }]
    allowed_origins = ["https://app.example.com", "https://b.example.com:8443"]
  }

  assert {
    condition     = google_cloud_run_v2_service.function["invoke"].invoker_iam_disabled && !google_cloud_run_v2_service.function["invoke"].iap_enabled
    error_message = "With web_access application browsers must get to the code."
  }
  assert {
    condition     = !google_cloud_run_v2_service.function["health"].invoker_iam_disabled
    error_message = "health stays behind the check in every mode."
  }
  assert {
    condition     = length(google_cloud_run_v2_service_iam_member.invoker) == 0
    error_message = "There is no binding for everybody: the check is off, not open."
  }
  assert {
    condition     = !contains(keys(local.environment["invoke"]), "IAM_ENFORCED")
    error_message = "IAM_ENFORCED must not be set where the check is off."
  }
  assert {
    condition     = local.environment["invoke"].AUTH == "oidc,api_key"
    error_message = "AUTH must be what auth says."
  }
  assert {
    condition     = local.environment["invoke"].OIDC_ISSUERS == "https://securetoken.google.com/p|p|email_verified=true,https://accounts.google.com|app|hd=example.com"
    error_message = "Each issuer must be paired with its own audience and claims."
  }
  assert {
    condition     = local.environment["invoke"].ALLOWED_ORIGINS == "https://app.example.com,https://b.example.com:8443"
    error_message = "ALLOWED_ORIGINS must be what allowed_origins says."
  }
  assert {
    condition     = local.environment["health"].AUTH == "iam" && local.environment["health"].IAM_ENFORCED == "true"
    error_message = "health's own check is on, whatever invoke's is."
  }
  assert {
    condition     = local.environment["invoke"].API_KEYS_SECRET == "projects/my-project/secrets/gatehouse-api-keys/versions/latest"
    error_message = "With api_key invoke is told where the keys are."
  }
  assert {
    condition     = [for m in google_secret_manager_secret_iam_member.function : "${m.secret_id} ${m.role} ${m.member}"] == ["gatehouse-api-keys roles/secretmanager.secretAccessor serviceAccount:invoke@accounts"]
    error_message = "invoke alone reads the keys, and only the keys."
  }
  assert {
    condition     = length(google_monitoring_uptime_check_config.invoke) == 1 && length(setsubtract(["not-reachable", "secret-due"], keys(google_monitoring_alert_policy.this))) == 0 && google_pubsub_subscription.secret_due[0].filter == "attributes.eventType = \"SECRET_ROTATE\"" && google_pubsub_subscription.secret_due[0].expiration_policy[0].ttl == ""
    error_message = "What is public is checked from outside."
  }
}

run "iap" {
  command = plan
  variables {
    web_access  = "iap"
    iap_members = ["group:people@example.com"]
  }

  assert {
    condition     = google_cloud_run_v2_service.function["invoke"].iap_enabled && !google_cloud_run_v2_service.function["invoke"].invoker_iam_disabled
    error_message = "IAP must stand before invoke, with the invoker check on behind it."
  }
  assert {
    condition     = !google_cloud_run_v2_service.function["health"].iap_enabled
    error_message = "The scheduler cannot sign in to IAP."
  }
  assert {
    condition     = !contains(keys(local.environment["invoke"]), "IAM_ENFORCED")
    error_message = "IAM_ENFORCED must not be set behind IAP."
  }
  assert {
    condition     = local.environment["invoke"].OIDC_ISSUERS == "https://cloud.google.com/iap|/projects/123456789012/locations/us-central1/services/invoke"
    error_message = "IAP's tokens alone are taken, for this service alone."
  }
  assert {
    condition     = local.environment["invoke"].AUTH == "oidc"
    error_message = "Behind IAP the mode is oidc."
  }
  assert {
    condition     = [for m in google_cloud_run_v2_service_iam_member.iap : "${m.name} ${m.role} ${m.member}"] == ["invoke roles/run.invoker serviceAccount:service-123456789012@gcp-sa-iap.iam.gserviceaccount.com"]
    error_message = "IAP itself, and nobody else, calls invoke."
  }
  assert {
    condition     = [for m in google_iap_web_cloud_run_service_iam_member.visitor : "${m.cloud_run_service_name} ${m.role} ${m.member}"] == ["invoke roles/iap.httpsResourceAccessor group:people@example.com"]
    error_message = "Those named in iap_members may pass IAP."
  }
}

run "gemini_by_key" {
  command = plan
  variables {
    model_backend = "gemini"
  }

  assert {
    condition     = toset(keys(google_secret_manager_secret_iam_member.function)) == toset(["invoke:gemini-api-key", "health:gemini-api-key"])
    error_message = "Both functions read the model's key, and only that."
  }
  assert {
    condition     = google_project_iam_custom_role.function.permissions == toset(["serviceusage.services.use"]) && !contains(keys(google_project_service.this), "aiplatform.googleapis.com")
    error_message = "Without Vertex AI nobody has a role on it."
  }
  assert {
    condition     = length(google_secret_manager_secret.this["gemini-api-key"].rotation) == 1 && google_secret_manager_secret.this["gemini-api-key"].rotation[0].rotation_period == "7776000s" && length(google_secret_manager_secret.this["api-keys"].rotation) == 0
    error_message = "A secret in use is due for a new version after 90 days; one that is not in use never."
  }
  assert {
    condition     = google_pubsub_topic_iam_member.rotation[0].role == "roles/pubsub.publisher"
    error_message = "Secret Manager must be able to send its reminders."
  }
}

run "two_regions_behind_a_load_balancer" {
  command = plan
  variables {
    second_region = "us-east1"
    load_balancer = { domain = "agent.example.com" }
    invokers      = ["user:a@example.com"]
  }

  assert {
    condition     = toset(keys(google_cloud_run_v2_service.function)) == toset(["invoke", "invoke-us-east1", "health"])
    error_message = "invoke must be served in both regions, health in one."
  }
  assert {
    condition = alltrue([
      for key, f in google_cloud_run_v2_service.function : key == "health" ? f.ingress == "INGRESS_TRAFFIC_ALL" : f.ingress == "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER" && f.custom_audiences == tolist(["https://agent.example.com"])
    ])
    error_message = "invoke is reached by the load balancer alone, and takes tokens for its domain; health is asked directly."
  }
  assert {
    condition     = length(google_cloud_run_v2_service_iam_member.invoker) == 2
    error_message = "A caller may call invoke in each region."
  }
  assert {
    condition     = local.environment["invoke"].MAX_INSTANCES == "20"
    error_message = "An instance's share of a limit is by the instances of both regions."
  }
  assert {
    condition     = google_compute_ssl_policy.this[0].min_tls_version == "TLS_1_2" && google_compute_url_map.redirect[0].default_url_redirect[0].https_redirect && length(google_compute_security_policy.this) == 1
    error_message = "The load balancer speaks TLS 1.2 at least, sends http to https, and has a policy of Cloud Armor."
  }
}
