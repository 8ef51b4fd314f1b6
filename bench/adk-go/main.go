// Command adk-go is the same agent behind ADK for Go's REST server, started by ADK's
// launcher as its quickstart does, without its pages for development. It is a separate
// module, so that the benchmark's does not depend on ADK.
package main

import (
	"context"
	"log"
	"net/http"
	"os"

	"google.golang.org/adk/v2/agent"
	"google.golang.org/adk/v2/agent/llmagent"
	"google.golang.org/adk/v2/cmd/launcher"
	"google.golang.org/adk/v2/cmd/launcher/prod"
	"google.golang.org/adk/v2/model/gemini"
	"google.golang.org/genai"

	"example.com/gatehouse/bench/internal/control"
)

func main() {
	control.Start()
	// ADK uses the default transport, whose two idle connections a host would make most
	// concurrent calls open a new one.
	transport := http.DefaultTransport.(*http.Transport)
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost = 0, 2048
	ctx := context.Background()
	// The key and the model's address come from the environment.
	model, err := gemini.NewModel(ctx, "gemini-2.5-flash", &genai.ClientConfig{})
	if err != nil {
		log.Fatal(err)
	}
	assistant, err := llmagent.New(llmagent.Config{Name: "assistant", Model: model, Instruction: "You answer questions."})
	if err != nil {
		log.Fatal(err)
	}
	config := &launcher.Config{AgentLoader: agent.NewSingleLoader(assistant)} // and its sessions in memory, the launcher's default
	log.Fatal(prod.NewLauncher().Execute(ctx, config, []string{"web", "-port", os.Getenv("PORT"), "api"}))
}
