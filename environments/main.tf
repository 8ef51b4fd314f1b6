# The root of a deployment: where its state is, who applies it, and which
# settings it has. PROJECT.tfvars beside this file holds those of a project: any
# variable of terraform/ but project_id and image.

terraform {
  required_version = ">= 1.11"

  required_providers {
    google    = { source = "hashicorp/google", version = "7.45.0" }
    terraform = { source = "terraform.io/builtin/terraform" } # it decodes the file
  }

  # The deploy command makes the bucket and names it: it must be
  # there before anything here is. Several agents in it have a prefix each.
  backend "gcs" {
    prefix = "gatehouse"
  }
}

variable "project_id" {
  description = "The Google Cloud project to deploy into."
  type        = string
}

variable "image" {
  description = "The image that both functions run, by its digest. Null: for a plan only."
  type        = string
  default     = null
}

variable "region" {
  description = "The region, in place of the settings' own. Null: theirs."
  type        = string
  default     = null
}

variable "settings" {
  description = "The file of the settings, as seen from this directory. Null: PROJECT.tfvars, where it is there."
  type        = string
  default     = null
}

locals {
  file     = var.settings != null ? var.settings : "${path.module}/${var.project_id}.tfvars"
  settings = provider::terraform::decode_tfvars(var.settings != null || fileexists(local.file) ? file(local.file) : "")
}

provider "google" {
  project = var.project_id

  # Some APIs refuse a person's own credentials without a project to count on.
  user_project_override = true
  billing_project       = var.project_id
}

module "gatehouse" {
  source = "../terraform/from-settings"

  project_id = var.project_id
  image      = var.image
  settings   = merge(local.settings, var.region != null ? { region = var.region } : {})
}

output "invoke_url" {
  description = "Where a frontend or a backend calls."
  value       = module.gatehouse.gatehouse.invoke_url
}

output "health_url" {
  description = "Where an operator asks how the service is."
  value       = module.gatehouse.gatehouse.health_url
}

output "gatehouse" {
  description = "All outputs of terraform/."
  value       = module.gatehouse.gatehouse
}
