# The deployment with its settings in one value, as a file of them is decoded: so
# a root needs no variable for each of them. A test holds the names to the
# variables of the module.

terraform {
  required_version = ">= 1.11"
}

variable "project_id" {
  description = "The Google Cloud project to deploy into."
  type        = string
}

variable "image" {
  description = "The image that both functions run, by its digest. Null: for a plan only."
  type        = string
  default     = null
}

variable "settings" {
  description = "What the deployment sets: any variable of the module but project_id and image, by its name."
  type        = any
  default     = {}

  validation {
    condition     = length(setsubtract(keys(var.settings), local.names)) == 0
    error_message = "settings hold ${join(", ", setsubtract(keys(var.settings), local.names))}, which terraform/ has no variable for: terraform/README.md lists them."
  }
}

locals {
  names = [
    "prefix",
    "region",
    "firestore_location",
    "firestore_database",
    "second_region",
    "labels",
    "environment",
    "image_projects",
    "model",
    "model_fallbacks",
    "models_allowed",
    "model_armor",
    "thinking_level",
    "models_table_from_secret",
    "model_backend",
    "model_url",
    "vertex_location",
    "agent_secrets",
    "agent_environment",
    "web_access",
    "auth",
    "oidc_issuers",
    "invokers",
    "health_invokers",
    "iap_members",
    "allowed_origins",
    "allowed_origins_from_secret",
    "operators",
    "playground",
    "doors",
    "capacity",
    "files",
    "request_timeout_seconds",
    "limits",
    "breaker",
    "background",
    "webhook_hosts",
    "schedules",
    "approval_ttl_hours",
    "session_ttl_hours",
    "deletion_protection",
    "backup_retention_days",
    "audit_log",
    "secret_rotation_days",
    "log_level",
    "log_content",
    "trace_sample_ratio",
    "otel",
    "slo",
    "alert_emails",
    "notification_channels",
    "run_book_url",
    "billing_account",
    "monthly_budget",
    "vpc",
    "load_balancer",
    "kms_key",
    "delivery",
  ]
  # What is not set is null, for which the module has its default.
  settings = { for name in local.names : name => try(var.settings[name], null) }
}

module "gatehouse" {
  source = "../"

  project_id = var.project_id
  image      = var.image

  prefix                      = local.settings.prefix
  region                      = local.settings.region
  firestore_location          = local.settings.firestore_location
  firestore_database          = local.settings.firestore_database
  second_region               = local.settings.second_region
  labels                      = local.settings.labels
  environment                 = local.settings.environment
  image_projects              = local.settings.image_projects
  model                       = local.settings.model
  model_fallbacks             = local.settings.model_fallbacks
  models_allowed              = local.settings.models_allowed
  model_armor                 = local.settings.model_armor
  thinking_level              = local.settings.thinking_level
  models_table_from_secret    = local.settings.models_table_from_secret
  model_backend               = local.settings.model_backend
  model_url                   = local.settings.model_url
  vertex_location             = local.settings.vertex_location
  agent_secrets               = local.settings.agent_secrets
  agent_environment           = local.settings.agent_environment
  web_access                  = local.settings.web_access
  auth                        = local.settings.auth
  oidc_issuers                = local.settings.oidc_issuers
  invokers                    = local.settings.invokers
  health_invokers             = local.settings.health_invokers
  iap_members                 = local.settings.iap_members
  allowed_origins             = local.settings.allowed_origins
  allowed_origins_from_secret = local.settings.allowed_origins_from_secret
  operators                   = local.settings.operators
  playground                  = local.settings.playground
  doors                       = local.settings.doors
  capacity                    = local.settings.capacity
  files                       = local.settings.files
  request_timeout_seconds     = local.settings.request_timeout_seconds
  limits                      = local.settings.limits
  breaker                     = local.settings.breaker
  background                  = local.settings.background
  webhook_hosts               = local.settings.webhook_hosts
  schedules                   = local.settings.schedules
  approval_ttl_hours          = local.settings.approval_ttl_hours
  session_ttl_hours           = local.settings.session_ttl_hours
  deletion_protection         = local.settings.deletion_protection
  backup_retention_days       = local.settings.backup_retention_days
  audit_log                   = local.settings.audit_log
  secret_rotation_days        = local.settings.secret_rotation_days
  log_level                   = local.settings.log_level
  log_content                 = local.settings.log_content
  trace_sample_ratio          = local.settings.trace_sample_ratio
  otel                        = local.settings.otel
  slo                         = local.settings.slo
  alert_emails                = local.settings.alert_emails
  notification_channels       = local.settings.notification_channels
  run_book_url                = local.settings.run_book_url
  billing_account             = local.settings.billing_account
  monthly_budget              = local.settings.monthly_budget
  vpc                         = local.settings.vpc
  load_balancer               = local.settings.load_balancer
  kms_key                     = local.settings.kms_key
  delivery                    = local.settings.delivery
}

output "gatehouse" {
  description = "All outputs of the module."
  value       = module.gatehouse
}
