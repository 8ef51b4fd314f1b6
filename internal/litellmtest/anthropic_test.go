package litellmtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/gatehouse/internal/slowtest"
	"example.com/gatehouse/internal/trial"
)

// A message is a request to Anthropic's Messages API.
type message struct {
	Model     string
	MaxTokens int `json:"max_tokens"`
	System    json.RawMessage
	Messages  []struct {
		Role    string
		Content blocks
	}
	Tools []struct {
		Name        string
		InputSchema map[string]any `json:"input_schema"`
	}
	Stream bool
}

// Blocks are the content of a message; a plain text is one block.
type blocks []block

type block struct {
	Type      string
	Text      string
	ID        string          // of tool_use
	Name      string          // of tool_use
	ToolUseID string          `json:"tool_use_id"` // of tool_result
	Content   json.RawMessage // of tool_result
	Source    struct {
		Type      string
		MediaType string `json:"media_type"`
		Data      string
	} // of image
}

func (b *blocks) UnmarshalJSON(raw []byte) error {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		*b = blocks{{Type: "text", Text: text}}
		return nil
	}
	return json.Unmarshal(raw, (*[]block)(b))
}

// An anthropic is a server with Anthropic's Messages API. For a question with "rate" in
// it, it calls the tool twice, and then answers with the last result.
// https://docs.anthropic.com/en/api/messages
type anthropic struct {
	*httptest.Server
	mu       sync.Mutex
	requests []message
	refused  []string
	fail     int // status of the next responses; 0: none fails
}

func startAnthropic(t *testing.T) *anthropic {
	a := &anthropic{}
	a.Server = httptest.NewServer(http.HandlerFunc(a.serve))
	t.Cleanup(a.Close)
	return a
}

var toolID = regexp.MustCompile(`^[a-zA-Z0-9_-]+$`)

// check returns what the API refuses of a request.
func (m *message) check(r *http.Request) string {
	switch {
	case r.URL.Path != "/v1/messages":
		return "not_found_error: " + r.URL.Path
	case r.Header.Get("X-Api-Key") != "upstream":
		return "authentication_error: invalid x-api-key"
	case r.Header.Get("Anthropic-Version") == "":
		return "invalid_request_error: anthropic-version: header is required"
	case m.MaxTokens <= 0:
		return "invalid_request_error: max_tokens: Field required"
	case len(m.Messages) == 0 || m.Messages[0].Role != "user":
		return "invalid_request_error: messages: first message must use the user role"
	}
	open := map[string]bool{} // calls of the message before, which need their results in this one
	seen := map[string]bool{}
	for i, each := range m.Messages {
		results := 0
		for _, b := range each.Content {
			switch {
			case b.Type == "text" && strings.TrimSpace(b.Text) == "":
				return fmt.Sprintf("invalid_request_error: messages.%d: text content blocks must be non-empty", i)
			case b.Type == "tool_result" && !open[b.ToolUseID]:
				return fmt.Sprintf("invalid_request_error: messages.%d: unexpected tool_use_id: %s", i, b.ToolUseID)
			case b.Type == "tool_result":
				results++
				delete(open, b.ToolUseID)
			}
		}
		if len(open) > 0 {
			return fmt.Sprintf("invalid_request_error: messages.%d: tool_use ids were found without tool_result blocks immediately after", i)
		}
		for _, b := range each.Content {
			if b.Type != "tool_use" {
				continue
			}
			if !toolID.MatchString(b.ID) || seen[b.ID] {
				return fmt.Sprintf("invalid_request_error: messages.%d: tool_use ids must be unique: %q", i, b.ID)
			}
			seen[b.ID], open[b.ID] = true, true
		}
	}
	for _, tool := range m.Tools {
		if tool.InputSchema["type"] != "object" {
			return "invalid_request_error: tools: input_schema.type: Field required"
		}
	}
	return ""
}

