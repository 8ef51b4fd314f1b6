package invoke

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/genai"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/exactjson"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/internal/truncate"
	"example.com/gatehouse/session"
	"example.com/gatehouse/tool"
)

// A client may call a tool of the agent by itself, without the model. A call that changes the
// world, that asks a person, or that has an idempotency key is a run without a session: its
// one step has one call, which goes through the ledger and the approvals of any run, and its
// record has the result that a retry of the key replays. Any other call leaves nothing.

// A Call is a call of a tool.
type Call struct {
	Name string          `json:"name"`
	Args json.RawMessage `json:"args"` // an object, as [json.Marshal] writes it
}

// maxCallArgs bounds the arguments of a call that is a run, in bytes. Its record has them up
// to four times, beside the result, and Firestore takes 1 MiB.
const maxCallArgs = 64 << 10

// errCallFailed is the failure of a call in the words that its [Response] has.
var errCallFailed = errors.New("the call has failed")

// NewCall returns the call of a tool with the arguments of a client. The error is for that
// client.
func NewCall(name string, args json.RawMessage) (*Call, error) {
	object := map[string]any{}
	if len(bytes.TrimSpace(args)) > 0 {
		if err := exactjson.Unmarshal(args, &object); err != nil || object == nil {
			return nil, errors.New("the arguments are not an object")
		}
	}
	encoded, err := json.Marshal(object) // the same for the same arguments, in any order
	return &Call{Name: name, Args: encoded}, err
}

// DirectTools returns the agent's tools that need no model: what [Service.CallTool] may
// call. Those of its Toolsets are other servers' and are not among them. An agent that is a
// tool needs a model, too.
func (s *Service) DirectTools() []tool.Tool {
	var tools []tool.Tool
	for _, t := range s.Agent.Tools {
		if t.GeminiTool() == nil && agent.Of(t) == nil {
			tools = append(tools, t)
		}
	}
	return tools
}

// CallTool runs one of [Service.DirectTools] for the caller of ctx, without a model and
// a session, within the tool's time, the hook Tool and the audit. It costs what a turn
// does. [Response.Output] is the tool's output, and a tool that asks a person first leaves
// it to [Service.GoOnCall]. An error is in words for the caller, as a model would read them.
func (s *Service) CallTool(ctx context.Context, call *Call, o Options) (*Response, error) {
	tools := s.DirectTools()
	i := slices.IndexFunc(tools, func(t tool.Tool) bool { return t.Name() == call.Name })
	if i < 0 {
		return nil, fmt.Errorf("there is no tool %q", truncate.Text(call.Name, 64))
	}
	// Asked keeps the request's permit from being refunded: a tool may cost what a model call
	// does.
	telemetry.SetTurn(ctx, func(t *telemetry.Turn) { t.Asked, t.Action = true, api.AuditTool })
	if t := tools[i]; !t.HasEffect() && !t.Asks() && o.Key == "" {
		return s.callOnce(ctx, call, o)
	}
	if len(call.Args) > maxCallArgs {
		return nil, fmt.Errorf("the arguments have %d bytes, more than the %d allowed", len(call.Args), maxCallArgs)
	}
	// What has begun to change the world comes to its end, whether the client waits or not.
	o.Sessionless, o.Call, o.Stay = true, call, true
	return s.Ask(ctx, Request{Query: call.Name, Options: o}, nil)
}

// callOnce runs a call that leaves nothing.
func (s *Service) callOnce(ctx context.Context, call *Call, o Options) (*Response, error) {
	args := map[string]any{}
	if err := exactjson.Unmarshal(call.Args, &args); err != nil {
		return nil, err
	}
	ctx = toolContext(ctx, &session.Session{}, 0, &Request{Options: o})
	made := tool.NewFiles(int(s.Files.MaxBytes))
	calling, step := s.Observer.StartTool(tool.WithFiles(ctx, made), call.Name)
	output, err := s.hookedTool(calling, &generation{tools: s.tools}, 0, &genai.FunctionCall{Name: call.Name, Args: args})
	step.End(calling, toolFailure(err))
	if err != nil {
		return nil, err
	}
	encoded, err := json.Marshal(output)
	response := &Response{Output: encoded, ToolCalls: []session.ToolCall{{Name: call.Name, OK: true}}}
	for _, file := range made.Take() {
		a := s.madeFile(file.Name, file.Type, file.Data)
		response.Files = append(response.Files, File{Name: a.Name, Type: a.Type, Data: a.data})
	}
	return response, err
}

