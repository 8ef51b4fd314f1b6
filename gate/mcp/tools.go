package mcp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/mcpwire"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/invoke"
	"example.com/gatehouse/session"
	"example.com/gatehouse/tool"
)

const askName = "ask"

// A question is the argument of the tool that asks the agent.
type question struct {
	Query     string `json:"query" jsonschema:"the question or task, in words"`
	SessionID string `json:"session_id,omitempty" jsonschema:"the session_id of an earlier answer, to go on with its conversation"`
}

type answer struct {
	Response     string   `json:"response"`
	SessionID    string   `json:"session_id"`
	Turn         int      `json:"turn"`
	RunID        string   `json:"run_id"`
	FinishReason string   `json:"finish_reason"`
	Output       any      `json:"output,omitempty" jsonschema:"the answer as a value, of an agent with a typed answer"`
	Sources      []source `json:"sources,omitempty"`
	Warnings     []string `json:"warnings,omitempty"`

	Pending []pending `json:"pending,omitempty" jsonschema:"what waits for a person, who answers at POST /runs/{run_id}/approvals"`
}

type pending struct {
	CallID   string         `json:"call_id"`
	Name     string         `json:"name"`
	Args     map[string]any `json:"args"`
	Question string         `json:"question"`
}

type source struct {
	Title string `json:"title"`
	URI   string `json:"uri"`
}

// addTools adds the tool ask and, with MCP_TOOLS, the agent's own. The description of ask
// is the agent's: by it the host's model decides when to ask. A tool of the agent that has
// the name ask is left out, since the name is taken.
func (d *door) addTools(s *sdk.Server) {
	description := "Asks the agent " + d.Agent.Name + "."
	if d.Agent.Description != "" {
		description += " " + d.Agent.Description
	}
	sdk.AddTool(s, &sdk.Tool{Name: askName, Title: "Ask " + d.Agent.Name, Description: description}, d.ask)
	if !d.Config.MCPTools {
		return
	}
	for _, t := range d.Invoke.DirectTools() {
		if t.Name() != askName {
			s.AddTool(&sdk.Tool{Name: t.Name(), Description: t.Description(), InputSchema: t.Schema()}, d.direct(t))
		}
	}
}

// bound returns a context that also ends with the HTTP request that ctx came in: the SDK
// detaches calls of older clients from it.
func bound(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	client := requestOf(ctx).Context()
	stop := context.AfterFunc(client, func() { cancel(context.Cause(client)) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// ask is a call of the tool ask: a turn.
//
// Its errors become results that the host's model reads, so they are sentences on what to
// do. What a run waits for is asked in place where the client can; otherwise the answer
// lists it under pending, and the person answers through the gate.
func (d *door) ask(ctx context.Context, call *sdk.CallToolRequest, in question) (*sdk.CallToolResult, answer, error) {
	ctx, end := bound(ctx)
	defer end()
	telemetry.SetTurn(ctx, func(t *telemetry.Turn) { t.Action = api.AuditTurn })
	var show func(invoke.Event) error
	p := &progress{call: call}
	if call.Params.GetProgressToken() != nil {
		show = func(e invoke.Event) error { return p.show(ctx, e) }
	}
	var response *invoke.Response
	var err error
	if run := call.Params.RequestState; run != "" {
		info, waits := invoke.RunInfo{}, false
		// It is watched, so that it goes on in this request and not in the queue.
		if info, waits, response, err = d.goOn(ctx, run, call.Params.InputResponses, func(e invoke.Event) error { return p.show(ctx, e) }); err == nil && waits {
			return asks(run, info.Pending), answer{}, nil
		}
	} else {
		var req invoke.Request
		req, err = d.request(ctx, in)
		if task := begunOf(ctx); err == nil && task != nil {
			task.run, err = d.Invoke.Begin(ctx, req)
			if task.made = err == nil; task.made {
				return &sdk.CallToolResult{}, answer{}, nil // which the task replaces
			}
		} else if err == nil {
			response, err = d.Invoke.Ask(ctx, req, show)
		}
	}
	switch {
	case err != nil:
		telemetry.Fail(ctx, api.AsError(err)) // the response's status is 200
		return nil, answer{}, sentence(err)
	case response == nil: // the run failed after its start
		return nil, answer{}, sentence(p.failed.Failure())
	case len(response.Pending) > 0 && canBeAsked(call):
		return asks(response.RunID, response.Pending), answer{}, nil
	}
	result, out := d.answered(ctx, response)
	return result, out, nil
}

// answered returns the result of a turn: a text for the host's model, and a value.
func (d *door) answered(ctx context.Context, response *invoke.Response) (*sdk.CallToolResult, answer) {
	out := answer{
		Response: response.Response, SessionID: response.SessionID, Turn: response.Turn, RunID: response.RunID,
		FinishReason: response.FinishReason, Warnings: response.Warnings,
	}
	if response.Output != nil {
		out.Output = response.Output
	}
	for _, s := range response.Sources {
		out.Sources = append(out.Sources, source{s.Title, s.URI})
	}
	result := &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: response.Response}}}
	replay(result, response)
	out.Pending = waiting(result, response)
	d.addFiles(ctx, result, response.Files)
	// Hosts that show their model only the text must find the session in it.
	result.Content = append(result.Content, &sdk.TextContent{Text: "session_id: " + response.SessionID})
	return result, out
}

