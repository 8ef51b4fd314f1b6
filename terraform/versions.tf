# No backend and no provider is set here: this is a module, and the root that uses it
# (environments/, or your own) has both.

terraform {
  required_version = ">= 1.11"

  required_providers {
    google = {
      source = "hashicorp/google"
      # Exactly the version whose source the comments on differences are based on. There is no
      # lock file; README.md explains why.
      version = "7.45.0"
    }
  }
}
