// Package testagent is the agent of the service's own tests, so that they hold for any
// agent: nothing outside the package advisor knows what the advisor's tools are.
package testagent

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/offline"
	"example.com/gatehouse/internal/server"
	"example.com/gatehouse/tool"
)

// The names of its tools.
const (
	Prices = "get_price"    // a fruit's, by its name
	Stock  = "list_stock"   // what there is
	Status = "check_status" // how the deployment is
)

type priceIn struct {
	Fruit string `json:"fruit,omitempty" jsonschema:"the fruit whose price to look up; all when left out"`
}

type item struct {
	Fruit string  `json:"fruit"`
	Price float64 `json:"price"`
}

type priceOut struct {
	Items []item `json:"items"`
}

var prices = []item{{"apple", 1.25}, {"banana", 0.5}, {"cherry", 8}}

func price(_ context.Context, in priceIn) (priceOut, error) {
	if in.Fruit == "" {
		return priceOut{prices}, nil
	}
	for _, i := range prices {
		if i.Fruit == in.Fruit {
			return priceOut{[]item{i}}, nil
		}
	}
	return priceOut{}, fmt.Errorf("there is no fruit %q", in.Fruit)
}

// New makes the agent.
func New(_ context.Context, env agent.Env) (agent.Agent, error) {
	return agent.Agent{
		Name:        "fruit-stand",
		Description: "Sells fruit to tests.",
		Examples:    []string{"What is the price of an apple?", "Which fruit is in stock?"},
		Instruction: "You sell fruit. Look prices up.",
		Temperature: new(0.5),
		MaxTokens:   2048,
		ToolTimeout: 10 * time.Second,
		Tools: []tool.Tool{
			tool.New(Prices, "Looks up what a fruit costs: its price.", price,
				tool.Enum("fruit", "apple", "banana", "cherry")),
			tool.New(Stock, "Lists the fruit that is in stock.", func(context.Context, struct{}) ([]string, error) {
				return []string{"apple", "banana", "cherry"}, nil
			}),
			tool.New(Status, "Checks how the deployment of this service is doing: its health, version, uptime, model and dependencies.",
				func(ctx context.Context, _ struct{}) (agent.Status, error) { return env.Status(ctx), nil }),
		},
	}, nil
}

// NoCloud returns the environment that keeps a service under test away from Google
// Cloud where a test has no stand-in: else one with a project would look for
// credentials, at the metadata server too, and write its audit trail and telemetry into
// somebody's project. Nothing listens at the address.
func NoCloud() []string {
	return []string{"LOGGING_ENDPOINT=127.0.0.1:1", "TELEMETRY_ENDPOINT=127.0.0.1:1"}
}

// Options are those of a server of the agent with the environment that lookup has, over
// that of [NoCloud], which answers offline where no model is configured.
func Options(lookup func(string) (string, bool), log io.Writer) server.Options {
	return server.Options{
		Agent: New, Log: log, Loopback: true,
		Lookup: func(name string) (string, bool) {
			if value, ok := lookup(name); ok {
				return value, true
			}
			for _, pair := range NoCloud() {
				if value, ok := strings.CutPrefix(pair, name+"="); ok {
					return value, true
				}
			}
			return "", false
		},
		StandIn: &server.StandIn{Model: offline.Model, Transport: offline.New()},
	}
}
