# Neither a backend nor a provider is set here: this is a module, and the root
# that uses it (environments/, or one of your own) has both.

terraform {
  required_version = ">= 1.11"

  required_providers {
    google = {
      source = "hashicorp/google"
      # Exactly the version whose source was read for what is written here about
      # the differences that it makes. There is no lock file; README.md says why.
      version = "7.45.0"
    }
  }
}
