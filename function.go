// Package gatehouse is what is deployed: two Cloud Run functions, "invoke" and
// "health", for the agent of the package advisor.
package gatehouse

import (
	"example.com/gatehouse/advisor"
	"example.com/gatehouse/gate"
)

func init() { gate.Register(advisor.New) }
