# The two functions. Each is a Cloud Run service, because only services have traffic
# splitting, probes and an ingress setting.

locals {
  # The access mode of each function. Only the scheduler and operators call health, so
  # Cloud Run's check protects it in every mode of invoke.
  auth = {
    invoke = var.auth != null ? var.auth : var.web_access == "private" ? ["iam"] : var.web_access == "iap" ? ["oidc"] : []
    health = ["iam"]
  }

  regions = toset(compact([var.region, var.second_region]))

  # The address that a signed card names. Cloud Run makes one of a service's name, the
  # project's number and the region, before there is a service.
  card_url = var.load_balancer != null ? "https://${var.load_balancer.domain}" : "https://${local.service_names["invoke"]}-${coalesce(local.project_number, "0")}.${var.region}.run.app"

  # The Cloud Run services by key: invoke in each region, and one health.
  functions = merge(
    {
      for region in local.regions : region == var.region ? "invoke" : "invoke-${region}" => {
        function      = "invoke"
        region        = region
        cpu           = var.capacity.cpu
        memory_mib    = var.capacity.memory_mib
        concurrency   = var.capacity.concurrency
        min_instances = var.capacity.min_instances
        max_instances = var.capacity.max_instances
        # The body's ten seconds, the commit's five; of a run in the background a minute.
        timeout       = max(var.request_timeout_seconds + 15, local.background ? 60 * (var.background.run_timeout_minutes + 1) : 0)
        invoker_check = var.web_access != "application"
        iap           = var.web_access == "iap"
        balanced      = var.load_balancer != null
      }
    },
    {
      health = {
        function      = "health"
        region        = var.region
        cpu           = 1
        memory_mib    = 512
        concurrency   = 80
        min_instances = 0
        max_instances = 2
        timeout       = 30
        invoker_check = true
        iap           = false
        balanced      = false
      }
    },
  )

  function_keys = { invoke = [for key, f in local.functions : key if f.function == "invoke"], health = ["health"] }

  # Environment of both functions. It contains no secrets.
  common_environment = merge(var.otel, {
    ENVIRONMENT               = var.environment
    GOOGLE_CLOUD_PROJECT      = var.project_id
    GOOGLE_GENAI_USE_VERTEXAI = tostring(var.model_backend == "vertex")
    GOOGLE_CLOUD_LOCATION     = var.vertex_location
    GOOGLE_GEMINI_BASE_URL    = var.model_url
    GEMINI_API_KEY_SECRET     = var.model_backend == "gemini" ? local.secret_versions["gemini-api-key"] : null
    MODEL                     = local.model
    MODEL_FALLBACKS           = var.model_fallbacks != null && length(local.model_fallbacks) == 0 ? "none" : join(",", local.model_fallbacks)
    MODELS_ALLOWED            = join(",", var.models_allowed)
    THINKING_LEVEL            = var.thinking_level

    MODEL_ARMOR_PROMPT_TEMPLATE   = try(var.model_armor.prompt_template, null)
    MODEL_ARMOR_RESPONSE_TEMPLATE = try(var.model_armor.response_template, null)

    MODELS_TABLE_SECRET     = var.models_table_from_secret ? local.secret_versions["models-table"] : null
    OPERATORS               = join(",", var.operators)
    SESSION_STORE           = "firestore"
    FIRESTORE_DATABASE      = google_firestore_database.this.name
    SESSION_TTL             = "${var.session_ttl_hours}h"
    APPROVAL_TTL            = "${var.approval_ttl_hours}h"
    AUDIT_LOG               = local.audit_log
    AUDIT_NAMES             = tostring(var.audit_log.names)
    LOG_LEVEL               = var.log_level
    OTEL_TRACES_SAMPLER     = "parentbased_traceidratio"
    OTEL_TRACES_SAMPLER_ARG = tostring(var.trace_sample_ratio)
  })

  function_environment = {
    invoke = merge(local.agent_environment, {
      ALLOWED_ORIGINS              = join(",", var.allowed_origins)
      ALLOWED_ORIGINS_SECRET       = var.allowed_origins_from_secret ? local.secret_versions["allowed-origins"] : null
      API_KEYS_SECRET              = contains(local.auth.invoke, "api_key") ? local.secret_versions["api-keys"] : null
      REQUEST_TIMEOUT              = "${var.request_timeout_seconds}s"
      MAX_BODY_BYTES               = tostring(var.limits.body_bytes)
      MAX_FILE_BYTES               = tostring(var.files.max_bytes)
      FILE_TYPES                   = length(var.files.types) == 0 ? "none" : join(",", var.files.types)
      FILES_BUCKET                 = one(google_storage_bucket.files[*].name)
      FILE_BUCKETS                 = join(",", var.files.read_buckets)
      MAX_OUTPUT_TOKENS            = tostring(var.limits.output_tokens)
      HISTORY_TOKENS               = tostring(var.limits.history_tokens)
      MAX_TOOL_ROUNDS              = tostring(var.limits.tool_rounds)
      RATE_LIMIT_PER_MINUTE        = tostring(var.limits.calls_per_minute)
      CALLER_RATE_LIMIT_PER_MINUTE = tostring(var.limits.caller_calls_per_minute)
      DAILY_TOKEN_LIMIT            = tostring(local.daily_tokens)
      CALLER_DAILY_TOKEN_LIMIT     = tostring(var.limits.caller_daily_tokens)
      SERVICE_DAILY_TOKEN_LIMIT    = tostring(var.limits.service_daily_tokens)
      BREAKER_FAILURES             = tostring(var.breaker.failures)
      BREAKER_COOLDOWN             = "${var.breaker.cooldown_seconds}s"
      RUN_TIMEOUT                  = "${var.background.run_timeout_minutes}m"
      MAX_BACKGROUND_RUNS          = tostring(var.background.runs_per_owner)
      TASKS_QUEUE                  = local.background ? "projects/${var.project_id}/locations/${local.queue_location}/queues/${var.prefix}-runs" : null
      TASKS_ACCOUNT                = local.background ? "${var.prefix}-tasks@${var.project_id}.iam.gserviceaccount.com" : null
      SCHEDULES_ACCOUNT            = length(var.schedules) > 0 ? "${var.prefix}-schedules@${var.project_id}.iam.gserviceaccount.com" : null
      WEBHOOK_HOSTS                = join(",", var.webhook_hosts)
      WEBHOOK_SECRETS_SECRET       = length(var.webhook_hosts) > 0 ? local.secret_versions["webhook-secrets"] : null
      PLAYGROUND                   = tostring(var.playground)
      DOORS                        = var.doors.open == null ? null : length(var.doors.open) == 0 ? "none" : join(",", var.doors.open)
      MCP_TOOLS                    = tostring(var.doors.mcp_tools)
      CARD_KEYS_SECRET             = var.doors.sign_card ? local.secret_versions["card-keys"] : null
      CARD_KEYS_URL                = var.doors.card_keys_url
      CARD_URL                     = var.doors.sign_card ? local.card_url : null
      CONVERSATION_HEADERS         = join(",", var.doors.conversation_headers)
      ALLOW_INSTRUCTIONS           = tostring(var.doors.instructions)
      LOG_CONTENT                  = tostring(var.log_content)
    })
    health = {}
  }

  daily_tokens = coalesce(var.limits.daily_tokens, floor(var.limits.service_daily_tokens / 10))

  # Environment of the agent: plain settings, and the names of existing secret
  # versions. Only invoke runs the agent.
  agent_environment = merge(var.agent_environment, {
    for id, s in local.agent_secrets :
    "${s.name}_SECRET" => "projects/${var.project_id}/secrets/${google_secret_manager_secret.this[id].secret_id}/versions/${s.version}" if s.version != null
  })

  # Environment that depends on the service.
  environment = {
    for key, f in local.functions : key => {
      for name, value in merge(local.common_environment, local.function_environment[f.function], {
        FUNCTION_TARGET = f.function # which of the image's functions is served
        AUTH            = join(",", local.auth[f.function])
        # The service trusts iam only if this confirms that Cloud Run's check is enabled.
        IAM_ENFORCED   = contains(local.auth[f.function], "iam") && f.invoker_check && !f.iap ? "true" : null
        OIDC_ISSUERS   = f.function == "invoke" ? join(",", f.iap ? ["https://cloud.google.com/iap|${local.iap_audiences[key]}"] : local.oidc_issuers) : null
        MAX_CONCURRENT = tostring(f.concurrency)
        # The runtime collects garbage more often near this limit, so that the instance is
        # not killed. /tmp counts against memory, and a tenth is left as reserve.
        GOMEMLIMIT    = "${floor(f.memory_mib * 0.9) - local.tmp_mib}MiB"
        MAX_INSTANCES = tostring(sum([for other in local.functions : other.max_instances if other.function == f.function]))
      }) : name => value if value != null && value != ""
    }
  }

  tmp_mib = 64 # of an instance's memory for files

  oidc_issuers = [
    for i in var.oidc_issuers : join("|", concat([i.issuer, i.audience], [for name, value in i.claims : "${name}=${value}"]))
  ]
  iap_audiences = {
    for key, f in local.functions : key => "/projects/${coalesce(local.project_number, "unknown")}/locations/${f.region}/services/${local.service_names[f.function]}" if f.iap
  }
}

