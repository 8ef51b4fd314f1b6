# The two agents are planned beside each other.

mock_provider "google" {
  override_during = plan
}

run "two_agents" {
  command = plan

  assert {
    condition     = module.advisor.services.invoke == "invoke" && module.clerk.services.invoke == "clerk-invoke" && module.advisor.database == "(default)" && module.clerk.database == "clerk-sessions"
    error_message = "Each agent has names and a database of its own."
  }
}
