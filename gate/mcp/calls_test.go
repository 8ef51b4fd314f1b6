package mcp_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/doortest"
	"example.com/gatehouse/tool"
)

// A till is what the tools of these tests change.
type till struct {
	mu    sync.Mutex
	euros []int
}

type bill struct {
	Euros int `json:"euros"`
}

func (p *till) paid() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return fmt.Sprint(p.euros)
}

// newAgent makes an agent that pays at once, or asks first from 5 euros on.
func (p *till) newAgent(context.Context, agent.Env) (agent.Agent, error) {
	pay := func(_ context.Context, in bill) (map[string]any, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.euros = append(p.euros, in.Euros); in.Euros == 13 {
			return nil, errors.New("no such account")
		}
		if in.Euros == 14 {
			return nil, tool.ErrUnknown
		}
		return map[string]any{"paid": in.Euros}, nil
	}
	effect := tool.Effect[bill, map[string]any](nil)
	return agent.Agent{Name: "payer", Tools: []tool.Tool{
		tool.New("pay", "Pays.", pay, effect),
		tool.New("pay_asking", "Pays.", pay, effect, tool.Confirm(func(in bill) string {
			if in.Euros < 5 {
				return ""
			}
			return fmt.Sprintf("Pay %d euros?", in.Euros)
		})),
	}}, nil
}

// A repeat by Idempotency-Key has what the first call had, and is marked.
func TestAnEffectRunsOnce(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"2026-07-28", "2025-06-18"} {
		p := &till{}
		s := startAgent(t, p.newAgent, "MCP_TOOLS=true")
		for euros, want := range map[int]string{7: `{"paid":7}`, 13: "no such account", 14: "(effect_unknown)"} {
			session := s.connect(t, protocol, bearer{"Idempotency-Key", fmt.Sprint("k-", euros)}, nil)
			for i := range 2 {
				result, err := session.CallTool(t.Context(), &sdk.CallToolParams{Name: "pay", Arguments: bill{euros}})
				if err != nil {
					t.Fatal(err)
				}
				text := result.Content[0].(*sdk.TextContent).Text
				if replayed, _ := result.Meta["gatehouse/idempotency-replayed"].(bool); !strings.Contains(text, want) || result.IsError != (euros != 7) || replayed != (i == 1) {
					t.Errorf("%s, %d euros, call %d: %+v %s", protocol, euros, i, result, text)
				}
			}
			if _, text, failed := call(t, session, "pay", map[string]any{"euros": 1}); !failed || !strings.Contains(text, "(idempotency_mismatch)") {
				t.Errorf("other arguments: %s", text)
			}
		}
		if got := p.paid(); len(p.euros) != 3 {
			t.Errorf("paid %s", got)
		}
		s.awaitLog(t, `"message":"tool.call ok"`, 3)
		s.awaitLog(t, `"message":"tool.call idempotency_mismatch"`, 3)
	}
}

// A hook that panics fails its call and nothing else.
func TestAHookThatPanics(t *testing.T) {
	t.Parallel()
	p := &till{}
	s := startAgent(t, func(ctx context.Context, env agent.Env) (agent.Agent, error) {
		a, err := p.newAgent(ctx, env)
		a.Tools = append(a.Tools, tool.New("look", "Looks.", func(context.Context, struct{}) (string, error) { return "seen", nil }))
		a.Hooks.Tool = func(context.Context, *agent.ToolCall, func() error) error { panic("hunter2") }
		a.Hooks.Model = func(context.Context, *agent.ModelCall, func() error) error { panic("hunter2") }
		return a, err
	}, "MCP_TOOLS=true")
	session := s.connect(t, "2026-07-28", bearer{}, nil)
	for name, args := range map[string]map[string]any{"look": {}, "ask": {"query": "Hello"}, "pay": {"euros": 7}} {
		result, err := session.CallTool(t.Context(), &sdk.CallToolParams{Name: name, Arguments: args})
		if err == nil && !result.IsError || strings.Contains(fmt.Sprint(result, err), "hunter2") {
			t.Errorf("%s: %+v, %v", name, result, err)
		}
	}
	if _, err := session.ListTools(t.Context(), nil); err != nil || p.paid() != "[]" {
		t.Errorf("%v, paid %s", err, p.paid())
	}
}

// Fifty repeats at once are one payment.
func TestFiftyAtOnce(t *testing.T) {
	t.Parallel()
	p := &till{}
	s := startAgent(t, p.newAgent, "MCP_TOOLS=true", "RATE_LIMIT_PER_MINUTE=1000", "CALLER_RATE_LIMIT_PER_MINUTE=1000")
	session := s.connect(t, "2026-07-28", bearer{"Idempotency-Key", "k"}, nil)
	var wg sync.WaitGroup
	var paid, late atomic.Int32
	for range 50 {
		wg.Go(func() {
			switch _, text, failed := call(t, session, "pay", map[string]any{"euros": 7}); {
			case !failed && strings.Contains(text, `{"paid":7}`):
				paid.Add(1)
			case strings.Contains(text, "(idempotency_in_progress)"), strings.Contains(text, "(overloaded)"):
				late.Add(1)
			default:
				t.Errorf("%t %s", failed, text)
			}
		})
	}
	wg.Wait()
	if paid.Load() == 0 || paid.Load()+late.Load() != 50 || p.paid() != "[7]" {
		t.Errorf("%d were answered, %d were early; paid %s", paid.Load(), late.Load(), p.paid())
	}
}

