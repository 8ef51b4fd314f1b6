# The root of a deployment: what a settings file sets reaches the module.

mock_provider "google" {
  override_during = plan
}

variables {
  project_id = "my-project"
}

run "without_a_file" {
  command = plan

  assert {
    condition     = output.gatehouse.services == { invoke = "invoke", health = "health" } && output.gatehouse.build.region == "us-central1"
    error_message = "A project that sets nothing has the module's defaults."
  }
}

run "serious" {
  command = plan
  variables {
    settings = "serious.tfvars"
  }

  assert {
    condition     = output.gatehouse.build.region == "europe-west1" && output.gatehouse.frontend.auth == tolist(["oidc"]) && output.invoke_url == "https://agent.example.com"
    error_message = "What the file sets reaches the module."
  }
  assert {
    condition     = !anytrue(values(output.gatehouse.secrets))
    error_message = "The first apply makes the secrets empty, and wires none."
  }
}

run "small_elsewhere" {
  command = plan
  variables {
    settings = "small.tfvars"
    region   = "europe-west1"
  }

  assert {
    condition     = output.gatehouse.build.region == "europe-west1"
    error_message = "region counts more than the file."
  }
}