# A new project has 20 CPUs and 40 GiB per region (googlecodelabs/feedback 1856), and
# Cloud Run refuses a revision whose instances could exceed that. Other projects have
# other quotas, so this is a warning.
check "quota" {
  assert {
    condition = alltrue([
      for region in local.regions :
      sum([for f in local.functions : f.region == region ? f.cpu * f.max_instances : 0]) <= 20 &&
      sum([for f in local.functions : f.region == region ? f.memory_mib * f.max_instances : 0]) <= 40 * 1024
    ])
    error_message = "capacity asks for more than the 20 CPUs or 40 GiB that a new project has in a region: cpu times max_instances, and 2 CPUs for health. Lower capacity, or ask for more quota first."
  }
}

resource "google_cloud_run_v2_service" "function" {
  for_each = local.functions

  project              = var.project_id
  labels               = local.labels
  name                 = local.service_names[each.value.function]
  location             = each.value.region
  ingress              = each.value.balanced ? "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER" : "INGRESS_TRAFFIC_ALL"
  invoker_iam_disabled = !each.value.invoker_check
  iap_enabled          = each.value.iap
  custom_audiences     = each.value.balanced ? ["https://${var.load_balancer.domain}"] : []
  deletion_protection  = var.deletion_protection

  # Set on the service, not on a revision, so that a revision without traffic keeps no
  # instance and two that share traffic keep no more than one. 0 is set explicitly, so
  # that the minimum can be lowered to it; the API would drop a block without it.
  scaling {
    min_instance_count = each.value.min_instances
    max_instance_count = each.value.max_instances
  }

  template {
    service_account                  = google_service_account.function[each.value.function].email
    timeout                          = "${each.value.timeout}s"
    max_instance_request_concurrency = each.value.concurrency
    execution_environment            = "EXECUTION_ENVIRONMENT_GEN2"
    encryption_key                   = var.kms_key

    scaling {
      max_instance_count = each.value.max_instances
    }

    containers {
      # Cloud Run names an unnamed container at the first revision that gcloud creates, and
      # the provider does not read the name from the API: without one here that would be a
      # permanent difference.
      name = each.value.function

      # A plan works before there is an image; an apply fails at the precondition below.
      image = coalesce(var.image, "${local.registry}/gatehouse")

      resources {
        limits = {
          cpu    = tostring(each.value.cpu)
          memory = "${each.value.memory_mib}Mi"
        }
        cpu_idle          = !(each.value.function == "invoke" && var.capacity.cpu_always_on)
        startup_cpu_boost = true
      }

      dynamic "env" {
        for_each = local.environment[each.key]
        content {
          name  = env.key
          value = env.value
        }
      }

      # A misconfigured revision never becomes ready, and so never takes over traffic.
      startup_probe {
        http_get {
          path = "/health/ready"
        }
        period_seconds    = 2
        timeout_seconds   = 2
        failure_threshold = 30
      }
      liveness_probe {
        http_get {
          path = "/health/live"
        }
        period_seconds    = 30
        timeout_seconds   = 5
        failure_threshold = 3
      }

      # Files in /tmp use the instance's memory, at most this much.
      volume_mounts {
        name       = "tmp"
        mount_path = "/tmp"
      }
    }

    volumes {
      name = "tmp"
      empty_dir {
        medium     = "MEMORY"
        size_limit = "${local.tmp_mib}Mi"
      }
    }

    dynamic "vpc_access" {
      for_each = var.vpc[*]
      content {
        egress = vpc_access.value.all_traffic ? "ALL_TRAFFIC" : "PRIVATE_RANGES_ONLY"
        network_interfaces {
          network    = vpc_access.value.network
          subnetwork = vpc_access.value.subnetwork
          tags       = vpc_access.value.tags
        }
      }
    }
  }

  lifecycle {
    # The delivery controls the image and the traffic. Annotations that gcloud leaves on
    # a service or a revision are not differences either.
    ignore_changes = [
      client, client_version, traffic,
      template[0].annotations, template[0].labels, template[0].containers[0].image, template[0].containers[0].base_image_uri,
    ]

    # timestamp() is unknown in a plan, so this is checked in the apply, for services that
    # are created or changed: a plan needs no image.
    precondition {
      condition     = var.image != null || timestamp() == ""
      error_message = "image is not set, so there is nothing that ${local.service_names[each.value.function]} could run: scripts/deploy builds it and names it here; by hand, set image to REGION-docker.pkg.dev/PROJECT/REPOSITORY/NAME@sha256:DIGEST."
    }

    # The service trusts a token that Cloud Run has verified. If the check is disabled,
    # or IAP replaces it, anybody could forge one.
    precondition {
      condition     = !contains(local.auth[each.value.function], "iam") || each.value.invoker_check && !each.value.iap
      error_message = "The mode iam is among those of ${each.value.function}, so the invoker check must stay on and IAP off: set web_access to private, or take iam out of auth."
    }
    precondition {
      condition     = each.value.invoker_check || length(setintersection(local.auth[each.value.function], ["oidc", "api_key"])) > 0
      error_message = "With web_access application Cloud Run checks nobody, so auth must hold oidc or api_key."
    }
  }

  depends_on = [
    google_project_service.this,
    google_project_iam_member.function,
    google_project_iam_member.telemetry,
    google_project_iam_member.database,
    google_secret_manager_secret_iam_member.function,
    google_kms_crypto_key_iam_member.agent,
    google_storage_bucket_iam_member.files,
    google_firestore_index.this,
  ]
}
