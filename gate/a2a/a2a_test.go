package a2a_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	sdk "github.com/a2aproject/a2a-go/v2/a2a"
	"github.com/a2aproject/a2a-go/v2/a2aclient"
	"github.com/a2aproject/a2a-go/v2/a2aclient/agentcard"
	"github.com/a2aproject/a2a-go/v2/a2acompat/a2av0"
	"go.uber.org/goleak"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/gate"
	"example.com/gatehouse/gate/a2a"
	"example.com/gatehouse/internal/auth/authtest"
	"example.com/gatehouse/internal/doortest"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/tool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const cardPath = "/.well-known/agent-card.json"

// A service is an agent behind the gate with the door.
type service struct{ *doortest.Service }

type price struct {
	Amount int64 `json:"amount"`
}

func keeper(context.Context, agent.Env) (agent.Agent, error) {
	return agent.Agent{
		Name: "keeper", Description: "Keeps the library.", Examples: []string{"How many books are there?"},
		Tools: []tool.Tool{
			tool.New("count", "Counts books.", func(context.Context, struct{}) (map[string]any, error) { return map[string]any{"n": 3}, nil }),
			tool.New("draw", "Draws a book.", func(context.Context, struct{}) (tool.File, error) {
				return tool.File{Name: "book.txt", Type: "text/plain", Data: []byte("a book")}, nil
			}),
			tool.New("fall", "Falls.", func(context.Context, struct{}) (string, error) { panic("hunter2") }),
		},
	}, nil
}

func start(t *testing.T, env ...string) *service {
	t.Helper()
	return startAgent(t, keeper, env...)
}

func startAgent(t *testing.T, newAgent agent.NewFunc, env ...string) *service {
	t.Helper()
	return startWith(t, newAgent, env)
}

func startWith(t *testing.T, newAgent agent.NewFunc, env []string, options ...gate.Option) *service {
	t.Helper()
	return &service{doortest.Start(t, newAgent, append(doortest.Keys("ada", "bob"), env...), append(options, a2a.Door())...)}
}

// A keyed transport sends an API key with each request.
type keyed string

func (k keyed) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("X-API-Key", string(k))
	return http.DefaultTransport.RoundTrip(r)
}

var versions = []sdk.ProtocolVersion{sdk.Version, a2av0.Version}

// connect makes the SDK's client of a version, by the agent's card.
func (s *service) connect(t *testing.T, version sdk.ProtocolVersion, who string) *a2aclient.Client {
	t.Helper()
	card, err := agentcard.NewResolver(nil).Resolve(t.Context(), s.URL)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range card.SupportedInterfaces {
		if i.ProtocolVersion == version {
			card.SupportedInterfaces = []*sdk.AgentInterface{i}
			break
		}
	}
	client := &http.Client{Transport: keyed(doortest.Key(who))}
	c, err := a2aclient.NewFromCard(t.Context(), card, a2aclient.WithJSONRPCTransport(client), a2av0.WithJSONRPCTransport(a2av0.JSONRPCTransportConfig{Client: client}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Destroy() })
	return c
}

func say(text string) *sdk.SendMessageRequest {
	return &sdk.SendMessageRequest{Message: sdk.NewMessage(sdk.MessageRoleUser, sdk.NewTextPart(text))}
}

