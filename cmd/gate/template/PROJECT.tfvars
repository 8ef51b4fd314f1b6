# What the deployment in a project sets, in the file named by the project's ID.
# Everything has a default; the variables: terraform/README.md of Gatehouse.
invokers        = ["user:you@example.com"]
health_invokers = ["user:you@example.com"]