// waiting returns what a run waits for, and adds to a result that it cannot be asked here.
func waiting(result *sdk.CallToolResult, response *invoke.Response) (list []pending) {
	for _, w := range response.Pending {
		list = append(list, pending{w.CallID, w.Name, w.Args, w.Question})
		result.Content = append(result.Content, &sdk.TextContent{Text: cannotBeAsked(w)})
	}
	return list
}

// cannotBeAsked is for a client whose person cannot be asked: somebody else answers.
func cannotBeAsked(w session.Pending) string {
	return "This waits for a person's approval, which cannot be given here: " + w.Question
}

// request returns the turn that a question asks for. An id that cannot be one is answered
// as one that does not exist, as for somebody else's.
func (d *door) request(ctx context.Context, in question) (req invoke.Request, err error) {
	req = invoke.Request{Query: in.Query, SessionID: in.SessionID}
	if req.Options, err = d.Invoke.OptionsOf(requestOf(ctx)); err != nil {
		return req, err
	}
	if in.SessionID != "" && !session.ValidID(in.SessionID) {
		return req, api.Fail(api.SessionNotFound, nil)
	}
	return req, req.Validate("query")
}

// multiRound is the first version in which a result may ask the client's person, who
// answers in another call. Older clients would have to be asked on a connection that
// this server does not keep.
const multiRound = "2026-07-28"

// canBeAsked reports whether the client can ask its person.
func canBeAsked(call *sdk.CallToolRequest) bool {
	can, began := call.ClientCapabilities(), call.Session.InitializeParams()
	return can != nil && can.Elicitation != nil && (began == nil || began.ProtocolVersion >= multiRound)
}

// asks returns the result that asks the client's person what a run waits for. Its state is
// the run's id, by which only the run's owner finds anything. The tool's name and arguments
// are in the message: a person must see what is approved and not only the sentence that the
// agent's author wrote for it.
func asks(run string, waits []session.Pending) *sdk.CallToolResult {
	return &sdk.CallToolResult{RequestState: run, InputRequests: questions(waits)}
}

// questions returns what the client's person is asked.
func questions(waits []session.Pending) sdk.InputRequestMap {
	requests := sdk.InputRequestMap{}
	for _, p := range waits {
		args, _ := json.Marshal(p.Args) // which came as JSON
		requests[p.CallID] = &sdk.ElicitParams{
			Mode: "form", Message: p.Question + "\n\n" + p.Name + " " + string(args),
			RequestedSchema: json.RawMessage(`{"type":"object","properties":{"reason":{"type":"string","title":"Reason","maxLength":2000}}}`),
		}
	}
	return requests
}

// goOn goes on with a run that waits, by the answers of the client's person: to accept is
// to approve, to decline to deny, and anything else is no answer. It reports whether the run
// still waits, and then for what. A run that does not wait is a conflict, as where somebody
// answered through the gate.
func (d *door) goOn(ctx context.Context, run string, responses sdk.InputResponseMap, show func(invoke.Event) error) (info invoke.RunInfo, waits bool, response *invoke.Response, err error) {
	switch is, err := d.Invoke.IsCall(ctx, run); {
	case err != nil:
		return info, false, nil, err
	case is:
		return info, false, nil, api.Fail(api.NotFound, nil) // its question was about that call
	}
	if answers := answersOf(responses); len(answers) > 0 {
		if response, err = d.Invoke.ApproveAll(ctx, run, answers, show); err != nil || response != nil {
			return info, false, response, err
		}
	}
	info, err = d.Invoke.Read(ctx, run)
	if err == nil && info.State != session.Waiting {
		err = api.Fail(api.SessionConflict, nil)
	}
	return info, true, nil, err
}

// answersOf returns what the client's person has answered.
func answersOf(responses sdk.InputResponseMap) (answers []invoke.Approval) {
	for id, each := range responses {
		if answer, ok := each.(*sdk.ElicitResult); ok && (answer.Action == "accept" || answer.Action == "decline") {
			reason, _ := answer.Content["reason"].(string)
			answers = append(answers, invoke.Approval{CallID: id, Approve: answer.Action == "accept", Reason: reason})
		}
	}
	return answers
}

// worded is sentence for an error that may be a tool's own words. The gate's is recorded.
func worded(ctx context.Context, err error) error {
	if e, ok := errors.AsType[*api.Error](err); ok {
		telemetry.Fail(ctx, e)
		return sentence(err)
	}
	return err
}

