// Package example is an agent of ADK for Go behind the gate: a fruit stand that looks
// prices up, with a tool that must be approved and a sub-agent. The tests of the gate's own
// agent run on it unchanged.
package example

import (
	"context"
	"fmt"
	"slices"

	adkagent "google.golang.org/adk/v2/agent"
	"google.golang.org/adk/v2/agent/llmagent"
	adktool "google.golang.org/adk/v2/tool"
	"google.golang.org/adk/v2/tool/functiontool"
	"google.golang.org/genai"

	"example.com/gatehouse/adk"
	"example.com/gatehouse/agent"
)

// New makes the agent, for gate.Register.
var New = adk.New(newRoot, adk.With(func(a *agent.Agent) {
	a.Examples = []string{"What is the price of an apple?", "Which fruit is in stock?"}
}))

type priceIn struct {
	Fruit string `json:"fruit,omitempty" jsonschema:"the fruit whose price to look up; all when left out"`
}

type item struct {
	Fruit string  `json:"fruit"`
	Price float64 `json:"price"`
}

type stock struct {
	Items []item `json:"items"`
}

var prices = []item{{"apple", 1.25}, {"banana", 0.5}, {"cherry", 8}}

func price(_ adkagent.Context, in priceIn) (stock, error) {
	if in.Fruit == "" {
		return stock{prices}, nil
	}
	i := slices.IndexFunc(prices, func(i item) bool { return i.Fruit == in.Fruit })
	if i < 0 {
		return stock{}, fmt.Errorf("there is no fruit %q", in.Fruit)
	}
	return stock{prices[i : i+1]}, nil
}

type orderIn struct {
	Fruit  string `json:"fruit"`
	Pieces int    `json:"pieces"`
}

type orderOut struct {
	Ordered int `json:"ordered"` // in this session, this fruit
}

// order orders fruit, and remembers in the session's state how much.
func order(ctx adkagent.Context, in orderIn) (orderOut, error) {
	key := "ordered_" + in.Fruit
	before, _ := ctx.State().Get(key)
	ordered, _ := before.(float64) // as JSON has it
	ordered += float64(in.Pieces)
	return orderOut{int(ordered)}, ctx.State().Set(key, ordered)
}

func newRoot(_ context.Context, env agent.Env) (adkagent.Agent, error) {
	lookUp, err := functiontool.New(functiontool.Config{Name: "get_price", Description: "Looks up what a fruit costs: its price."}, price)
	if err != nil {
		return nil, err
	}
	list, err := functiontool.New(functiontool.Config{Name: "list_stock", Description: "Lists the fruit that is in stock."},
		func(adkagent.Context, struct{}) (stock, error) { return stock{prices}, nil })
	if err != nil {
		return nil, err
	}
	status, err := functiontool.New(functiontool.Config{
		Name: "check_status", Description: "Checks how the deployment of this service is doing: its health, version, uptime, model and dependencies.",
	}, func(ctx adkagent.Context, _ struct{}) (agent.Status, error) { return env.Status(ctx), nil })
	if err != nil {
		return nil, err
	}
	buy, err := functiontool.New(functiontool.Config{Name: "order_fruit", Description: "Orders fruit.", RequireConfirmation: true}, order)
	if err != nil {
		return nil, err
	}
	clerk, err := llmagent.New(llmagent.Config{
		Name: "clerk", Description: "Takes orders of fruit.", Model: adk.Model(), Mode: llmagent.ModeChat,
		Instruction: "You take orders of fruit.", Tools: []adktool.Tool{buy},
	})
	if err != nil {
		return nil, err
	}
	return llmagent.New(llmagent.Config{
		Name: "fruit_stand", Description: "Sells fruit to tests.", Model: adk.Model(), Mode: llmagent.ModeChat,
		Instruction:           "You sell fruit. Look prices up.",
		GenerateContentConfig: &genai.GenerateContentConfig{Temperature: genai.Ptr[float32](0.5), MaxOutputTokens: 2048},
		Tools:                 []adktool.Tool{lookUp, list, status},
		SubAgents:             []adkagent.Agent{clerk},
	})
}
