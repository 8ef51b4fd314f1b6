package mcp_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/doortest"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/npmtest"
	"example.com/gatehouse/tool"
)

// newPayer makes an agent whose model pays, when a person agrees.
func (p *till) newPayer(context.Context, agent.Env) (agent.Agent, error) {
	return agent.Agent{Name: "payer", Instruction: "You pay.", Tools: []tool.Tool{tool.New("pay", "Pays.", func(_ context.Context, in bill) (string, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.euros = append(p.euros, in.Euros)
		return "paid", nil
	}, tool.Effect[bill, string](nil), tool.Confirm(func(bill) string { return "Pay?" }))}}, nil
}

// The extension's own client, against the door.
func TestTasksByTheirClient(t *testing.T) {
	dir := npmtest.Install(t, "MCP's tasks by their client of npm", "@modelcontextprotocol/ext-tasks@0.2.2", "@modelcontextprotocol/client@2.4.0")
	script, err := os.ReadFile("testdata/tasks.mjs")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "tasks.mjs")
	if err := os.WriteFile(program, script, 0o600); err != nil {
		t.Fatal(err)
	}
	pays := geminitest.Calls(geminitest.FunctionCall{Name: "pay", Args: map[string]any{"euros": 7}})
	for what, c := range map[string]struct {
		replies      []geminitest.Reply
		status, paid string
		asked        int
		response     string
		failed       bool
	}{
		"answer":  {[]geminitest.Reply{geminitest.Text("Hello Ada.")}, "completed", "[]", 0, "Hello Ada.", false},
		"accept":  {[]geminitest.Reply{pays, geminitest.Text("Paid.")}, "completed", "[7]", 1, "Paid.", false},
		"decline": {[]geminitest.Reply{pays, geminitest.Text("So be it.")}, "completed", "[]", 1, "So be it.", false},
		"fail":    {[]geminitest.Reply{geminitest.Blocked("SAFETY")}, "completed", "[]", 0, "", true},
		"cancel":  {[]geminitest.Reply{geminitest.Silence()}, "cancelled", "[]", 0, "", false},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			p := &till{}
			s := startWith(t, p.newPayer, doortest.Keys("ada"), doortest.Queue)
			s.Gemini.Enqueue(c.replies...)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			raw, err := exec.CommandContext(ctx, "node", program, s.URL+"/mcp", what).Output()
			if err != nil {
				if exit, ok := err.(*exec.ExitError); ok {
					t.Logf("%s", exit.Stderr)
				}
				t.Fatal(err)
			}
			var got struct {
				Kind, Status, Response string
				Asked                  []string
				Failed                 bool
				Retention              int64
			}
			if err := json.Unmarshal(raw, &got); err != nil {
				t.Fatalf("%s: %v", raw, err)
			}
			day := (24 * time.Hour).Milliseconds()
			if got.Kind != "task" || got.Status != c.status || got.Response != c.response || got.Failed != c.failed || len(got.Asked) != c.asked || p.paid() != c.paid ||
				got.Retention < day || got.Retention > 4*day {
				t.Errorf("paid %s: %s", p.paid(), raw)
			}
		})
	}
}

// rpc calls a method as a client of 2026-07-28 that declares the given capabilities.
func rpc(t *testing.T, s *service, who, method, capabilities string, params map[string]any, headers ...string) (int, map[string]any) {
	t.Helper()
	meta := map[string]any{
		"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientInfo": map[string]any{"name": "host", "version": "1"},
		"io.modelcontextprotocol/clientCapabilities": json.RawMessage(capabilities),
	}
	all := map[string]any{"_meta": meta}
	for name, value := range params {
		all[name] = value
	}
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": all})
	if err != nil {
		t.Fatal(err)
	}
	name, _ := params["name"].(string)
	if id, ok := params["taskId"].(string); ok {
		name = id
	}
	resp, text := post(t, s.URL+"/mcp", string(body), append([]string{"X-API-Key", doortest.Key(who), "Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", method, "Mcp-Name", name}, headers...)...)
	if i := strings.LastIndex(text, "data: "); i >= 0 {
		text = text[i+len("data: "):]
	}
	var message struct{ Result, Error map[string]any }
	if err := json.Unmarshal([]byte(text), &message); err != nil {
		t.Fatalf("%s: %d %s: %v", method, resp.StatusCode, text, err)
	}
	if message.Error != nil {
		return resp.StatusCode, message.Error
	}
	return resp.StatusCode, message.Result
}

const (
	declared = `{"elicitation":{"form":{}},"extensions":{"io.modelcontextprotocol/tasks":{}}}`
	silent   = `{"extensions":{"io.modelcontextprotocol/tasks":{}}}`
)

