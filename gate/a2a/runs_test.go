package a2a_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	sdk "github.com/a2aproject/a2a-go/v2/a2a"
	"github.com/a2aproject/a2a-go/v2/a2aclient"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/doortest"
	"example.com/gatehouse/internal/gcp/secret/secrettest"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/tool"
)

// A task that a person has to approve is answered by a message with its id.
func TestApprovals(t *testing.T) {
	t.Parallel()
	type bill struct {
		Euros int `json:"euros"`
	}
	for _, version := range versions {
		t.Run(string(version), func(t *testing.T) {
			t.Parallel()
			paid := make(chan int, 10)
			s := startAgent(t, func(context.Context, agent.Env) (agent.Agent, error) {
				return agent.Agent{Name: "payer", Instruction: "You pay.", Tools: []tool.Tool{tool.New("pay", "Pays.", func(_ context.Context, in bill) (string, error) {
					paid <- in.Euros
					return "paid", nil
				}, tool.Effect[bill, string](nil), tool.Confirm(func(bill) string { return "Pay?" }))}}, nil
			}, "RATE_LIMIT_PER_MINUTE=1000")
			c, other := s.connect(t, version, "ada"), s.connect(t, version, "bob")
			for name, a := range map[string]struct {
				part *sdk.Part
				paid int
			}{
				"by data":          {sdk.NewDataPart(map[string]any{"call_id": "call_1_1", "approve": true}), 1},
				"by a word":        {sdk.NewTextPart("Approve."), 1},
				"denied by data":   {sdk.NewDataPart(map[string]any{"call_id": "call_1_1", "approve": false, "reason": "Too much."}), 0},
				"denied by a word": {sdk.NewTextPart("no"), 0},
			} {
				s.Gemini.Enqueue(geminitest.Calls(geminitest.FunctionCall{Name: "pay", Args: map[string]any{"euros": 7}}))
				waits := send(t, c, say("Pay."))
				if waits.Status.State != sdk.TaskStateInputRequired || waits.Status.Message == nil || waits.Status.Message.Parts[0].Text() != "Pay?" {
					t.Fatalf("%s: %+v", name, waits)
				}
				answer := func(p *sdk.Part) *sdk.SendMessageRequest {
					req := say("")
					req.Message.TaskID, req.Message.ContextID, req.Message.Parts = waits.ID, waits.ContextID, sdk.ContentParts{p}
					return req
				}
				if _, err := other.SendMessage(t.Context(), answer(a.part)); err == nil {
					t.Errorf("%s: another owner answers", name)
				}
				if _, err := c.SendMessage(t.Context(), answer(sdk.NewTextPart("Hm."))); err == nil || !strings.Contains(err.Error(), "approve or deny") {
					t.Errorf("%s: no answer: %v", name, err)
				}
				if _, err := c.SendMessage(t.Context(), answer(sdk.NewDataPart(map[string]any{"call_id": "call_9_9", "approve": true}))); err == nil {
					t.Errorf("%s: an answer to a call that is not the task's", name)
				}
				s.Gemini.Enqueue(geminitest.Text("So be it."))
				if done := send(t, c, answer(a.part)); done.ID != waits.ID || done.Status.State != sdk.TaskStateCompleted || textOf(done) != "So be it." {
					t.Errorf("%s: %+v", name, done)
				}
				if len(paid) != a.paid {
					t.Errorf("%s: paid %d times", name, len(paid))
				}
				for len(paid) > 0 {
					<-paid
				}
				if _, err := c.SendMessage(t.Context(), answer(a.part)); err == nil {
					t.Errorf("%s: a second answer", name)
				}
			}
		})
	}
}

// newPayer makes an agent that pays when a person agrees.
func newPayer(context.Context, agent.Env) (agent.Agent, error) {
	type bill struct {
		Euros int `json:"euros"`
	}
	pay := func(context.Context, bill) (string, error) { return "paid", nil }
	return agent.Agent{Name: "payer", Instruction: "You pay.", Tools: []tool.Tool{
		tool.New("pay", "Pays.", pay, tool.Effect[bill, string](nil), tool.Confirm(func(bill) string { return "Pay?" })),
	}}, nil
}

