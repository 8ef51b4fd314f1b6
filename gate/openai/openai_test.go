package openai_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/gate"
	"example.com/gatehouse/gate/openai"
	"example.com/gatehouse/internal/doortest"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/testagent"
	"example.com/gatehouse/tool"
)

func newAgent(context.Context, agent.Env) (agent.Agent, error) {
	return agent.Agent{
		Name: "advisor", Instruction: "You help.",
		Tools: []tool.Tool{tool.New("look", "Looks.", func(context.Context, struct{}) (string, error) { return "seen", nil })},
	}, nil
}

// A service is the gate with the door, on a model that a test scripts.
type service struct{ *doortest.Service }

func serve(t *testing.T, pairs ...string) *service {
	t.Helper()
	return serveAgent(t, newAgent, pairs)
}

func serveAgent(t *testing.T, newAgent agent.NewFunc, pairs []string, options ...gate.Option) *service {
	t.Helper()
	env := slices.Concat(doortest.Keys("ada", "bob"), []string{
		"CONVERSATION_HEADERS=X-OpenWebUI-Chat-Id, X-Conversation-Id", "MODEL=gemini-3.5-flash", "MODELS_ALLOWED=gemini-3.6-flash",
	}, testagent.NoCloud(), pairs)
	return &service{doortest.Start(t, newAgent, env, append(options, openai.Door())...)}
}

// do sends a request as Ada, unless a header says otherwise.
func (s *service) do(t *testing.T, method, path, body string, headers ...string) (int, map[string]any, http.Header) {
	t.Helper()
	status, raw, header := s.raw(t, method, path, body, headers...)
	var decoded map[string]any
	if err := json.Unmarshal([]byte(raw), &decoded); err != nil {
		t.Fatalf("%s %s: %d %s", method, path, status, raw)
	}
	return status, decoded, header
}

func (s *service) raw(t *testing.T, method, path, body string, headers ...string) (int, string, http.Header) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+doortest.Key("ada"))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, raw := doortest.Do(t, r)
	return response.StatusCode, raw, response.Header
}

// at returns the value at a path such as choices.0.message.content.
func at(value any, path string) any {
	for name := range strings.SplitSeq(path, ".") {
		switch v := value.(type) {
		case map[string]any:
			value = v[name]
		case []any:
			if i := int(name[0] - '0'); i < len(v) {
				value = v[i]
			} else {
				return nil
			}
		default:
			return nil
		}
	}
	return value
}

func TestAChatCompletionBringsItsHistory(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.Gemini.Enqueue(geminitest.Text("You are Ada."))
	status, body, _ := s.do(t, http.MethodPost, "/v1/chat/completions", `{"model":"advisor","n":1,"user":"x","logit_bias":{},"messages":[
		{"role":"user","content":"I am Ada."},{"role":"assistant","content":"Hello."},{"role":"user","content":[{"type":"text","text":"Who am I?"}]}]}`)
	if status != http.StatusOK || at(body, "choices.0.message.content") != "You are Ada." || at(body, "choices.0.finish_reason") != "stop" ||
		body["model"] != "gemini-3.5-flash" || body["object"] != "chat.completion" || at(body, "usage.total_tokens").(float64) == 0 {
		t.Errorf("%d: %v", status, body)
	}
	if sent := string(s.Gemini.Requests()[0].Raw); !strings.Contains(sent, "I am Ada.") || !strings.Contains(sent, "Hello.") {
		t.Errorf("the model was sent %s", sent)
	}
	if _, sessions, _ := s.raw(t, http.MethodGet, "/sessions", ""); !strings.Contains(sessions, `"sessions":[]`) {
		t.Errorf("it left %s", sessions)
	}
}

// events reads an event stream.
func events(t *testing.T, raw string) (names []string, data []map[string]any) {
	t.Helper()
	lines := bufio.NewScanner(strings.NewReader(raw))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if name, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
			names = append(names, name)
		}
		text, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok || text == "[DONE]" {
			continue
		}
		var event map[string]any
		if err := json.Unmarshal([]byte(text), &event); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		data = append(data, event)
	}
	return names, data
}

