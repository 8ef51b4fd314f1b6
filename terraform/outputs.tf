output "invoke_url" {
  description = "The URL that frontends and backends call."
  value       = var.load_balancer != null ? "https://${var.load_balancer.domain}" : google_cloud_run_v2_service.function["invoke"].uri
}

output "health_url" {
  description = "The URL for operators, with an identity token: GET /health."
  value       = google_cloud_run_v2_service.function["health"].uri
}

output "frontend" {
  description = "What a caller needs: the URL, the audience of an identity token for it, the accepted credentials and the allowed origins."
  value = {
    url      = var.load_balancer != null ? "https://${var.load_balancer.domain}" : google_cloud_run_v2_service.function["invoke"].uri
    audience = var.web_access == "private" ? (var.load_balancer != null ? "https://${var.load_balancer.domain}" : google_cloud_run_v2_service.function["invoke"].uri) : null
    auth     = local.auth.invoke
    issuers  = [for i in var.oidc_issuers : i.issuer]
    origins  = var.allowed_origins
  }
}

output "gemini_enterprise" {
  description = "The command that registers the agent in the Gemini Enterprise app of doors.gemini_enterprise, to be run once by who may administer the app; null without one."
  value = local.gemini_enterprise == null ? null : join(" ", [
    "curl -sSf -H \"Authorization: Bearer $(gcloud auth print-identity-token)\" ${google_cloud_run_v2_service.function["invoke"].uri}/.well-known/agent-card.json |",
    "jq '{displayName: .name, description, a2aAgentDefinition: {jsonAgentCard: tojson}}' |",
    "curl -sSf -H \"Authorization: Bearer $(gcloud auth print-access-token)\" -H 'Content-Type: application/json' -H 'X-Goog-User-Project: ${local.gemini_enterprise.project_number}' --data-binary @-",
    "https://${local.gemini_enterprise.location}-discoveryengine.googleapis.com/v1alpha/projects/${local.gemini_enterprise.project_number}/locations/${local.gemini_enterprise.location}/collections/default_collection/engines/${local.gemini_enterprise.app}/assistants/default_assistant/agents",
  ])
}

output "service_accounts" {
  description = "The service accounts, by role: an agent's tools call other services as invoke."
  value = merge(
    { for name, account in google_service_account.function : name => account.email },
    { for name, account in google_service_account.delivery : name => account.email },
    { build = google_service_account.build.email, scheduler = google_service_account.scheduler.email },
    { for account in google_service_account.tasks : "tasks" => account.email },
    { for account in google_service_account.schedules : "schedules" => account.email },
  )
}

output "secrets" {
  description = "The secrets, and whether a function reads each. A version is added by: gcloud secrets versions add NAME --data-file=-"
  value       = { for name, s in local.secrets : google_secret_manager_secret.this[name].secret_id => s.wired }
}

output "services" {
  description = "The names of the Cloud Run services, by function."
  value       = local.service_names
}

output "build" {
  description = "For a build: its service account, the region, and the image's name without a tag or digest."
  value = {
    account = google_service_account.build.id
    region  = var.region
    image   = "${local.registry}/gatehouse"
  }
}

output "database" {
  description = "The Firestore database."
  value       = google_firestore_database.this.name
}

output "audit_bucket" {
  description = "The log bucket of the audit log."
  value       = google_logging_project_bucket_config.audit.id
}

output "dashboard" {
  description = "The dashboard's page in the console."
  value       = "https://console.cloud.google.com/monitoring/dashboards/builder/${basename(google_monitoring_dashboard.this.id)}?project=${var.project_id}"
}

output "alerts" {
  description = "The alert policies, by the names of their pages in docs/run-book.md."
  value       = { for name, policy in google_monitoring_alert_policy.this : local.alerts[name].page => policy.name }
}

output "load_balancer_ip" {
  description = "The address for the domain's A record; null without load_balancer."
  value       = one(google_compute_global_address.this[*].address)
}
