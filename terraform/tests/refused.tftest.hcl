# Input that is refused. A Go test beside this reads the sentences.

mock_provider "google" {}

variables {
  project_id = "my-project"
}

run "no_project_name" {
  command = plan
  variables {
    project_id = "My Project"
  }
  expect_failures = [var.project_id]
}

run "project_number" {
  command = plan
  variables {
    project_id = "123456789012"
  }
  expect_failures = [var.project_id]
}

run "unknown_region" {
  command = plan
  variables {
    region = "europe-west99"
  }
  expect_failures = [var.region]
}

run "a_zone" {
  command = plan
  variables {
    region = "europe-west1-b"
  }
  expect_failures = [var.region]
}

run "unknown_firestore_location" {
  command = plan
  variables {
    firestore_location = "moon"
  }
  expect_failures = [var.firestore_location]
}

run "firestore_across_the_ocean" {
  command = plan
  variables {
    region             = "europe-west1"
    firestore_location = "nam5"
  }
  expect_failures = [var.firestore_location]
}

run "database_with_capitals" {
  command = plan
  variables {
    firestore_database = "Sessions"
  }
  expect_failures = [var.firestore_database]
}

run "second_region_alone" {
  command = plan
  variables {
    second_region = "us-east1"
  }
  expect_failures = [var.second_region]
}

run "second_region_is_the_first" {
  command = plan
  variables {
    second_region = "us-central1"
    load_balancer = { domain = "a.example.com" }
  }
  expect_failures = [var.second_region]
}

run "unknown_second_region" {
  command = plan
  variables {
    second_region = "x"
    load_balancer = { domain = "a.example.com" }
  }
  expect_failures = [var.second_region]
}

run "label_with_capitals" {
  command = plan
  variables {
    labels = { Team = "a" }
  }
  expect_failures = [var.labels]
}

run "development_deployed" {
  command = plan
  variables {
    environment = "development"
  }
  expect_failures = [var.environment]
}

run "image_latest" {
  command = plan
  variables {
    image = "us-central1-docker.pkg.dev/my-project/r/n:latest"
  }
  expect_failures = [var.image]
}

run "image_by_a_tag" {
  command = plan
  variables {
    image = "us-central1-docker.pkg.dev/my-project/r/n:0123456789ab"
  }
  expect_failures = [var.image]
}

