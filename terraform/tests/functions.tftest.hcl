# What the two functions are and run.

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
      for key, f in google_cloud_run_v2_service.function : tonumber(trimsuffix(f.template[0].timeout, "s")) > tonumber(trimsuffix(lookup(local.environment[key], "REQUEST_TIMEOUT", "10s"), "s"))
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
    condition     = alltrue([for key, f in google_cloud_run_v2_service.function : local.environment[key].GOMEMLIMIT == "396MiB" && f.template[0].containers[0].resources[0].limits.memory == "512Mi"])
    error_message = "The runtime is to know how much memory the instance has: nine tenths, but for /tmp."
  }
  assert {
    condition     = alltrue([for f in google_cloud_run_v2_service.function : f.deletion_protection])
    error_message = "The functions must not be deleted by mistake."
  }
  assert {
    condition     = alltrue([for key, f in google_cloud_run_v2_service.function : { for e in f.template[0].containers[0].env : e.name => e.value } == local.environment[key]])
    error_message = "The container is told all of its environment, and nothing else."
  }
  assert {
    condition     = local.environment.invoke.SERVICE_DAILY_TOKEN_LIMIT == "20000000" && local.environment.invoke.DAILY_TOKEN_LIMIT == "2000000" && local.environment.invoke.CALLER_DAILY_TOKEN_LIMIT == "0"
    error_message = "No bill is without a bound: the whole service has a daily budget of tokens, an end user a tenth of it."
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
      for key, f in google_cloud_run_v2_service.function : f.template[0].containers[0].image == var.image && local.environment[key].FUNCTION_TARGET == f.name
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

run "telemetry_elsewhere" {
  command = plan
  variables {
    otel = { OTEL_TRACES_EXPORTER = "otlp", OTEL_EXPORTER_OTLP_ENDPOINT = "https://collector.example.com" }
  }

  assert {
    condition     = alltrue([for e in local.environment : e.OTEL_EXPORTER_OTLP_ENDPOINT == "https://collector.example.com"])
    error_message = "OpenTelemetry's own variables reach both functions."
  }
}

run "budgets_of_tokens" {
  command = plan
  variables {
    limits = { service_daily_tokens = 5000000 }
  }

  assert {
    condition     = local.environment.invoke.DAILY_TOKEN_LIMIT == "500000"
    error_message = "An end user's budget follows the service's."
  }
}

run "an_agent_of_ones_own" {
  command = plan
  variables {
    agent_secrets     = { RATES_KEY = { version = "latest" }, MAIL_KEY = {} }
    agent_environment = { RATES_URL = "https://rates.example.com" }
  }

  assert {
    condition     = local.environment.invoke.RATES_KEY_SECRET == "projects/my-project/secrets/gatehouse-rates-key/versions/latest" && local.environment.invoke.RATES_URL == "https://rates.example.com"
    error_message = "The agent is told which version holds its key, and its settings."
  }
  assert {
    condition     = !contains(keys(local.environment.invoke), "MAIL_KEY_SECRET") && contains(keys(google_secret_manager_secret.this), "mail-key")
    error_message = "A secret without a version is made, and no revision waits for it."
  }
  assert {
    condition     = length([for name in keys(local.environment.health) : name if can(regex("RATES|MAIL", name))]) == 0
    error_message = "health runs no agent."
  }
  assert {
    condition     = toset([for m in google_secret_manager_secret_iam_member.function : "${m.secret_id} ${m.role}"]) == toset(["gatehouse-rates-key roles/secretmanager.secretAccessor", "gatehouse-mail-key roles/secretmanager.secretAccessor"]) && toset(keys(google_secret_manager_secret_iam_member.function)) == toset(["invoke:rates-key", "invoke:mail-key"])
    error_message = "Only invoke reads an agent's secrets, and no others."
  }
}

run "models" {
  command = plan

  assert {
    condition     = local.environment.invoke.MODEL == local.models.default && local.environment.invoke.MODEL_FALLBACKS == local.models.fallback && local.environment.invoke.GOOGLE_CLOUD_LOCATION == "global"
    error_message = "The models are those of the table, where all of them are."
  }
}

run "the_fallback_alone" {
  command = plan
  variables {
    model = "gemini-3.1-flash-lite"
  }

  assert {
    condition     = !contains(keys(local.environment.invoke), "MODEL_FALLBACKS")
    error_message = "A model does not stand in for itself."
  }
}

run "a_model_that_the_table_does_not_know" {
  command = plan
  variables {
    model = "gemini-flash-3.5"
  }
  expect_failures = [check.model_known]
}

run "a_model_that_is_closed" {
  command = plan
  variables {
    model_fallbacks = ["gemini-2.5-flash"]
  }
  expect_failures = [check.model_there]
}

run "a_model_that_is_not_in_the_region" {
  command = plan
  variables {
    vertex_location = "europe-west4"
  }
  expect_failures = [check.model_in_location]
}

run "more_than_a_new_project_may" {
  command = plan
  variables {
    capacity = { cpu = 2, max_instances = 10 }
  }
  expect_failures = [check.quota]
}

run "no_model_armor" {
  command = plan

  assert {
    condition     = length(google_project_iam_member.model_armor) == 0 && !contains(keys(google_project_service.this), "modelarmor.googleapis.com")
    error_message = "Model Armor is off by default."
  }
}

run "model_armor" {
  command = plan
  variables {
    model_armor = {
      prompt_template   = "projects/my-project/locations/us-central1/templates/in"
      response_template = "projects/my-project/locations/us-central1/templates/out"
    }
  }

  assert {
    condition = (google_project_iam_member.model_armor[0].role == "roles/modelarmor.user" &&
    can(regex("^serviceAccount:service-[^@]+@gcp-sa-aiplatform\\.iam\\.gserviceaccount\\.com$", google_project_iam_member.model_armor[0].member)))
    error_message = "Vertex AI's service agent may screen by the templates."
  }
  assert {
    condition     = contains(keys(google_project_service.this), "modelarmor.googleapis.com") && local.environment.invoke.MODEL_ARMOR_RESPONSE_TEMPLATE == var.model_armor.response_template
    error_message = "The API is on, and invoke has the templates."
  }
}

run "model_armor_of_another_project" {
  command = plan
  variables {
    model_armor = { prompt_template = "projects/security/locations/us-central1/templates/in" }
  }

  assert {
    condition     = length(google_project_iam_member.model_armor) == 0
    error_message = "A role in another project is for its owners to grant."
  }
}