var pays = geminitest.Calls(geminitest.FunctionCall{Name: "pay", Args: map[string]any{"euros": 7}})

// A message that answers a task may bring its push, as one that begins a task. One that is
// refused answers nothing.
func TestAnAnswerWithAPush(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(string(version), func(t *testing.T) {
			t.Parallel()
			url, env, got := receive(t)
			s := startWith(t, newPayer, env, doortest.Queue)
			c := s.connect(t, version, "ada")
			s.Gemini.Enqueue(pays)
			waits := send(t, c, say("Pay."))
			answer := func(p *sdk.PushConfig) *sdk.SendMessageRequest {
				req := say("approve")
				req.Message.TaskID, req.Message.ContextID, req.Config = waits.ID, waits.ContextID, &sdk.SendMessageConfig{PushConfig: p}
				return req
			}
			for what, p := range map[string]*sdk.PushConfig{
				"a host that is not ours": {URL: "https://hooks.example.com/"},
				"no URL":                  {},
				"a token":                 {URL: url, Token: "t"},
			} {
				if _, err := c.SendMessage(t.Context(), answer(p)); err == nil {
					t.Errorf("%s is taken", what)
				}
				if task, err := c.GetTask(t.Context(), &sdk.GetTaskRequest{ID: waits.ID}); err != nil || task.Status.State != sdk.TaskStateInputRequired {
					t.Fatalf("%s: %+v, %v", what, task, err)
				}
			}
			s.Gemini.Enqueue(geminitest.Text("Paid."))
			if done := send(t, c, answer(&sdk.PushConfig{URL: url, ID: "mine"})); done.Status.State != sdk.TaskStateCompleted || textOf(done) != "Paid." {
				t.Errorf("%+v", done)
			}
			wantPush(t, got, waits.ID, "run.done")
			if p, err := c.GetTaskPushConfig(t.Context(), &sdk.GetTaskPushConfigRequest{TaskID: waits.ID, ID: "mine"}); err != nil || p.URL != url {
				t.Errorf("%+v, %v", p, err)
			}

			bare := startAgent(t, newPayer)
			bare.Gemini.Enqueue(pays)
			c = bare.connect(t, version, "ada")
			waits = send(t, c, say("Pay."))
			if _, err := c.SendMessage(t.Context(), answer(&sdk.PushConfig{URL: url})); err == nil || !strings.Contains(err.Error(), "ush notification") {
				t.Errorf("a push where there is no queue: %v", err)
			}
			if task, err := c.GetTask(t.Context(), &sdk.GetTaskRequest{ID: waits.ID}); err != nil || task.Status.State != sdk.TaskStateInputRequired {
				t.Errorf("%+v, %v", task, err)
			}
		})
	}
}

// A task that nobody approves ends when the time for it is over, and its push says so,
// whether it was there from the beginning or set while the task waited.
func TestAPushOfATaskThatNobodyApproves(t *testing.T) {
	t.Parallel()
	url, env, got := receive(t)
	s := startWith(t, newPayer, append(env, "APPROVAL_TTL=4s"), doortest.Queue)
	c := s.connect(t, sdk.Version, "ada")
	for _, later := range []bool{false, true} {
		s.Gemini.Enqueue(pays)
		req := say("Pay.")
		if !later {
			req.Config = &sdk.SendMessageConfig{PushConfig: &sdk.PushConfig{URL: url}}
		}
		task := send(t, c, req)
		if task.Status.State != sdk.TaskStateInputRequired {
			t.Fatalf("%+v", task)
		}
		if later {
			if _, err := c.CreateTaskPushConfig(t.Context(), &sdk.PushConfig{TaskID: task.ID, URL: url}); err != nil {
				t.Fatal(err)
			}
		} else {
			wantPush(t, got, task.ID, "run.waiting")
		}
		wantPush(t, got, task.ID, "run.stopped")
		if task, err := c.GetTask(t.Context(), &sdk.GetTaskRequest{ID: task.ID}); err != nil || task.Status.State != sdk.TaskStateCanceled {
			t.Errorf("%+v, %v", task, err)
		}
	}
	// One that was answered in time has no other end.
	s.Gemini.Enqueue(pays, geminitest.Text("Paid."))
	req := say("Pay.")
	req.Config = &sdk.SendMessageConfig{PushConfig: &sdk.PushConfig{URL: url}}
	task := send(t, c, req)
	wantPush(t, got, task.ID, "run.waiting")
	answer := say("approve")
	answer.Message.TaskID, answer.Message.ContextID = task.ID, task.ContextID
	send(t, c, answer)
	wantPush(t, got, task.ID, "run.done")
	time.Sleep(4500 * time.Millisecond) // until its time would have been over
	if len(got) > 0 {
		t.Errorf("then %+v", <-got)
	}
}

