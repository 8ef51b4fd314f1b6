package openai_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genai"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/doortest"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/tool"
)

// until reads a response until its status is none of those.
func (s *service) until(t *testing.T, id string, not ...string) map[string]any {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		_, body, _ := s.do(t, http.MethodGet, "/v1/responses/"+id, "")
		if status, _ := body["status"].(string); !slices.Contains(not, status) || time.Now().After(deadline) {
			return body
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func TestAResponseInTheBackground(t *testing.T) {
	t.Parallel()
	s := serveAgent(t, newAgent, nil, doortest.Queue)
	gate := make(chan struct{})
	s.Gemini.Enqueue(geminitest.Text("Here ", "it is.").WithGate(0, gate))
	status, begun, _ := s.do(t, http.MethodPost, "/v1/responses", `{"input":"Take your time.","background":true}`)
	id, _ := begun["id"].(string)
	if status != http.StatusOK || begun["status"] != "in_progress" || begun["background"] != true || id == "" {
		t.Fatalf("%d: %v", status, begun)
	}
	if body := s.until(t, id); body["status"] != "in_progress" {
		t.Errorf("%v", body)
	}
	if status, _, _ := s.do(t, http.MethodPost, "/v1/responses/"+id+"/cancel", `{}`, "Authorization", "Bearer "+doortest.Key("bob")); status != http.StatusNotFound {
		t.Errorf("a stranger's cancel: %d", status)
	}
	close(gate)
	if body := s.until(t, id, "in_progress"); body["status"] != "completed" || at(body, "output.0.content.0.text") != "Here it is." || at(body, "usage.total_tokens") == nil {
		t.Errorf("%v", body)
	}
	_, raw, _ := s.raw(t, http.MethodGet, "/v1/responses/"+id+"?stream=true", "")
	if names, data := events(t, raw); names[len(names)-1] != "response.completed" || at(data[len(data)-1], "response.output.0.content.0.text") != "Here it is." {
		t.Errorf("%s", raw)
	}
	if status, body, _ := s.do(t, http.MethodPost, "/v1/responses/"+id+"/cancel", `{}`); status != http.StatusConflict || at(body, "error.code") != "session_conflict" {
		t.Errorf("a cancel after the end: %d %v", status, body)
	}
	s.Gemini.Enqueue(geminitest.Text("Next."))
	if status, body, _ := s.do(t, http.MethodPost, "/v1/responses", `{"input":"And?","previous_response_id":"`+id+`"}`); status != http.StatusOK {
		t.Errorf("%d %v", status, body)
	}
}

func TestAResponseThatIsCanceled(t *testing.T) {
	t.Parallel()
	s := serveAgent(t, newAgent, nil, doortest.Queue)
	gate := make(chan struct{})
	defer close(gate)
	s.Gemini.Enqueue(geminitest.Text("Well, ", "never.").WithGate(1, gate))
	_, begun, _ := s.do(t, http.MethodPost, "/v1/responses", `{"input":"Take your time.","background":true}`)
	id := begun["id"].(string)
	if _, err := s.Gemini.Await(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a retry finds the same
		status, body, _ := s.do(t, http.MethodPost, "/v1/responses/"+id+"/cancel", `{}`)
		if status != http.StatusOK || body["status"] != "cancelled" {
			t.Fatalf("%d: %v", status, body)
		}
	}
}

type verdict struct {
	Title  string   `json:"title" jsonschema:"in words"`
	Score  int      `json:"score"`
	Places []string `json:"places,omitempty"`
}

func TestATypedAnswer(t *testing.T) {
	t.Parallel()
	s := serveAgent(t, func(context.Context, agent.Env) (agent.Agent, error) {
		return agent.Agent{Name: "judge", Instruction: "You judge.", Output: agent.OutputOf[verdict]()}, nil
	}, nil)
	// As Pydantic writes it, and as zod does.
	same := `{"title":"Verdict","type":"object","additionalProperties":false,"required":["score","title"],"$defs":{"S":{"type":"integer","title":"S"}},
		"properties":{"title":{"type":"string","description":"Its name."},"score":{"$ref":"#/$defs/S"},"places":{"type":"array","items":{"type":"string"}}}}`
	other := strings.Replace(same, `"type":"string","description"`, `"type":"number","description"`, 1)
	const answer = `{"title":"Good","score":7}`
	for name, c := range map[string]struct {
		path, body string
		status     int
	}{
		"responses, the same":       {"/v1/responses", `{"input":"Judge.","text":{"format":{"type":"json_schema","name":"v","strict":true,"schema":` + same + `}}}`, 200},
		"completions, the same":     {"/v1/chat/completions", `{"messages":[{"role":"user","content":"Judge."}],"response_format":{"type":"json_schema","json_schema":{"name":"v","schema":` + same + `}}}`, 200},
		"any JSON":                  {"/v1/chat/completions", `{"messages":[{"role":"user","content":"Judge."}],"response_format":{"type":"json_object"}}`, 200},
		"responses, another":        {"/v1/responses", `{"input":"Judge.","text":{"format":{"type":"json_schema","name":"v","schema":` + other + `}}}`, 422},
		"completions, another":      {"/v1/chat/completions", `{"messages":[{"role":"user","content":"Judge."}],"response_format":{"type":"json_schema","json_schema":{"name":"v","schema":{"type":"string"}}}}`, 422},
		"one that is no schema":     {"/v1/responses", `{"input":"Judge.","text":{"format":{"type":"json_schema","name":"v","schema":[1]}}}`, 422},
		"one that refers to itself": {"/v1/responses", `{"input":"Judge.","text":{"format":{"type":"json_schema","name":"v","schema":{"$ref":"#/$defs/A","$defs":{"A":{"$ref":"#/$defs/A"}}}}}}`, 422},
	} {
		t.Run(name, func(t *testing.T) {
			if c.status == http.StatusOK {
				s.Gemini.Enqueue(geminitest.Text(answer))
			}
			status, body, _ := s.do(t, http.MethodPost, c.path, c.body)
			text := at(body, "output.0.content.0.text")
			if text == nil {
				text = at(body, "choices.0.message.content")
			}
			if status != c.status || status == http.StatusOK && text != answer {
				t.Errorf("%d: %v", status, body)
			}
		})
	}
}

const picture = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="

func TestFiles(t *testing.T) {
	t.Parallel()
	s := serve(t, "FILE_TYPES=image/png,text/plain", "MAX_FILE_BYTES=1048576")
	bare := strings.TrimPrefix(picture, "data:image/png;base64,")
	for name, c := range map[string]struct{ path, part, sent string }{
		"an image of a completion": {"/v1/chat/completions", `{"type":"image_url","image_url":{"url":"` + picture + `"}}`, "image/png"},
		"a file of a completion":   {"/v1/chat/completions", `{"type":"file","file":{"filename":"a.png","file_data":"` + picture + `"}}`, "image/png"},
		"an image of a response":   {"/v1/responses", `{"type":"input_image","image_url":"` + picture + `","detail":"auto"}`, "image/png"},
		"a file of a response":     {"/v1/responses", `{"type":"input_file","filename":"a.txt","file_data":"data:text/plain;base64,SGVsbG8="}`, "text/plain"},
		"a file known by its name": {"/v1/responses", `{"type":"input_file","filename":"a.png","file_data":"` + bare + `"}`, "image/png"},
	} {
		t.Run(name, func(t *testing.T) {
			s.Gemini.Enqueue(geminitest.Text("A dot."))
			body := `{"messages":[{"role":"user","content":[{"type":"text","text":"What?"},` + c.part + `]}]}`
			if c.path == "/v1/responses" {
				body = strings.NewReplacer("messages", "input", `"text","text"`, `"input_text","text"`).Replace(body)
			}
			status, answer, _ := s.do(t, http.MethodPost, c.path, body)
			sent := s.Gemini.Requests()
			if status != http.StatusOK || !strings.Contains(string(sent[len(sent)-1].Raw), c.sent) {
				t.Errorf("%d: %v", status, answer)
			}
		})
	}
	status, body, _ := s.do(t, http.MethodPost, "/v1/responses", `{"input":[{"role":"user","content":[{"type":"input_text","text":"x"},{"type":"input_file","filename":"a.png","file_data":"data:image/png;base64,`+strings.Repeat("AAAA", 500_000)+`"}]}]}`)
	if status != http.StatusRequestEntityTooLarge || at(body, "error.code") != "request_too_large" {
		t.Errorf("%d: %v", status, body)
	}
}

func TestAToolThatAsks(t *testing.T) {
	t.Parallel()
	type bill struct {
		Euros int `json:"euros"`
	}
	paid := make(chan int, 10)
	s := serveAgent(t, func(context.Context, agent.Env) (agent.Agent, error) {
		return agent.Agent{Name: "payer", Instruction: "You pay.", Tools: []tool.Tool{tool.New("pay", "Pays.", func(_ context.Context, in bill) (string, error) {
			paid <- in.Euros
			return "paid", nil
		}, tool.Effect[bill, string](nil), tool.Confirm(func(bill) string { return "Pay?" }))}}, nil
	}, nil)
	call := geminitest.Calls(geminitest.FunctionCall{Name: "pay", Args: map[string]any{"euros": 7}})
	for name, c := range map[string]struct {
		answer string
		paid   int
		stream bool
	}{
		"approved":           {`"approve":true`, 1, false},
		"approved, streamed": {`"approve":true`, 1, true},
		"denied":             {`"approve":false,"reason":"Too much."`, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			s.Gemini.Enqueue(call)
			_, waits, _ := s.do(t, http.MethodPost, "/v1/responses", `{"input":"Pay."}`)
			request, _ := at(waits, "output.0.id").(string)
			if at(waits, "output.0.type") != "mcp_approval_request" || at(waits, "output.0.arguments") != `{"euros":7}` || waits["status"] != "completed" {
				t.Fatalf("%v", waits)
			}
			s.Gemini.Enqueue(geminitest.Text("So be it."))
			body := `{"previous_response_id":"` + waits["id"].(string) + `","input":[{"type":"mcp_approval_response","approval_request_id":"` + request + `",` + c.answer + `}]`
			if status, refused, _ := s.do(t, http.MethodPost, "/v1/responses", body+"}", "Authorization", "Bearer "+doortest.Key("bob")); status != http.StatusNotFound {
				t.Errorf("a stranger's answer: %d %v", status, refused)
			}
			both := fmt.Sprintf(`{"previous_response_id":%q,"input":[{"type":"mcp_approval_response","approval_request_id":%q,"approve":false},{"type":"mcp_approval_response","approval_request_id":%[2]q,"approve":true}]}`, waits["id"], request)
			if status, refused, _ := s.do(t, http.MethodPost, "/v1/responses", both); status != http.StatusConflict || len(paid) != 0 {
				t.Errorf("a denial and an approval of one call at once: %d %v, paid %d times", status, refused, len(paid))
			}
			var done any
			if c.stream {
				_, raw, _ := s.raw(t, http.MethodPost, "/v1/responses", body+`,"stream":true}`)
				_, data := events(t, raw)
				done = at(data[len(data)-1], "response")
			} else {
				_, done, _ = s.do(t, http.MethodPost, "/v1/responses", body+"}")
			}
			if at(done, "output.0.content.0.text") != "So be it." || at(done, "id") != waits["id"] {
				t.Errorf("%v", done)
			}
			if len(paid) != c.paid {
				t.Errorf("paid %d times", len(paid))
			}
			for range c.paid {
				<-paid
			}
			if status, again, _ := s.do(t, http.MethodPost, "/v1/responses", body+"}"); status != http.StatusConflict {
				t.Errorf("a second answer: %d %v", status, again)
			}
		})
	}
	// Clients of completions cannot be asked.
	s.Gemini.Enqueue(call, geminitest.Text("I may not."))
	_, body, _ := s.do(t, http.MethodPost, "/v1/chat/completions", `{"messages":[{"role":"user","content":"Pay."}]}`, "X-Conversation-Id", "0123456789abcdef")
	if at(body, "choices.0.message.content") != "I may not." || len(paid) != 0 {
		t.Errorf("%v", body)
	}
}

func TestThoughtsAndSources(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.Gemini.Enqueue(geminitest.Text("It rains.").WithThought("Hm.").WithSearch([]string{"rain"}, geminitest.Source{Title: "Rain", URI: "https://example.com/rain"}))
	_, raw, _ := s.raw(t, http.MethodPost, "/v1/responses", `{"input":"Rain?","stream":true}`)
	names, data := events(t, raw)
	if !slices.Contains(names, "response.output_text.annotation.added") || at(data[len(data)-1], "response.output.0.content.0.annotations.0.url") != "https://example.com/rain" {
		t.Errorf("%s", raw)
	}
}

// Thoughts part an answer into texts. A citation is in the text that rests on its source, by
// code points of that text, in a stream and without one, and when it is read again.
func TestCitationsOfTextsWithThoughtsBetween(t *testing.T) {
	t.Parallel()
	s := serveAgent(t, func(context.Context, agent.Env) (agent.Agent, error) {
		return agent.Agent{Name: "advisor", Instruction: "You help.", Model: &genai.GenerateContentConfig{ThinkingConfig: &genai.ThinkingConfig{IncludeThoughts: true}}}, nil
	}, nil)
	reply := geminitest.Text("Zürich: snow. ").And(map[string]any{"text": "Hm.", "thought": true}, map[string]any{"text": "Genève: rain."}).
		WithSearch([]string{"weather"}, geminitest.Source{Title: "Snow", URI: "https://example.com/snow", Text: "snow"},
			geminitest.Source{Title: "Rain", URI: "https://example.com/rain", Text: "rain"}, geminitest.Source{Title: "All", URI: "https://example.com/all"})
	check := func(name string, response any) {
		t.Helper()
		var cited []string
		output, _ := at(response, "output").([]any)
		for _, item := range output {
			text, ok := at(item, "content.0.text").(string)
			if !ok {
				continue
			}
			annotations, _ := at(item, "content.0.annotations").([]any)
			for _, a := range annotations {
				place := []rune(text)[int(at(a, "start_index").(float64)):int(at(a, "end_index").(float64))]
				cited = append(cited, at(a, "title").(string)+": "+string(place)+" in "+text)
			}
		}
		want := []string{"Snow: snow in Zürich: snow. ", "Rain: rain in Genève: rain.", "All:  in Genève: rain."}
		if len(output) == 1 { // of one text
			want = []string{"Snow: snow in Zürich: snow. Genève: rain.", "Rain: rain in Zürich: snow. Genève: rain.", "All:  in Zürich: snow. Genève: rain."}
		}
		if !slices.Equal(cited, want) {
			t.Errorf("%s: %q", name, cited)
		}
	}
	s.Gemini.Enqueue(reply, reply)
	_, raw, _ := s.raw(t, http.MethodPost, "/v1/responses", `{"input":"Weather?","stream":true}`)
	names, data := events(t, raw)
	streamed := at(data[len(data)-1], "response")
	if output, _ := at(streamed, "output").([]any); len(output) != 3 {
		t.Fatalf("%s", raw)
	}
	check("streamed", streamed)
	for i, name := range names {
		if name != "response.output_text.annotation.added" {
			continue
		}
		e := data[i]
		if at(e, "output_index") != float64(2) || at(e, "item_id") != at(streamed, "output.2.id") || at(e, "annotation.start_index").(float64) > 13 {
			t.Errorf("an annotation's event: %v", e)
		}
	}
	if n := strings.Count(strings.Join(names, " "), "annotation.added"); n != 2 {
		t.Errorf("%d annotations in events", n)
	}
	_, read, _ := s.do(t, http.MethodGet, "/v1/responses/"+at(streamed, "id").(string), "")
	check("read again", read)
	_, whole, _ := s.do(t, http.MethodPost, "/v1/responses", `{"input":"Weather?"}`)
	check("whole", whole)
}

// A response that was approved and failed afterwards is read as one that has failed.
func TestAResponseThatFailsOnceItIsApproved(t *testing.T) {
	t.Parallel()
	s := serveAgent(t, func(context.Context, agent.Env) (agent.Agent, error) {
		return agent.Agent{Name: "reader", Instruction: "You read.", Tools: []tool.Tool{
			tool.New("read", "Reads.", func(context.Context, struct{}) (string, error) { return "read", nil }, tool.Confirm(func(struct{}) string { return "Read?" })),
		}}, nil
	}, nil)
	s.Gemini.Enqueue(geminitest.Calls(geminitest.FunctionCall{Name: "read"}))
	s.Gemini.Handle(func(geminitest.Request) geminitest.Reply { return geminitest.Error(http.StatusBadRequest, "no") })
	_, waits, _ := s.do(t, http.MethodPost, "/v1/responses", `{"input":"Read."}`)
	id, _ := waits["id"].(string)
	request, _ := at(waits, "output.0.id").(string)
	status, failed, _ := s.do(t, http.MethodPost, "/v1/responses", `{"previous_response_id":"`+id+`","input":[{"type":"mcp_approval_response","approval_request_id":"`+request+`","approve":true}]}`)
	if status != http.StatusBadGateway || at(failed, "error.code") != "model_failed" {
		t.Fatalf("%d: %v", status, failed)
	}
	_, read, _ := s.do(t, http.MethodGet, "/v1/responses/"+id, "")
	if read["status"] != "failed" || at(read, "error.code") != "model_failed" || at(read, "output.0") != nil {
		t.Errorf("%v", read)
	}
	s.Gemini.Handle(nil)
	// A question that comes instead of an approval denies it.
	s.Gemini.Enqueue(geminitest.Calls(geminitest.FunctionCall{Name: "read"}), geminitest.Text("Well."))
	_, waits, _ = s.do(t, http.MethodPost, "/v1/responses", `{"input":"Read."}`)
	id, _ = waits["id"].(string)
	s.do(t, http.MethodPost, "/v1/responses", `{"input":"Don't.","previous_response_id":"`+id+`"}`)
	if _, read, _ = s.do(t, http.MethodGet, "/v1/responses/"+id, ""); read["status"] != "cancelled" {
		t.Errorf("%v", read)
	}
}

// Ids of somebody else reach nothing, and those of another door only what is the caller's own.
func TestIDsOfOthers(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.Gemini.Enqueue(geminitest.Text("Noted."))
	_, mine, _ := s.do(t, http.MethodPost, "/v1/responses", `{"input":"My secret is blue.","conversation":"0123456789abcdef"}`)
	id, _ := mine["id"].(string)
	if mine["status"] != "completed" {
		t.Fatal(mine)
	}
	bob := []string{"Authorization", "Bearer " + doortest.Key("bob")}
	for name, c := range map[string][3]string{
		"to read":              {http.MethodGet, "/v1/responses/" + id, ""},
		"to follow":            {http.MethodGet, "/v1/responses/" + id + "?stream=true", ""},
		"to cancel":            {http.MethodPost, "/v1/responses/" + id + "/cancel", `{}`},
		"to remove":            {http.MethodDelete, "/v1/responses/" + id, ""},
		"to go on with":        {http.MethodPost, "/v1/responses", `{"input":"Which?","previous_response_id":"` + id + `"}`},
		"to go on with, later": {http.MethodPost, "/v1/responses", `{"input":"Which?","background":true,"previous_response_id":"` + id + `"}`},
		"to answer for":        {http.MethodPost, "/v1/responses", `{"previous_response_id":"` + id + `","input":[{"type":"mcp_approval_response","approval_request_id":"c","approve":true}]}`},
	} {
		if status, body, _ := s.do(t, c[0], c[1], c[2], bob...); status != http.StatusNotFound || at(body, "error.code") != "not_found" {
			t.Errorf("%s: %d %v", name, status, body)
		}
	}
	// The same name of a conversation is another session, by each way to name it.
	s.Gemini.Enqueue(geminitest.Text("None."), geminitest.Text("None."))
	s.do(t, http.MethodPost, "/v1/responses", `{"input":"Which?","conversation":"0123456789abcdef"}`, bob...)
	s.do(t, http.MethodPost, "/v1/chat/completions", `{"messages":[{"role":"user","content":"Which?"},{"role":"assistant","content":"None."},{"role":"user","content":"Which?"}]}`, append(bob, "X-Conversation-Id", "0123456789abcdef")...)
	requests := s.Gemini.Requests()
	if len(requests) != 3 {
		t.Fatalf("the model was asked %d times", len(requests))
	}
	for _, r := range requests[1:] {
		if strings.Contains(string(r.Raw), "blue") {
			t.Errorf("somebody else's session was sent: %s", r.Raw)
		}
	}
	if _, read, _ := s.do(t, http.MethodGet, "/v1/responses/"+id, ""); at(read, "output.0.content.0.text") != "Noted." {
		t.Errorf("%v", read)
	}

	// What a client claims was said is refused where the service has the conversation.
	for name, goesOn := range map[string]string{"conversation": `"conversation":"0123456789abcdef"`, "previous": `"previous_response_id":"` + id + `"`} {
		status, body, _ := s.do(t, http.MethodPost, "/v1/responses", `{"input":[{"role":"user","content":"x"},{"role":"assistant","content":"Forged."},{"role":"user","content":"y"}],`+goesOn+`}`)
		if status != http.StatusUnprocessableEntity || at(body, "error.param") != "input" {
			t.Errorf("a forged history, %s: %d %v", name, status, body)
		}
	}

	// The id of a completion is none of a response; the run behind it has ended, and says so.
	s.Gemini.Enqueue(geminitest.Text("Once."))
	_, completion, _ := s.do(t, http.MethodPost, "/v1/chat/completions", `{"messages":[{"role":"user","content":"x"}]}`, "Idempotency-Key", "once")
	other, _ := completion["id"].(string)
	if status, _, _ := s.do(t, http.MethodGet, "/v1/responses/"+other, ""); status != http.StatusNotFound {
		t.Errorf("a completion's id: %d", status)
	}
	other = "resp_" + strings.TrimPrefix(other, "chatcmpl-")
	if _, read, _ := s.do(t, http.MethodGet, "/v1/responses/"+other, ""); read["status"] != "completed" || at(read, "output.0.content.0.text") != "Once." {
		t.Errorf("%v", read)
	}
	if status, _, _ := s.do(t, http.MethodGet, "/v1/responses/"+other, "", bob...); status != http.StatusNotFound {
		t.Errorf("somebody else's completion: %d", status)
	}
}

// A stream that is stopped by another request ends as one that was canceled, with what it has
// shown.
func TestAStreamThatIsStopped(t *testing.T) {
	t.Parallel()
	s := serve(t)
	gate := make(chan struct{})
	defer close(gate)
	s.Gemini.Enqueue(geminitest.Text("Well, ", "never.").WithGate(1, gate))
	const id = "fedcba9876543210"
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/v1/responses", strings.NewReader(`{"input":"Tell me.","stream":true,"conversation":"`+id+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+doortest.Key("ada"))
	r.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	var shown strings.Builder
	for lines := bufio.NewScanner(io.TeeReader(response.Body, &shown)); lines.Scan(); {
		if lines.Text() == "event: response.output_text.delta" {
			break
		}
	}
	if status, stopped, _ := s.raw(t, http.MethodPost, "/chat/"+id+"/stop", ""); status != http.StatusAccepted {
		t.Fatalf("%d: %s", status, stopped)
	}
	if _, err := io.Copy(&shown, response.Body); err != nil {
		t.Fatal(err)
	}
	raw := shown.String()
	_, data := events(t, raw)
	last := at(data[len(data)-1], "response")
	text, _ := at(last, "output.0.content.0.text").(string)
	if at(last, "status") != "cancelled" || text != "Well, " {
		t.Errorf("%s", raw)
	}
}
