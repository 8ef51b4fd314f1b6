package mcp

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/mcpwire"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/invoke"
	"example.com/gatehouse/session"
)

// Tasks are an extension of the spec 2026-07-28
// (https://modelcontextprotocol.github.io/ext-tasks/specification/2026-07-28/tasks.html), of
// which the SDK has no types. A task is a run in the background: its id is the run's, and what
// a client reads of it is the run's record or turn, so that any instance answers. The server
// decides what becomes a task: a question of each client that declares the extension, where
// there is a queue. Without one nothing goes on without its request, and the extension is not
// declared.

const (
	tasksExtension = "io.modelcontextprotocol/tasks"
	// pollInterval paces a client that polls. Each time costs a tenth of a turn.
	pollInterval = 2 * time.Second
)

// The states of a task. "failed" is for errors of the protocol only: a turn that fails has a
// result, with isError.
const (
	taskWorking   = "working"
	taskWaits     = "input_required"
	taskCompleted = "completed"
	taskCancelled = "cancelled"
)

type task struct {
	sdk.ResultBase
	ResultType    string                  `json:"resultType"`
	ID            string                  `json:"taskId"`
	Status        string                  `json:"status"`
	Message       string                  `json:"statusMessage,omitempty"`
	CreatedAt     time.Time               `json:"createdAt"`
	UpdatedAt     time.Time               `json:"lastUpdatedAt"`
	TTL           *int64                  `json:"ttlMs"` // from CreatedAt on; null: without an end
	PollInterval  int64                   `json:"pollIntervalMs"`
	InputRequests sdk.InputRequestMap     `json:"inputRequests,omitempty"`
	Result        *mcpwire.CompleteResult `json:"result,omitempty"`
}

// An acknowledgement is the result of a request that has none.
type acknowledgement struct {
	sdk.ResultBase
	ResultType string `json:"resultType"`
}

// The types of a result that is whole, and of a task in its place.
const (
	resultComplete = mcpwire.Complete
	resultTask     = "task"
)

// The parameters of the methods.
type (
	taskParams struct {
		sdk.ParamsBase
		ID string `json:"taskId"`
	}
	updateParams struct {
		sdk.ParamsBase
		ID        string               `json:"taskId"`
		Responses sdk.InputResponseMap `json:"inputResponses"`
	}
)

// A begun is filled by the call of a tool that has begun a task.
type begun struct {
	made bool
	run  invoke.RunInfo
}

type begunKey struct{}

// begunOf returns what a call with ctx may fill, nil where it may begin no task.
func begunOf(ctx context.Context) *begun {
	b, _ := ctx.Value(begunKey{}).(*begun)
	return b
}

// addTasks adds the extension to a server with a queue. The tool checks the arguments as for
// any call, and the middleware replaces its result, whose type the SDK does not know.
func (d *door) addTasks(s *sdk.Server) {
	s.AddReceivingMiddleware(func(next sdk.MethodHandler) sdk.MethodHandler {
		return func(ctx context.Context, method string, req sdk.Request) (sdk.Result, error) {
			call, ok := req.(*sdk.CallToolRequest)
			if !ok || call.Params.RequestState != "" || !declares(call.ClientCapabilities()) {
				return next(ctx, method, req)
			}
			var b begun
			result, err := next(context.WithValue(ctx, begunKey{}, &b), method, req)
			if err != nil || !b.made {
				return result, err
			}
			seed := d.task(b.run)
			seed.ResultType = resultTask
			return seed, nil
		}
	})
	// The only error is that of a name which is a method of the SDK.
	_ = sdk.AddReceivingCustomMethod(s, "tasks/get", d.getTask)
	_ = sdk.AddReceivingCustomMethod(s, "tasks/update", d.updateTask)
	_ = sdk.AddReceivingCustomMethod(s, "tasks/cancel", d.cancelTask)
}

func declares(client *sdk.ClientCapabilities) bool {
	return client != nil && client.Extensions[tasksExtension] != nil
}

// checkTask returns why a request may not name the task, nil if it may.
func checkTask(ctx context.Context, meta sdk.Meta, id string) error {
	if !declares(mcpwire.CapabilitiesOf(meta)) {
		return &jsonrpc.Error{
			Code: sdk.CodeMissingRequiredClientCapabilities, Message: "missing required client capability",
			Data: json.RawMessage(`{"requiredCapabilities":{"extensions":{"` + tasksExtension + `":{}}}}`),
		}
	}
	// Proxies route by this header, which a client may leave out.
	if name := requestOf(ctx).Header.Get("Mcp-Name"); name != "" && name != id {
		return &jsonrpc.Error{Code: sdk.CodeHeaderMismatch, Message: "header mismatch: Mcp-Name is not the task's id"}
	}
	return nil
}