// ended returns a task once it is not worked at any more.
func ended(t *testing.T, c *a2aclient.Client, id sdk.TaskID) *sdk.Task {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		task, err := c.GetTask(t.Context(), &sdk.GetTaskRequest{ID: id})
		if err != nil {
			t.Fatal(err)
		}
		if task.Status.State != sdk.TaskStateWorking || time.Now().After(deadline) {
			return task
		}
	}
}

// Who does not wait for a task reads and lists it.
func TestATaskThatIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(string(version), func(t *testing.T) {
			t.Parallel()
			s := startWith(t, keeper, nil, doortest.Queue)
			c, other := s.connect(t, version, "ada"), s.connect(t, version, "bob")
			gate := make(chan struct{})
			s.Gemini.Enqueue(geminitest.Text("Hello", " Ada.").WithGate(0, gate))
			req := say("Hello")
			req.Config = &sdk.SendMessageConfig{ReturnImmediately: true}
			task := send(t, c, req)
			if task.Status.State != sdk.TaskStateWorking {
				t.Fatalf("%+v", task)
			}
			if again := send(t, c, req); again.ID != task.ID {
				t.Errorf("the retry is another task: %+v", again)
			}
			if version == sdk.Version {
				for who, want := range map[string]int{"ada": 1, "bob": 0} {
					client := c
					if who == "bob" {
						client = other
					}
					list, err := client.ListTasks(t.Context(), &sdk.ListTasksRequest{Status: sdk.TaskStateWorking, IncludeArtifacts: true})
					if err != nil || len(list.Tasks) != want {
						t.Errorf("%s: %+v, %v", who, list, err)
					}
				}
			}
			close(gate)
			if task = ended(t, c, task.ID); task.Status.State != sdk.TaskStateCompleted || textOf(task) != "Hello Ada." {
				t.Errorf("%+v", task)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if _, err := s.Log.Await(ctx, regexp.MustCompile(`"action":"run\.read"`)); err != nil {
				t.Errorf("reading a task is not in the audit: %v", err)
			}
		})
	}
}

// receive starts a receiver of webhooks on loopback, and returns the environment of a service that may call it.
func receive(t *testing.T) (url string, env []string, got chan pushed) {
	t.Helper()
	got = make(chan pushed, 10)
	r := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var p pushed
		if err := json.NewDecoder(r.Body).Decode(&p); err != nil || !strings.HasPrefix(r.Header.Get("webhook-signature"), "v1,") {
			t.Errorf("a push: %v, %v", r.Header, err)
		}
		got <- p
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(r.Close)
	const name = "projects/p-1/secrets/webhook-secrets/versions/latest"
	secrets := secrettest.Start(t)
	secrets.Set(name, `[{"name": "a", "secret": "whsec_`+base64.StdEncoding.EncodeToString(make([]byte, 32))+`"}]`)
	return r.URL, []string{
		"WEBHOOK_HOSTS=" + strings.TrimPrefix(r.URL, "http://"), "WEBHOOK_SECRETS_SECRET=" + name, "SECRET_MANAGER_ENDPOINT=" + secrets.Addr, "RATE_LIMIT_PER_MINUTE=1000",
	}, got
}

// A pushed is what a push has.
type pushed struct {
	Type string
	Data struct {
		RunID string `json:"run_id"`
	}
}

