package agent_test

import (
	"context"
	"fmt"
	"time"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/tool"
)

// A NewFunc opens what the agent's tools need, and Close closes it.
func ExampleNewFunc() {
	var newAgent agent.NewFunc = func(_ context.Context, env agent.Env) (agent.Agent, error) {
		key := env.Secret("RATES_KEY")
		return agent.Agent{
			Name:        "rates",
			Description: "Helps the finance team with exchange rates.",
			Examples:    []string{"What is a euro worth in dollars?"},
			Instruction: "You help the finance team with exchange rates.",
			Temperature: new(0.2),
			Tools: []tool.Tool{
				tool.New("get_exchange_rate", "Returns the latest rate to US dollars.",
					func(_ context.Context, in struct {
						From string `json:"from" jsonschema:"an ISO 4217 code such as EUR"`
					}) (map[string]any, error) {
						return map[string]any{"from": in.From, "rate": 1.25, "authorized": key.Reveal() != ""}, nil
					}, tool.Timeout(3*time.Second)),
			},
			Close: func(context.Context) error { return nil },
		}, nil
	}

	a, err := newAgent(context.Background(), agent.Env{})
	if err != nil {
		panic(err)
	}
	fmt.Println(a.Name, *a.Temperature, a.Tools[0].Name())
	fmt.Println(a.Tools[0].Call(context.Background(), map[string]any{"from": "EUR"}))
	// Output:
	// rates 0.2 get_exchange_rate
	// map[authorized:false from:EUR rate:1.25] <nil>
}

// A secret shows its value by Reveal only.
func ExampleSecret() {
	key := agent.NewSecret(func() string { return "hunter2" })
	fmt.Println(key, key.Reveal())
	// Output: [redacted] hunter2
}