run "image_elsewhere" {
  command = plan
  variables {
    image = "docker.io/library/n@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  }
  expect_failures = [var.image]
}

run "image_of_another_project" {
  command = plan
  variables {
    image = "us-central1-docker.pkg.dev/other-project/r/n@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  }
  expect_failures = [var.image]
}

run "image_projects_by_number" {
  command = plan
  variables {
    image_projects = ["123456789012"]
  }
  expect_failures = [var.image_projects]
}

run "prefix_too_long" {
  command = plan
  variables {
    prefix = "abcdefghijklmnop"
  }
  expect_failures = [var.prefix]
}

run "prefix_with_a_hyphen" {
  command = plan
  variables {
    prefix = "team-agent"
  }
  expect_failures = [var.prefix]
}

run "model_with_a_space" {
  command = plan
  variables {
    model = "gemini 2.5"
  }
  expect_failures = [var.model]
}

run "fallback_is_the_model" {
  command = plan
  variables {
    model_fallbacks = ["gemini-3.5-flash-lite"]
  }
  expect_failures = [var.model_fallbacks]
}

run "unknown_backend" {
  command = plan
  variables {
    model_backend = "openai"
  }
  expect_failures = [var.model_backend]
}

run "unknown_vertex_location" {
  command = plan
  variables {
    vertex_location = "mars"
  }
  expect_failures = [var.vertex_location]
}

run "unknown_access" {
  command = plan
  variables {
    web_access = "public"
  }
  expect_failures = [var.web_access]
}

run "no_authentication" {
  command = plan
  variables {
    auth = ["none"]
  }
  expect_failures = [var.auth]
}

run "empty_auth" {
  command = plan
  variables {
    auth = []
  }
  expect_failures = [var.auth]
}

run "mode_twice" {
  command = plan
  variables {
    auth = ["iam", "iam"]
  }
  expect_failures = [var.auth]
}

run "application_without_credentials" {
  command = plan
  variables {
    web_access = "application"
  }
  expect_failures = [var.auth]
}

run "application_with_iam" {
  command = plan
  variables {
    web_access = "application"
    auth       = ["api_key", "iam"]
  }
  expect_failures = [var.auth]
}

run "iap_with_iam" {
  command = plan
  variables {
    web_access  = "iap"
    auth        = ["iam"]
    iap_members = ["user:a@example.com"]
  }
  expect_failures = [var.auth]
}

run "iap_with_keys" {
  command = plan
  variables {
    web_access  = "iap"
    auth        = ["oidc", "api_key"]
    iap_members = ["user:a@example.com"]
  }
  expect_failures = [var.auth]
}

run "oidc_without_issuer" {
  command = plan
  variables {
    web_access = "application"
    auth       = ["oidc"]
  }
  expect_failures = [var.oidc_issuers]
}

run "issuer_without_oidc" {
  command = plan
  variables {
    oidc_issuers = [{ issuer = "https://issuer.example", audience = "a" }]
  }
  expect_failures = [var.oidc_issuers]
}

run "issuer_by_http" {
  command = plan
  variables {
    web_access   = "application"
    auth         = ["oidc"]
    oidc_issuers = [{ issuer = "http://issuer.example", audience = "a" }]
  }
  expect_failures = [var.oidc_issuers]
}

run "issuer_without_audience" {
  command = plan
  variables {
    web_access   = "application"
    auth         = ["oidc"]
    oidc_issuers = [{ issuer = "https://issuer.example", audience = "" }]
  }
  expect_failures = [var.oidc_issuers]
}

run "audience_with_a_bar" {
  command = plan
  variables {
    web_access   = "application"
    auth         = ["oidc"]
    oidc_issuers = [{ issuer = "https://issuer.example", audience = "a|b" }]
  }
  expect_failures = [var.oidc_issuers]
}

run "issuer_beside_iap" {
  command = plan
  variables {
    web_access   = "iap"
    auth         = ["oidc"]
    iap_members  = ["user:a@example.com"]
    oidc_issuers = [{ issuer = "https://issuer.example", audience = "a" }]
  }
  expect_failures = [var.oidc_issuers]
}

run "all_users" {
  command = plan
  variables {
    invokers = ["allUsers"]
  }
  expect_failures = [var.invokers]
}

run "all_authenticated_users" {
  command = plan
  variables {
    invokers = ["user:a@example.com", "allAuthenticatedUsers"]
  }
  expect_failures = [var.invokers]
}

run "bare_address_as_invoker" {
  command = plan
  variables {
    invokers = ["a@example.com"]
  }
  expect_failures = [var.invokers]
}

run "invokers_of_an_application" {
  command = plan
  variables {
    web_access = "application"
    auth       = ["api_key"]
    invokers   = ["user:a@example.com"]
  }
  expect_failures = [var.invokers]
}

run "everybody_at_health" {
  command = plan
  variables {
    health_invokers = ["allUsers"]
  }
  expect_failures = [var.health_invokers]
}

run "everybody_through_iap" {
  command = plan
  variables {
    web_access  = "iap"
    iap_members = ["allUsers"]
  }
  expect_failures = [var.iap_members]
}

run "iap_for_nobody" {
  command = plan
  variables {
    web_access = "iap"
  }
  expect_failures = [var.iap_members]
}

run "iap_members_without_iap" {
  command = plan
  variables {
    iap_members = ["user:a@example.com"]
  }
  expect_failures = [var.iap_members]
}

run "every_origin" {
  command = plan
  variables {
    allowed_origins = ["*"]
  }
  expect_failures = [var.allowed_origins]
}

run "every_subdomain" {
  command = plan
  variables {
    allowed_origins = ["https://*.example.com"]
  }
  expect_failures = [var.allowed_origins]
}

run "origin_by_http" {
  command = plan
  variables {
    allowed_origins = ["http://app.example.com"]
  }
  expect_failures = [var.allowed_origins]
}

run "origin_with_a_path" {
  command = plan
  variables {
    allowed_origins = ["https://app.example.com/"]
  }
  expect_failures = [var.allowed_origins]
}

run "origins_from_two_places" {
  command = plan
  variables {
    allowed_origins             = ["https://app.example.com"]
    allowed_origins_from_secret = true
  }
  expect_failures = [var.allowed_origins]
}

run "operators_in_one_text" {
  command = plan
  variables {
    operators = ["a@example.com, b@example.com"]
  }
  expect_failures = [var.operators]
}

run "three_cpus" {
  command = plan
  variables {
    capacity = { cpu = 3 }
  }
  expect_failures = [var.capacity]
}

run "half_a_cpu" {
  command = plan
  variables {
    capacity = { cpu = 0.5 }
  }
  expect_failures = [var.capacity]
}

run "four_cpus_with_little_memory" {
  command = plan
  variables {
    capacity = { cpu = 4, memory_mib = 1024 }
  }
  expect_failures = [var.capacity]
}

run "one_cpu_with_much_memory" {
  command = plan
  variables {
    capacity = { cpu = 1, memory_mib = 8192 }
  }
  expect_failures = [var.capacity]
}

run "too_little_memory" {
  command = plan
  variables {
    capacity = { memory_mib = 128 }
  }
  expect_failures = [var.capacity]
}

run "concurrency_0" {
  command = plan
  variables {
    capacity = { concurrency = 0 }
  }
  expect_failures = [var.capacity]
}

run "concurrency_2000" {
  command = plan
  variables {
    capacity = { concurrency = 2000 }
  }
  expect_failures = [var.capacity]
}

run "minimum_over_maximum" {
  command = plan
  variables {
    capacity = { min_instances = 11 }
  }
  expect_failures = [var.capacity]
}

run "no_instances" {
  command = plan
  variables {
    capacity = { max_instances = 0 }
  }
  expect_failures = [var.capacity]
}

run "no_time" {
  command = plan
  variables {
    request_timeout_seconds = 0
  }
  expect_failures = [var.request_timeout_seconds]
}

run "two_hours" {
  command = plan
  variables {
    request_timeout_seconds = 7200
  }
  expect_failures = [var.request_timeout_seconds]
}

run "negative_limit" {
  command = plan
  variables {
    limits = { daily_tokens = -1 }
  }
  expect_failures = [var.limits]
}

run "no_calls" {
  command = plan
  variables {
    limits = { calls_per_minute = 0 }
  }
  expect_failures = [var.limits]
}

run "budget_beyond_counting" {
  command = plan
  variables {
    limits = { service_daily_tokens = 10000000000000000 }
  }
  expect_failures = [var.limits]
}

run "tiny_bodies" {
  command = plan
  variables {
    limits = { body_bytes = 1 }
  }
  expect_failures = [var.limits]
}

run "endless_answers" {
  command = plan
  variables {
    limits = { output_tokens = 1000000 }
  }
  expect_failures = [var.limits]
}

run "breaker_that_never_opens" {
  command = plan
  variables {
    breaker = { failures = 0 }
  }
  expect_failures = [var.breaker]
}

run "breaker_that_never_closes" {
  command = plan
  variables {
    breaker = { cooldown_seconds = 86400 }
  }
  expect_failures = [var.breaker]
}

run "sessions_without_a_life" {
  command = plan
  variables {
    session_ttl_hours = 0
  }
  expect_failures = [var.session_ttl_hours]
}

run "backups_for_years" {
  command = plan
  variables {
    backup_retention_days = 365
  }
  expect_failures = [var.backup_retention_days]
}

run "audit_for_ever" {
  command = plan
  variables {
    audit_log = { retention_days = 36500 }
  }
  expect_failures = [var.audit_log]
}

run "rotation_never" {
  command = plan
  variables {
    secret_rotation_days = 0
  }
  expect_failures = [var.secret_rotation_days]
}

run "unknown_log_level" {
  command = plan
  variables {
    log_level = "trace"
  }
  expect_failures = [var.log_level]
}

run "more_than_every_trace" {
  command = plan
  variables {
    trace_sample_ratio = 10
  }
  expect_failures = [var.trace_sample_ratio]
}

run "promise_in_percent" {
  command = plan
  variables {
    slo = { availability = 99.5 }
  }
  expect_failures = [var.slo]
}

run "slower_than_the_timeout" {
  command = plan
  variables {
    slo = { latency_seconds = 60 }
  }
  expect_failures = [var.slo]
}

run "no_address" {
  command = plan
  variables {
    alert_emails = ["ops"]
  }
  expect_failures = [var.alert_emails]
}

run "no_channel" {
  command = plan
  variables {
    notification_channels = ["ops"]
  }
  expect_failures = [var.notification_channels]
}

run "run_book_by_path" {
  command = plan
  variables {
    run_book_url = "docs/run-book.md"
  }
  expect_failures = [var.run_book_url]
}

run "no_billing_account" {
  command = plan
  variables {
    billing_account = "my account"
  }
  expect_failures = [var.billing_account]
}

run "budget_of_nothing" {
  command = plan
  variables {
    monthly_budget = 0
  }
  expect_failures = [var.monthly_budget]
}

run "network_without_a_name" {
  command = plan
  variables {
    vpc = { network = "", subnetwork = "s" }
  }
  expect_failures = [var.vpc]
}

run "domain_with_a_scheme" {
  command = plan
  variables {
    load_balancer = { domain = "https://agent.example.com" }
  }
  expect_failures = [var.load_balancer]
}

run "one_request_a_minute" {
  command = plan
  variables {
    load_balancer = { domain = "agent.example.com", requests_per_minute_ip = 1 }
  }
  expect_failures = [var.load_balancer]
}

run "a_keys_version" {
  command = plan
  variables {
    kms_key = "projects/p/locations/us-central1/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1"
  }
  expect_failures = [var.kms_key]
}

run "key_elsewhere" {
  command = plan
  variables {
    kms_key = "projects/p/locations/europe-west1/keyRings/r/cryptoKeys/k"
  }
  expect_failures = [var.kms_key]
}

run "repository_by_url" {
  command = plan
  variables {
    delivery = { repository = "https://github.com/a/b" }
  }
  expect_failures = [var.delivery]
}

run "every_branch" {
  command = plan
  variables {
    delivery = { repository = "projects/p/locations/l/connections/c/repositories/r", branch = "main" }
  }
  expect_failures = [var.delivery]
}

run "variables_elsewhere" {
  command = plan
  variables {
    delivery = { repository = "projects/p/locations/l/connections/c/repositories/r", var_file = "../other/my.tfvars" }
  }
  expect_failures = [var.delivery]
}

run "a_key_in_place_of_its_secret" {
  command = plan
  variables {
    delivery   = { repository = "projects/p/locations/l/connections/c/repositories/r", smoke_key_secret = "projects/p/secrets/s" }
    web_access = "application"
    auth       = ["api_key"]
  }
  expect_failures = [var.delivery]
}

run "a_key_that_opens_nothing" {
  command = plan
  variables {
    delivery = { repository = "projects/p/locations/l/connections/c/repositories/r", smoke_key_secret = "smoke-key" }
  }
  expect_failures = [var.delivery]
}

run "a_delivery_without_a_key" {
  command = plan
  variables {
    delivery     = { repository = "projects/p/locations/l/connections/c/repositories/r" }
    web_access   = "application"
    auth         = ["oidc"]
    oidc_issuers = [{ issuer = "https://issuer.example", audience = "a" }]
  }
  expect_failures = [var.delivery]
}

run "a_delivery_behind_iap" {
  command = plan
  variables {
    delivery    = { repository = "projects/p/locations/l/connections/c/repositories/r" }
    web_access  = "iap"
    iap_members = ["group:people@example.com"]
  }
  expect_failures = [var.delivery]
}

run "a_delivery_to_two_regions" {
  command = plan
  variables {
    delivery      = { repository = "projects/p/locations/l/connections/c/repositories/r" }
    second_region = "us-east1"
    load_balancer = { domain = "agent.example.com" }
  }
  expect_failures = [var.delivery]
}

run "a_setting_that_is_not_telemetrys" {
  command = plan
  variables {
    otel = { MODEL = "gemini-3" }
  }
  expect_failures = [var.otel]
}

run "credentials_of_a_collector" {
  command = plan
  variables {
    otel = { OTEL_EXPORTER_OTLP_HEADERS = "authorization=secret" }
  }
  expect_failures = [var.otel]
}

run "a_second_sampler" {
  command = plan
  variables {
    otel = { OTEL_TRACES_SAMPLER = "always_on" }
  }
  expect_failures = [var.otel]
}

run "a_level_that_there_is_not" {
  command = plan
  variables {
    thinking_level = "most"
  }
  expect_failures = [var.thinking_level]
}