func (a *anthropic) serve(w http.ResponseWriter, r *http.Request) {
	var m message
	refusal := ""
	if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
		refusal = "invalid_request_error: " + err.Error()
	} else {
		refusal = m.check(r)
	}
	status := http.StatusBadRequest
	a.mu.Lock()
	a.requests = append(a.requests, m)
	if refusal != "" {
		a.refused = append(a.refused, refusal)
	} else if a.fail != 0 {
		status, refusal = a.fail, "overloaded_error: Overloaded"
	}
	a.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if refusal != "" {
		kind, text, _ := strings.Cut(refusal, ": ")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]any{"type": "error", "error": map[string]any{"type": kind, "message": text}})
		return
	}
	last := m.Messages[len(m.Messages)-1].Content
	end := last[len(last)-1]
	said := end.Text
	if end.Type == "tool_result" {
		var parts blocks
		_ = json.Unmarshal(end.Content, &parts)
		said = parts[len(parts)-1].Text
	}
	content, stop := []any{map[string]any{"type": "text", "text": "It is " + said + "."}}, "end_turn"
	if end.Type == "text" && strings.Contains(end.Text, "rate") {
		stop, content = "tool_use", nil
		for i, currency := range []string{"EUR", "GBP"} {
			content = append(content, map[string]any{"type": "tool_use", "id": fmt.Sprintf("toolu_%d_%d", len(m.Messages), i), "name": "get_exchange_rate", "input": map[string]any{"from": currency}})
		}
	}
	// Of a prompt of 1000 tokens, 300 were read from the cache.
	usage := map[string]any{"input_tokens": 700, "cache_read_input_tokens": 300, "cache_creation_input_tokens": 0, "output_tokens": 100}
	whole := map[string]any{
		"id": "msg_1", "type": "message", "role": "assistant", "model": m.Model, "content": content, "stop_reason": stop, "stop_sequence": nil, "usage": usage,
	}
	if !m.Stream {
		_ = json.NewEncoder(w).Encode(whole)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	send := func(event string, data map[string]any) {
		data["type"] = event
		raw, _ := json.Marshal(data)
		fmt.Fprintf(w, "event: %s\ndata: %s\n\n", event, raw)
	}
	whole["content"], whole["stop_reason"] = []any{}, nil
	whole["usage"] = map[string]any{"input_tokens": 700, "cache_read_input_tokens": 300, "cache_creation_input_tokens": 0, "output_tokens": 1}
	send("message_start", map[string]any{"message": whole})
	for i, each := range content {
		b := each.(map[string]any)
		if b["type"] == "text" {
			send("content_block_start", map[string]any{"index": i, "content_block": map[string]any{"type": "text", "text": ""}})
			text := b["text"].(string)
			for _, piece := range []string{text[:5], text[5:]} {
				send("content_block_delta", map[string]any{"index": i, "delta": map[string]any{"type": "text_delta", "text": piece}})
			}
		} else {
			input, _ := json.Marshal(b["input"])
			send("content_block_start", map[string]any{"index": i, "content_block": map[string]any{"type": "tool_use", "id": b["id"], "name": b["name"], "input": map[string]any{}}})
			send("ping", map[string]any{})
			for _, piece := range []string{"", string(input[:4]), string(input[4:])} {
				send("content_block_delta", map[string]any{"index": i, "delta": map[string]any{"type": "input_json_delta", "partial_json": piece}})
			}
		}
		send("content_block_stop", map[string]any{"index": i})
	}
	send("message_delta", map[string]any{"delta": map[string]any{"stop_reason": stop, "stop_sequence": nil}, "usage": map[string]any{"output_tokens": 100}})
	send("message_stop", map[string]any{})
}

// take returns the requests since it was last called.
func (a *anthropic) take() []message {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := a.requests
	a.requests = nil
	return all
}

func TestAnAnthropicModelBehindLiteLLM(t *testing.T) {
	slowtest.Skip(t, "an Anthropic model behind LiteLLM")
	up := startAnthropic(t)
	s := startGate(t, startLiteLLM(t, up.URL, "anthropic/other-model"))
	t.Cleanup(func() {
		if len(up.refused) > 0 {
			t.Errorf("the upstream has refused: %q", up.refused)
		}
	})
	session := ""
	for _, stream := range []bool{false, true} {
		t.Run(fmt.Sprintf("a tool call, stream %v", stream), func(t *testing.T) {
			got, err := s.Ask(t.Context(), trial.Question{Query: "What is the rate of EUR?", Stream: stream, SessionID: session})
			if err != nil {
				t.Fatal(err)
			}
			session = got.SessionID
			if got.Status != http.StatusOK || got.Error != "" || got.Text != `It is {"from": "GBP", "rate": 1.25}.` || len(got.Tools) != 2 || got.Tools[1].Args["from"] != "GBP" {
				t.Fatalf("%d %s %s: %q, %v", got.Status, got.Error, got.Message, got.Text, got.Tools)
			}
			usage, _ := got.Data["usage"].(map[string]any)
			// Two calls, each of 700 tokens, 300 from the cache and 100 of the answer. LiteLLM's
			// Gemini endpoints do not say what came from the cache: it costs the whole price.
			if diff := cmp.Diff(map[string]any{
				"prompt_tokens": 2000.0, "cached_tokens": 0.0, "thought_tokens": 0.0, "completion_tokens": 200.0, "total_tokens": 2200.0,
				"source": "model", "estimated_cost_usd": 0.009,
			}, usage); diff != "" {
				t.Errorf("usage (-want +got):\n%s", diff)
			}
			asked := up.take()
			if len(asked) != 2 || !strings.Contains(string(asked[0].System), "Answer in one sentence.") || len(asked[0].Tools) != 1 || asked[0].Stream != stream || asked[0].Model != "other-model" {
				t.Errorf("the upstream was sent %+v", asked)
			}
		})
	}

	t.Run("the session goes on", func(t *testing.T) {
		got, err := s.Ask(t.Context(), trial.Question{Query: "Thanks", SessionID: session})
		if err != nil || got.Turn != 3 || got.Text != "It is Thanks." {
			t.Fatalf("%+v, %v", got, err)
		}
		up.take()
	})

	t.Run("an overloaded upstream is asked again, then 503", func(t *testing.T) {
		up.mu.Lock()
		up.fail = 529
		up.mu.Unlock()
		got, err := s.Ask(t.Context(), trial.Question{Query: "Hello?"})
		if err != nil || got.Status != http.StatusServiceUnavailable || got.Error != "model_unavailable" {
			t.Errorf("%d %s, %v", got.Status, got.Error, err)
		}
	})
}
