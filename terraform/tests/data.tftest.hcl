# Where sessions, secrets and the audit trail are.

mock_provider "google" {
  override_during = plan

  override_resource {
    target = google_service_account.function["invoke"]
    values = { email = "invoke@accounts", member = "serviceAccount:invoke@accounts" }
  }
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

run "no_files_are_kept_by_default" {
  command = plan

  assert {
    condition     = length(google_storage_bucket.files) == 0 && length(google_storage_bucket_iam_member.files) == 0 && length(google_storage_bucket_iam_member.read) == 0 && !contains(keys(local.environment["invoke"]), "FILES_BUCKET") && !contains(keys(local.environment["invoke"]), "FILE_BUCKETS")
    error_message = "There is no bucket until files.keep says so, and no other may be read."
  }
}

run "files" {
  command = plan
  variables {
    files = { keep = true, read_buckets = ["papers"] }
  }

  assert {
    condition = (google_storage_bucket.files[0].name == "my-project-gatehouse-files" && google_storage_bucket.files[0].uniform_bucket_level_access &&
    google_storage_bucket.files[0].public_access_prevention == "enforced" && !google_storage_bucket.files[0].force_destroy && google_storage_bucket.files[0].location == "us-central1")
    error_message = "Nobody but named accounts may read the files, and the bucket is hard to delete."
  }
  assert {
    condition     = [for rule in google_storage_bucket.files[0].lifecycle_rule : [one(rule.action).type, one(rule.condition).days_since_custom_time]] == [["Delete", 1]] && google_storage_bucket.files[0].soft_delete_policy[0].retention_duration_seconds == 0
    error_message = "A file goes when its session has expired, and what is deleted is gone."
  }
  assert {
    condition = ([for m in google_storage_bucket_iam_member.files : "${m.role} ${m.member}"] == ["roles/storage.objectUser serviceAccount:invoke@accounts"] &&
    [for m in google_storage_bucket_iam_member.read : "${m.bucket} ${m.role} ${m.member}"] == ["papers roles/storage.objectViewer serviceAccount:invoke@accounts"])
    error_message = "Only invoke's account has access: to the files, and to the buckets that requests may name."
  }
  assert {
    condition     = local.environment["invoke"].FILES_BUCKET == "my-project-gatehouse-files" && local.environment["invoke"].FILE_BUCKETS == "papers" && !contains(keys(local.environment["health"]), "FILES_BUCKET")
    error_message = "invoke is told of both."
  }
}

run "files_of_everybody" {
  command = plan
  variables {
    files = { read_buckets = ["my-project-gatehouse-files"] }
  }

  expect_failures = [var.files]
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
