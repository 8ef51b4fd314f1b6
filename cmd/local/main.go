// Command local runs both functions on one port of this machine, as a laptop needs
// them: without a Google account and without a key.
//
//	go run ./cmd/local
//	go run ./cmd/local -firestore    # sessions outlast the program, in Google's emulator
//
// The environment configures it as it does a deployment; see docs/configuration.md.
package main

import (
	"example.com/gatehouse/advisor"
	"example.com/gatehouse/gate/a2a"
	"example.com/gatehouse/gate/local"
	"example.com/gatehouse/gate/mcp"
	"example.com/gatehouse/gate/openai"
)

func main() { local.Main(advisor.New, mcp.Door(), openai.Door(), a2a.Door()) }