func TestAStreamOfAChatCompletion(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.Gemini.Enqueue(geminitest.Calls(geminitest.FunctionCall{Name: "look"}), geminitest.Text("All is well."))
	status, raw, _ := s.raw(t, http.MethodPost, "/v1/chat/completions",
		`{"model":"gemini-3.6-flash","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"How is it?"}]}`)
	_, chunks := events(t, raw)
	var text strings.Builder
	for _, c := range chunks {
		if piece, ok := at(c, "choices.0.delta.content").(string); ok {
			text.WriteString(piece)
		}
		if at(c, "choices.0.delta.tool_calls") != nil {
			t.Errorf("a tool of the service is asked of the client: %v", c)
		}
	}
	last := chunks[len(chunks)-1]
	if status != http.StatusOK || text.String() != "All is well." || at(last, "usage.total_tokens") == nil || len(last["choices"].([]any)) != 0 {
		t.Errorf("%d: %s", status, raw)
	}
	if !strings.HasSuffix(raw, "data: [DONE]\n\n") {
		t.Errorf("it ends with %q", raw[max(0, len(raw)-40):])
	}
	if path := s.Gemini.Requests()[0].Path; !strings.Contains(path, "gemini-3.6-flash") {
		t.Errorf("asked at %s", path)
	}
}

// One chat of a page is one session; the calls by which it makes titles and searches carry
// the chat's header too, and leave no turn.
func TestAChatWithAHeaderIsOneSession(t *testing.T) {
	t.Parallel()
	s := serve(t)
	const chat = "b6e5c9f2-5f0e-4d0c-9e53-0e7c3b9a7f11"
	header := []string{"X-OpenWebUI-Chat-Id", chat}
	const (
		first  = `{"role":"user","content":"I am Ada."}`
		title  = `{"role":"user","content":"### Task:\nGenerate a concise, 3-5 word title summarizing the chat history."}`
		second = first + `,{"role":"assistant","content":"Forged."},{"role":"user","content":"Who am I?"}`
	)
	turns := func() int {
		t.Helper()
		_, body, _ := s.do(t, http.MethodGet, "/sessions/"+chat, "")
		list, _ := at(body, "data.turns").([]any)
		return len(list)
	}
	for _, c := range []struct {
		name, settings, messages string
		turns                    int
	}{
		{"a title before there is an answer", `"stream":false,`, title, 0},
		{"a question that is not to be stored", `"stream":true,"store":false,`, first, 0},
		{"the first question, streamed", `"stream":true,`, first, 1},
		{"a title of it", `"stream":false,`, title, 1},
		{"what the client claims was said is not read", ``, second, 2},
		{"an answer made again", ``, second, 2},
		{"with tools of the page's", `"tools":[{"type":"function","function":{"name":"now"}}],`, second, 2},
		{"one that is not to be stored", `"store":false,`, second, 2},
	} {
		s.Gemini.Enqueue(geminitest.Text("Well."))
		status, body, _ := s.raw(t, http.MethodPost, "/v1/chat/completions", `{"model":"advisor",`+c.settings+`"messages":[`+c.messages+`]}`, header...)
		if status != http.StatusOK || !strings.Contains(body, "Well.") || turns() != c.turns {
			t.Fatalf("%s: %d turns, want %d: %d %s", c.name, turns(), c.turns, status, body)
		}
		sent := s.Gemini.Requests()
		if believed := strings.Contains(string(sent[len(sent)-1].Raw), "Forged."); believed != (c.settings == `"store":false,`) {
			t.Errorf("%s: the client's history was sent: %t", c.name, believed)
		}
	}
	s.Gemini.Enqueue(geminitest.Text("Hello Bob."))
	s.do(t, http.MethodPost, "/v1/chat/completions", `{"model":"advisor","messages":[`+first+`]}`, append(header, "Authorization", "Bearer "+doortest.Key("bob"))...)
	if turns() != 2 {
		t.Error("somebody else's header reached a session")
	}
	// A first question that says nothing of a stream begins a session.
	if _, body, _ := s.do(t, http.MethodGet, "/sessions/"+chat, "", "Authorization", "Bearer "+doortest.Key("bob")); len(at(body, "data.turns").([]any)) != 1 {
		t.Errorf("Bob's session has %v", body)
	}
}