// awaitTask polls a task until it has a state.
func awaitTask(t *testing.T, s *service, id, capabilities, status string) map[string]any {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		_, got := rpc(t, s, "ada", "tasks/get", capabilities, map[string]any{"taskId": id})
		if got["status"] == status {
			return got
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v, want %s", got, status)
		}
	}
}

// A task is its owner's, for who declares the extension, and found as soon as it has an id.
func TestTasks(t *testing.T) {
	t.Parallel()
	p := &till{}
	s := startWith(t, p.newPayer, append(doortest.Keys("ada", "bob"), "RATE_LIMIT_PER_MINUTE=1000", "CALLER_RATE_LIMIT_PER_MINUTE=1000", "MCP_TOOLS=true"), doortest.Queue)
	if _, got := rpc(t, s, "ada", "server/discover", declared, nil); !strings.Contains(fmt.Sprint(got["capabilities"]), "io.modelcontextprotocol/tasks") {
		t.Errorf("%v", got)
	}
	ask := map[string]any{"name": "ask", "arguments": map[string]any{"query": "Pay."}}
	s.Gemini.Enqueue(geminitest.Calls(geminitest.FunctionCall{Name: "pay", Args: map[string]any{"euros": 7}}))
	_, created := rpc(t, s, "ada", "tools/call", declared, ask)
	id, _ := created["taskId"].(string)
	if created["resultType"] != "task" || id == "" || created["content"] != nil || created["result"] != nil {
		t.Fatalf("%v", created)
	}
	if _, got := rpc(t, s, "ada", "tasks/get", declared, map[string]any{"taskId": id}); got["taskId"] != id || got["resultType"] != "complete" {
		t.Errorf("%v", got)
	}
	s.awaitLog(t, `"action":"run.read"`, 1)
	waits := awaitTask(t, s, id, declared, "input_required")
	requests, _ := waits["inputRequests"].(map[string]any)
	question, _ := requests["call_1_1"].(map[string]any)
	if question["method"] != "elicitation/create" || waits["ttlMs"].(float64) < (71*time.Hour).Seconds()*1000 {
		t.Errorf("%v", waits)
	}
	if got := awaitTask(t, s, id, silent, "working"); !strings.Contains(got["statusMessage"].(string), "Pay?") || got["inputRequests"] != nil {
		t.Errorf("a client that cannot ask: %v", got)
	}
	yes := map[string]any{"call_1_1": map[string]any{"action": "accept", "content": map[string]any{}}}
	for name, c := range map[string]struct {
		who, method, capabilities, id string
		responses                     any
		headers                       []string
		code                          float64
	}{
		"another owner reads":         {"bob", "tasks/get", declared, id, nil, nil, -32602},
		"another owner answers":       {"bob", "tasks/update", declared, id, yes, nil, -32602},
		"another owner cancels":       {"bob", "tasks/cancel", declared, id, nil, nil, -32602},
		"no id":                       {"ada", "tasks/get", declared, "", nil, nil, -32602},
		"an id of nothing":            {"ada", "tasks/cancel", declared, "0123456789abcdef.0123456789abcdef", nil, nil, -32602},
		"an id that is none":          {"ada", "tasks/get", declared, "../../sessions", nil, nil, -32602},
		"an id of ten kilobytes":      {"ada", "tasks/get", declared, strings.Repeat("x", 10<<10), nil, nil, -32602},
		"nothing declared, get":       {"ada", "tasks/get", `{}`, id, nil, nil, -32021},
		"nothing declared, update":    {"ada", "tasks/update", `{"elicitation":{}}`, id, yes, nil, -32021},
		"nothing declared, cancel":    {"ada", "tasks/cancel", `{}`, id, nil, nil, -32021},
		"another name in the header":  {"ada", "tasks/get", declared, id, nil, []string{"Mcp-Name", "x"}, -32020},
		"a method of an older spec":   {"ada", "tasks/result", declared, id, nil, nil, -32601},
		"a list, which there is none": {"ada", "tasks/list", declared, id, nil, nil, -32601},
	} {
		params := map[string]any{"taskId": c.id}
		if c.responses != nil {
			params["inputResponses"] = c.responses
		}
		if status, got := rpc(t, s, c.who, c.method, c.capabilities, params, c.headers...); got["code"] != c.code || status == http.StatusInternalServerError {
			t.Errorf("%s: %d %v, want %v", name, status, got, c.code)
		}
	}
	for _, params := range []string{``, `,"params":null`, `,"params":{}`, `,"params":{"taskId":7}`, `,"params":{"taskId":"x","inputResponses":[7]}`, `,"params":{"_meta":7}`, `,"params":7`} {
		for _, method := range []string{"tasks/get", "tasks/update", "tasks/cancel"} {
			for _, headers := range [][]string{nil, {"Mcp-Protocol-Version", "2025-06-18"}, {"Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", method}} {
				resp, body := post(t, s.URL+"/mcp", `{"jsonrpc":"2.0","id":1,"method":"`+method+`"`+params+`}`, append([]string{"X-API-Key", doortest.Key("ada")}, headers...)...)
				if resp.StatusCode == http.StatusInternalServerError || strings.Contains(body, `"result"`) || strings.Contains(body, "panic") || strings.Contains(body, "unmarshal") {
					t.Errorf("%s%s, %v: %d %s", method, params, headers, resp.StatusCode, body)
				}
			}
		}
	}
	if strings.Contains(s.Log.String(), "panicked") {
		t.Errorf("%s", s.Log)
	}
	for name, responses := range map[string]any{
		"no answers":                nil,
		"an answer to another call": map[string]any{"call_9_9": yes["call_1_1"]},
		"no answer yet":             map[string]any{"call_1_1": map[string]any{"action": "cancel"}},
		"an answer nobody knows":    map[string]any{"call_1_1": map[string]any{"action": "maybe"}},
	} {
		if _, got := rpc(t, s, "ada", "tasks/update", declared, map[string]any{"taskId": id, "inputResponses": responses}); got["resultType"] != "complete" {
			t.Errorf("%s: %v", name, got)
		}
	}
	if p.paid() != "[]" {
		t.Fatalf("paid %s before it was approved", p.paid())
	}
	// Fifty answers at once are one.
	s.Gemini.Enqueue(geminitest.Text("Paid."))
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, got := rpc(t, s, "ada", "tasks/update", declared, map[string]any{"taskId": id, "inputResponses": yes}); got["resultType"] != "complete" && !strings.Contains(fmt.Sprint(got), "overloaded") {
				t.Errorf("%v", got)
			}
		})
	}
	wg.Wait()
	done := awaitTask(t, s, id, declared, "completed")
	result, _ := done["result"].(map[string]any)
	value, _ := result["structuredContent"].(map[string]any)
	if value["response"] != "Paid." || value["run_id"] != id || p.paid() != "[7]" || result["content"] == nil || result["resultType"] != "complete" {
		t.Errorf("paid %s: %v", p.paid(), done)
	}
	for range 2 {
		if _, got := rpc(t, s, "ada", "tasks/cancel", declared, map[string]any{"taskId": id}); got["resultType"] != "complete" {
			t.Errorf("to cancel what is over: %v", got)
		}
	}
	awaitTask(t, s, id, declared, "completed")

	// Who does not declare it has an ordinary result, and wrong arguments are one, too.
	s.Gemini.Enqueue(geminitest.Text("Hello."))
	if _, got := rpc(t, s, "ada", "tools/call", `{"elicitation":{}}`, map[string]any{"name": "ask", "arguments": map[string]any{"query": "Hello"}}); got["resultType"] != "complete" || got["taskId"] != nil {
		t.Errorf("%v", got)
	}
	for _, arguments := range []map[string]any{{"query": ""}, {"query": "x", "model": "y"}, {"query": "x", "session_id": "0123456789abcdef"}} {
		if _, got := rpc(t, s, "ada", "tools/call", declared, map[string]any{"name": "ask", "arguments": arguments}); got["isError"] != true || got["taskId"] != nil {
			t.Errorf("%v: %v", arguments, got)
		}
	}
	if _, got := rpc(t, s, "ada", "tools/call", declared, map[string]any{"name": "pay", "arguments": map[string]any{"euros": 7}}); got["resultType"] != "input_required" {
		t.Errorf("a tool is no task: %v", got)
	}
}

