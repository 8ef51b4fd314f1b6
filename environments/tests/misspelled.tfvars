invoker = ["user:you@example.com"]