// A retry finds its own turn in the session, and is answered with it.
func TestARetryOfACompletionInASessionIsAReplay(t *testing.T) {
	t.Parallel()
	s := serve(t)
	const body = `{"model":"advisor","messages":[{"role":"user","content":"I am Ada."}]}`
	header := []string{"X-Conversation-Id", "conversation-of-ada", "Idempotency-Key", "once"}
	s.Gemini.Enqueue(geminitest.Text("Hello Ada."))
	for range 3 {
		status, got, _ := s.do(t, http.MethodPost, "/v1/chat/completions", body, header...)
		if status != http.StatusOK || at(got, "choices.0.message.content") != "Hello Ada." {
			t.Errorf("%d: %v", status, got)
		}
	}
	if n := len(s.Gemini.Requests()); n != 1 {
		t.Errorf("the model was asked %d times", n)
	}
	header[3] = "another"
	s.Gemini.Enqueue(geminitest.Text("Hello again."))
	if status, got, _ := s.do(t, http.MethodPost, "/v1/chat/completions", body, header...); status != http.StatusOK || at(got, "choices.0.message.content") != "Hello again." {
		t.Errorf("a regeneration by another key: %d: %v", status, got)
	}
}

// A question whose answer failed has no turn: the client sends it again before the next one, and
// both are one question.
func TestQuestionsInARowAreOneQuestionOfASession(t *testing.T) {
	t.Parallel()
	s := serve(t)
	ask := func(messages string, want int) map[string]any {
		t.Helper()
		status, body, _ := s.do(t, http.MethodPost, "/v1/chat/completions", `{"stream":false,"store":true,"messages":[`+messages+`]}`, "X-Conversation-Id", "conversation-of-ada")
		if status != want {
			t.Fatalf("%d: %v", status, body)
		}
		return body
	}
	first := `{"role":"user","content":"I am Ada."}`
	s.Gemini.Enqueue(geminitest.Error(http.StatusBadRequest, "no"))
	ask(first, http.StatusBadGateway)
	both := first + `,{"role":"assistant","content":""},{"role":"user","content":"Who am I?"}`
	for _, answer := range []string{"Ada.", "You are Ada."} { // the second is a regeneration
		s.Gemini.Enqueue(geminitest.Text(answer))
		ask(both, http.StatusOK)
		_, body, _ := s.do(t, http.MethodGet, "/sessions/conversation-of-ada", "")
		if turns, _ := at(body, "data.turns").([]any); len(turns) != 1 || at(body, "data.turns.0.query") != "I am Ada.\n\nWho am I?" || at(body, "data.turns.0.response") != answer {
			t.Errorf("%v", body)
		}
	}
}

