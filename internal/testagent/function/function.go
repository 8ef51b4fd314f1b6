// Package function deploys the agent of the service's own tests, as the package at the
// root deploys the one that ships.
package function

import (
	"example.com/gatehouse/gate"
	"example.com/gatehouse/internal/testagent"
)

func init() { gate.Register(testagent.New) }
