package offline_test

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/genai"

	"example.com/gatehouse/internal/offline"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newClient is the real SDK in front of the stand-in.
func newClient(t testing.TB) *genai.Client {
	t.Helper()
	client, err := genai.NewClient(context.Background(), &genai.ClientConfig{
		Backend:    genai.BackendGeminiAPI,
		APIKey:     "offline",
		HTTPClient: &http.Client{Transport: offline.New()},
	})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// A testTool is a function declared to the stand-in, and what it gives back.
type testTool struct {
	declaration *genai.FunctionDeclaration
	run         func(args map[string]any) string // JSON
}

func declare(name, description, properties string, required ...string) *genai.FunctionDeclaration {
	schema := map[string]any{"type": "object", "required": required, "additionalProperties": false}
	var p any
	if err := json.Unmarshal([]byte(properties), &p); err != nil {
		panic(err)
	}
	schema["properties"] = p
	return &genai.FunctionDeclaration{Name: name, Description: description, ParametersJsonSchema: schema}
}

var (
	options = map[string]string{
		"local_api_server": `{"name":"local_api_server","title":"Local API server","command":"go run ./cmd/local","description":"Runs both functions on one port of this machine.","features":["no cloud project","a playground"],"when_to_choose":"While you develop."}`,
		"cloud_run":        `{"name":"cloud_run","title":"Cloud Run","command":"gcloud run deploy --source .","description":"Serverless containers that scale to zero.","features":["scales to zero","traffic splitting"],"when_to_choose":"For most services."}`,
		"agent_engine":     `{"name":"agent_engine","title":"Agent Engine","command":"adk deploy agent_engine","description":"A managed runtime for agents.","features":["managed sessions"],"when_to_choose":"When sessions should be managed."}`,
		"gke":              `{"name":"gke","title":"Google Kubernetes Engine","command":"kubectl apply -f deploy.yaml","description":"A cluster of your own.","features":["full control"],"when_to_choose":"When a cluster is already there."}`,
	}
	optionNames = []string{"local_api_server", "cloud_run", "agent_engine", "gke"}
	practices   = map[string]string{
		"security":    `{"category":"security","practices":[{"practice":"Keep keys in Secret Manager","why":"Variables leak into logs."}]}`,
		"monitoring":  `{"category":"monitoring","practices":[{"practice":"Write structured logs","why":"They can be searched."}]}`,
		"scalability": `{"category":"scalability","practices":[{"practice":"Keep instances stateless","why":"Any of them may answer."}]}`,
		"reliability": `{"category":"reliability","practices":[{"practice":"Retry with jitter","why":"A storm of retries is an outage."}]}`,
	}
	categoryNames = []string{"security", "monitoring", "scalability", "reliability"}
)

func listed(key, wanted string, order []string, all map[string]string) string {
	var out []string
	for _, name := range order {
		if wanted == "" || wanted == name {
			out = append(out, all[name])
		}
	}
	return `{"` + key + `":[` + strings.Join(out, ",") + `]}`
}

// shipped are tools such as the project has; more are tools such as its users add.
var (
	shipped = []testTool{
		{
			declare("get_deployment_options", "Lists the ways to deploy this agent, each with its command, features and when to choose it. Without an option, all of them.",
				`{"option":{"type":"string","description":"the option wanted","enum":["local_api_server","cloud_run","agent_engine","gke"]}}`),
			func(args map[string]any) string {
				option, _ := args["option"].(string)
				return listed("options", option, optionNames, options)
			},
		},
		{
			declare("get_best_practices", "Best practices for running an agent in production, by category.",
				`{"category":{"type":"string","enum":["security","monitoring","scalability","reliability"]}}`),
			func(args map[string]any) string {
				category, _ := args["category"].(string)
				return listed("categories", category, categoryNames, practices)
			},
		},
		{
			declare("check_deployment_status", "Reports on the running deployment: environment, revision, uptime, session store and model.", `{}`),
			func(map[string]any) string {
				return `{"environment":"development","revision":"gatehouse-00042","uptime":"1h2m","uptime_seconds":3720,"session_store":"memory","dependencies":{"session_store":{"status":"healthy","latency_ms":3}}}`
			},
		},
	}
	more = []testTool{
		{
			declare("get_weather", "Current weather and temperature in a city.",
				`{"city":{"type":"string"},"unit":{"type":["null","string"],"enum":["celsius","fahrenheit"]},"days":{"type":"integer"}}`, "city"),
			func(args map[string]any) string {
				city, _ := json.Marshal(args["city"])
				return `{"city":` + string(city) + `,"temperature":21.5,"conditions":"sunny"}`
			},
		},
		{
			declare("roll_dice", "Rolls dice.", `{"sides":{"type":"integer"},"count":{"type":"integer"}}`, "sides"),
			func(map[string]any) string { return `{"output":17}` },
		},
		{
			declare("find_orders", "Looks up orders of the shop.", `{"order_id":{"type":"string"},"include_items":{"type":"boolean"}}`, "order_id"),
			func(args map[string]any) string { return `{"error":"order not found"}` },
		},
		{
			declare("convert_currency", "Converts an amount of money between currencies.",
				`{"amount":{"type":"number"},"from":{"type":"string"},"to":{"type":"string"}}`, "amount", "from", "to"),
			func(map[string]any) string { return `{"amount":92.5}` },
		},
		{
			declare("search_docs", "Searches the documentation.", `{"query":{"type":"string"}}`, "query"),
			func(map[string]any) string { return `[]` },
		},
		{
			declare("send_report", "Sends a report by email.", `{"email":{"type":"string"},"sections":{"type":"array","items":{"type":"string","enum":["costs","errors","usage"]}}}`, "email", "sections"),
			func(map[string]any) string { return `{"sent":true}` },
		},
	}
)

// A chat runs turns as the service does: it calls what the model asks for and
// asks again.
type chat struct {
	client   *genai.Client
	tools    []testTool
	contents []*genai.Content
	config   genai.GenerateContentConfig
}

func newChat(t testing.TB, tools ...testTool) *chat {
	c := &chat{client: newClient(t), tools: tools}
	if len(tools) > 0 {
		var list []*genai.FunctionDeclaration
		for _, tool := range tools {
			list = append(list, tool.declaration)
		}
		c.config.Tools = []*genai.Tool{{FunctionDeclarations: list}}
	}
	return c
}

// ask gives the calls made, as name{args}, and the text that ends the turn.
func (c *chat) ask(t testing.TB, question string) (calls []string, text string) {
	t.Helper()
	c.contents = append(c.contents, genai.NewContentFromText(question, genai.RoleUser))
	for range 3 {
		res, err := c.client.Models.GenerateContent(t.Context(), offline.Model, c.contents, &c.config)
		if err != nil {
			t.Fatalf("%q: %v", question, err)
		}
		c.contents = append(c.contents, res.Candidates[0].Content)
		if len(res.FunctionCalls()) == 0 {
			return calls, res.Text()
		}
		reply := &genai.Content{Role: genai.RoleUser}
		for _, call := range res.FunctionCalls() {
			args, err := json.Marshal(call.Args)
			if err != nil {
				t.Fatal(err)
			}
			calls = append(calls, call.Name+string(args))
			i := slices.IndexFunc(c.tools, func(tool testTool) bool { return tool.declaration.Name == call.Name })
			if i < 0 {
				t.Fatalf("%q: called %s, which is not declared", question, call.Name)
			}
			var out any
			if err := json.Unmarshal([]byte(c.tools[i].run(call.Args)), &out); err != nil {
				t.Fatal(err)
			}
			object, ok := out.(map[string]any)
			if !ok {
				object = map[string]any{"output": out}
			}
			reply.Parts = append(reply.Parts, genai.NewPartFromFunctionResponse(call.Name, object))
		}
		c.contents = append(c.contents, reply)
	}
	t.Fatalf("%q: no text after 3 calls of the model", question)
	return nil, ""
}
