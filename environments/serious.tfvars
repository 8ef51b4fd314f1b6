# For a product: browsers with a sign-in by Firebase, a domain of its own in two
# regions, people who are woken. Put your own names in.
#
#   scripts/deploy -settings serious.tfvars PROJECT
#
# For backends with keys let auth hold api_key too, once the secret
# gatehouse-api-keys has a version: a function that is told of a secret without
# one never starts.

region             = "europe-west1"
second_region      = "europe-west4"
firestore_location = "eur3"

web_access = "application"
auth       = ["oidc"]
oidc_issuers = [
  { issuer = "https://securetoken.google.com/my-firebase-project", audience = "my-firebase-project" },
]
allowed_origins = ["https://app.example.com"]
health_invokers = ["group:operations@example.com"]
load_balancer = {
  domain = "agent.example.com"
}

# Prompts stay in the European Union.
vertex_location = "eu"

# 18 of the 20 CPUs that a new project has in a region: 8 instances of 2 and
# health's 2 of 1.
capacity = {
  cpu           = 2
  memory_mib    = 1024
  min_instances = 1
  max_instances = 8
}
limits = {
  daily_tokens         = 200000
  caller_daily_tokens  = 20000000
  service_daily_tokens = 200000000
}

slo = {
  availability = 0.999
}
alert_emails          = ["on-call@example.com"]
billing_account       = "000000-000000-000000"
monthly_budget        = 2000
backup_retention_days = 35
audit_log = {
  retention_days = 730
  locked         = false # true can never be taken back
}