func send(t *testing.T, c *a2aclient.Client, req *sdk.SendMessageRequest) *sdk.Task {
	t.Helper()
	result, err := c.SendMessage(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	task, ok := result.(*sdk.Task)
	if !ok {
		t.Fatalf("%T", result)
	}
	return task
}

func textOf(task *sdk.Task) (text string) {
	for _, a := range task.Artifacts {
		for _, p := range a.Parts {
			text += p.Text()
		}
	}
	return text
}

func TestSend(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(string(version), func(t *testing.T) {
			t.Parallel()
			s := start(t)
			s.Gemini.Enqueue(geminitest.Text("Hello Ada."), geminitest.Text("You are Ada."))
			c := s.connect(t, version, "ada")
			first := send(t, c, say("I am Ada."))
			if first.Status.State != sdk.TaskStateCompleted || textOf(first) != "Hello Ada." || !strings.HasPrefix(string(first.ID), first.ContextID+".") {
				t.Fatalf("%+v", first)
			}
			again := say("Who am I?")
			again.Message.ContextID = first.ContextID
			second := send(t, c, again)
			if second.ContextID != first.ContextID || second.ID == first.ID || !strings.Contains(string(s.Gemini.Requests()[1].Raw), "I am Ada.") {
				t.Errorf("%+v", second)
			}
			if repeated := send(t, c, again); repeated.ID != second.ID || len(s.Gemini.Requests()) != 2 {
				t.Errorf("a message that is sent twice is two turns: %+v", repeated)
			}
			again.Message.Parts = sdk.ContentParts{sdk.NewTextPart("Something else.")}
			if _, err := c.SendMessage(t.Context(), again); err == nil {
				t.Error("a message's id is used twice")
			}
			got, err := c.GetTask(t.Context(), &sdk.GetTaskRequest{ID: second.ID})
			if err != nil || textOf(got) != "You are Ada." || got.Status.State != sdk.TaskStateCompleted || len(got.History) != 1 || got.History[0].Parts[0].Text() != "Who am I?" {
				t.Errorf("%+v, %v", got, err)
			}
			// A context of the client's own choice.
			s.Gemini.Enqueue(geminitest.Text("Hello."))
			own := say("Hello")
			own.Message.ContextID = "0199b2c4-6f1e-7a51-9c0a-3c7e2f5b8d11"
			if task := send(t, c, own); task.ContextID != own.Message.ContextID {
				t.Errorf("%+v", task)
			}
			if _, err := c.CancelTask(t.Context(), &sdk.CancelTaskRequest{ID: second.ID}); err == nil || !strings.Contains(err.Error(), "cannot be canceled") {
				t.Errorf("canceling what is over: %v", err)
			}
		})
	}
}

