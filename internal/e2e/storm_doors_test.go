package e2e_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A stormDoor is the protocol that a call of a storm comes by.
type stormDoor int

const (
	doorInvoke stormDoor = iota
	doorChat
	doorResponses
	doorCompletions
	doorMCP
	doorA2A
	stormDoors
)

func (d stormDoor) String() string {
	return [stormDoors]string{"invoke", "chat", "responses", "completions", "mcp", "a2a"}[d]
}

// names reports whether a client can name a session that it shares with other calls.
func (d stormDoor) names() bool { return d != doorChat && d != doorCompletions }

// unknownTurn is the number of a turn that a door does not say.
const unknownTurn = -1

// ownSession is the id by which a call names its new session, where the client chooses it.
func (c stormCall) ownSession() string { return fmt.Sprintf("session-of-call-%08d", c.Number) }

// request returns a call's request in the form of its door. session is "" for a new one.
func (c stormCall) request(session string) (path string, body map[string]any, headers []string) {
	key := fmt.Sprintf("key %d", c.Number)
	headers = []string{"Idempotency-Key", key, "Accept", "application/json, text/event-stream"}
	switch c.Door {
	case doorChat:
		return "/chat", said(c.ownSession(), c.Query()), headers
	case doorResponses:
		body = map[string]any{"input": c.Query()}
		if session != "" {
			body["conversation"] = session
		}
		return "/v1/responses", body, headers
	case doorCompletions:
		body = map[string]any{"model": "fruit-stand", "messages": []any{map[string]any{"role": "user", "content": c.Query()}}}
		return "/v1/chat/completions", body, append(headers, "X-Conversation-Id", c.ownSession())
	case doorMCP:
		arguments := map[string]any{"query": c.Query()}
		if session != "" {
			arguments["session_id"] = session
		}
		return "/mcp", rpc("tools/call", map[string]any{"name": "ask", "arguments": arguments}), headers
	default:
		message := map[string]any{"messageId": key, "role": "ROLE_USER", "parts": []any{map[string]any{"text": c.Query()}}}
		if session != "" {
			message["contextId"] = session
		}
		return "/a2a", rpc("SendMessage", map[string]any{"message": message}), headers
	}
}

func rpc(method string, params map[string]any) map[string]any {
	return map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
}

// errorCode finds the gate's code in an error of any door.
var errorCode = regexp.MustCompile(`"(?:error|code)":"([a-z_]+)"|\(([a-z_]+)\)"`)

// outcome reads an answer in the form of a call's door.
func (c stormCall) outcome(a answer) (o outcome, err error) {
	o.replayed = a.Header.Get("Idempotency-Replayed") == "true"
	if seconds, err := strconv.Atoi(a.Header.Get("Retry-After")); err == nil {
		o.wait = time.Duration(seconds) * time.Second
	}
	text := a.Body
	if event, ok := bytes.CutPrefix(text, []byte("event: message\ndata: ")); ok { // MCP's older form
		text = bytes.TrimSpace(event)
	}
	got := turn{Turn: unknownTurn}
	switch {
	case a.Status != http.StatusOK:
	case c.Door == doorChat:
		got, err = chatTurn(text)
		got.SessionID = c.ownSession()
	case c.Door == doorResponses:
		var e struct {
			ID, Status string
			Output     []struct{ Content []struct{ Text string } }
		}
		err = json.Unmarshal(text, &e)
		for _, item := range e.Output {
			for _, part := range item.Content {
				got.Response += part.Text
			}
		}
		raw, _ := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(e.ID, "resp_"))
		got.SessionID, _, _ = strings.Cut(string(raw), ".") // of the run's id
	case c.Door == doorCompletions:
		var e struct {
			Choices []struct{ Message struct{ Content string } }
		}
		if err = json.Unmarshal(text, &e); len(e.Choices) == 1 {
			got.Response, got.SessionID = e.Choices[0].Message.Content, c.ownSession()
		}
	case c.Door == doorMCP:
		var e struct {
			Result struct {
				IsError bool
				Content turn `json:"structuredContent"`
			}
		}
		if err = json.Unmarshal(text, &e); !e.Result.IsError {
			got = e.Result.Content
		}
	default:
		var e struct {
			Result struct {
				Task struct {
					ID, ContextID string
					Status        struct{ State string }
					Artifacts     []struct{ Parts []struct{ Text string } }
				}
			}
		}
		err = json.Unmarshal(text, &e)
		task := e.Result.Task
		for _, artifact := range task.Artifacts {
			for _, part := range artifact.Parts {
				got.Response += part.Text
			}
		}
		if task.Status.State == "TASK_STATE_COMPLETED" {
			got.SessionID = task.ContextID
		}
	}
	if err != nil {
		return o, fmt.Errorf("%v: status %d: %w: %s", c.Door, a.Status, err, a.Body)
	}
	if got.SessionID != "" && got.Response != "" {
		o.turn = &got
		return o, nil
	}
	for _, match := range errorCode.FindAllSubmatch(a.Body, -1) {
		code := string(match[1]) + string(match[2])
		if o.code == "" || slices.Contains(passing, code) {
			o.code = code
		}
	}
	if o.code == "" && c.Door == doorChat && a.Status == http.StatusOK {
		o.code = "model_failed" // an error part has a sentence, and no code
	}
	if o.code == "" {
		return o, fmt.Errorf("%v: status %d with neither an answer nor an error: %s", c.Door, a.Status, a.Body)
	}
	return o, nil
}

