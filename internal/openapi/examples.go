package openapi

import (
	"encoding/json"
	"strings"

	"example.com/gatehouse/health"
	"example.com/gatehouse/internal/version"
	"example.com/gatehouse/invoke"
	"example.com/gatehouse/session"
)

const (
	exampleSession = "uCkrQTfRvAJsMuKKzijcpQ"
	exampleModel   = "gemini-3.5-flash-lite"
	exampleQuery   = "Which deployment options are there?"
	exampleText    = "Cloud Run fits best: it scales to zero, and you pay for requests alone."
)

var (
	one, tokens, temperature = 1, 512, 0.2
	cost                     = 0.00046

	exampleCall  = session.ToolCall{Name: "get_deployment_options", OK: true, DurationMS: 3}
	exampleUsage = session.Usage{PromptTokens: 412, CompletionTokens: 133, TotalTokens: 545, Source: session.Counted, EstimatedCostUSD: &cost}

	exampleResponse = invoke.Response{
		Response: exampleText, SessionID: exampleSession, Turn: 1, Model: exampleModel, FinishReason: "STOP",
		ToolCalls: []session.ToolCall{exampleCall}, Usage: exampleUsage, Warnings: []string{},
	}
	exampleInfo = invoke.SessionInfo{
		SessionID: exampleSession, CreatedAt: exampleTime, UpdatedAt: exampleTime, ExpiresAt: exampleTime.AddDate(0, 0, 30),
		Turns: 1, TotalTokens: 545, Title: exampleQuery,
	}
	exampleTurn = invoke.TurnInfo{
		Turn: 1, Query: exampleQuery, Response: exampleText, ToolCalls: []session.ToolCall{exampleCall}, Usage: exampleUsage,
		Model: exampleModel, RequestID: exampleRequest, CreatedAt: exampleTime,
	}
	exampleReport = health.Report{
		Status: health.Healthy, Service: "invoke", Version: version.Version, Revision: "invoke-00042-abc", Environment: "production", UptimeSeconds: 86400,
		Agent: &health.Agent{Name: "assistant", Model: exampleModel},
		Dependencies: map[string]health.State{
			"session_store": {Status: health.Healthy, LatencyMS: 12, CheckedAt: exampleTime},
			"model":         {Status: health.Healthy, LatencyMS: 87, CheckedAt: exampleTime},
		},
	}
)

// exampleStream is a stream as it goes over the wire.
func exampleStream() string {
	var b strings.Builder
	for _, event := range []struct {
		name string
		data any
	}{
		{"start", invoke.Start{RequestID: exampleRequest, SessionID: exampleSession, Model: exampleModel}},
		{"tool_call", invoke.ToolStart{ID: "call_1_1", Name: exampleCall.Name, Args: map[string]any{"project_type": "web"}}},
		{"tool_result", invoke.ToolEnd{ID: "call_1_1", ToolCall: exampleCall}},
		{"delta", invoke.Delta{Text: exampleText[:21]}},
		{"delta", invoke.Delta{Text: exampleText[21:]}},
		{"done", enveloped("Agent invocation successful", exampleResponse)},
	} {
		encoded, err := json.Marshal(event.data)
		if err != nil {
			panic(err) // it is all above
		}
		b.WriteString("event: " + event.name + "\ndata: " + string(encoded) + "\n\n")
	}
	return b.String()
}
