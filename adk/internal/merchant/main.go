// Command merchant serves an agent of ADK, for tests, whose tool charges at the address in
// MERCHANT_REMOTE once a person has approved.
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"

	adkagent "google.golang.org/adk/v2/agent"
	"google.golang.org/adk/v2/agent/llmagent"
	adktool "google.golang.org/adk/v2/tool"
	"google.golang.org/adk/v2/tool/functiontool"

	"example.com/gatehouse/adk"
	"example.com/gatehouse/agent"
	"example.com/gatehouse/gate/local"
)

type none struct{}

type receipt struct {
	Receipt string `json:"receipt"`
}

func charge(ctx adkagent.Context, _ none) (receipt, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, os.Getenv("MERCHANT_REMOTE"), nil)
	if err != nil {
		return receipt{}, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return receipt{}, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return receipt{}, fmt.Errorf("status %d", response.StatusCode)
	}
	return receipt{"r-1"}, nil
}

func main() {
	local.Main(adk.New(func(context.Context, agent.Env) (adkagent.Agent, error) {
		made, err := functiontool.New(functiontool.Config{Name: "charge", Description: "Charges.", RequireConfirmation: true}, charge)
		if err != nil {
			return nil, err
		}
		return llmagent.New(llmagent.Config{Name: "merchant", Description: "Charges.", Model: adk.Model(), Mode: llmagent.ModeChat, Tools: []adktool.Tool{made}})
	}))
}
