// Command limit is the least that answers with a model: a bare handler behind
// the functions framework, with one shared client. Nothing that does more can
// be faster, so everything else is measured beside it.
package main

import (
	"context"
	"encoding/json"
	"log"
	"net/http"
	"os"
	"strings"

	"github.com/GoogleCloudPlatform/functions-framework-go/funcframework"
	"google.golang.org/genai"

	"example.com/gatehouse/bench/internal/control"
)

func main() {
	control.Start()
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost = 0, 2048
	// The key and the model's address come from the environment.
	client, err := genai.NewClient(context.Background(), &genai.ClientConfig{
		Backend: genai.BackendGeminiAPI, HTTPClient: &http.Client{Transport: transport},
	})
	if err != nil {
		log.Fatal(err)
	}
	h := handler{client.Models}
	if err := funcframework.RegisterHTTPFunctionContext(context.Background(), "/", h.serve); err != nil {
		log.Fatal(err)
	}
	log.Fatal(funcframework.StartHostPort("127.0.0.1", os.Getenv("PORT")))
}

type handler struct{ models *genai.Models }

const model = "gemini-2.5-flash"

func (h handler) serve(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		return // 200: the process answers
	}
	var request struct {
		Query string `json:"query"`
	}
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	contents := genai.Text(request.Query)
	if strings.Contains(r.Header.Get("Accept"), "text/event-stream") {
		h.stream(w, r, contents)
		return
	}
	answer, err := h.models.GenerateContent(r.Context(), model, contents, nil)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(struct {
		Response string `json:"response"`
	}{answer.Text()})
}

func (h handler) stream(w http.ResponseWriter, r *http.Request, contents []*genai.Content) {
	w.Header().Set("Content-Type", "text/event-stream")
	encoder, control := json.NewEncoder(w), http.NewResponseController(w)
	for chunk, err := range h.models.GenerateContentStream(r.Context(), model, contents, nil) {
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		_, _ = w.Write([]byte("data: "))
		_ = encoder.Encode(struct {
			Text string `json:"text"`
		}{chunk.Text()}) // ends with a newline
		_, _ = w.Write([]byte("\n"))
		if control.Flush() != nil {
			return
		}
	}
}
