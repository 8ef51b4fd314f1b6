# The database of sessions, limits and statistics. A test compares this with the
# documents and queries in internal/gcp.

locals {
  # By collection group: fields that no query reads alone, and that therefore need no
  # index. Without these exemptions each write pays for an index entry per field, and
  # an index on a rising time limits a collection to about 500 writes per second.
  unindexed = {
    sessions = [
      "owner", "session_id", "created_at", "updated_at", "turns", "total_tokens", "title", "log",
      "keys", "keyed_at", "deleted", "feedback", "past", "archived", "archives_expire_at", "replaced", "state",
    ]
    runs    = ["owner", "session_id", "state", "created_at", "head", "parts", "checkpoint", "result", "below", "deleted"]
    steps   = ["checkpoint"]
    users   = ["updated_at", "deleted_at", "writes", "values"]
    archive = ["log", "feedback"]
    limits  = ["account"]
    figures = ["agent", "instance", "requests", "judged", "errors", "breakers"] # the newest are found by minute
  }

  # Documents of every collection are deleted at their expires_at.
  expiring = keys(local.unindexed)

  unindexed_fields = merge([
    for collection, fields in local.unindexed : { for field in fields : "${collection}.${field}" => { collection = collection, field = field } }
  ]...)

  indexes = {
    # An owner's sessions, newest first, and those of a day.
    sessions = { collection = "sessions", fields = [["owner", "ASCENDING"], ["updated_at", "DESCENDING"], ["__name__", "DESCENDING"]] }
    # An owner's runs, newest first: all, those of a session, those in a state.
    runs         = { collection = "runs", fields = [["owner", "ASCENDING"], ["created_at", "DESCENDING"], ["__name__", "DESCENDING"]] }
    runs-session = { collection = "runs", fields = [["owner", "ASCENDING"], ["session_id", "ASCENDING"], ["created_at", "DESCENDING"], ["__name__", "DESCENDING"]] }
    runs-state   = { collection = "runs", fields = [["owner", "ASCENDING"], ["state", "ASCENDING"], ["created_at", "DESCENDING"], ["__name__", "DESCENDING"]] }
    # The sums of the last minutes, which Firestore computes from the index.
    figures-requests = { collection = "figures", fields = [["minute", "ASCENDING"], ["requests", "ASCENDING"]] }
    figures-judged   = { collection = "figures", fields = [["minute", "ASCENDING"], ["judged", "ASCENDING"]] }
    figures-errors   = { collection = "figures", fields = [["minute", "ASCENDING"], ["errors", "ASCENDING"]] }
  }
}

resource "google_firestore_database" "this" {
  project                           = var.project_id
  name                              = local.firestore_database
  location_id                       = local.firestore_location
  type                              = "FIRESTORE_NATIVE"
  app_engine_integration_mode       = "DISABLED"
  point_in_time_recovery_enablement = "POINT_IN_TIME_RECOVERY_ENABLED"
  delete_protection_state           = var.deletion_protection ? "DELETE_PROTECTION_ENABLED" : "DELETE_PROTECTION_DISABLED"
  deletion_policy                   = var.deletion_protection ? "ABANDON" : "DELETE"

  dynamic "cmek_config" {
    for_each = var.kms_key[*]
    content {
      kms_key_name = cmek_config.value
    }
  }

  depends_on = [google_project_service.this, google_kms_crypto_key_iam_member.agent]
}

resource "google_firestore_backup_schedule" "daily" {
  project   = var.project_id
  database  = google_firestore_database.this.name
  retention = "${var.backup_retention_days * 86400}s"

  daily_recurrence {}
}

resource "google_firestore_field" "expires_at" {
  for_each = toset(local.expiring)

  project    = var.project_id
  database   = google_firestore_database.this.name
  collection = each.value
  field      = "expires_at"

  ttl_config {}
  index_config {}
}

resource "google_firestore_field" "unindexed" {
  for_each = local.unindexed_fields

  project    = var.project_id
  database   = google_firestore_database.this.name
  collection = each.value.collection
  field      = each.value.field

  index_config {}
}

resource "google_firestore_index" "this" {
  for_each = local.indexes

  project     = var.project_id
  database    = google_firestore_database.this.name
  collection  = each.value.collection
  query_scope = "COLLECTION"

  dynamic "fields" {
    for_each = each.value.fields
    content {
      field_path = fields.value[0]
      order      = fields.value[1]
    }
  }
}

# No page and no app reads the database directly. These rules do not apply to the
# functions' accounts.
resource "google_firebaserules_ruleset" "deny" {
  project = var.project_id
  source {
    files {
      name    = "firestore.rules"
      content = <<-RULES
        rules_version = '2';
        service cloud.firestore {
          match /databases/{database}/documents {
            match /{document=**} {
              allow read, write: if false;
            }
          }
        }
      RULES
    }
  }

  depends_on = [google_project_service.this]
}

resource "google_firebaserules_release" "firestore" {
  project      = var.project_id
  name         = local.firestore_database == "(default)" ? "cloud.firestore" : "cloud.firestore/${local.firestore_database}"
  ruleset_name = google_firebaserules_ruleset.deny.name

  depends_on = [google_firestore_database.this]

  lifecycle {
    replace_triggered_by = [google_firebaserules_ruleset.deny]
  }
}