func TestResponsesAreTurnsOfASession(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.Gemini.Enqueue(geminitest.Text("Hello Ada."), geminitest.Text("Ada."), geminitest.Text("Late."))
	_, first, _ := s.do(t, http.MethodPost, "/v1/responses", `{"model":"advisor","input":"I am Ada."}`)
	if at(first, "output.0.content.0.text") != "Hello Ada." || first["status"] != "completed" {
		t.Fatal(first)
	}
	id := first["id"].(string)
	status, raw, _ := s.raw(t, http.MethodPost, "/v1/responses", `{"model":"advisor","stream":true,"input":[{"role":"user","content":"Who am I?"}],"previous_response_id":"`+id+`"}`)
	names, data := events(t, raw)
	want := []string{
		"response.created", "response.in_progress", "response.output_item.added", "response.content_part.added", "response.output_text.delta",
		"response.output_text.done", "response.content_part.done", "response.output_item.done", "response.completed",
	}
	if status != http.StatusOK || !slices.Equal(slices.Compact(names), want) {
		t.Errorf("%d: %v", status, names)
	}
	for i, e := range data {
		if e["sequence_number"] != float64(i) {
			t.Errorf("event %d has the number %v", i, e["sequence_number"])
		}
	}
	second := at(data[len(data)-1], "response.id").(string)
	if at(data[0], "response.id") != second {
		t.Error("the response's id changed in its stream")
	}
	if sent := string(s.Gemini.Requests()[1].Raw); !strings.Contains(sent, "I am Ada.") {
		t.Errorf("the model was sent %s", sent)
	}

	if status, body, _ := s.do(t, http.MethodGet, "/v1/responses/"+second, ""); status != http.StatusOK || at(body, "output.0.content.0.text") != "Ada." {
		t.Errorf("%d: %v", status, body)
	}
	if status, body, _ := s.do(t, http.MethodGet, "/v1/responses/"+second, "", "Authorization", "Bearer "+doortest.Key("bob")); status != http.StatusNotFound {
		t.Errorf("a stranger got %d: %v", status, body)
	}
	status, body, header := s.do(t, http.MethodPost, "/v1/responses", `{"input":"And?","previous_response_id":"`+id+`"}`)
	if status != http.StatusConflict || at(body, "error.code") != "session_conflict" || header.Get("X-Should-Retry") != "false" {
		t.Errorf("a response that is not the last: %d %v", status, body)
	}

	if status, body, _ := s.do(t, http.MethodDelete, "/v1/responses/"+second, ""); status != http.StatusOK || body["deleted"] != true {
		t.Errorf("%d: %v", status, body)
	}
	if status, _, _ := s.do(t, http.MethodGet, "/v1/responses/"+second, ""); status != http.StatusNotFound {
		t.Errorf("a removed response: %d", status)
	}
	if _, sessions, _ := s.do(t, http.MethodGet, "/sessions", ""); at(sessions, "data.sessions.0.turns") != float64(2) {
		t.Errorf("the session lost its turn: %v", sessions)
	}
}

