# Builds: the registry and the account of scripts/deploy's builds, and, if a
# repository is set, the accounts and triggers of the delivery.
#
# Two accounts, so that those who can push code cannot change permissions: deliver
# creates revisions and moves traffic; infrastructure applies this directory, and
# only after an approval.

locals {
  registry   = "${var.region}-docker.pkg.dev/${var.project_id}/${google_artifact_registry_repository.this.repository_id}"
  delivering = var.delivery != null ? 1 : 0

  # This deployment's settings, as the delivery finds them in the repository.
  var_file         = try(coalesce(var.delivery.var_file, "environments/${var.project_id}.tfvars"), null)
  smoke_key_secret = try(var.delivery.smoke_key_secret, null)

  evaluation = {
    model         = try(var.delivery.evaluation.model, null)
    judge         = try(var.delivery.evaluation.judge, null)
    report_bucket = try(var.delivery.evaluation.report_bucket, null)
  }

  # The roles needed to apply this directory. They are wide, hence the approval, but
  # do not include owner or editor.
  infrastructure_roles = [
    "roles/artifactregistry.admin",
    "roles/cloudbuild.builds.editor",
    "roles/cloudbuild.connectionViewer", # a trigger names a repository
    "roles/cloudscheduler.admin",
    "roles/datastore.owner",
    "roles/firebaserules.admin",
    "roles/iam.roleAdmin",
    "roles/iam.serviceAccountAdmin",
    "roles/logging.admin",
    "roles/monitoring.admin",
    "roles/pubsub.admin",
    "roles/resourcemanager.projectIamAdmin",
    "roles/run.admin",
    "roles/secretmanager.admin",
    "roles/serviceusage.serviceUsageAdmin",
    "roles/storage.admin",
  ]

  delivery_accounts = {
    deliver        = "builds, and moves traffic to what it built"
    infrastructure = "applies approved changes of the infrastructure"
    plan           = "compares the infrastructure with the code, and changes nothing"
    smoke          = "calls a new revision before anybody else does"
    weekly         = "compares the models with today's, and may do nothing else"
  }

  # The models that are compared with today: all that may be asked, those that a request
  # names too.
  models_substitutions = {
    _MODEL           = local.model
    _MODEL_FALLBACKS = join(",", coalescelist(distinct(concat(local.model_fallbacks, var.models_allowed)), ["none"]))
  }
}

resource "google_artifact_registry_repository" "this" {
  project       = var.project_id
  labels        = local.labels
  repository_id = var.prefix
  location      = var.region
  format        = "DOCKER"
  kms_key_name  = var.kms_key

  # No docker_config: tags are mutable by default, and the API drops a block that
  # sets the default, which would be a permanent difference
  # (flattenArtifactRegistryRepositoryDockerConfig in the provider).

  cleanup_policies {
    id     = "keep-recent"
    action = "KEEP"
    most_recent_versions {
      keep_count = 20
    }
  }
  cleanup_policies {
    id     = "delete-old"
    action = "DELETE"
    condition {
      older_than = "2592000s" # 30 days
    }
  }

  depends_on = [google_project_service.this, google_kms_crypto_key_iam_member.agent]
}

# Builds of scripts/deploy

resource "google_service_account" "build" {
  project      = var.project_id
  account_id   = "${var.prefix}-build"
  display_name = "${local.title}: builds the image"

  depends_on = [google_project_service.this]
}

resource "google_project_iam_member" "build_log" {
  project = var.project_id
  role    = "roles/logging.logWriter" # nothing but to create entries and to route them
  member  = google_service_account.build.member
}

# gcloud builds submit uploads the source into PROJECT_cloudbuild, or, if buckets
# are regional, PROJECT_REGION_cloudbuild, and creates the bucket itself.
resource "google_project_iam_member" "build_source" {
  project = var.project_id
  role    = "roles/storage.objectViewer"
  member  = google_service_account.build.member

  condition {
    title      = "Only the sources of builds"
    expression = "resource.name.startsWith(\"projects/_/buckets/${var.project_id}_\")"
  }
}

resource "google_artifact_registry_repository_iam_member" "build" {
  project    = var.project_id
  repository = google_artifact_registry_repository.this.name
  location   = var.region
  role       = "roles/artifactregistry.writer"
  member     = google_service_account.build.member
}

# Everything that a build needs, as one target: scripts/deploy applies it with its
# dependencies before there is an image.
resource "terraform_data" "build" {
  depends_on = [
    google_artifact_registry_repository_iam_member.build,
    google_project_iam_member.build_log,
    google_project_iam_member.build_source,
    google_project_service.this,
  ]
}

# The delivery

