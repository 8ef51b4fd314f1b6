# Compares the configured models with the table that the service uses. A finding is a
# warning in the plan and never an error, because models change between two versions
# of the table.

locals {
  models          = jsondecode(file("${path.module}/../internal/models/models.json"))
  model           = coalesce(var.model, local.models.default)
  model_fallbacks = var.model_fallbacks != null ? var.model_fallbacks : local.model != local.models.fallback ? [local.models.fallback] : []

  used_models    = distinct(concat([local.model], local.model_fallbacks, var.models_allowed))
  unknown_models = [for m in local.used_models : m if !contains(keys(local.models.models), m)]
  ended_models   = [for m in local.used_models : m if try(timecmp("${local.models.models[m].ends}T00:00:00Z", plantimestamp()) <= 0, false)]
  closed_models  = [for m in local.used_models : m if try(timecmp("${local.models.models[m].closed}T00:00:00Z", plantimestamp()) <= 0, false)]

  # Models since Gemini 3 are available at global, us and eu.
  # https://docs.cloud.google.com/gemini-enterprise-agent-platform/resources/locations
  regionless_models = [for m in local.used_models : m if can(regex("^gemini-([3-9]|[1-9][0-9])", m))]
}

check "model_known" {
  assert {
    condition     = length(local.unknown_models) == 0
    error_message = "${join(", ", local.unknown_models)}: not in the table of models of ${local.models.date}. If the name is right, the model is newer than the table or another vendor's: it works, and its cost is unknown. If it is not, the service answers not_ready, and names MODEL."
  }
}

check "model_there" {
  assert {
    condition     = length(local.ended_models) == 0
    error_message = "${join(", ", [for m in local.ended_models : "${m} ended on ${local.models.models[m].ends}; its successor is ${try(local.models.models[m].successor, "not known")}"])}. Set model and model_fallbacks."
  }
  assert {
    condition     = length(local.closed_models) == 0
    error_message = "${join(", ", [for m in local.closed_models : "${m} is closed to projects that had not used it by ${local.models.models[m].closed}; its successor is ${try(local.models.models[m].successor, "not known")}"])}. Set model and model_fallbacks, unless this project did."
  }
}

check "model_in_location" {
  assert {
    condition     = var.model_backend != "vertex" || contains(["global", "us", "eu"], var.vertex_location) || length(local.regionless_models) == 0
    error_message = "${join(", ", local.regionless_models)}: not known to be at vertex_location ${var.vertex_location}. From Gemini 3 on, models are at global, and at the multi-regions us and eu; set vertex_location to one of them."
  }
}
