terraform {
  required_version = ">= 1.11"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 7.45"
    }
  }

  # The state's bucket is made by scripts/bootstrap and named by scripts/deploy:
  # it must be there before anything here is.
  backend "gcs" {
    prefix = "gatehouse"
  }
}

provider "google" {
  project = var.project_id
  region  = var.region

  # Some APIs refuse a person's own credentials without a project to count on.
  user_project_override = true
  billing_project       = var.project_id

  default_labels = merge({ app = "gatehouse" }, var.labels)
}