resource "google_service_account" "delivery" {
  for_each = var.delivery != null ? local.delivery_accounts : {}

  project      = var.project_id
  account_id   = "${var.prefix}-${each.key}"
  display_name = "${local.title}: ${each.value}"

  depends_on = [google_project_service.this]
}

# deliver writes its own log and images, checks whether another delivery is running,
# reads the figures by which it judges a revision, and creates revisions of the two
# functions, which run as the functions' accounts.

locals {
  delivery_permissions = {
    Deliver = ["cloudbuild.builds.get", "cloudbuild.builds.list", "monitoring.timeSeries.list"]
    # roles/run.developer may also delete the service.
    Revise = [
      "run.configurations.get", "run.configurations.list", "run.revisions.get", "run.revisions.list",
      "run.routes.get", "run.routes.list", "run.services.get", "run.services.update",
    ]
    # roles/iam.serviceAccountTokenCreator may also sign.
    Speak = ["iam.serviceAccounts.getAccessToken"]
  }

  # Composed, so that the role's name is known before the role exists.
  delivery_roles = { for name, role in google_project_iam_custom_role.delivery : name => "projects/${var.project_id}/roles/${role.role_id}" }
}

resource "google_project_iam_custom_role" "delivery" {
  for_each = var.delivery != null ? local.delivery_permissions : {}

  project     = var.project_id
  role_id     = "${var.prefix}${each.key}"
  title       = "${local.title}: ${lower(each.key)}, for the delivery"
  permissions = each.value

  depends_on = [google_project_service.this]
}

resource "google_project_iam_member" "deliver" {
  for_each = var.delivery == null ? {} : {
    deliver = local.delivery_roles.Deliver
    log     = "roles/logging.logWriter"
  }

  project = var.project_id
  role    = each.value
  member  = google_service_account.delivery["deliver"].member
}

# The commit's cases may be answered by a model, and their report kept. They are files:
# what end users wrote (cmd/eval's -turns-since) is not for those who can push code.
resource "google_project_iam_member" "evaluation" {
  count = local.evaluation.model != null ? 1 : 0

  project = var.project_id
  role    = "projects/${var.project_id}/roles/${google_project_iam_custom_role.function.role_id}"
  member  = google_service_account.delivery["deliver"].member
}

resource "google_storage_bucket_iam_member" "evaluation" {
  count = local.evaluation.report_bucket != null ? 1 : 0

  bucket = local.evaluation.report_bucket
  role   = "roles/storage.objectCreator"
  member = google_service_account.delivery["deliver"].member
}

resource "google_artifact_registry_repository_iam_member" "deliver" {
  count = local.delivering

  project    = var.project_id
  repository = google_artifact_registry_repository.this.name
  location   = var.region
  role       = "roles/artifactregistry.writer"
  member     = google_service_account.delivery["deliver"].member
}

resource "google_cloud_run_v2_service_iam_member" "deliver" {
  for_each = var.delivery != null ? local.functions : {}

  project  = var.project_id
  name     = google_cloud_run_v2_service.function[each.key].name
  location = google_cloud_run_v2_service.function[each.key].location
  role     = local.delivery_roles.Revise
  member   = google_service_account.delivery["deliver"].member
}

resource "google_service_account_iam_member" "deliver" {
  for_each = var.delivery != null ? google_service_account.function : {}

  service_account_id = each.value.name
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.delivery["deliver"].member
}

# The smoke test calls invoke with the key in it if Cloud Run's check is disabled.
resource "google_secret_manager_secret_iam_member" "smoke_key" {
  count = local.smoke_key_secret != null ? 1 : 0

  project   = var.project_id
  secret_id = local.smoke_key_secret
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.delivery["deliver"].member
}

# It acts as plan to read, and as smoke to call.
resource "google_service_account_iam_member" "impersonation" {
  for_each = var.delivery == null ? {} : {
    plan  = local.delivery_roles.Speak
    smoke = "roles/iam.serviceAccountOpenIdTokenCreator"
  }

  service_account_id = google_service_account.delivery[each.key].name
  role               = each.value
  member             = google_service_account.delivery["deliver"].member
}

resource "google_cloud_run_v2_service_iam_member" "smoke" {
  for_each = var.delivery == null ? {} : { for key, f in local.functions : key => f if f.invoker_check }

  project  = var.project_id
  name     = google_cloud_run_v2_service.function[each.key].name
  location = google_cloud_run_v2_service.function[each.key].location
  role     = "roles/run.invoker"
  member   = google_service_account.delivery["smoke"].member
}