// chatTurn reads the parts of a stream of /chat. A stream that ends with an error is no
// turn.
func chatTurn(text []byte) (got turn, err error) {
	for _, event := range strings.Split(string(text), "\n\n") {
		data, ok := strings.CutPrefix(event, "data: ")
		if !ok || data == "[DONE]" {
			continue
		}
		var p struct {
			Type, Delta string
			Metadata    struct{ Turn int } `json:"messageMetadata"`
		}
		if err := json.Unmarshal([]byte(data), &p); err != nil {
			return got, err
		}
		switch p.Type {
		case "text-delta":
			got.Response += p.Delta
		case "finish":
			got.Turn = p.Metadata.Turn
		case "error":
			return turn{}, nil
		}
	}
	if got.Turn == 0 {
		return turn{}, nil // it was cut off
	}
	return got, nil
}

// send makes a request of a door that the tests' document does not have.
func (m *member) send(ctx context.Context, path string, body any, headers ...string) (a answer, err error) {
	encoded, err := json.Marshal(body)
	if err != nil {
		return a, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, m.URL+path, bytes.NewReader(encoded))
	if err != nil {
		return a, err
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := m.client.Do(r)
	if err != nil {
		return a, err
	}
	defer func() { _ = response.Body.Close() }()
	read, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header, read}, err
}

func TestAnswersOfDoorsAreRead(t *testing.T) {
	t.Parallel()
	id := "resp_" + base64.RawURLEncoding.EncodeToString([]byte("session-0123456789.turn"))
	tests := []struct {
		door stormDoor
		body string
		want turn
		code string
	}{
		{doorChat, "data: {\"type\":\"text-delta\",\"delta\":\"Yes\"}\n\ndata: {\"type\":\"finish\",\"messageMetadata\":{\"turn\":1}}\n\ndata: [DONE]\n\n", turn{SessionID: stormCall{}.ownSession(), Turn: 1, Response: "Yes"}, ""},
		{doorChat, "data: {\"type\":\"text-delta\",\"delta\":\"Yes\"}\n\ndata: {\"type\":\"error\",\"errorText\":\"No.\"}\n\n", turn{}, "model_failed"},
		{doorResponses, `{"id": "` + id + `", "output": [{"content": [{"text": "Yes"}]}]}`, turn{SessionID: "session-0123456789", Turn: unknownTurn, Response: "Yes"}, ""},
		{doorResponses, `{"error":{"message":"Wait.","code":"rate_limited"}}`, turn{}, "rate_limited"},
		{doorCompletions, `{"choices": [{"message": {"content": "Yes"}}]}`, turn{SessionID: stormCall{}.ownSession(), Turn: unknownTurn, Response: "Yes"}, ""},
		{doorMCP, `{"result": {"structuredContent": {"response": "Yes", "session_id": "s", "turn": 2}}}`, turn{SessionID: "s", Turn: 2, Response: "Yes"}, ""},
		{doorMCP, `{"result": {"isError": true, "content": [{"text": "Wait. (timeout)"}]}}`, turn{}, "timeout"},
		{doorA2A, `{"result": {"task": {"contextId": "s", "status": {"state": "TASK_STATE_COMPLETED"}, "artifacts": [{"parts": [{"text": "Yes"}]}]}}}`, turn{SessionID: "s", Turn: unknownTurn, Response: "Yes"}, ""},
		{doorA2A, `{"error":{"code":-32000,"data":[{"metadata":{"error":"shutting_down"}}]}}`, turn{}, "shutting_down"},
	}
	for _, test := range tests {
		o, err := stormCall{Door: test.door}.outcome(answer{Status: http.StatusOK, Body: []byte(test.body)})
		got := turn{}
		if o.turn != nil {
			got = *o.turn
		}
		if err != nil || got.SessionID != test.want.SessionID || got.Turn != test.want.Turn || got.Response != test.want.Response || o.code != test.code {
			t.Errorf("%v: %s: %+v, %q, %v", test.door, test.body, got, o.code, err)
		}
	}
}
