# The root of a deployment. PROJECT.tfvars beside it holds what a project's own
# deployment sets.
terraform {
  required_version = ">= 1.11"
  required_providers {
    google    = { source = "hashicorp/google", version = "{{.Provider}}" }
    terraform = { source = "terraform.io/builtin/terraform" }
  }
  backend "gcs" {}
}

variable "project_id" { type = string }
variable "image" { default = null }
variable "region" { default = null }
variable "settings" { default = null }

locals {
  file     = var.settings != null ? var.settings : "${path.module}/${var.project_id}.tfvars"
  settings = provider::terraform::decode_tfvars(var.settings != null || fileexists(local.file) ? file(local.file) : "")
}

provider "google" {
  project               = var.project_id
  user_project_override = true
  billing_project       = var.project_id
}

module "gatehouse" {
  source     = "{{.Source}}"
  project_id = var.project_id
  image      = var.image
  settings   = merge(local.settings, var.region != null ? { region = var.region } : {})
}

output "invoke_url" { value = module.gatehouse.gatehouse.invoke_url }
output "health_url" { value = module.gatehouse.gatehouse.health_url }
