// Command local runs the agent on a laptop, beside the shop's API:
//
//	SHOP_URL=http://127.0.0.1:3002 SHOP_KEY=none go run ./orders/local
package main

import (
	"example.com/gatehouse/gate/local"

	"example.com/gatehouse/examples/orders"
)

func main() { local.Main(orders.New) }
