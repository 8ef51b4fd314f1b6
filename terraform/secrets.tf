# Secrets without values: versions are added outside of Terraform, so that the state
# never contains one. They exist from the first apply, so that a version can be added
# before a function is configured to read it.

locals {
  agent_secrets = { for name, s in var.agent_secrets : replace(lower(name), "_", "-") => merge(s, { name = name }) }

  secrets = merge(local.own_secrets, {
    for id, s in local.agent_secrets : id => { wired = s.version != null, readers = ["invoke"] }
  })
  own_secrets = {
    gemini-api-key = {
      wired   = var.model_backend == "gemini"
      readers = ["invoke", "health"] # health probes the model
    }
    models-table = {
      wired   = var.models_table_from_secret
      readers = ["invoke", "health"] # health judges by it
    }
    allowed-origins = {
      wired   = var.allowed_origins_from_secret
      readers = ["invoke"]
    }
    api-keys = {
      wired   = contains(local.auth.invoke, "api_key")
      readers = ["invoke"]
    }
    webhook-secrets = {
      wired   = length(var.webhook_hosts) > 0
      readers = ["invoke"]
    }
    card-keys = {
      wired   = var.doors.sign_card
      readers = ["invoke"]
    }
  }
  wired_secrets   = toset([for name, s in local.secrets : name if s.wired])
  secret_versions = { for name in keys(local.secrets) : name => "projects/${var.project_id}/secrets/${google_secret_manager_secret.this[name].secret_id}/versions/latest" }

  # An agent's secret is readable from the start, so that the role has propagated when a
  # revision reads it.
  secret_readers = merge([
    for name, s in local.secrets : { for function in s.readers : "${function}:${name}" => { function = function, secret = name } }
    if s.wired || contains(keys(local.agent_secrets), name)
  ]...)
}

resource "google_secret_manager_secret" "this" {
  for_each = local.secrets

  project             = var.project_id
  labels              = local.labels
  secret_id           = "${var.prefix}-${each.key}"
  deletion_protection = var.deletion_protection
  # A version destroyed by mistake can be restored for a day.
  version_destroy_ttl = "86400s"

  replication {
    # In the deployment's region, so that it depends on no other region.
    user_managed {
      replicas {
        location = var.region
        dynamic "customer_managed_encryption" {
          for_each = var.kms_key[*]
          content {
            kms_key_name = customer_managed_encryption.value
          }
        }
      }
      dynamic "replicas" {
        for_each = var.second_region[*]
        content {
          location = replicas.value
        }
      }
    }
  }

  # Reminders go to the topic, which raises the alert.
  dynamic "topics" {
    for_each = each.value.wired ? [1] : []
    content {
      name = google_pubsub_topic.rotation[0].id
    }
  }
  dynamic "rotation" {
    for_each = each.value.wired ? [1] : []
    content {
      rotation_period    = "${var.secret_rotation_days * 86400}s"
      next_rotation_time = timeadd(plantimestamp(), "${var.secret_rotation_days * 24}h")
    }
  }

  lifecycle {
    # Secret Manager advances it, and the next plan reads it.
    ignore_changes = [rotation[0].next_rotation_time]
  }

  depends_on = [
    google_project_service.this,
    google_pubsub_topic_iam_member.rotation,
    google_kms_crypto_key_iam_member.agent,
  ]
}

resource "google_pubsub_topic" "rotation" {
  count = length(local.wired_secrets) > 0 ? 1 : 0

  project      = var.project_id
  labels       = local.labels
  name         = "${var.prefix}-secret-rotation"
  kms_key_name = var.kms_key

  message_storage_policy {
    allowed_persistence_regions = local.regions
  }

  depends_on = [google_project_service.this, google_kms_crypto_key_iam_member.agent]
}

# scripts/deploy creates Secret Manager's service agent, which a new project does not
# have.
resource "google_pubsub_topic_iam_member" "rotation" {
  count = length(local.wired_secrets) > 0 ? 1 : 0

  project = var.project_id
  topic   = google_pubsub_topic.rotation[0].id
  role    = "roles/pubsub.publisher"
  member  = "serviceAccount:service-${local.project_number}@gcp-sa-secretmanager.iam.gserviceaccount.com"
}
