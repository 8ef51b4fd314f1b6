// Command program is the merchant of the service's own tests as a local program.
package main

import (
	"example.com/gatehouse/gate/local"
	"example.com/gatehouse/internal/testagent/merchant"
)

func main() { local.Main(merchant.New) }
