// Command local runs the researcher on a laptop:
//
//	LIBRARY_URL=http://127.0.0.1:3001/mcp LIBRARY_TOKEN=none go run ./researcher/local
package main

import (
	"example.com/gatehouse/gate/local"

	"example.com/gatehouse/examples/researcher"
)

func main() { local.Main(researcher.New) }