// getTask is tasks/get.
func (d *door) getTask(ctx context.Context, _ *sdk.ServerSession, params *taskParams) (*task, error) {
	params = cmp.Or(params, &taskParams{}) // nil where the request has none
	if err := checkTask(ctx, params.Meta, params.ID); err != nil {
		return nil, err
	}
	telemetry.SetTurn(ctx, func(t *telemetry.Turn) { t.Action = api.AuditRunRead })
	run, err := d.Invoke.Read(ctx, params.ID)
	if err != nil {
		return nil, rpcFailure(ctx, err)
	}
	t := d.task(run)
	switch {
	case t.Status == taskCompleted:
		t.Result = &mcpwire.CompleteResult{CallToolResult: d.taskResult(ctx, run)}
	case t.Status != taskWaits:
	case mcpwire.CapabilitiesOf(params.Meta).Elicitation == nil:
		t.Status, t.Message = taskWorking, cannotBeAsked(run.Pending[0])
	default:
		t.InputRequests = questions(run.Pending)
	}
	return t, nil
}

// task returns a run as a task, without what only tasks/get has.
func (d *door) task(run invoke.RunInfo) *task {
	t := &task{
		ResultType: resultComplete, ID: run.RunID, Status: taskCompleted, CreatedAt: run.CreatedAt, UpdatedAt: run.UpdatedAt, PollInterval: pollInterval.Milliseconds(),
	}
	switch run.State {
	case session.Working:
		t.Status = taskWorking
	case session.Waiting:
		t.Status = taskWaits
	case session.Stopped:
		t.Status, t.Message = taskCancelled, "It was stopped, or nobody approved in time what it waited for."
	}
	expires := run.ExpiresAt
	if expires == nil && d.Config.SessionTTL > 0 { // it lives as long as its session
		expires = new(run.UpdatedAt.Add(d.Config.SessionTTL))
	}
	if expires != nil {
		t.TTL = new(expires.Sub(run.CreatedAt).Milliseconds())
	}
	return t
}

// taskResult returns the result that the call would have had that has begun the task.
func (d *door) taskResult(ctx context.Context, run invoke.RunInfo) *sdk.CallToolResult {
	response := run.Response()
	switch {
	case response == nil:
		result := &sdk.CallToolResult{}
		result.SetError(sentence(run.Failure()))
		return result
	case run.Stored == nil: // a call of a tool, whose id is no task's
		return d.called(ctx, response)
	}
	result, value := d.answered(ctx, response)
	result.StructuredContent = value
	return result
}

// updateTask is tasks/update. Answers to what nobody asks are passed over, as the extension
// wants it, and so are those that come second.
func (d *door) updateTask(ctx context.Context, _ *sdk.ServerSession, params *updateParams) (*acknowledgement, error) {
	params = cmp.Or(params, &updateParams{})
	if err := checkTask(ctx, params.Meta, params.ID); err != nil {
		return nil, err
	}
	run, err := d.Invoke.Read(ctx, params.ID)
	if err != nil {
		return nil, rpcFailure(ctx, err)
	}
	answers := slices.DeleteFunc(answersOf(params.Responses), func(a invoke.Approval) bool {
		return !slices.ContainsFunc(run.Pending, func(p session.Pending) bool { return p.CallID == a.CallID })
	})
	if len(answers) > 0 {
		telemetry.SetTurn(ctx, func(t *telemetry.Turn) { t.Action = api.AuditTurn })
		if _, err := d.Invoke.ApproveAll(ctx, params.ID, answers, nil); err != nil && api.AsError(err).Code != api.SessionConflict {
			return nil, rpcFailure(ctx, err)
		}
	}
	return &acknowledgement{ResultType: resultComplete}, nil
}

// cancelTask is tasks/cancel, which acknowledges also what is over.
func (d *door) cancelTask(ctx context.Context, _ *sdk.ServerSession, params *taskParams) (*acknowledgement, error) {
	params = cmp.Or(params, &taskParams{})
	if err := checkTask(ctx, params.Meta, params.ID); err != nil {
		return nil, err
	}
	telemetry.SetTurn(ctx, func(t *telemetry.Turn) { t.Action = api.AuditRunStop })
	if _, err := d.Invoke.Read(ctx, params.ID); err != nil {
		return nil, rpcFailure(ctx, err)
	}
	if err := d.Invoke.Stop(ctx, params.ID); err != nil && api.AsError(err).Code != api.SessionConflict {
		return nil, rpcFailure(ctx, err)
	}
	return &acknowledgement{ResultType: resultComplete}, nil
}
