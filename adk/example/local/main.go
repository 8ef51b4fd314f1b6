// Command local serves the example on a laptop.
package main

import (
	"example.com/gatehouse/adk/example"
	"example.com/gatehouse/gate/local"
)

func main() { local.Main(example.New) }
