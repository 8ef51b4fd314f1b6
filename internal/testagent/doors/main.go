// Command doors is the agent of the service's own tests as a local program with every
// door open. SECRETS_CLOCK_SPEED is how many times as fast as the machine's the clock
// runs by which secrets are refreshed.
package main

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"example.com/gatehouse/gate"
	"example.com/gatehouse/gate/a2a"
	"example.com/gatehouse/gate/local"
	"example.com/gatehouse/gate/mcp"
	"example.com/gatehouse/gate/openai"
	"example.com/gatehouse/internal/server"
	"example.com/gatehouse/internal/testagent"
)

func main() {
	options := []gate.Option{openai.Door(), mcp.Door(), a2a.Door()}
	if text := os.Getenv("SECRETS_CLOCK_SPEED"); text != "" {
		speed, err := strconv.Atoi(text)
		if err != nil {
			fmt.Fprintln(os.Stderr, "SECRETS_CLOCK_SPEED:", err)
			os.Exit(1)
		}
		begun := time.Now()
		options = append(options, func(o *server.Options) {
			o.SecretsClock = func() time.Time { return begun.Add(time.Duration(speed) * time.Since(begun)) }
		})
	}
	local.Main(testagent.New, options...)
}
