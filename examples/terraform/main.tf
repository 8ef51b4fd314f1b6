# A root elsewhere: Terraform downloads the module at a version, from wherever your
# copy of this repository is. Two agents share one project.

terraform {
  required_version = ">= 1.11"

  required_providers {
    google = { source = "hashicorp/google", version = "7.45.0" }
  }

  backend "gcs" {} # terraform init -backend-config bucket=my-project-tfstate
}

variable "images" {
  description = "What each agent runs, by its digest. Empty: for a plan only."
  type        = map(string)
  default     = {}
}

provider "google" {
  project               = "my-project"
  user_project_override = true
  billing_project       = "my-project"
}

module "advisor" {
  source = "git::https://example.com/gatehouse.git//terraform?ref=v0.2.0"

  project_id    = "my-project"
  image         = lookup(var.images, "advisor", null)
  invokers      = ["group:backends@example.com"]
  agent_secrets = { RATES_KEY = {} }
}

module "clerk" {
  source = "git::https://example.com/gatehouse.git//terraform?ref=v0.2.0"

  project_id = "my-project"
  prefix     = "clerk"
  image      = lookup(var.images, "clerk", null)
  invokers   = ["group:backends@example.com"]
}

output "urls" {
  description = "Where each agent is called."
  value       = { advisor = module.advisor.invoke_url, clerk = module.clerk.invoke_url }
}
