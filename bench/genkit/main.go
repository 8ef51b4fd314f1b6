// Command genkit is the same agent as a flow of Genkit for Go, served as Genkit's
// documentation shows, by genkit.Handler. It is a separate module, so that the
// project does not depend on Genkit.
package main

import (
	"context"
	"log"
	"net/http"
	"os"

	"github.com/GoogleCloudPlatform/functions-framework-go/funcframework"
	"github.com/firebase/genkit/go/ai"
	"github.com/firebase/genkit/go/genkit"
	"github.com/firebase/genkit/go/plugins/googlegenai"

	"example.com/gatehouse/bench/internal/control"
)

func main() {
	control.Start()
	// The plugin uses the default transport, whose two idle connections a host
	// would make most concurrent calls open a new one.
	transport := http.DefaultTransport.(*http.Transport)
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost = 0, 2048
	// The key and the model's address come from the environment.
	g := genkit.Init(context.Background(), genkit.WithPlugins(&googlegenai.GoogleAI{}), genkit.WithDefaultModel("googleai/gemini-2.5-flash"))
	generate := func(ctx context.Context, query string, options ...ai.GenerateOption) (string, error) {
		answer, err := genkit.Generate(ctx, g, append(options, ai.WithPrompt("%s", query))...)
		if err != nil {
			return "", err
		}
		return answer.Text(), nil
	}
	// A streaming flow asks the model for a stream whether or not it is asked for one.
	ask := genkit.Handler(genkit.DefineFlow(g, "ask", func(ctx context.Context, query string) (string, error) {
		return generate(ctx, query)
	}))
	stream := genkit.Handler(genkit.DefineStreamingFlow(g, "stream", func(ctx context.Context, query string, send func(context.Context, string) error) (string, error) {
		return generate(ctx, query, ai.WithStreaming(func(ctx context.Context, chunk *ai.ModelResponseChunk) error {
			return send(ctx, chunk.Text())
		}))
	}))
	serve := func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			return // 200: the process answers
		}
		if r.Header.Get("Accept") == "text/event-stream" {
			stream(w, r)
			return
		}
		ask(w, r)
	}
	if err := funcframework.RegisterHTTPFunctionContext(context.Background(), "/", serve); err != nil {
		log.Fatal(err)
	}
	log.Fatal(funcframework.StartHostPort("127.0.0.1", os.Getenv("PORT")))
}