resource "google_project_iam_member" "infrastructure" {
  for_each = var.delivery == null ? [] : toset(concat(
    local.infrastructure_roles,
    local.background ? ["roles/cloudtasks.admin"] : [], # the queue, and who adds to it
    var.load_balancer != null ? ["roles/compute.loadBalancerAdmin", "roles/compute.securityAdmin"] : [],
  ))

  project = var.project_id
  role    = each.value
  member  = google_service_account.delivery["infrastructure"].member
}

# New revisions, pings and builds run as these accounts; the trigger names the
# account that it runs as.
resource "google_service_account_iam_member" "infrastructure" {
  for_each = var.delivery == null ? {} : merge(google_service_account.function, {
    build          = google_service_account.build
    deliver        = google_service_account.delivery["deliver"]
    infrastructure = google_service_account.delivery["infrastructure"]
    scheduler      = google_service_account.scheduler
    weekly         = google_service_account.delivery["weekly"]
  }, { for account in google_service_account.schedules : "schedules" => account })

  service_account_id = each.value.name
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.delivery["infrastructure"].member
}

# plan reads configuration, but no data: no sessions, logs or secrets.
resource "google_project_iam_custom_role" "plan" {
  count = local.delivering

  project = var.project_id
  role_id = "${var.prefix}Plan"
  title   = "${local.title}: compare the infrastructure"
  permissions = concat(
    [
      "artifactregistry.repositories.get", "artifactregistry.repositories.getIamPolicy",
      "cloudbuild.builds.get", "cloudscheduler.jobs.get",
      "datastore.backupSchedules.get", "datastore.databases.getMetadata", "datastore.indexes.get", "datastore.indexes.list",
      "firebaserules.releases.get", "firebaserules.rulesets.get",
      "iam.roles.get", "iam.serviceAccounts.get", "iam.serviceAccounts.getIamPolicy",
      "logging.buckets.get", "logging.exclusions.get", "logging.logMetrics.get", "logging.sinks.get",
      "monitoring.alertPolicies.get", "monitoring.dashboards.get", "monitoring.notificationChannels.get",
      "monitoring.services.get", "monitoring.slos.get", "monitoring.uptimeCheckConfigs.get",
      "pubsub.subscriptions.get", "pubsub.topics.get", "pubsub.topics.getIamPolicy",
      "resourcemanager.projects.get", "resourcemanager.projects.getIamPolicy",
      "run.services.get", "run.services.getIamPolicy",
      "secretmanager.secrets.get", "secretmanager.secrets.getIamPolicy",
      "serviceusage.services.get", "serviceusage.services.list", "serviceusage.services.use", # as the provider counts its calls on the project
      "storage.buckets.get", "storage.buckets.getIamPolicy",
    ],
    local.background ? ["cloudtasks.queues.get", "cloudtasks.queues.getIamPolicy"] : [],
    var.load_balancer == null ? [] : [
      "compute.backendServices.get", "compute.globalAddresses.get", "compute.globalForwardingRules.get",
      "compute.regionNetworkEndpointGroups.get", "compute.securityPolicies.get", "compute.sslCertificates.get",
      "compute.sslPolicies.get", "compute.targetHttpProxies.get", "compute.targetHttpsProxies.get", "compute.urlMaps.get",
    ],
  )
}

resource "google_project_iam_member" "plan" {
  count = local.delivering

  project = var.project_id
  role    = "projects/${var.project_id}/roles/${google_project_iam_custom_role.plan[0].role_id}"
  member  = google_service_account.delivery["plan"].member
}

resource "google_storage_bucket_iam_member" "plan" {
  count = local.delivering

  bucket = "${var.project_id}-tfstate" # made by scripts/deploy
  role   = "roles/storage.objectViewer"
  member = google_service_account.delivery["plan"].member
}

# Resources that are, or may be, outside the project.

resource "google_kms_crypto_key_iam_member" "delivery" {
  for_each = var.delivery != null && var.kms_key != null ? { infrastructure = "roles/cloudkms.admin", plan = "roles/iam.securityReviewer" } : {}

  crypto_key_id = var.kms_key
  role          = each.value
  member        = google_service_account.delivery[each.key].member
}

resource "google_cloudbuild_trigger" "deliver" {
  count = local.delivering

  project         = var.project_id
  name            = "${var.prefix}-deliver"
  location        = var.region
  service_account = google_service_account.delivery["deliver"].id
  filename        = "cloudbuild.yaml"

  repository_event_config {
    repository = var.delivery.repository
    push {
      branch = var.delivery.branch
    }
  }

  # The API drops empty substitutions.
  substitutions = merge(local.smoke_key_secret == null ? {} : { _SMOKE_KEY_SECRET = local.smoke_key_secret }, local.models_substitutions, {
    for name, value in { _EVALUATION_MODEL = local.evaluation.model, _JUDGE = local.evaluation.judge, _REPORT_BUCKET = local.evaluation.report_bucket } : name => value if value != null
    }, {
    _REGION        = var.region
    _REPOSITORY    = google_artifact_registry_repository.this.repository_id
    _PLAN_ACCOUNT  = google_service_account.delivery["plan"].email
    _SMOKE_ACCOUNT = google_service_account.delivery["smoke"].email
    _STATE_BUCKET  = "${var.project_id}-tfstate"
    _VAR_FILE      = local.var_file
  })

  depends_on = [google_project_service.this]
}

