# The APIs that the deployment uses. None is ever disabled, because others in the project
# may use it.

locals {
  services = toset(concat(
    [
      "artifactregistry.googleapis.com",
      "cloudbuild.googleapis.com",
      "cloudresourcemanager.googleapis.com",
      "cloudscheduler.googleapis.com",
      "firebaserules.googleapis.com",
      "firestore.googleapis.com",
      "iam.googleapis.com",
      "logging.googleapis.com",
      "monitoring.googleapis.com",
      "run.googleapis.com",
      "secretmanager.googleapis.com",
      "storage.googleapis.com",
      "telemetry.googleapis.com",
    ],
    var.model_backend == "vertex" ? ["aiplatform.googleapis.com"] : ["generativelanguage.googleapis.com"],
    length(local.armor_templates) > 0 ? ["modelarmor.googleapis.com"] : [],
    var.web_access == "iap" ? ["iap.googleapis.com"] : [],
    var.load_balancer != null || var.vpc != null ? ["compute.googleapis.com"] : [],
    var.billing_account != null ? ["billingbudgets.googleapis.com"] : [],
    var.kms_key != null ? ["cloudkms.googleapis.com"] : [],
    length(local.wired_secrets) > 0 ? ["pubsub.googleapis.com"] : [],
    local.background ? ["cloudtasks.googleapis.com"] : [],
    var.delivery != null ? ["iamcredentials.googleapis.com"] : [], # the delivery speaks as other accounts
  ))

  armor_templates = var.model_armor == null ? [] : compact([var.model_armor.prompt_template, var.model_armor.response_template])

  # The project number is read only if something needs it: the call needs an API that an
  # empty project has disabled until scripts/deploy has run.
  needs_project_number = (var.web_access == "iap" || var.billing_account != null || var.kms_key != null ||
  length(local.wired_secrets) > 0 || length(local.armor_templates) > 0)
  project_number = one(data.google_project.this[*].number)
}

resource "google_project_service" "this" {
  for_each = local.services

  project            = var.project_id
  service            = each.value
  disable_on_destroy = false
}

data "google_project" "this" {
  count = local.needs_project_number ? 1 : 0

  project_id = var.project_id
}
