// Package gatehouse is what is deployed: two Cloud Run functions, "invoke" and
// "health", for the agent of the package advisor.
package gatehouse

import (
	"example.com/gatehouse/advisor"
	"example.com/gatehouse/gate"
	"example.com/gatehouse/gate/a2a"
	"example.com/gatehouse/gate/mcp"
	"example.com/gatehouse/gate/openai"
)

func init() { gate.Register(advisor.New, mcp.Door(), openai.Door(), a2a.Door()) }
