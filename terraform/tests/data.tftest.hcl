# Where sessions, secrets and the audit trail are.

mock_provider "google" {
  override_during = plan
}

variables {
  project_id = "my-project"
}

run "firestore" {
  command = plan

  assert {
    condition = (google_firestore_database.this.type == "FIRESTORE_NATIVE" && google_firestore_database.this.location_id == "us-central1" &&
      google_firestore_database.this.delete_protection_state == "DELETE_PROTECTION_ENABLED" && google_firestore_database.this.deletion_policy == "ABANDON" &&
    google_firestore_database.this.point_in_time_recovery_enablement == "POINT_IN_TIME_RECOVERY_ENABLED")
    error_message = "The database must be hard to delete and easy to recover."
  }
  assert {
    condition     = google_firestore_backup_schedule.daily.retention == "604800s" && length(google_firestore_backup_schedule.daily.daily_recurrence) == 1
    error_message = "There is a backup a day, kept for a week."
  }
  assert {
    condition = alltrue([
      for collection in ["sessions", "archive", "users", "limits", "figures"] :
      google_firestore_field.expires_at[collection].field == "expires_at" && length(google_firestore_field.expires_at[collection].ttl_config) == 1
    ])
    error_message = "Documents of every collection must go when they expire."
  }
  assert {
    condition     = alltrue([for f in google_firestore_field.unindexed : length(f.index_config) == 1 && length(f.index_config[0].indexes) == 0])
    error_message = "An exempted field has no index."
  }
  assert {
    condition     = strcontains(google_firebaserules_ruleset.deny.source[0].files[0].content, "allow read, write: if false;") && google_firebaserules_release.firestore.name == "cloud.firestore"
    error_message = "No client reads the database itself."
  }
}

run "logging" {
  command = plan
  variables {
    audit_log = { retention_days = 3650, locked = true }
  }

  assert {
    condition     = google_logging_project_bucket_config.audit.retention_days == 3650 && google_logging_project_bucket_config.audit.locked
    error_message = "The audit trail is kept, and locked, as asked."
  }
  assert {
    condition     = strcontains(google_logging_project_sink.audit.filter, "agent-audit") && google_logging_project_sink.audit.filter == google_logging_project_exclusion.audit.filter
    error_message = "What goes to the audit bucket must go there alone."
  }
  assert {
    condition     = alltrue([for f in google_cloud_run_v2_service.function : strcontains(google_logging_project_sink.audit.filter, "log_id(\"${ { for e in f.template[0].containers[0].env : e.name => e.value }["AUDIT_LOG"]}\")")])
    error_message = "The sink must take the log that the functions write."
  }
}

run "with_a_key_of_ones_own" {
  command = plan
  variables {
    kms_key = "projects/p/locations/us-central1/keyRings/r/cryptoKeys/k"
    vpc     = { network = "n", subnetwork = "s", all_traffic = true }
  }

  assert {
    condition = (google_firestore_database.this.cmek_config[0].kms_key_name == var.kms_key &&
      google_artifact_registry_repository.this.kms_key_name == var.kms_key && alltrue([for f in google_cloud_run_v2_service.function : f.template[0].encryption_key == var.kms_key]) &&
    alltrue([for s in google_secret_manager_secret.this : s.replication[0].user_managed[0].replicas[0].customer_managed_encryption[0].kms_key_name == var.kms_key]))
    error_message = "The key must encrypt all that it is said to."
  }
  assert {
    condition     = alltrue([for m in google_kms_crypto_key_iam_member.agent : m.crypto_key_id == var.kms_key && m.role == "roles/cloudkms.cryptoKeyEncrypterDecrypter"])
    error_message = "Google's services need the key, and only to use it."
  }
  assert {
    condition     = alltrue([for f in google_cloud_run_v2_service.function : f.template[0].vpc_access[0].egress == "ALL_TRAFFIC" && f.template[0].vpc_access[0].network_interfaces[0].subnetwork == "s"])
    error_message = "The functions leave through the network named."
  }
}
