package advisor

import (
	"net/http"
	"slices"
	"testing"

	"google.golang.org/genai"

	"example.com/gatehouse/internal/offline"
)

// The first questions of a newcomer, who has no key, reach the tools: those that are
// shown as examples among them.
func TestOfflineStandInCallsTheTools(t *testing.T) {
	t.Parallel()
	client, err := genai.NewClient(t.Context(), &genai.ClientConfig{
		Backend: genai.BackendGeminiAPI, APIKey: offline.Model, HTTPClient: &http.Client{Transport: offline.New()},
	})
	if err != nil {
		t.Fatal(err)
	}
	config := &genai.GenerateContentConfig{Tools: []*genai.Tool{{}}}
	for _, tl := range shippedAgent(t).Tools {
		config.Tools[0].FunctionDeclarations = append(config.Tools[0].FunctionDeclarations,
			&genai.FunctionDeclaration{Name: tl.Name(), Description: tl.Description(), ParametersJsonSchema: tl.Schema()})
	}
	for _, test := range []struct {
		question string
		tool     string
		args     []any
	}{
		{"My name is Ada. How is the deployment doing?", "check_deployment_status", nil},
		{"My name is Ada. Remember that I chose Go.", "remember_my_choice", []any{"Go"}},
		{"Is my deployment healthy?", "check_deployment_status", nil},
		{"Which deployment options are there?", "get_deployment_options", nil},
		{"How do I deploy to Cloud Run?", "get_deployment_options", []any{"cloud_run"}},
		{"Should I use Cloud Run or Agent Engine?", "get_deployment_options", []any{"cloud_run", "agent_engine"}},
		{"What are the security best practices?", "get_best_practices", []any{"security"}},
		{"How do I scale my agent?", "get_best_practices", []any{"scalability"}},
	} {
		res, err := client.Models.GenerateContent(t.Context(), offline.Model, genai.Text(test.question), config)
		if err != nil {
			t.Fatal(err)
		}
		var args []any
		for _, call := range res.FunctionCalls() {
			if call.Name != test.tool {
				t.Errorf("%s: called %s", test.question, call.Name)
			}
			for _, value := range call.Args {
				args = append(args, value)
			}
		}
		if len(res.FunctionCalls()) == 0 || !slices.Equal(args, test.args) {
			t.Errorf("%s: %v, %s", test.question, args, res.Text())
		}
	}
}