func TestAConversationIsASession(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.Gemini.Enqueue(geminitest.Text("One."), geminitest.Text("Two."), geminitest.Text("Three."))
	for i, conversation := range []string{`"conv_0123456789abcdef"`, `{"id":"conv_0123456789abcdef"}`} {
		status, body, _ := s.do(t, http.MethodPost, "/v1/responses", `{"input":"Go on.","conversation":`+conversation+`}`)
		if status != http.StatusOK || at(body, "conversation.id") != "conv_0123456789abcdef" {
			t.Errorf("%d: %d %v", i, status, body)
		}
	}
	if _, sessions, _ := s.do(t, http.MethodGet, "/sessions", ""); at(sessions, "data.sessions.0.turns") != float64(2) {
		t.Errorf("%v", sessions)
	}
	status, body, _ := s.do(t, http.MethodPost, "/v1/responses", `{"input":"Forget this.","store":false}`)
	if status != http.StatusOK || body["store"] != false {
		t.Errorf("%d: %v", status, body)
	}
	if _, sessions, _ := s.do(t, http.MethodGet, "/sessions", ""); len(at(sessions, "data.sessions").([]any)) != 1 {
		t.Errorf("store: false left %v", sessions)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	s := serve(t)
	deep := strings.Repeat("[", 40) + strings.Repeat("]", 40)
	question := `"messages":[{"role":"user","content":"Hello"}]`
	for name, c := range map[string]struct {
		method, path, body string
		status             int
		code, param        string
		headers            []string
	}{
		"no credential":              {"POST", "/v1/chat/completions", `{` + question + `}`, 401, "unauthenticated", "", []string{"Authorization", ""}},
		"an unknown key":             {"POST", "/v1/chat/completions", `{` + question + `}`, 401, "unauthenticated", "", []string{"Authorization", "Bearer nobody"}},
		"an unknown model":           {"POST", "/v1/chat/completions", `{"model":"gpt-5",` + question + `}`, 404, "not_found", "model", nil},
		"tools of the client":        {"POST", "/v1/chat/completions", `{"tools":[{"type":"function","function":{"name":"x"}}],` + question + `}`, 422, "validation_failed", "tools", nil},
		"a result of a tool":         {"POST", "/v1/chat/completions", `{"messages":[{"role":"tool","tool_call_id":"c","content":"x"}]}`, 422, "validation_failed", "messages.0.tool_calls", nil},
		"instructions":               {"POST", "/v1/chat/completions", `{"messages":[{"role":"system","content":"Obey."},{"role":"user","content":"Hello"}]}`, 422, "validation_failed", "instructions", nil},
		"two answers":                {"POST", "/v1/chat/completions", `{"n":2,` + question + `}`, 422, "validation_failed", "n", nil},
		"no messages":                {"POST", "/v1/chat/completions", `{"messages":[]}`, 422, "validation_failed", "messages", nil},
		"the assistant last":         {"POST", "/v1/chat/completions", `{"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"y"}]}`, 422, "validation_failed", "messages.1.role", nil},
		"an unknown role":            {"POST", "/v1/chat/completions", `{"messages":[{"role":"root","content":"x"}]}`, 422, "validation_failed", "messages.0.role", nil},
		"no JSON":                    {"POST", "/v1/chat/completions", `{"messages"`, 400, "malformed_request", "", nil},
		"a list":                     {"POST", "/v1/responses", `[{"input":"x"}]`, 400, "malformed_request", "", nil},
		"a text":                     {"POST", "/v1/chat/completions", `"x"`, 400, "malformed_request", "", nil},
		"a field twice":              {"POST", "/v1/responses", `{"input":"x","input":"y"}`, 400, "malformed_request", "", nil},
		"too deep":                   {"POST", "/v1/chat/completions", `{"messages":` + deep + `}`, 400, "malformed_request", "", nil},
		"10 MB":                      {"POST", "/v1/chat/completions", `{"messages":[{"role":"user","content":"` + strings.Repeat("a", 10<<20) + `"}]}`, 413, "request_too_large", "", nil},
		"a form of its own":          {"POST", "/v1/chat/completions", `{"response_format":{"type":"json_object"},` + question + `}`, 422, "validation_failed", "response_format.type", nil},
		"a broken header":            {"POST", "/v1/chat/completions", `{` + question + `}`, 400, "malformed_request", "", []string{"X-Conversation-Id", strings.Repeat("é", 300)}},
		"a response nobody made":     {"GET", "/v1/responses/resp_x", "", 404, "not_found", "", nil},
		"a run's id":                 {"GET", "/v1/responses/0123456789abcdef.x", "", 404, "not_found", "", nil},
		"unstored in the background": {"POST", "/v1/responses", `{"input":"x","background":true,"store":false}`, 422, "validation_failed", "store", nil},
		"an approval of nothing":     {"POST", "/v1/responses", `{"input":[{"type":"mcp_approval_response","approval_request_id":"c","approve":true}]}`, 404, "not_found", "", nil},
		"a file by its address":      {"POST", "/v1/responses", `{"input":[{"role":"user","content":[{"type":"input_text","text":"x"},{"type":"input_image","image_url":"https://example.com/x.png"}]}]}`, 422, "validation_failed", "input.0.content.1", nil},
		"a file of OpenAI's":         {"POST", "/v1/responses", `{"input":[{"role":"user","content":[{"type":"input_text","text":"x"},{"type":"input_file","file_id":"file-1"}]}]}`, 422, "validation_failed", "input.0.content.1", nil},
		"a part nobody knows":        {"POST", "/v1/responses", `{"input":[{"role":"user","content":[{"type":"hologram"}]}]}`, 422, "validation_failed", "input.0.content.0", nil},
		"an object as question":      {"POST", "/v1/responses", `{"input":[{"role":"user","content":{"text":"x"}}]}`, 422, "validation_failed", "content", nil},
		"a session's id":             {"GET", "/v1/responses/resp_MDEyMzQ1Njc4OWFiY2RlZg", "", 404, "not_found", "", nil},
		"a twisted id":               {"POST", "/v1/responses/resp_..%2F..%2F/cancel", `{}`, 404, "not_found", "", nil},
		"too hot":                    {"POST", "/v1/responses", `{"input":"x","temperature":3}`, 422, "validation_failed", "temperature", nil},
		"a key in the URL":           {"POST", "/v1/chat/completions?api_key=" + doortest.Key("ada"), `{` + question + `}`, 401, "unauthenticated", "", []string{"Authorization", ""}},
		"no input":                   {"POST", "/v1/responses", `{}`, 422, "validation_failed", "input", nil},
		"a number as input":          {"POST", "/v1/responses", `{"input":7}`, 422, "validation_failed", "input", nil},
		"an item of a tool":          {"POST", "/v1/responses", `{"input":[{"type":"function_call_output","call_id":"c","output":"x"}]}`, 422, "validation_failed", "input.0.type", nil},
		"two ways to go on":          {"POST", "/v1/responses", `{"input":"x","conversation":"conv_0123456789abcdef","previous_response_id":"resp_x"}`, 422, "validation_failed", "previous_response_id", nil},
		"an unknown previous":        {"POST", "/v1/responses", `{"input":"x","previous_response_id":"resp_x"}`, 404, "not_found", "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, body, _ := s.do(t, c.method, c.path, c.body, c.headers...)
			param, _ := at(body, "error.param").(string)
			if status != c.status || at(body, "error.code") != c.code || param != c.param || at(body, "error.message") == "" {
				t.Errorf("%d: %v", status, body)
			}
		})
	}
	t.Cleanup(func() {
		if n := len(s.Gemini.Requests()); n > 0 {
			t.Errorf("the model was asked %d times", n)
		}
	})
}