// GoOnCall enters what a person has answered to a call that waits, and returns what the call
// comes to. Without answers the response still waits. Of a call that was answered it returns
// the end, going on with it where its instance has died, so that an answer may be sent again.
// The error is in words for the caller: not_found for a run that is not the caller's, or not
// of this call.
func (s *Service) GoOnCall(ctx context.Context, runID string, call *Call, answers []Approval) (*Response, error) {
	telemetry.SetTurn(ctx, func(t *telemetry.Turn) { t.Action = api.AuditTool })
	key, err := runKeyOf(ctx, runID)
	if err != nil {
		return nil, err
	}
	reading, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	record, err := s.loadRun(reading, key)
	switch {
	case errors.Is(err, session.ErrNotFound), err == nil && !isOf(record, call):
		return nil, runNotFound()
	case err != nil:
		return nil, storeFailure(err)
	case record.State == session.Waiting && !s.waits(record):
		return nil, conflict("The time to approve this is over. Ask again.")
	case record.State == session.Waiting && len(answers) == 0:
		return waitingResponse(record), nil
	case record.State != session.Waiting:
		return s.await(ctx, runID)
	}
	var failed *api.Error
	// It is watched, so that it goes on here and not in the queue.
	response, err := s.ApproveAll(ctx, runID, answers, func(e Event) error {
		if e.Kind == KindError {
			failed = e.Envelope.Failure()
		}
		return nil
	})
	switch {
	case err != nil && api.AsError(err).Code == api.SessionConflict: // another answer was first
		return s.await(ctx, runID)
	case failed != nil:
		return nil, failed
	case err == nil && response == nil:
		return waitingResponse(record), nil
	}
	return response, err
}

// await waits for a run's end, as long as a request may take.
func (s *Service) await(ctx context.Context, runID string) (*Response, error) {
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	return s.Watch(ctx, runID, "", nil)
}

// IsCall reports whether a run of the caller is one of [Service.CallTool].
func (s *Service) IsCall(ctx context.Context, runID string) (bool, error) {
	key, err := runKeyOf(ctx, runID)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	record, err := s.Store.LoadRun(ctx, key.session, key.id)
	switch {
	case errors.Is(err, session.ErrNotFound):
		return false, nil
	case err != nil:
		return false, storeFailure(err)
	}
	asked, err := decodeRun(record)
	return err == nil && asked.Options.Call != nil, nil
}

// isOf reports whether a record is of this call. A person who was asked about one call must
// not have approved another.
func isOf(record *session.Run, call *Call) bool {
	asked, err := decodeRun(record)
	own := asked.Options.Call
	return err == nil && own != nil && own.Name == call.Name && bytes.Equal(own.Args, call.Args)
}

// waitingResponse returns the answer of a run without a turn that waits.
func waitingResponse(record *session.Run) *Response {
	return &Response{
		RunID: session.RunID(record.Key.ID, record.ID), SessionID: record.Key.ID, Turn: max(record.Turn, 1), FinishReason: finishWaiting, Pending: orEmpty(record.Pending),
		ToolCalls: []session.ToolCall{}, Sources: []Source{}, Files: []File{}, Warnings: []string{}, Usage: session.Usage{Source: session.Counted},
	}
}

// failedCall reports whether r, which is of a call, is that of one that has failed.
func (r *Response) failedCall() bool {
	return len(r.ToolCalls) > 0 && !r.ToolCalls[0].OK
}

// CallFailure returns why the call of r has failed, nil for one that has an output or waits.
func (r *Response) CallFailure() error {
	var output struct{ Error string }
	switch {
	case r.FinishReason == finishFailed || r.FinishReason == finishStopped:
		if slices.Contains(r.Warnings, warnEffectUnknown) {
			return fmt.Errorf("%s (%s)", r.Response, warnEffectUnknown)
		}
		return errors.New(r.Response)
	case !r.failedCall():
		return nil
	case json.Unmarshal(r.Output, &output) != nil || output.Error == "":
		return errCallFailed
	}
	return errors.New(output.Error)
}

// finishCalled is the finish reason of a run of one call, as of a model that has ended.
const finishCalled = genai.FinishReasonStop

// generateCall runs the call that is all of a run: what [Service.generate] does, without a
// model.
func (s *Service) generateCall(ctx context.Context, g *generation, req *Request, call *Call) error {
	g.tools, g.model, g.usage.Source = s.tools, "", session.Counted // no model, and no token
	if len(g.contents) == 0 {
		args := map[string]any{}
		if err := exactjson.Unmarshal(call.Args, &args); err != nil {
			return api.Fail(api.Internal, err)
		}
		part := &genai.Part{FunctionCall: &genai.FunctionCall{Name: call.Name, Args: args}}
		for _, content := range []*genai.Content{genai.NewContentFromText(req.Query, genai.RoleUser), {Role: genai.RoleModel, Parts: []*genai.Part{part}}} {
			if err := g.add(content); err != nil {
				return err
			}
		}
		g.step = 1
		g.finishStep()
	}
	g.admitted()
	if open := g.openCalls(); len(open) > 0 {
		err := s.answerCalls(ctx, g, open, 0)
		// The time may have ended with the call.
		if e, ok := g.run.journal.effect(g.effectID(0)); err != nil && ok && e.Done {
			var end callEnd
			if end, err = decodeEnd(e.Result); err == nil {
				err = g.add(g.resultsOf(open, map[int]callEnd{0: end}, errNotRun))
			}
		}
		if err != nil {
			return err
		}
	}
	g.finish = finishCalled
	var err error
	g.output, err = json.Marshal(g.contents[len(g.contents)-1].Parts[0].FunctionResponse.Response)
	return err
}
