# The bucket that keeps the files of sessions, and the buckets that requests may name.

resource "google_storage_bucket" "files" {
  count = var.files.keep ? 1 : 0

  project                     = var.project_id
  labels                      = local.labels
  name                        = "${var.project_id}-${var.prefix}-files"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = !var.deletion_protection

  # A file's custom time is when its session expires, moved on as the session is used.
  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      days_since_custom_time = 1
    }
  }

  # What a caller deletes is gone.
  soft_delete_policy {
    retention_duration_seconds = 0
  }

  dynamic "encryption" {
    for_each = var.kms_key[*]
    content {
      default_kms_key_name = encryption.value
    }
  }

  depends_on = [google_project_service.this, google_kms_crypto_key_iam_member.agent]
}

# Only invoke's account creates, reads, extends and deletes files.
resource "google_storage_bucket_iam_member" "files" {
  count = var.files.keep ? 1 : 0

  bucket = google_storage_bucket.files[0].name
  role   = "roles/storage.objectUser"
  member = google_service_account.function["invoke"].member
}

resource "google_storage_bucket_iam_member" "read" {
  for_each = toset(var.files.read_buckets)

  bucket = each.value
  role   = "roles/storage.objectViewer"
  member = google_service_account.function["invoke"].member
}