// wantPush waits for the push of a task, and fails if there is none, or another.
func wantPush(t *testing.T, got chan pushed, task sdk.TaskID, event string) {
	t.Helper()
	select {
	case p := <-got:
		if p.Type != event || p.Data.RunID != string(task) {
			t.Errorf("pushed %+v, want %s of %s", p, event, task)
		}
	case <-time.After(30 * time.Second):
		t.Errorf("no push of %s", task)
	}
}

// A task that has begun, here in the queue or in the request of its stream, can be given a
// push, which its owner reads, replaces and deletes.
func TestPushOfATaskThatHasBegun(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		for _, streams := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, a stream: %t", version, streams), func(t *testing.T) {
				t.Parallel()
				url, env, got := receive(t)
				s := startWith(t, keeper, env, doortest.Queue)
				c, other := s.connect(t, version, "ada"), s.connect(t, version, "bob")
				begin := func() (sdk.TaskID, func() sdk.TaskState) {
					t.Helper()
					gate := make(chan struct{})
					s.Gemini.Enqueue(geminitest.Text("Hello", " Ada.").WithGate(1, gate))
					req := say("Hello")
					if !streams {
						req.Config = &sdk.SendMessageConfig{ReturnImmediately: true}
						task := send(t, c, req)
						return task.ID, func() sdk.TaskState {
							close(gate)
							return ended(t, c, task.ID).Status.State
						}
					}
					ids, last := make(chan sdk.TaskID, 1), make(chan sdk.TaskState, 1)
					go func() {
						state := sdk.TaskStateUnspecified
						for event, err := range c.SendStreamingMessage(t.Context(), req) {
							switch e := event.(type) {
							case *sdk.Task:
								ids <- e.ID
							case *sdk.TaskStatusUpdateEvent:
								state = e.Status.State
							}
							if err != nil {
								t.Error(err)
							}
						}
						last <- state
					}()
					return <-ids, func() sdk.TaskState { close(gate); return <-last }
				}
				end := func(finish func() sdk.TaskState) {
					t.Helper()
					if state := finish(); state != sdk.TaskStateCompleted {
						t.Errorf("the task ended %s", state)
					}
				}
				list := func(c *a2aclient.Client, id sdk.TaskID) []*sdk.PushConfig {
					t.Helper()
					answer, err := c.ListTaskPushConfigs(t.Context(), &sdk.ListTaskPushConfigRequest{TaskID: id})
					if err != nil {
						t.Fatal(err)
					}
					return answer
				}

				id, finish := begin()
				for what, refused := range map[string]struct {
					client *a2aclient.Client
					config sdk.PushConfig
					want   string
				}{
					"another owner's task":    {other, sdk.PushConfig{TaskID: id, URL: url}, "There is no such task."},
					"no task":                 {c, sdk.PushConfig{TaskID: "0123456789abcdef.0123456789abcdef", URL: url}, "There is no such task."},
					"the metadata server":     {c, sdk.PushConfig{TaskID: id, URL: "http://169.254.169.254/"}, ""},
					"a host that is not ours": {c, sdk.PushConfig{TaskID: id, URL: "https://hooks.example.com/"}, ""},
					"no URL":                  {c, sdk.PushConfig{TaskID: id}, ""},
					"a token":                 {c, sdk.PushConfig{TaskID: id, URL: url, Token: "t"}, ""},
				} {
					if _, err := refused.client.CreateTaskPushConfig(t.Context(), &refused.config); err == nil || !strings.Contains(err.Error(), refused.want) {
						t.Errorf("%s: %v", what, err)
					}
				}
				if configs := list(c, id); len(configs) != 0 {
					t.Errorf("%+v", configs)
				}
				created, err := c.CreateTaskPushConfig(t.Context(), &sdk.PushConfig{TaskID: id, URL: url + "/first", ID: "mine"})
				if err != nil || created.URL != url+"/first" || created.ID != "mine" || created.TaskID != id {
					t.Fatalf("%+v, %v", created, err)
				}
				if _, err := c.CreateTaskPushConfig(t.Context(), &sdk.PushConfig{TaskID: id, URL: url, ID: "another"}); err == nil || !strings.Contains(err.Error(), "another id") {
					t.Errorf("%v", err)
				}
				if _, err := c.CreateTaskPushConfig(t.Context(), &sdk.PushConfig{TaskID: id, URL: url + "/next", ID: "mine"}); err != nil {
					t.Error(err)
				}
				if read, err := c.GetTaskPushConfig(t.Context(), &sdk.GetTaskPushConfigRequest{TaskID: id, ID: "mine"}); err != nil || read.URL != url+"/next" {
					t.Errorf("%+v, %v", read, err)
				}
				if read, err := c.GetTaskPushConfig(t.Context(), &sdk.GetTaskPushConfigRequest{TaskID: id, ID: "yours"}); err == nil {
					t.Errorf("%+v", read)
				}
				if read, err := other.GetTaskPushConfig(t.Context(), &sdk.GetTaskPushConfigRequest{TaskID: id, ID: "mine"}); err == nil {
					t.Errorf("another owner reads %+v", read)
				}
				if err := other.DeleteTaskPushConfig(t.Context(), &sdk.DeleteTaskPushConfigRequest{TaskID: id, ID: "mine"}); err == nil {
					t.Error("another owner deletes it")
				}
				if configs := list(c, id); len(configs) != 1 || configs[0].ID != "mine" {
					t.Errorf("%+v", configs)
				}
				end(finish)
				wantPush(t, got, id, "run.done")
				if _, err := c.CreateTaskPushConfig(t.Context(), &sdk.PushConfig{TaskID: id, URL: url, ID: "mine"}); err == nil || !strings.Contains(err.Error(), "over") {
					t.Errorf("a task that is over: %v", err)
				}

				id, finish = begin()
				if _, err := c.CreateTaskPushConfig(t.Context(), &sdk.PushConfig{TaskID: id, URL: url}); err != nil {
					t.Fatal(err)
				}
				for range 2 { // which changes nothing the second time
					if err := c.DeleteTaskPushConfig(t.Context(), &sdk.DeleteTaskPushConfigRequest{TaskID: id, ID: string(id)}); err != nil {
						t.Error(err)
					}
				}
				if configs := list(c, id); len(configs) != 0 {
					t.Errorf("%+v", configs)
				}
				end(finish)
				third, finish := begin()
				if _, err := c.CreateTaskPushConfig(t.Context(), &sdk.PushConfig{TaskID: third, URL: url}); err != nil {
					t.Fatal(err)
				}
				end(finish)
				wantPush(t, got, third, "run.done") // and not the one whose push was deleted
			})
		}
	}
}

