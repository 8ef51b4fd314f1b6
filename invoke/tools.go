package invoke

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/genai"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/caller"
	"example.com/gatehouse/internal/rescue"
	"example.com/gatehouse/internal/truncate"
	"example.com/gatehouse/session"
	"example.com/gatehouse/tool"
)

// The calls of a round run side by side, and a tool's failure does not end the turn: its
// error is a result, from which the model can go on. Only a call of which nobody knows
// whether it has changed the world ends it. The order within a round is what keeps promises
// to clients and to whoever takes the run over. The calls are shown. Then the ledger has
// those that change the world, before any of them begins. Then they run, and each is entered
// in the ledger and shown as it ends. Results go to the model in the order of its calls.

// maxCalls bounds the calls of one round. Those beyond it get an error as result.
const maxCalls = 32

// toolContext returns the context of tools: it carries the caller and the turn's
// number.
func toolContext(ctx context.Context, current *session.Session, turn int, req *Request) context.Context {
	who, _ := caller.FromContext(ctx)
	p := who.Principal
	// It is that of the request in which the run is worked on: a record holds no credential,
	// so in a task of the queue there is none.
	if token := caller.Token(ctx); token != "" {
		ctx = tool.WithCallerToken(ctx, token)
	}
	return tool.NewContext(ctx, tool.Context{
		Caller:    tool.Caller{Method: p.Method, Issuer: p.Issuer, Subject: p.Subject, Email: p.Email},
		EndUser:   who.EndUser,
		SessionID: current.Key.ID,
		Turn:      turn,
		RequestID: api.RequestID(ctx),
		Locale:    req.Options.Locale,
		Operator:  who.Operator,
	})
}

// maxToolError bounds a tool's error as the model sees it, in bytes; leastToolError
// applies if the turn has hardly any room.
const (
	maxToolError   = 1024
	leastToolError = 96
)

// An allowance bounds the results of a round, so that they fit in the turn, in bytes.
// It is safe for concurrent use.
type allowance struct {
	ample bool // all results together certainly fit

	mu   sync.Mutex
	left int
}

// mostResult exceeds the size of any result of one call. What it has beyond the output is for
// the name, the id and the envelope of a result.
const mostResult = tool.MaxOutputBytes + 16<<10

// newAllowance returns the allowance for a number of calls. Where even results of the
// greatest size fit, none is encoded to be measured.
func newAllowance(left, calls int) *allowance {
	return &allowance{ample: left >= min(calls, maxCalls)*mostResult, left: max(left, 0)}
}