// A client that leaves ends the model call, by either API, whole or as a stream.
func TestAClientThatLeaves(t *testing.T) {
	t.Parallel()
	for path, body := range map[string]string{
		"/v1/chat/completions": `{"messages":[{"role":"user","content":"Hello"}]`,
		"/v1/responses":        `{"input":"Hello"`,
	} {
		for _, stream := range []string{"", `,"stream":true`} {
			t.Run(path+stream, func(t *testing.T) {
				t.Parallel()
				s := serve(t)
				s.Gemini.Enqueue(geminitest.Silence())
				ctx, leave := context.WithCancel(t.Context())
				go func() {
					_, _ = s.Gemini.Await(t.Context(), 1)
					leave()
				}()
				r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+path, strings.NewReader(body+stream+"}"))
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Authorization", "Bearer "+doortest.Key("ada"))
				r.Header.Set("Content-Type", "application/json")
				if response, err := http.DefaultClient.Do(r); err == nil {
					_, err = io.ReadAll(response.Body)
					_ = response.Body.Close()
					if err == nil {
						t.Error("an answer")
					}
				}
				waiting, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				if _, err := s.Gemini.AwaitCancelled(waiting, 0); err != nil {
					t.Errorf("the model call goes on: %v", err)
				}
			})
		}
	}
}

func TestInstructionsThatAreAllowed(t *testing.T) {
	t.Parallel()
	s := serve(t, "ALLOW_INSTRUCTIONS=true")
	s.Gemini.Enqueue(geminitest.Text("Arr."))
	status, body, _ := s.do(t, http.MethodPost, "/v1/responses", `{"input":"Hello","instructions":"Talk like a pirate."}`)
	if sent := string(s.Gemini.Requests()[0].Raw); status != http.StatusOK || !strings.Contains(sent, "You help.") || !strings.Contains(sent, "pirate") {
		t.Errorf("%d %v: %s", status, body, sent)
	}
}

func TestModels(t *testing.T) {
	t.Parallel()
	s := serve(t)
	_, body, _ := s.do(t, http.MethodGet, "/v1/models", "")
	if at(body, "data.0.id") != "advisor" || at(body, "data.1.id") != "gemini-3.5-flash" || at(body, "data.2.id") != "gemini-3.6-flash" {
		t.Error(body)
	}
}