resource "google_cloudbuild_trigger" "infrastructure" {
  count = local.delivering

  project         = var.project_id
  name            = "${var.prefix}-infrastructure"
  location        = var.region
  service_account = google_service_account.delivery["infrastructure"].id
  filename        = "delivery/apply.yaml"

  repository_event_config {
    repository = var.delivery.repository
    push {
      branch = var.delivery.branch
    }
  }
  # The files that it runs and that a plan depends on: alerts contain the run-book's
  # pages, and checks of models the table. A test compares the list with the imports
  # of its programs.
  included_files = [
    "terraform/**", "environments/*.tf", "environments/.terraform.lock.hcl", local.var_file, "docs/run-book.md", "internal/models/models.json",
    "go.mod", "go.sum", "cmd/gate/**", "cmd/smoke/**", "delivery/**", "internal/apiform/**", "internal/deploy/**", "scripts/**",
  ]

  approval_config {
    approval_required = true
  }

  substitutions = {
    _REGION       = var.region
    _REPOSITORY   = google_artifact_registry_repository.this.repository_id
    _STATE_BUCKET = "${var.project_id}-tfstate"
    _VAR_FILE     = local.var_file
  }

  depends_on = [google_project_service.this]
}

# The weekly comparison of models. Its account can only start it and write its log;
# a finding fails the build.

resource "google_cloudbuild_trigger" "weekly" {
  count = local.delivering

  project         = var.project_id
  name            = "${var.prefix}-weekly"
  location        = var.region
  service_account = google_service_account.delivery["weekly"].id
  filename        = "delivery/weekly.yaml"

  repository_event_config {
    repository = var.delivery.repository
    push {
      branch = var.delivery.branch
    }
  }
  included_files = ["delivery/weekly.yaml", "internal/models/models.json"] # a push of these is a reason, too

  substitutions = merge(local.models_substitutions, {
    _SERVICE_ACCOUNT = google_service_account.delivery["weekly"].email
  })

  depends_on = [google_project_service.this]
}

resource "google_project_iam_custom_role" "weekly" {
  count = local.delivering

  project     = var.project_id
  role_id     = "${var.prefix}Weekly"
  title       = "${local.title}: start the weekly comparison"
  permissions = ["cloudbuild.builds.create"] # triggers have no policies of their own

  depends_on = [google_project_service.this]
}

resource "google_project_iam_member" "weekly" {
  for_each = var.delivery == null ? {} : {
    log   = "roles/logging.logWriter"
    start = "projects/${var.project_id}/roles/${google_project_iam_custom_role.weekly[0].role_id}"
  }

  project = var.project_id
  role    = each.value
  member  = google_service_account.delivery["weekly"].member
}

# An account that starts a build needs permission to act as the account that the
# build runs as: here only itself.
resource "google_service_account_iam_member" "weekly" {
  count = local.delivering

  service_account_id = google_service_account.delivery["weekly"].name
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.delivery["weekly"].member
}

resource "google_cloud_scheduler_job" "weekly" {
  count = local.delivering

  project          = var.project_id
  name             = "${var.prefix}-weekly"
  region           = var.region
  schedule         = "0 6 * * 1"
  time_zone        = "Etc/UTC"
  attempt_deadline = "60s"

  retry_config {
    retry_count          = 2
    min_backoff_duration = "60s"
    max_backoff_duration = "600s"
  }

  http_target {
    http_method = "POST"
    uri         = "https://cloudbuild.googleapis.com/v1/projects/${var.project_id}/locations/${var.region}/triggers/${google_cloudbuild_trigger.weekly[0].trigger_id}:run"
    headers     = { "Content-Type" = "application/json" }
    body        = base64encode(jsonencode({ source = { branchName = trimsuffix(trimprefix(var.delivery.branch, "^"), "$") } }))

    oauth_token {
      service_account_email = google_service_account.delivery["weekly"].email
      scope                 = "https://www.googleapis.com/auth/cloud-platform"
    }
  }

  depends_on = [google_project_iam_member.weekly, google_service_account_iam_member.weekly]
}