// What a client shows of a stream is the answer.
// A task that is the answer of an earlier call has the gate's header.
func TestAReplaySaysSo(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.Gemini.Enqueue(geminitest.Text("Hello."))
	for i, want := range []string{"", "true"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/a2a", strings.NewReader(
			`{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{"message":{"messageId":"m-1","contextId":"0123456789abcdef","role":"ROLE_USER","parts":[{"text":"Hello"}]}}}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("X-API-Key", doortest.Key("ada"))
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || !strings.Contains(string(body), "Hello.") || response.Header.Get("Idempotency-Replayed") != want {
			t.Errorf("call %d: %q, %v: %s", i+1, response.Header.Get("Idempotency-Replayed"), err, body)
		}
	}
}

func TestStream(t *testing.T) {
	t.Parallel()
	call := func(name string) geminitest.Reply {
		return geminitest.Calls(geminitest.FunctionCall{Name: name, Args: map[string]any{}})
	}
	tests := []struct {
		name    string
		replies []geminitest.Reply
		want    string
		state   sdk.TaskState
		steps   int
	}{
		{"text", []geminitest.Reply{geminitest.Text("Hel", "lo.")}, "Hello.", sdk.TaskStateCompleted, 0},
		{"a tool", []geminitest.Reply{call("count"), geminitest.Text("Three", " books.")}, "Three books.", sdk.TaskStateCompleted, 1},
		{"a tool that panics", []geminitest.Reply{call("fall"), geminitest.Text("Ouch.")}, "Ouch.", sdk.TaskStateCompleted, 1},
		{"a model that begins again", []geminitest.Reply{geminitest.Text("Wrong").CutAfter(0), geminitest.Text("Right.")}, "Right.", sdk.TaskStateCompleted, 0},
		{"a model that fails", []geminitest.Reply{geminitest.Text("Half").CutAfter(0), geminitest.Error(400, "secret"), geminitest.Error(400, "secret"), geminitest.Error(400, "secret")}, "", sdk.TaskStateFailed, 0},
		{"a model that refuses", []geminitest.Reply{geminitest.Blocked("SAFETY")}, "", sdk.TaskStateFailed, 0},
	}
	for _, version := range versions {
		for _, test := range tests {
			t.Run(string(version)+"/"+test.name, func(t *testing.T) {
				t.Parallel()
				s := start(t)
				s.Gemini.Enqueue(test.replies...)
				shown, steps := map[sdk.ArtifactID]string{}, 0
				var state sdk.TaskState
				for event, err := range s.connect(t, version, "ada").SendStreamingMessage(t.Context(), say("Go.")) {
					if err != nil {
						t.Fatal(err)
					}
					encoded, _ := json.Marshal(sdk.StreamResponse{Event: event})
					if bytes.Contains(encoded, []byte("secret")) || bytes.Contains(encoded, []byte("hunter2")) {
						t.Errorf("%s", encoded)
					}
					switch e := event.(type) {
					case *sdk.Task:
						state = e.Status.State
					case *sdk.TaskArtifactUpdateEvent:
						if !e.Append {
							shown[e.Artifact.ID] = ""
						}
						for _, p := range e.Artifact.Parts {
							shown[e.Artifact.ID] += p.Text()
						}
					case *sdk.TaskStatusUpdateEvent:
						if state = e.Status.State; state == sdk.TaskStateWorking {
							steps++
						}
					}
				}
				if state != test.state || steps != test.steps || test.want != "" && shown["answer"] != test.want {
					t.Errorf("%s with %q after %d steps", state, shown, steps)
				}
			})
		}
	}
}

// One owner's task and session are nothing to another.
func TestOwners(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(string(version), func(t *testing.T) {
			t.Parallel()
			s := start(t)
			s.Gemini.Enqueue(geminitest.Text("Hello Ada."), geminitest.Text("Who?"))
			hers := send(t, s.connect(t, version, "ada"), say("I am Ada."))
			bob := s.connect(t, version, "bob")
			_, err := bob.GetTask(t.Context(), &sdk.GetTaskRequest{ID: hers.ID})
			_, unknown := bob.GetTask(t.Context(), &sdk.GetTaskRequest{ID: "0123456789abcdef.0123456789abcdef"})
			if err == nil || unknown == nil || err.Error() != unknown.Error() || !strings.Contains(err.Error(), "There is no such task.") {
				t.Errorf("%v; an unknown task: %v", err, unknown)
			}
			if _, err := bob.CancelTask(t.Context(), &sdk.CancelTaskRequest{ID: hers.ID}); err == nil || !strings.Contains(err.Error(), "There is no such task.") {
				t.Errorf("%v", err)
			}
			for _, err := range bob.SubscribeToTask(t.Context(), &sdk.SubscribeToTaskRequest{ID: hers.ID}) {
				if err == nil || !strings.Contains(err.Error(), "There is no such task.") {
					t.Errorf("%v", err)
				}
			}
			into := say("Who am I?")
			into.Message.ContextID = hers.ContextID
			if task := send(t, bob, into); strings.Contains(string(s.Gemini.Requests()[1].Raw), "Ada") || textOf(task) != "Who?" {
				t.Error("bob reads ada's session")
			}
			into = say("And?")
			into.Message.TaskID = hers.ID
			if _, err := bob.SendMessage(t.Context(), into); err == nil || !strings.Contains(err.Error(), "There is no such task.") {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestFiles(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(string(version), func(t *testing.T) {
			t.Parallel()
			s := start(t)
			s.Gemini.Enqueue(geminitest.Calls(geminitest.FunctionCall{Name: "draw", Args: map[string]any{}}), geminitest.Text("Here."))
			c := s.connect(t, version, "ada")
			req := say("What is this?")
			file := sdk.NewRawPart([]byte("some words"))
			file.Filename, file.MediaType = "words.txt", "text/plain"
			req.Message.Parts = append(req.Message.Parts, file, sdk.NewDataPart(map[string]any{"shelf": "B7"}))
			task := send(t, c, req)
			sent := s.Gemini.Requests()[0].Raw
			if !bytes.Contains(sent, []byte("B7")) || !bytes.Contains(sent, []byte("c29tZSB3b3Jkcw")) && !bytes.Contains(sent, []byte("some words")) {
				t.Errorf("the model was sent %s", sent)
			}
			var got *sdk.Part
			for _, p := range task.Artifacts[0].Parts {
				if p.Filename == "book.txt" {
					got = p
				}
			}
			if got == nil || got.MediaType != "text/plain" || string(got.Raw()) != "a book" {
				t.Errorf("%+v", got)
			}
			file.MediaType = "application/x-msdownload"
			req.Message.ID = sdk.NewMessageID()
			if _, err := c.SendMessage(t.Context(), req); err == nil || strings.Contains(err.Error(), "message.parts[1]") {
				t.Errorf("a program, whose place is for developers only: %v", err)
			}
		})
	}
}

func TestTypedAnswers(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(string(version), func(t *testing.T) {
			t.Parallel()
			s := startAgent(t, func(context.Context, agent.Env) (agent.Agent, error) {
				return agent.Agent{Name: "teller", Output: agent.OutputOf[price]()}, nil
			})
			s.Gemini.Enqueue(geminitest.Text(`{"amount":7}`))
			c := s.connect(t, version, "ada")
			task := send(t, c, say("How much?"))
			read, err := c.GetTask(t.Context(), &sdk.GetTaskRequest{ID: task.ID})
			if err != nil {
				t.Fatal(err)
			}
			for _, task := range []*sdk.Task{task, read} {
				var amount any
				for _, p := range task.Artifacts[0].Parts {
					if value, ok := p.Data().(map[string]any); ok {
						amount = value["amount"]
					}
				}
				if amount != 7.0 {
					t.Errorf("%+v", task.Artifacts[0])
				}
			}
		})
	}
}

func post(t *testing.T, url, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	return doortest.Post(t, url, body, append([]string{"X-API-Key", doortest.Key("ada")}, headers...)...)
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	s := start(t)
	rpc := func(method, params string) string {
		return `{"jsonrpc":"2.0","id":1,"method":"` + method + `","params":` + params + `}`
	}
	v1 := func(message string) string { return rpc("SendMessage", `{"message":`+message+`}`) }
	v0 := func(message string) string { return rpc("message/send", `{"message":`+message+`}`) }
	hello := `"parts":[{"text":"Hello"}]`
	get := rpc("GetTask", `{"id":"0123456789abcdef.0123456789abcdef"}`)
	tests := []struct {
		name    string
		body    string
		headers []string
		status  int
		want    string
	}{
		{"a batch", "[" + get + "," + get + "]", nil, 400, "batches are not supported"},
		{"a broken batch", "[" + get, nil, 400, "batches are not supported"},
		{"broken JSON", `{"jsonrpc":`, nil, 200, `"code":-32700`},
		{"broken JSON, by the gate's code", `{"jsonrpc":`, nil, 200, `"error":"malformed_request"`},
		{"an unknown method, by the gate's code", rpc("tasks/destroy", "{}"), nil, 200, `"error":"not_found"`},
		{"nothing", "", nil, 200, `"code":-32700`},
		{"no JSON-RPC", `{"query":"hello"}`, nil, 200, `"code":-32600`},
		{"an id that is none", `{"jsonrpc":"2.0","id":{},"method":"GetTask"}`, nil, 200, `"code":-32600`},
		{"10 MB", v1(`{"messageId":"m","role":"ROLE_USER","parts":[{"text":"` + strings.Repeat("x", 10<<20) + `"}]}`), nil, 413, `"error":"request_too_large"`},
		{"a long question", v1(`{"messageId":"m","role":"ROLE_USER","parts":[{"text":"` + strings.Repeat("x", 10_001) + `"}]}`), nil, 200, "at most 10000 characters"},
		{"deep", rpc("GetTask", strings.Repeat("[", 50_000)+strings.Repeat("]", 50_000)), nil, 200, `"code":-32700`},
		{"a method twice", `{"jsonrpc":"2.0","id":1,"method":"GetTask","method":"SendMessage","params":{"message":{"messageId":"m","role":"ROLE_USER",` + hello + `}}}`, nil, 400, "must not name a field twice"},
		{"something after it", `{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{"message":{"messageId":"m","role":"ROLE_USER",` + hello + `}}}{}`, nil, 400, "nothing after it"},
		{"a text twice", v1(`{"messageId":"m","role":"ROLE_USER","parts":[{"text":"x","text":"y"}]}`), nil, 400, "must not name a field twice"},
		{"what is not UTF-8", v1(`{"messageId":"m","role":"ROLE_USER","parts":[{"text":"` + "\xff" + `"}]}`), nil, 400, "must be well-formed JSON in UTF-8"},
		{"33 levels", v1(`{"messageId":"m","role":"ROLE_USER","parts":[{"data":` + strings.Repeat("[", 28) + strings.Repeat("]", 28) + `}]}`), nil, 400, "must not nest more than 32 levels"},
		{"a text", `"x"`, nil, 400, `"code":-32600`},
		{"a method that is none", `{"jsonrpc":"2.0","id":1,"method":7}`, nil, 400, `"code":-32600`},
		{"parameters that are a list", rpc("SendMessage", "[1]"), nil, 200, "they are not what the method takes"},
		{"parameters of a stream that are a list", rpc("SendStreamingMessage", "[1]"), nil, 200, "they are not what the method takes"},
		{"parameters in 0.3 that are a list", rpc("message/send", "[1]"), nil, 200, `"code":-32602`},
		{"a number that is none", `{"jsonrpc":"2.0","id":1e400,"method":"GetTask"}`, nil, 400, `"code":-32600`},
		{"a form", "a=b", []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, `"error":"unsupported_media_type"`},
		{"no key", get, []string{"X-API-Key", ""}, 401, `"code":-31401`},
		{"another's key", get, []string{"X-API-Key", doortest.Key("eve")}, 401, `"error":"unauthenticated"`},
		{"a key in the wrong place", get, []string{"X-API-Key", "", "Authorization", "Bearer " + doortest.Key("ada")}, 401, `"error":"unauthenticated"`},
		{"somebody else's end user", get, []string{"X-End-User", "bob"}, 403, `"code":-31403`},
		{"a page elsewhere", get, []string{"Origin", "https://evil.example"}, 403, ""},
		{"an unknown version", get, []string{"A2A-Version", "7.0"}, 400, `"code":-32009`},
		{"a version to come", get, []string{"A2A-Version", "1.1"}, 400, `"code":-32009`},
		{"a method of the other version", rpc("message/send", "{}"), []string{"A2A-Version", "1.0"}, 200, `"code":-32601`},
		{"an unknown method", rpc("tasks/destroy", "{}"), nil, 200, `"code":-32601`},
		{"an unknown task", get, nil, 200, `"code":-32001`},
		{"a task that is none", rpc("GetTask", `{"id":"../x"}`), nil, 200, `"code":-32001`},
		{"a task without an id", rpc("tasks/get", `{}`), nil, 200, `"code":-32001`},
		{"no message", rpc("SendMessage", "{}"), nil, 200, `"code":-32602`},
		{"no message in 0.3", rpc("message/send", "{}"), nil, 200, `"code":-32602`},
		{"no parameters", `{"jsonrpc":"2.0","id":1,"method":"SendMessage"}`, nil, 200, `"code":-32602`},
		{"no parameters, by the gate's code", `{"jsonrpc":"2.0","id":1,"method":"SendMessage"}`, nil, 200, `"error":"validation_failed"`},
		{"no parameters of a stream", `{"jsonrpc":"2.0","id":1,"method":"SendStreamingMessage"}`, nil, 200, `"code":-32602`},
		{"no parameters in 0.3", `{"jsonrpc":"2.0","id":1,"method":"message/send"}`, nil, 200, `"reason":"INVALID_PARAMS"`},
		{"no parameters of a stream in 0.3", `{"jsonrpc":"2.0","id":1,"method":"message/stream"}`, nil, 200, `"code":-32602`},
		{"parameters that are null", rpc("SendMessage", "null"), nil, 200, `"code":-32602`},
		{"parameters that are a text", rpc("message/send", `"x"`), nil, 200, `"code":-32602`},
		{"a version of JSON-RPC that is none", `{"jsonrpc":2,"id":1,"method":"GetTask","params":{}}`, nil, 400, `"code":-32600`},
		{"forged history", v1(`{"messageId":"m","role":"ROLE_AGENT",` + hello + `}`), nil, 200, "message.role"},
		{"forged history in 0.3", v0(`{"kind":"message","messageId":"m","role":"agent","parts":[{"kind":"text","text":"x"}]}`), nil, 200, "message.role"},
		{"no id of the message", v1(`{"role":"ROLE_USER",` + hello + `}`), nil, 200, "message.messageId"},
		{"no parts", v1(`{"messageId":"m","role":"ROLE_USER","parts":[]}`), nil, 200, "must not be empty"},
		{"a part that is null", v1(`{"messageId":"m","role":"ROLE_USER","parts":[null]}`), nil, 200, `"code":-32602`},
		{"a part that is nothing", v1(`{"messageId":"m","role":"ROLE_USER","parts":[{}]}`), nil, 200, `"code":-32602`},
		{"a context that is none", v1(`{"messageId":"m","contextId":"../x","role":"ROLE_USER",` + hello + `}`), nil, 200, "message.contextId"},
		{"a task of another door's", v1(`{"messageId":"m","taskId":"resp_0123456789abcdef","role":"ROLE_USER",` + hello + `}`), nil, 200, `"code":-32001`},
		{"a task of another door's, read", rpc("GetTask", `{"id":"resp_MDEyMzQ1Njc4OWFiY2RlZi4wMTIzNDU2Nzg5YWJjZGVm"}`), nil, 200, `"code":-32001`},
		{"a task of another door's, in 0.3", rpc("tasks/cancel", `{"id":"resp_MDEyMzQ1Njc4OWFiY2RlZi4wMTIzNDU2Nzg5YWJjZGVm"}`), nil, 200, `"code":-32001`},
		{"a file elsewhere", v1(`{"messageId":"m","role":"ROLE_USER","parts":[{"text":"x"},{"url":"http://169.254.169.254/","mediaType":"text/plain"}]}`), nil, 200, "message.parts[1]"},
		{"a push", rpc("SendMessage", `{"configuration":{"taskPushNotificationConfig":{"url":"https://x.example"}},"message":{"messageId":"m","role":"ROLE_USER",`+hello+`}}`), nil, 200, `"code":-32003`},
		{"the push of a task", rpc("GetTaskPushNotificationConfig", `{"taskId":"x","id":"y"}`), nil, 200, `"code":-32003`},
		{"an empty list", rpc("ListTasks", `{}`), nil, 200, `"tasks":[]`},
		{"a list of a state that no task is in", rpc("ListTasks", `{"status":"TASK_STATE_REJECTED"}`), nil, 200, `"tasks":[]`},
		{"a list of too much", rpc("ListTasks", `{"pageSize":101}`), nil, 200, "pageSize must be from 1 to 100"},
		{"a list from a place that is none", rpc("ListTasks", `{"pageToken":"x"}`), nil, 200, `"code":-32602`},
		{"a list of a context that is none", rpc("ListTasks", `{"contextId":"../x"}`), nil, 200, `"code":-32602`},
		{"a card for callers", rpc("agent/getAuthenticatedExtendedCard", `{}`), nil, 200, `"code":-32007`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			resp, body := post(t, s.URL+"/a2a", test.body, test.headers...)
			if resp.StatusCode != test.status || !strings.Contains(body, test.want) || strings.Contains(body, "goroutine") || strings.Contains(body, "Go ") {
				t.Errorf("%d %.400s, want %d with %q", resp.StatusCode, body, test.status, test.want)
			}
		})
	}
	if len(s.Gemini.Requests()) != 0 {
		t.Error("the model was asked")
	}
}

// A task that is worked on is read, followed and canceled by other requests.
func TestCancel(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(string(version), func(t *testing.T) {
			t.Parallel()
			s := start(t)
			s.Gemini.Enqueue(geminitest.Text("Hello", " Ada.").SilentAfter(1))
			c, other := s.connect(t, version, "ada"), s.connect(t, version, "bob")
			var state sdk.TaskState
			var id sdk.TaskID
			followed := make(chan sdk.TaskState, 1)
			for event, err := range c.SendStreamingMessage(t.Context(), say("Hello")) {
				if err != nil {
					t.Fatal(err)
				}
				switch e := event.(type) {
				case *sdk.Task:
					id = e.ID
				case *sdk.TaskStatusUpdateEvent:
					state = e.Status.State
				case *sdk.TaskArtifactUpdateEvent:
					if id == "" || state != "" {
						continue
					}
					if task, err := c.GetTask(t.Context(), &sdk.GetTaskRequest{ID: id}); err != nil || task.Status.State != sdk.TaskStateWorking {
						t.Errorf("%+v, %v", task, err)
					}
					if _, err := other.CancelTask(t.Context(), &sdk.CancelTaskRequest{ID: id}); err == nil {
						t.Error("another owner cancels the task")
					}
					seen := make(chan struct{})
					go func() {
						var last sdk.TaskState
						for event, err := range c.SubscribeToTask(t.Context(), &sdk.SubscribeToTaskRequest{ID: id}) {
							if err != nil {
								break
							}
							switch e := event.(type) {
							case *sdk.Task:
								close(seen)
							case *sdk.TaskStatusUpdateEvent:
								last = e.Status.State
							}
						}
						followed <- last
					}()
					<-seen
					task, err := c.CancelTask(t.Context(), &sdk.CancelTaskRequest{ID: id})
					if err != nil || task.ID != id || task.Status.State != sdk.TaskStateCanceled {
						t.Errorf("%+v, %v", task, err)
					}
				}
			}
			if state != sdk.TaskStateCanceled {
				t.Errorf("the stream ended with %q", state)
			}
			if got := <-followed; got != sdk.TaskStateCanceled {
				t.Errorf("who followed it saw %q", got)
			}
			if task, err := c.GetTask(t.Context(), &sdk.GetTaskRequest{ID: id}); err != nil || task.Status.State != sdk.TaskStateCanceled || textOf(task) != "Hello" {
				t.Errorf("%+v, %v", task, err)
			}
		})
	}
}

// A task goes on when its client leaves, and can be followed again.
func TestAClientThatLeaves(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(string(version), func(t *testing.T) {
			t.Parallel()
			s := start(t)
			rest := make(chan struct{})
			s.Gemini.Enqueue(geminitest.Text("Hello", " Ada.").WithGate(1, rest))
			c := s.connect(t, version, "ada")
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			var id sdk.TaskID
			for event, err := range c.SendStreamingMessage(ctx, say("Hello")) {
				if err != nil {
					break
				}
				switch e := event.(type) {
				case *sdk.Task:
					id = e.ID
				case *sdk.TaskArtifactUpdateEvent:
					leave()
				}
			}
			text, state := "", sdk.TaskStateUnspecified
			for event, err := range c.SubscribeToTask(t.Context(), &sdk.SubscribeToTaskRequest{ID: id}) {
				if err != nil {
					t.Fatal(err)
				}
				switch e := event.(type) {
				case *sdk.Task:
					close(rest)
				case *sdk.TaskArtifactUpdateEvent:
					if !e.Append {
						text = ""
					}
					text += e.Artifact.Parts[0].Text()
				case *sdk.TaskStatusUpdateEvent:
					state = e.Status.State
				}
			}
			if text != "Hello Ada." || state != sdk.TaskStateCompleted {
				t.Errorf("%q, %s", text, state)
			}
		})
	}
}

// The card is public, cached, and read by clients of both versions.
func TestCard(t *testing.T) {
	t.Parallel()
	issuer := authtest.Start(t, "")
	s := start(t, "AUTH=oidc,api_key", "OIDC_ISSUERS="+issuer.URL+"|app")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+cardPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, body := doortest.Do(t, r)
	tag := resp.Header.Get("ETag")
	if resp.StatusCode != http.StatusOK || tag == "" || !strings.HasPrefix(resp.Header.Get("Cache-Control"), "public") {
		t.Fatalf("%d %v %s", resp.StatusCode, resp.Header, body)
	}
	var current sdk.AgentCard
	if err := json.Unmarshal([]byte(body), &current); err != nil {
		t.Fatal(err)
	}
	old, err := a2av0.NewAgentCardParser()([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, card := range []*sdk.AgentCard{&current, old} {
		if card.Name != "keeper" || card.Description != "Keeps the library." || len(card.Skills) != 4 || card.Skills[1].Name != "count" ||
			card.Skills[0].Examples[0] != "How many books are there?" || len(card.SecuritySchemes) != 2 || len(card.SecurityRequirements) != 2 ||
			card.SupportedInterfaces[0].URL != s.URL+"/a2a" || !card.Capabilities.Streaming || card.Capabilities.PushNotifications {
			t.Errorf("%+v", card)
		}
	}
	for _, want := range []string{`"protocolVersion":"0.3`, `"url":"` + s.URL + `/a2a"`, issuer.URL + "/.well-known/openid-configuration", `"X-API-Key"`} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s in %s", want, body)
		}
	}
	r.Header.Set("If-None-Match", tag)
	r.Header.Set("Authorization", "Bearer expired")
	if resp, _ := doortest.Do(t, r); resp.StatusCode != http.StatusNotModified {
		t.Errorf("%d", resp.StatusCode)
	}
	r.Host = `evil"host`
	if resp, body := doortest.Do(t, r); resp.StatusCode == http.StatusOK || strings.Contains(body, "evil") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	fixed := start(t, "SERVICE_URL=http://127.0.0.1:4711")
	r, _ = http.NewRequestWithContext(t.Context(), http.MethodGet, fixed.URL+cardPath, nil)
	if _, body := doortest.Do(t, r); !strings.Contains(body, `"url":"http://127.0.0.1:4711/a2a"`) {
		t.Errorf("%s", body)
	}
}

func TestSwitchedOff(t *testing.T) {
	t.Parallel()
	s := start(t, "DOORS=none")
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+cardPath, nil)
	resp, _ := doortest.Do(t, r)
	if sent, _ := post(t, s.URL+"/a2a", "{}"); resp.StatusCode != http.StatusNotFound || sent.StatusCode != http.StatusNotFound {
		t.Errorf("%d, %d", resp.StatusCode, sent.StatusCode)
	}
}