// A task with a key is one task, and one that is cancelled ends its model call.
func TestATaskThatIsCancelled(t *testing.T) {
	t.Parallel()
	s := startWith(t, newAgent, doortest.Keys("ada"), doortest.Queue)
	s.Gemini.Enqueue(geminitest.Silence())
	ask := map[string]any{"name": "ask", "arguments": map[string]any{"query": "Hello"}}
	_, first := rpc(t, s, "ada", "tools/call", declared, ask, "Idempotency-Key", "k")
	_, again := rpc(t, s, "ada", "tools/call", declared, ask, "Idempotency-Key", "k")
	id, _ := first["taskId"].(string)
	if id == "" || again["taskId"] != id {
		t.Fatalf("%v, %v", first, again)
	}
	waiting, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := s.Gemini.Await(waiting, 1); err != nil {
		t.Fatal(err)
	}
	if _, got := rpc(t, s, "ada", "tasks/cancel", declared, map[string]any{"taskId": id}); got["resultType"] != "complete" {
		t.Errorf("%v", got)
	}
	if _, err := s.Gemini.AwaitCancelled(waiting, 0); err != nil {
		t.Errorf("the model call goes on: %v", err)
	}
	if got := awaitTask(t, s, id, declared, "cancelled"); got["result"] != nil || got["error"] != nil {
		t.Errorf("%v", got)
	}
	if len(s.Gemini.Requests()) != 1 {
		t.Errorf("%d model calls", len(s.Gemini.Requests()))
	}
}