// take reserves room for result. It returns the size of result, the room left, and
// false if result does not fit. A result that does not fit leaves the room to smaller ones.
func (a *allowance) take(result *genai.Part) (size, left int, ok bool) {
	if a.ample {
		return 0, 0, true
	}
	encoded, err := json.Marshal(result)
	if err != nil {
		return 0, 0, false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(encoded) > a.left {
		return len(encoded), a.left, false
	}
	a.left -= len(encoded)
	return len(encoded), a.left, true
}

// runTools runs the calls of one round concurrently and returns the content with their
// results in the same order. A tool's error, or an output that does not fit in the
// turn after spare bytes are set aside, becomes a result for the model. The only error
// is the end of ctx.
func (s *Service) runTools(ctx context.Context, g *generation, calls []*genai.FunctionCall, spare int) (*genai.Content, error) {
	parts := make([]*genai.Part, len(calls))
	results := make([]session.Part, len(calls))
	ids := make([]string, len(calls))
	panics := make([]error, len(calls)) // in our own code around the tools
	earlier := g.earlierCalls()
	for i, call := range calls {
		ids[i] = call.ID
		// The id has the step, so that it differs from those of other steps.
		if ids[i] == "" || slices.Contains(ids[:i], ids[i]) || earlier[ids[i]] { // the stored call stays as the model wrote it
			ids[i] = fmt.Sprintf("call_%d_%d", g.step, i+1)
		}
		// A run that has waited or was taken over may have shown them.
		if !g.shown {
			g.run.out.add(session.Part{Kind: session.KindToolCall, ID: ids[i], Name: call.Name, Args: call.Args})
		}
	}
	plans, err := s.plan(ctx, g, calls, ids)
	if err != nil {
		return nil, err
	}
	// The room is shared by all results of the round, whichever tool ends first. Each call
	// keeps at least the room for an error, so that the turn can always be stored.
	room := newAllowance(g.room()-max(spare, len(calls)*leastResult), len(calls))
	var running sync.WaitGroup
	for i, call := range calls {
		p := &plans[i]
		if p.end != nil || p.pending != nil {
			continue
		}
		running.Go(func() {
			panics[i] = rescue.Call(func() error {
				results[i], parts[i] = s.answerCall(ctx, g, p, i, call, room)
				results[i].ID = ids[i]
				// The ledger comes first: an end that was shown is then in each later write
				// of the record.
				if p.effect != "" && p.refused == nil && !p.unknown {
					g.run.journal.ended(p.effect, callEnd{Part: results[i], Response: parts[i].FunctionResponse.Response, State: p.changes.made()})
				}
				g.run.out.add(results[i])
				s.showToolFiles(ctx, g.files)
				return nil
			})
		})
	}
	running.Wait()
	g.settleSubs()
	for _, err := range panics {
		if p, ok := errors.AsType[*rescue.Panic](err); ok {
			panic(p.Stack) // repanic where the request ends
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	ends, unknown := map[int]callEnd{}, false
	g.pending = nil
	for i := range calls {
		switch p := &plans[i]; {
		case p.pending != nil:
			g.pending = append(g.pending, *p.pending)
			g.run.out.add(approvalPart(*p.pending))
		case p.end != nil:
			ends[i] = *p.end
			if !g.shown {
				g.run.out.add(p.end.Part)
			}
		default:
			ends[i] = callEnd{Part: results[i], Response: parts[i].FunctionResponse.Response}
			unknown = unknown || p.unknown
		}
	}
	g.ends, g.shown = ends, true
	switch {
	case unknown:
		return nil, errEffectUnknown
	case len(g.pending) > 0:
		return nil, errWaits
	}
	content := g.resultsOf(calls, ends, errNotRun)
	g.ends, g.shown = nil, false
	return content, nil
}

// earlierCalls returns the ids of the calls of earlier steps. A client
// knows a call by its id, and an approval holds for one call. Ids are the model's, so two
// steps may have the same.
func (g *generation) earlierCalls() map[string]bool {
	var ids map[string]bool
	for _, content := range g.contents[:len(g.contents)-1] { // the last one has the calls of this step, or is the question
		for _, part := range content.Parts {
			if part.FunctionCall == nil || part.FunctionCall.ID == "" {
				continue
			}
			if ids == nil {
				ids = map[string]bool{}
			}
			ids[part.FunctionCall.ID] = true
		}
	}
	return ids
}

// answerCall runs one call and returns its end for clients and its result for the
// model.
func (s *Service) answerCall(ctx context.Context, g *generation, p *plan, i int, call *genai.FunctionCall, room *allowance) (session.Part, *genai.Part) {
	begin := s.Now()
	var response map[string]any
	err := p.refused
	if err == nil {
		g.showCall(ctx, call.Name, nil)
		calling, step := s.Observer.StartTool(ctx, call.Name)
		calling = g.progress(calling, p.id, call.Name)
		if p.effect == "" {
			response, err = s.hookedTool(calling, g, i, call)
		} else {
			known := false
			response, known, err = s.runEffect(calling, g, p, i, call)
			p.unknown = !known
		}
		step.End(calling, toolFailure(err))
		if err != nil {
			g.showCall(ctx, call.Name, err)
		}
	}
	if err != nil && strings.TrimSpace(err.Error()) == "" {
		err = errToolFailed // no words read as a success
	}
	result := &genai.FunctionResponse{ID: call.ID, Name: call.Name, Response: response}
	part := &genai.Part{FunctionResponse: result}
	if err == nil {
		if size, left, ok := room.take(part); !ok {
			err = fmt.Errorf("the output has %d bytes, more than the %d that this turn has left: ask for less", size, left)
		}
	}
	end := session.Part{Kind: session.KindToolResult, Name: truncate.Text(call.Name, 64), OK: err == nil}
	if err == nil && (s.ShowTools || g.tools.byName[call.Name].Shown()) {
		end.Shown, end.Result = true, response
	}
	if err != nil {
		end.Error = truncate.Text(err.Error(), maxToolError)
		result.Response = toolError(err, maxToolError)
		// If even that is more than the allowance, the room that was kept for each call,
		// leastResult, holds this one.
		if _, _, ok := room.take(part); !ok {
			result.Response = toolError(err, leastToolError)
		}
	}
	end.DurationMS = s.Now().Sub(begin).Milliseconds()
	return end, part
}

// toolError returns the result of a failed call, with at most the given number of
// bytes of its message.
func toolError(err error, most int) map[string]any {
	return map[string]any{"error": truncate.Text(err.Error(), most)}
}

// toolFailure returns the error code of a tool's failure for telemetry, "" for none.
// The message is only for the model. It may quote what a person has asked.
func toolFailure(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, errToolTimeout):
		return string(api.Timeout)
	}
	return string(api.Internal)
}

// errToolFailed is what the model sees of a tool that panicked.
var errToolFailed = errors.New("the tool failed")

// runTool runs one call. It returns at the tool's timeout or when ctx ends, even if
// the tool does not: a tool that ignores its context must not delay the answer.
func (s *Service) runTool(ctx context.Context, g *generation, i int, call *genai.FunctionCall) (map[string]any, error) {
	if i >= maxCalls {
		return nil, fmt.Errorf("not run: at most %d calls at once", maxCalls)
	}
	t, ok := g.tools.byName[call.Name]
	if !ok {
		return nil, fmt.Errorf("there is no tool %q", truncate.Text(call.Name, 64))
	}
	timeout := s.toolTimeout(t)
	isAgent := agent.Of(t) != nil
	if isAgent {
		ctx = agent.WithRunner(ctx, s.runner(g))
		timeout = cmp.Or(t.Timeout(), s.Timeout)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errToolTimeout)
	defer cancel()
	type result struct {
		response map[string]any
		err      error
	}
	// The call runs in a goroutine that may outlive this function: Go cannot stop a tool
	// that ignores its context.
	done := make(chan result, 1) // buffered, because nobody may receive
	go func() {
		var r result
		r.err = rescue.Call(func() (err error) {
			r.response, err = t.Call(ctx, call.Args)
			return err
		})
		if p, ok := errors.AsType[*rescue.Panic](r.err); ok {
			s.Log.ErrorContext(ctx, "A tool panicked.", "tool", t.Name(), "request_id", api.RequestID(ctx),
				"panic", fmt.Sprint(p.Value), "stack_trace", p.Stack)
			r.err = errToolFailed
		}
		done <- r
	}()
	select {
	case r := <-done:
		if r.err != nil && errors.Is(context.Cause(ctx), errToolTimeout) {
			return nil, errToolTimeout
		}
		return r.response, r.err
	case <-ctx.Done():
		if isAgent {
			<-done // it ends with ctx, and has spent what is to be counted
		}
		return nil, context.Cause(ctx)
	}
}

// toolTimeout returns how long a call of a tool may take.
func (s *Service) toolTimeout(t tool.Tool) time.Duration {
	return cmp.Or(t.Timeout(), max(s.Agent.ToolTimeout, 0), defaultToolTimeout)
}

// defaultToolTimeout applies if neither the tool nor the agent sets one. A tool that is an
// agent has the turn's time instead.
const defaultToolTimeout = 10 * time.Second
