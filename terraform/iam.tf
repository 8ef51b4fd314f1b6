# Accounts and their permissions. Every account has roles only on the resources that
# it uses; a project role is one that Google offers on nothing smaller, and the role on
# Firestore is limited to the database.

locals {
  functions_each = toset(["invoke", "health"])

  # Predefined roles with only the permission that is used, except for
  # logging.logEntries.route, which lets an entry pass sinks.
  telemetry_roles = ["roles/logging.logWriter", "roles/telemetry.metricsWriter", "roles/telemetry.tracesWriter"]

  function_roles = {
    for pair in setproduct(local.functions_each, local.telemetry_roles) :
    "${pair[0]}:${trimprefix(pair[1], "roles/")}" => { function = pair[0], role = pair[1] }
  }

  # In addition to these, roles/datastore.user and viewer read the project, its
  # namespaces and its indexes. A transaction starts with databases.get.
  # https://cloud.google.com/firestore/docs/security/iam
  database_permissions = {
    invoke = ["create", "delete", "get", "list", "update"]
    health = ["get", "list"]
  }
}

resource "google_service_account" "function" {
  for_each = local.functions_each

  project      = var.project_id
  account_id   = "${var.prefix}-${each.value}"
  display_name = "${local.title}: the function ${each.value}"

  depends_on = [google_project_service.this]
}

resource "google_service_account" "scheduler" {
  project      = var.project_id
  account_id   = "${var.prefix}-scheduler"
  display_name = "${local.title}: the health ping"

  depends_on = [google_project_service.this]
}

# roles/aiplatform.user may also change, tune and upload models; a prompt needs one
# permission (https://cloud.google.com/vertex-ai/generative-ai/docs/access-control),
# a model's metadata none. The second is for telemetry's quota on the project.
resource "google_project_iam_custom_role" "function" {
  project     = var.project_id
  role_id     = "${var.prefix}Function"
  title       = "${local.title}: the functions"
  permissions = concat(var.model_backend == "vertex" ? ["aiplatform.endpoints.predict"] : [], ["serviceusage.services.use"])

  depends_on = [google_project_service.this]
}

resource "google_project_iam_custom_role" "database" {
  for_each = local.database_permissions

  project     = var.project_id
  role_id     = "${var.prefix}Database${title(each.key)}"
  title       = "${local.title}: ${each.key} in the database"
  permissions = concat(["datastore.databases.get"], [for verb in each.value : "datastore.entities.${verb}"])

  depends_on = [google_project_service.this]
}

resource "google_project_iam_member" "function" {
  for_each = local.functions_each

  project = var.project_id
  role    = "projects/${var.project_id}/roles/${google_project_iam_custom_role.function.role_id}"
  member  = google_service_account.function[each.value].member

  # A changed role replaces its member. The new one is created first, so that the
  # running functions always have it.
  lifecycle {
    create_before_destroy = true
  }
}

resource "google_project_iam_member" "telemetry" {
  for_each = local.function_roles

  project = var.project_id
  role    = each.value.role
  member  = google_service_account.function[each.value.function].member

  lifecycle {
    create_before_destroy = true # as above
  }
}

resource "google_project_iam_member" "database" {
  for_each = local.database_permissions

  project = var.project_id
  role    = "projects/${var.project_id}/roles/${google_project_iam_custom_role.database[each.key].role_id}"
  member  = google_service_account.function[each.key].member

  # Firestore has no IAM policies on a database.
  condition {
    title      = "Only this deployment's database"
    expression = "resource.name == \"projects/${var.project_id}/databases/${google_firestore_database.this.name}\""
  }

  lifecycle {
    create_before_destroy = true # as above
  }
}

resource "google_secret_manager_secret_iam_member" "function" {
  for_each = local.secret_readers

  project   = var.project_id
  secret_id = google_secret_manager_secret.this[each.value.secret].secret_id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.function[each.value.function].member
}

