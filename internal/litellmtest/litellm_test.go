package litellmtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genai"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/gcp/secret/secrettest"
	"example.com/gatehouse/internal/pythontest"
	"example.com/gatehouse/internal/server"
	"example.com/gatehouse/internal/slowtest"
	"example.com/gatehouse/internal/testlog"
	"example.com/gatehouse/internal/trial"
	"example.com/gatehouse/tool"
)

const startTimeout = 3 * time.Minute // of LiteLLM, which took 20 s

// startLiteLLM starts the proxy with config.yaml, with the upstream at an address and
// model as its name in LiteLLM, and returns its address.
func startLiteLLM(t *testing.T, upstream, model string) string {
	t.Helper()
	raw, err := os.ReadFile("config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	const documented = "model: openai/other-model"
	if !bytes.Contains(raw, []byte(documented)) {
		t.Fatalf("config.yaml has no %q", documented)
	}
	dir := t.TempDir()
	callback, err := os.ReadFile("gate.py")
	if err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string][]byte{"config.yaml": bytes.Replace(raw, []byte(documented), []byte("model: "+model), 1), "gate.py": callback} {
		if err := os.WriteFile(filepath.Join(dir, name), file, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	program := filepath.Join(pythontest.Environment(t, "requirements.txt", "the gate on another model behind LiteLLM"), "litellm")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	_ = l.Close()
	written := &testlog.Buffer{}
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, program, "--config", filepath.Join(dir, "config.yaml"), "--host", "127.0.0.1", "--port", strconv.Itoa(port))
	cmd.Env = append(os.Environ(), "UPSTREAM_URL="+upstream, "UPSTREAM_KEY=upstream", "LITELLM_MASTER_KEY="+key,
		"LITELLM_LOCAL_MODEL_COST_MAP=True", // or it asks the Internet for prices
		"PYTHONDONTWRITEBYTECODE=1", "NO_PROXY=127.0.0.1")
	cmd.Stdout, cmd.Stderr = written, written
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }()
	t.Cleanup(func() {
		cancel()
		<-ended
		if t.Failed() {
			t.Logf("LiteLLM wrote:\n%s", written)
		}
	})
	address := "http://127.0.0.1:" + strconv.Itoa(port)
	for deadline := time.Now().Add(startTimeout); time.Now().Before(deadline); {
		if response, err := http.Get(address + "/health/liveliness"); err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return address
			}
		}
		select {
		case <-ended:
			t.Fatal("LiteLLM ended before it served")
		case <-time.After(100 * time.Millisecond):
		}
	}
	t.Fatalf("LiteLLM does not serve after %v", startTimeout)
	return ""
}

const key = "sk-gate"

// A completion is a request to the upstream, in OpenAI's form.
type completion struct {
	Model    string
	Messages []struct {
		Role      string
		Content   content
		ToolCalls []struct {
			ID       string
			Function struct{ Name, Arguments string }
		} `json:"tool_calls"`
		ToolCallID string `json:"tool_call_id"`
	}
	MaxTokens int `json:"max_tokens"`
	Stream    bool
	Tools     []struct{ Function struct{ Name string } }
}

// A content is a message's: text, or parts, of which it keeps the last in JSON.
type content string

func (c *content) UnmarshalJSON(raw []byte) error {
	var parts []json.RawMessage
	if json.Unmarshal(raw, &parts) == nil && len(parts) > 0 {
		*c = content(parts[len(parts)-1])
		return nil
	}
	var text string
	err := json.Unmarshal(raw, &text)
	*c = content(text)
	return err
}

// An upstream is a server with OpenAI's API. For a question with "rate" in it, it calls
// the tool twice, and then answers with the last result. Like Anthropic's, it refuses
// calls that share an id, and results without a call.
type upstream struct {
	*httptest.Server
	mu       sync.Mutex
	requests []completion
	fail     int // status of the next responses; 0: none fails
}

func startUpstream(t *testing.T) *upstream {
	u := &upstream{}
	u.Server = httptest.NewServer(http.HandlerFunc(u.serve))
	t.Cleanup(u.Close)
	return u
}

