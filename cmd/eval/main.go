// Command eval runs cases against the agent and exits with 1 if too few pass.
//
//	go run ./cmd/eval                                   # evals/*.yaml and */evals/*.yaml
//	go run ./cmd/eval -judge MODEL advisor/evals/*.yaml # with a model as judge
//
// The environment configures the model as in a deployment; without one the offline
// stand-in answers. docs/your-agent.md describes cases, stored turns and the report.
package main

import (
	"example.com/gatehouse/advisor"
	"example.com/gatehouse/gate/local"
)

func main() { local.Evaluate(advisor.New) }
