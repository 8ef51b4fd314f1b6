# For a product: browsers with a sign-in by Firebase, backends by key, a domain of
# its own in two regions, people who are woken. Put your own names in.
#
#   scripts/deploy -region europe-west1 -settings serious.tfvars PROJECT

second_region      = "europe-west4"
firestore_location = "eur3"

web_access = "application"
auth       = ["oidc", "api_key"]
oidc_issuers = [
  { issuer = "https://securetoken.google.com/my-firebase-project", audience = "my-firebase-project" },
]
allowed_origins = ["https://app.example.com"]
operators       = ["operations"] # the name of a key
load_balancer = {
  domain = "agent.example.com"
}

model_fallbacks = ["gemini-3.1-flash-lite"]
vertex_location = "europe-west4"

capacity = {
  cpu           = 2
  memory_mib    = 1024
  min_instances = 1
  max_instances = 50
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