resource "google_cloud_run_v2_service_iam_member" "scheduler" {
  project  = var.project_id
  name     = google_cloud_run_v2_service.function["health"].name
  location = google_cloud_run_v2_service.function["health"].location
  role     = "roles/run.invoker"
  member   = google_service_account.scheduler.member
}

# Gemini Enterprise calls agents by A2A as its project's service agent.
locals {
  gemini_enterprise = var.doors.gemini_enterprise == null ? null : merge(var.doors.gemini_enterprise, {
    member = "serviceAccount:service-${var.doors.gemini_enterprise.project_number}@gcp-sa-discoveryengine.iam.gserviceaccount.com"
  })
}

resource "google_cloud_run_v2_service_iam_member" "invoker" {
  for_each = {
    for pair in setproduct(local.function_keys.invoke, setunion(var.invokers, local.gemini_enterprise[*].member)) : "${pair[0]} ${pair[1]}" => { key = pair[0], member = pair[1] }
  }

  project  = var.project_id
  name     = google_cloud_run_v2_service.function[each.value.key].name
  location = google_cloud_run_v2_service.function[each.value.key].location
  role     = "roles/run.invoker"
  member   = each.value.member

  lifecycle {
    precondition {
      condition     = !contains(["allUsers", "allAuthenticatedUsers"], each.value.member)
      error_message = "${each.value.member} would let anybody past Cloud Run's check, which the mode iam relies on."
    }
  }
}

resource "google_cloud_run_v2_service_iam_member" "operator" {
  for_each = toset(var.health_invokers)

  project  = var.project_id
  name     = google_cloud_run_v2_service.function["health"].name
  location = google_cloud_run_v2_service.function["health"].location
  role     = "roles/run.invoker"
  member   = each.value
}

# IAP calls the service on behalf of the visitor.
resource "google_cloud_run_v2_service_iam_member" "iap" {
  for_each = var.web_access == "iap" ? toset(local.function_keys.invoke) : []

  project  = var.project_id
  name     = google_cloud_run_v2_service.function[each.value].name
  location = google_cloud_run_v2_service.function[each.value].location
  role     = "roles/run.invoker"
  member   = "serviceAccount:service-${local.project_number}@gcp-sa-iap.iam.gserviceaccount.com"
}

resource "google_iap_web_cloud_run_service_iam_member" "visitor" {
  for_each = var.web_access != "iap" ? {} : {
    for pair in setproduct(local.function_keys.invoke, toset(var.iap_members)) : "${pair[0]} ${pair[1]}" => { key = pair[0], member = pair[1] }
  }

  project                = var.project_id
  cloud_run_service_name = google_cloud_run_v2_service.function[each.value.key].name
  location               = google_cloud_run_v2_service.function[each.value.key].location
  role                   = "roles/iap.httpsResourceAccessor"
  member                 = each.value.member
}

# Vertex AI screens by Model Armor's templates as its own service agent. Templates have
# no policies of their own. Those of another project need the role there.
# https://docs.cloud.google.com/model-armor/model-armor-vertex-integration
resource "google_project_iam_member" "model_armor" {
  count = contains([for t in local.armor_templates : split("/", t)[1]], var.project_id) ? 1 : 0

  project = var.project_id
  role    = "roles/modelarmor.user"
  member  = "serviceAccount:service-${local.project_number}@gcp-sa-aiplatform.iam.gserviceaccount.com"

  depends_on = [google_project_service.this]
}

# With a customer-managed key, each service that encrypts with it needs access.
# scripts/deploy creates these service agents, which a new project does not have.
resource "google_kms_crypto_key_iam_member" "agent" {
  for_each = var.kms_key == null ? {} : {
    artifactregistry = "gcp-sa-artifactregistry"
    firestore        = "gcp-sa-firestore"
    pubsub           = "gcp-sa-pubsub"
    run              = "serverless-robot-prod"
    secretmanager    = "gcp-sa-secretmanager"
    storage          = "gs-project-accounts"
  }

  crypto_key_id = var.kms_key
  role          = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
  member        = "serviceAccount:service-${local.project_number}@${each.value}.iam.gserviceaccount.com"
}