// A task that fails after its approval has an error as result, and not what waited.
func TestAnApprovedTaskThatFails(t *testing.T) {
	t.Parallel()
	s := startWith(t, func(context.Context, agent.Env) (agent.Agent, error) {
		pay := func(context.Context, bill) (string, error) { return "paid", nil }
		return agent.Agent{Name: "payer", Instruction: "You pay.", Tools: []tool.Tool{tool.New("pay", "Pays.", pay, tool.Confirm(func(bill) string { return "Pay?" }))}}, nil
	}, doortest.Keys("ada"), doortest.Queue)
	s.Gemini.Enqueue(geminitest.Calls(geminitest.FunctionCall{Name: "pay", Args: map[string]any{"euros": 7}}), geminitest.Blocked("SAFETY"))
	_, created := rpc(t, s, "ada", "tools/call", declared, map[string]any{"name": "ask", "arguments": map[string]any{"query": "Pay."}})
	id, _ := created["taskId"].(string)
	awaitTask(t, s, id, declared, "input_required")
	yes := map[string]any{"call_1_1": map[string]any{"action": "accept", "content": map[string]any{}}}
	if _, got := rpc(t, s, "ada", "tasks/update", declared, map[string]any{"taskId": id, "inputResponses": yes}); got["resultType"] != "complete" {
		t.Fatalf("%v", got)
	}
	done := awaitTask(t, s, id, declared, "completed")
	if result, _ := done["result"].(map[string]any); result["isError"] != true || !strings.Contains(fmt.Sprint(result["content"]), "(content_blocked)") {
		t.Errorf("%v", done)
	}
}

// A call of a tool is no task, but read as one it has the result of the call.
func TestACallThatIsReadAsATask(t *testing.T) {
	t.Parallel()
	p := &till{}
	s := startWith(t, p.newAgent, append(doortest.Keys("ada"), "MCP_TOOLS=true", "RATE_LIMIT_PER_MINUTE=1000", "CALLER_RATE_LIMIT_PER_MINUTE=1000"), doortest.Queue)
	yes := map[string]any{"call_1_1": map[string]any{"action": "accept", "content": map[string]any{}}}
	for euros, want := range map[int]string{7: `{"paid":7}`, 13: "no such account"} {
		call := map[string]any{"name": "pay_asking", "arguments": map[string]any{"euros": euros}}
		_, asks := rpc(t, s, "ada", "tools/call", declared, call)
		id, _ := asks["requestState"].(string)
		call["requestState"], call["inputResponses"] = id, yes
		_, ended := rpc(t, s, "ada", "tools/call", declared, call)
		result, _ := awaitTask(t, s, id, declared, "completed")["result"].(map[string]any)
		if failed := euros == 13; ended["isError"] == true != failed || result["isError"] == true != failed || !strings.Contains(fmt.Sprint(result["content"]), want) {
			t.Errorf("%d euros: %v, read as %v", euros, ended, result)
		}
	}
}

// Without a queue nothing goes on without its request: there are no tasks.
func TestNoTasksWithoutAQueue(t *testing.T) {
	t.Parallel()
	s := start(t, doortest.Keys("ada")...)
	if _, got := rpc(t, s, "ada", "server/discover", declared, nil); strings.Contains(fmt.Sprint(got), "io.modelcontextprotocol/tasks") {
		t.Errorf("%v", got)
	}
	s.Gemini.Enqueue(geminitest.Text("Hello."))
	if _, got := rpc(t, s, "ada", "tools/call", declared, map[string]any{"name": "ask", "arguments": map[string]any{"query": "Hello"}}); got["resultType"] != "complete" || got["taskId"] != nil {
		t.Errorf("%v", got)
	}
	if _, got := rpc(t, s, "ada", "tasks/get", declared, map[string]any{"taskId": "x"}); got["code"] != -32601.0 {
		t.Errorf("%v", got)
	}
}
