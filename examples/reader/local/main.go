// Command local runs the agent on a laptop:
//
//	go run ./reader/local
package main

import (
	"example.com/gatehouse/gate/local"

	"example.com/gatehouse/examples/reader"
)

func main() { local.Main(reader.New) }