// Whoever sets a push while the task ends is told of the end, or that there is none to come:
// never neither.
func TestAPushIsSetWhileItsTaskEnds(t *testing.T) {
	t.Parallel()
	url, env, got := receive(t)
	s := startWith(t, keeper, env, doortest.Queue)
	c := s.connect(t, sdk.Version, "ada")
	set, over := 0, 0
	for i := range 30 {
		gate := make(chan struct{})
		s.Gemini.Enqueue(geminitest.Text("Hello", " Ada.").WithGate(1, gate))
		req := say("Hello")
		req.Config = &sdk.SendMessageConfig{ReturnImmediately: true}
		task := send(t, c, req)
		opened := make(chan struct{})
		go func() { // so that some pushes come before the end, some after it
			defer close(opened)
			time.Sleep(time.Duration(i) * time.Millisecond / 4)
			close(gate)
		}()
		time.Sleep(2 * time.Millisecond)
		switch _, err := c.CreateTaskPushConfig(t.Context(), &sdk.PushConfig{TaskID: task.ID, URL: url}); {
		case err == nil:
			set++
			wantPush(t, got, task.ID, "run.done")
		case strings.Contains(err.Error(), "over"):
			over++
		default:
			t.Error(err)
		}
		<-opened
		ended(t, c, task.ID)
		if len(got) > 0 {
			t.Errorf("a push that nobody asked for: %+v", <-got)
		}
	}
	t.Logf("%d pushes, %d tasks that were over", set, over)
	if len(s.Gemini.Requests()) != 30 {
		t.Errorf("a push had a run begun again: %d model calls of 30 tasks", len(s.Gemini.Requests()))
	}
}
