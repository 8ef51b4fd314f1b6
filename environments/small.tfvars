# For trying it out, and for teams of a few people: one instance at a time is
# usual, everything may be deleted again, and a backend calls by IAM.
#
#   scripts/deploy -settings small.tfvars PROJECT

environment         = "staging"
deletion_protection = false

capacity = {
  max_instances = 2
}

limits = {
  service_daily_tokens = 2000000
}

backup_retention_days = 1
audit_log = {
  retention_days = 30
}
trace_sample_ratio = 1
