// Command program is the agent of the service's own tests as a local program.
package main

import (
	"example.com/gatehouse/gate/local"
	"example.com/gatehouse/internal/testagent"
)

func main() { local.Main(testagent.New) }