// A tool that asks a person first asks the client's, and never runs before the answer.
func TestAToolThatAsks(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		protocol, action string
		euros            int
		paid, want       string
		failed           bool
	}{
		"accepted":                   {"", "accept", 7, "[7]", `{"paid":7}`, false},
		"declined":                   {"", "decline", 7, "[]", "not run: a person has denied it: no money", true},
		"it need not ask":            {"", "accept", 2, "[2]", `{"paid":2}`, false},
		"a client that cannot ask":   {"", "", 7, "[]", "This waits for a person's approval, which cannot be given here: Pay 7 euros?", false},
		"a client of an older spec":  {"2025-06-18", "accept", 7, "[]", "This waits for a person's approval", false},
		"approved, and it is failed": {"", "accept", 13, "[13]", "no such account", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &till{}
			s := startAgent(t, p.newAgent, "MCP_TOOLS=true")
			options := &sdk.ClientOptions{}
			asked := 0
			if c.action != "" {
				options.ElicitationHandler = func(_ context.Context, r *sdk.ElicitRequest) (*sdk.ElicitResult, error) {
					if asked++; p.paid() != "[]" || !strings.Contains(r.Params.Message, fmt.Sprintf(`Pay %d euros?`, c.euros)) || !strings.Contains(r.Params.Message, fmt.Sprintf(`pay_asking {"euros":%d}`, c.euros)) {
						t.Errorf("the person is asked %q, with %s paid", r.Params.Message, p.paid())
					}
					return &sdk.ElicitResult{Action: c.action, Content: map[string]any{"reason": "no money"}}, nil
				}
			}
			structured, text, failed := call(t, s.connect(t, c.protocol, bearer{}, options), "pay_asking", map[string]any{"euros": c.euros})
			if failed != c.failed || !strings.Contains(text, c.want) || p.paid() != c.paid {
				t.Errorf("paid %s: %t %s", p.paid(), failed, text)
			}
			run, waits := structured["run_id"].(string)
			if !waits {
				if c.euros >= 5 {
					s.awaitLog(t, `"calls":"`+map[string]string{"accept": "approved", "decline": "denied"}[c.action]+` pay_asking call_1_1"`, 1)
				}
				return
			}
			// The person answers through the gate.
			resp, body := post(t, s.URL+"/runs/"+run+"/approvals", `{"call_id":"call_1_1","approve":true}`)
			if resp.StatusCode != http.StatusOK || !strings.Contains(body, `"output":{"paid":7}`) || p.paid() != "[7]" {
				t.Errorf("%d %s, paid %s", resp.StatusCode, body, p.paid())
			}
		})
	}
}

// What was asked about one call approves no other, of whoever it is.
func TestForgedStates(t *testing.T) {
	t.Parallel()
	p := &till{}
	s := startAgent(t, p.newAgent, append(doortest.Keys("ada", "bob"), "MCP_TOOLS=true")...)
	ada, bob := s.connect(t, "", bearer{"X-API-Key", doortest.Key("ada")}, nil), s.connect(t, "", bearer{"X-API-Key", doortest.Key("bob")}, nil)
	structured, _, _ := call(t, ada, "pay_asking", map[string]any{"euros": 7})
	run, _ := structured["run_id"].(string)
	if run == "" {
		t.Fatalf("it does not wait: %v", structured)
	}
	for name, c := range map[string]struct {
		session *sdk.ClientSession
		tool    string
		args    any
		state   string
		id      string
	}{
		"another owner":             {bob, "pay_asking", bill{7}, run, "call_1_1"},
		"other arguments":           {ada, "pay_asking", bill{8}, run, "call_1_1"},
		"another tool":              {ada, "pay", bill{7}, run, "call_1_1"},
		"ask":                       {ada, "ask", map[string]any{"query": "Pay."}, run, "call_1_1"},
		"another call":              {ada, "pay_asking", bill{7}, run, "call_1_2"},
		"a state that is none":      {ada, "pay_asking", bill{7}, "../../" + run, "call_1_1"},
		"a state of nothing":        {ada, "pay_asking", bill{7}, "0123456789abcdef.0123456789abcdef", "call_1_1"},
		"a state of ten kilobytes":  {ada, "pay_asking", bill{7}, strings.Repeat("x", 10<<10), "call_1_1"},
		"a state with a NUL and ..": {ada, "pay_asking", bill{7}, "0123456789abcdef.\x00123456789abcde", "call_1_1"},
	} {
		result, err := c.session.CallTool(t.Context(), &sdk.CallToolParams{
			Name: c.tool, Arguments: c.args, RequestState: c.state, InputResponses: sdk.InputResponseMap{c.id: &sdk.ElicitResult{Action: "accept"}},
		})
		if err != nil || !result.IsError || !strings.Contains(result.Content[0].(*sdk.TextContent).Text, "(not_found)") {
			raw, _ := json.Marshal(result)
			t.Errorf("%s: %s, %v", name, raw, err)
		}
	}
	if p.paid() != "[]" {
		t.Fatalf("paid %s", p.paid())
	}
	result, err := ada.CallTool(t.Context(), &sdk.CallToolParams{
		Name: "pay_asking", Arguments: bill{7}, RequestState: run, InputResponses: sdk.InputResponseMap{"call_1_1": &sdk.ElicitResult{Action: "accept"}},
	})
	if err != nil || result.IsError || p.paid() != "[7]" {
		t.Errorf("%+v, %v, paid %s", result, err, p.paid())
	}
}