// sentence returns err as the client reads it.
func sentence(err error) error {
	e := api.AsError(err)
	text := e.Sentence()
	for _, detail := range e.Details {
		text += fmt.Sprintf(" %s %s.", detail.Field, detail.Issue)
	}
	return fmt.Errorf("%s (%s)", text, e.Code)
}

// A progress reports what a run shows.
type progress struct {
	call   *sdk.CallToolRequest
	steps  float64
	last   time.Time // when text was reported
	failed api.Envelope
}

// textEvery is how often the growing text is reported, so that a connection through
// proxies stays open.
const textEvery = time.Second

// show reports an event of the run to the client, as text at most every textEvery. The
// progress counts what was reported and has no total, since nobody knows how many steps a
// run has. Text itself is not sent: clients show a message as a line of status.
func (p *progress) show(ctx context.Context, e invoke.Event) error {
	text := ""
	switch e.Kind {
	case invoke.KindStart:
		text = "Started."
	case session.KindToolCall:
		text = "Calling " + e.Part.Name + "."
	case session.KindToolResult:
		text = e.Part.Name + " returned."
		if !e.Part.OK {
			text = e.Part.Name + " failed."
		}
	case session.KindText:
		if time.Since(p.last) < textEvery {
			return nil
		}
		p.last = time.Now()
		text = "Answering."
	case invoke.KindError:
		p.failed = e.Envelope
		return nil
	default:
		return nil
	}
	if p.call.Params.GetProgressToken() == nil {
		return nil
	}
	p.steps++
	return p.call.Session.NotifyProgress(ctx, &sdk.ProgressNotificationParams{
		ProgressToken: p.call.Params.GetProgressToken(), Progress: p.steps, Message: text,
	})
}

// direct returns the handler of one of the agent's own tools. Errors are results here too. A
// tool that asks a person asks the client's, as ask does; the state of that question is the
// run's id, and only a call of the same tool with the same arguments goes on with it.
func (d *door) direct(t tool.Tool) sdk.ToolHandler {
	return func(ctx context.Context, call *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
		ctx, end := bound(ctx)
		defer end()
		response, err := d.callTool(ctx, t.Name(), call)
		switch {
		case err != nil:
			result := &sdk.CallToolResult{}
			result.SetError(worded(ctx, err))
			return result, nil
		case len(response.Pending) > 0 && canBeAsked(call):
			return asks(response.RunID, response.Pending), nil
		}
		return d.called(ctx, response), nil
	}
}

// called returns the result of a call of a tool: its output, its failure, or what it waits
// for.
func (d *door) called(ctx context.Context, response *invoke.Response) *sdk.CallToolResult {
	result := &sdk.CallToolResult{}
	replay(result, response)
	var output map[string]json.RawMessage
	var text string
	switch err := response.CallFailure(); {
	case err != nil:
		result.SetError(err)
		return result
	case len(response.Pending) > 0:
		result.StructuredContent = map[string]any{"run_id": response.RunID, "pending": waiting(result, response)}
		return result
	case json.Unmarshal(response.Output, &output) == nil && len(output) == 1 && json.Unmarshal(output["output"], &text) == nil && output["output"][0] == '"': // of a tool that returns a text
	default:
		result.StructuredContent, text = response.Output, string(response.Output)
	}
	result.Content = []sdk.Content{&sdk.TextContent{Text: text}}
	d.addFiles(ctx, result, response.Files)
	return result
}

// addFiles adds the files of an answer to a result.
func (d *door) addFiles(ctx context.Context, result *sdk.CallToolResult, files []invoke.File) {
	for _, f := range files {
		if strings.HasPrefix(f.URI, "/") {
			f.URI = d.BaseURL(requestOf(ctx)) + f.URI
		}
		result.Content = append(result.Content, mcpwire.File(f.Name, f.Type, f.URI, f.Data))
	}
}

// callTool makes a call of a tool, or goes on with the one that has asked.
func (d *door) callTool(ctx context.Context, name string, call *sdk.CallToolRequest) (*invoke.Response, error) {
	options, err := d.Invoke.OptionsOf(requestOf(ctx))
	if err != nil {
		return nil, err
	}
	made, err := invoke.NewCall(name, call.Params.Arguments)
	if err != nil {
		return nil, err
	}
	if run := call.Params.RequestState; run != "" {
		return d.Invoke.GoOnCall(ctx, run, made, answersOf(call.Params.InputResponses))
	}
	return d.Invoke.CallTool(ctx, made, options)
}

// replayedMeta marks a result that an earlier request with the same Idempotency-Key has had:
// what the header Idempotency-Replayed is to other routes, which the SDK leaves no way to set.
const replayedMeta = "gatehouse/idempotency-replayed"

func replay(result *sdk.CallToolResult, response *invoke.Response) {
	if response.Replayed() {
		result.Meta = sdk.Meta{replayedMeta: true}
	}
}