func (u *upstream) serve(w http.ResponseWriter, r *http.Request) {
	var c completion
	raw, _ := io.ReadAll(r.Body)
	if err := json.Unmarshal(raw, &c); err != nil || r.URL.Path != "/v1/chat/completions" || r.Header.Get("Authorization") != "Bearer upstream" {
		http.Error(w, `{"error":{"message":"bad request"}}`, http.StatusBadRequest)
		return
	}
	u.mu.Lock()
	u.requests = append(u.requests, c)
	fail := u.fail
	u.mu.Unlock()
	if fail != 0 {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(fail)
		fmt.Fprintf(w, `{"error":{"message":"no","type":"server_error","code":"%d"}}`, fail)
		return
	}
	open := map[string]bool{} // by the ids of calls: whether the result is missing
	for _, message := range c.Messages {
		for _, call := range message.ToolCalls {
			if _, again := open[call.ID]; again {
				http.Error(w, `{"error":{"message":"tool call ids must be unique"}}`, http.StatusBadRequest)
				return
			}
			open[call.ID] = true
		}
		if message.Role == "tool" && !open[message.ToolCallID] {
			http.Error(w, `{"error":{"message":"a result without a call"}}`, http.StatusBadRequest)
			return
		}
		open[message.ToolCallID] = false
	}
	last := c.Messages[len(c.Messages)-1]
	var call []any
	for i, currency := range []string{"EUR", "GBP"} {
		call = append(call, map[string]any{"index": i, "id": fmt.Sprintf("call_%s_%d", currency, len(c.Messages)), "type": "function",
			"function": map[string]any{"name": "get_exchange_rate", "arguments": `{"from":"` + currency + `"}`}})
	}
	usage := map[string]any{"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
	pieces, finish := []map[string]any{{"content": "It is "}, {"content": string(last.Content) + "."}}, "stop"
	if last.Role == "user" && strings.Contains(string(last.Content), "rate") {
		pieces, finish = []map[string]any{{"tool_calls": call}}, "tool_calls"
	}
	base := func(object string) map[string]any {
		return map[string]any{"id": "c", "object": object, "created": 1, "model": c.Model}
	}
	if !c.Stream {
		message := map[string]any{"role": "assistant", "content": nil}
		for _, piece := range pieces {
			if text, ok := piece["content"].(string); ok {
				so, _ := message["content"].(string)
				message["content"] = so + text
			} else {
				message["tool_calls"] = call
			}
		}
		body := base("chat.completion")
		body["choices"], body["usage"] = []any{map[string]any{"index": 0, "message": message, "finish_reason": finish}}, usage
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(body)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	send := func(choices []any, usage any) {
		chunk := base("chat.completion.chunk")
		chunk["choices"] = choices
		if usage != nil {
			chunk["usage"] = usage
		}
		var b bytes.Buffer
		_ = json.NewEncoder(&b).Encode(chunk)
		fmt.Fprintf(w, "data: %s\n", b.String())
	}
	for _, piece := range pieces {
		send([]any{map[string]any{"index": 0, "delta": piece}}, nil)
	}
	send([]any{map[string]any{"index": 0, "delta": map[string]any{}, "finish_reason": finish}}, nil)
	send([]any{}, usage)
	fmt.Fprint(w, "data: [DONE]\n\n")
}

// take returns the requests since it was last called.
func (u *upstream) take() []completion {
	u.mu.Lock()
	defer u.mu.Unlock()
	all := u.requests
	u.requests = nil
	return all
}

func newAgent(context.Context, agent.Env) (agent.Agent, error) {
	return agent.Agent{Name: "rates", Instruction: "Answer in one sentence.", Tools: []tool.Tool{
		tool.New("get_exchange_rate", "Returns the latest rate to US dollars.", func(_ context.Context, in struct {
			From string `json:"from" jsonschema:"an ISO 4217 code"`
		}) (map[string]any, error) {
			return map[string]any{"from": in.From, "rate": 1.25}, nil
		}),
	}}, nil
}

// table is a table of models with the model's price, as docs/other-models.md has it.
func table(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile("../models/models.json")
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]any
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	entry, err := os.ReadFile("entry.json")
	if err != nil {
		t.Fatal(err)
	}
	var more map[string]any
	if err := json.Unmarshal(entry, &more); err != nil {
		t.Fatal(err)
	}
	for name, profile := range more {
		all["models"].(map[string]any)[name] = profile
	}
	all["date"] = time.Now().AddDate(0, 0, 1).UTC().Format(time.DateOnly) // later than the built-in one
	out, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// startGate starts the gate on the model behind the proxy.
func startGate(t *testing.T, proxy string) *trial.Service {
	t.Helper()
	secrets := secrettest.Start(t)
	const name = "projects/p/secrets/models/versions/latest"
	secrets.Set(name, table(t))
	env := map[string]string{
		"MODEL": "other-model", "GEMINI_API_KEY": key, "GOOGLE_GEMINI_BASE_URL": proxy,
		"MODEL_FALLBACKS":     "none",
		"MODELS_TABLE_SECRET": name, "SECRET_MANAGER_ENDPOINT": secrets.Addr,
	}
	s, err := trial.Start(t.Context(), server.Options{
		Agent: newAgent, Log: t.Output(), Lookup: func(name string) (string, bool) { v, ok := env[name]; return v, ok },
	})
	t.Cleanup(func() {
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAModelBehindLiteLLM(t *testing.T) {
	slowtest.Skip(t, "a model behind LiteLLM")
	up := startUpstream(t)
	proxy := startLiteLLM(t, up.URL+"/v1", "openai/other-model")
	s := startGate(t, proxy)
	get := func(path string) (int, string) {
		w := httptest.NewRecorder()
		s.Server().Both.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1"+path, nil))
		return w.Code, w.Body.String()
	}
	for _, path := range []string{"/health/ready", "/health"} {
		if status, body := get(path); status != http.StatusOK {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}

	session := ""
	for _, stream := range []bool{false, true} {
		t.Run(fmt.Sprintf("a tool call, stream %v", stream), func(t *testing.T) {
			got, err := s.Ask(t.Context(), trial.Question{Query: "What is the rate of EUR?", Stream: stream, SessionID: session})
			if err != nil {
				t.Fatal(err)
			}
			session = got.SessionID
			if got.Status != http.StatusOK || got.Error != "" || got.Text != `It is {"from": "GBP", "rate": 1.25}.` {
				t.Fatalf("%d %s %s: %q", got.Status, got.Error, got.Message, got.Text)
			}
			var want []trial.ToolCall
			for _, currency := range []string{"EUR", "GBP"} {
				want = append(want, trial.ToolCall{
					Name: "get_exchange_rate", OK: true, Args: map[string]any{"from": currency}, Output: map[string]any{"from": currency, "rate": 1.25},
				})
			}
			if diff := cmp.Diff(want, got.Tools); diff != "" {
				t.Errorf("tools (-want +got):\n%s", diff)
			}
			usage, _ := got.Data["usage"].(map[string]any)
			// Two calls of 1000 and 100 tokens, at 3 and 15 dollars a million.
			if diff := cmp.Diff(map[string]any{
				"prompt_tokens": 2000.0, "cached_tokens": 0.0, "thought_tokens": 0.0, "completion_tokens": 200.0, "total_tokens": 2200.0,
				"source": "model", "estimated_cost_usd": 0.009,
			}, usage); diff != "" {
				t.Errorf("usage (-want +got):\n%s", diff)
			}
			if got.Data["model"] != "other-model" || len(got.Data["warnings"].([]any)) != 0 {
				t.Errorf("model %v, warnings %v", got.Data["model"], got.Data["warnings"])
			}
			asked := up.take()
			if len(asked) != 2 {
				t.Fatalf("%d requests to the upstream", len(asked))
			}
			first := asked[0].Messages[0]
			if first.Role != "system" || !strings.HasPrefix(string(first.Content), "Answer in one sentence.") || len(asked[0].Tools) != 1 || asked[0].Stream != stream || asked[0].MaxTokens == 0 {
				t.Errorf("the upstream was sent %+v", asked[0])
			}
		})
	}

	t.Run("the session goes on", func(t *testing.T) {
		got, err := s.Ask(t.Context(), trial.Question{Query: "Thanks", SessionID: session})
		if err != nil || got.Turn != 3 || got.Text != "It is Thanks." {
			t.Fatalf("%+v, %v", got, err)
		}
		if asked := up.take(); len(asked) != 1 || len(asked[0].Messages) != 12 { // system, 2 turns of 5, question
			t.Errorf("the upstream was sent %+v", asked)
		}
	})

	t.Run("an image", func(t *testing.T) {
		client, err := genai.NewClient(t.Context(), &genai.ClientConfig{APIKey: key, HTTPOptions: genai.HTTPOptions{BaseURL: proxy}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = client.Models.GenerateContent(t.Context(), "other-model", []*genai.Content{{Role: genai.RoleUser, Parts: []*genai.Part{
			genai.NewPartFromText("What is this?"), genai.NewPartFromBytes([]byte("png"), "image/png"),
		}}}, nil)
		if asked := up.take(); err != nil || len(asked) != 1 || !strings.Contains(string(asked[0].Messages[0].Content), "data:image/png;base64,cG5n") {
			t.Errorf("%v, the upstream was sent %+v", err, asked)
		}
	})

	t.Run("an overloaded upstream is asked again, then 503", func(t *testing.T) {
		up.mu.Lock()
		up.fail = http.StatusServiceUnavailable
		up.mu.Unlock()
		got, err := s.Ask(t.Context(), trial.Question{Query: "Hello?"})
		if err != nil || got.Status != http.StatusServiceUnavailable || got.Error != "model_unavailable" {
			t.Errorf("%d %s, %v", got.Status, got.Error, err)
		}
	})
}

// The document has the files as they are tested.
func TestTheDocumentHasTheFiles(t *testing.T) {
	page, err := os.ReadFile("../../docs/other-models.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"config.yaml", "gate.py", "requirements.txt", "entry.json"} {
		file, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(page), "\n"+string(file)+"```\n") {
			t.Errorf("docs/other-models.md does not have %s", name)
		}
	}
}
