package a2a_test

import (
	"context"
	"strings"
	"testing"
	"time"

	sdk "github.com/a2aproject/a2a-go/v2/a2a"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/server"
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
				s.gemini.Enqueue(geminitest.Calls(geminitest.FunctionCall{Name: "pay", Args: map[string]any{"euros": 7}}))
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
				s.gemini.Enqueue(geminitest.Text("So be it."))
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

// Who does not wait for a task reads and lists it.
func TestATaskThatIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(string(version), func(t *testing.T) {
			t.Parallel()
			s := startWith(t, keeper, nil, func(o *server.Options) { o.LocalQueue = true })
			c, other := s.connect(t, version, "ada"), s.connect(t, version, "bob")
			gate := make(chan struct{})
			s.gemini.Enqueue(geminitest.Text("Hello", " Ada.").WithGate(0, gate))
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
			for deadline := time.Now().Add(20 * time.Second); task.Status.State == sdk.TaskStateWorking && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
				var err error
				if task, err = c.GetTask(t.Context(), &sdk.GetTaskRequest{ID: task.ID}); err != nil {
					t.Fatal(err)
				}
			}
			if task.Status.State != sdk.TaskStateCompleted || textOf(task) != "Hello Ada." {
				t.Errorf("%+v", task)
			}
		})
	}
}
