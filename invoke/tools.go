package invoke

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"google.golang.org/genai"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/caller"
	"example.com/gatehouse/internal/rescue"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/session"
	"example.com/gatehouse/tool"
)

// maxCalls bounds the calls of one round; the model is told of those beyond.
const maxCalls = 32

// toolContext returns a context in which tools find for whom they work on the next
// turn of current, or on the turn that replaces one.
func toolContext(ctx context.Context, current *session.Session, replaces string, req Request) context.Context {
	who, _ := caller.FromContext(ctx)
	turn := current.Turns + 1
	if replaces != "" {
		turn = current.Turns
	}
	p := who.Principal
	return tool.NewContext(ctx, tool.Context{
		Caller:    tool.Caller{Method: p.Method, Issuer: p.Issuer, Subject: p.Subject, Email: p.Email},
		EndUser:   who.EndUser,
		SessionID: current.Key.ID,
		Turn:      turn,
		RequestID: api.RequestID(ctx),
		Locale:    req.locale,
		Operator:  who.Operator,
	})
}

// maxToolError bounds what a tool's error tells the model, in bytes, and
// leastToolError where the turn has hardly any room.
const (
	maxToolError   = 1024
	leastToolError = 96
)

// An allowance is what the results of a round may still take of their turn, in
// bytes. It is safe for concurrent use.
type allowance struct {
	ample bool // as much as they can take together

	mu   sync.Mutex
	left int
}

// mostResult is more bytes than the result of one call has.
const mostResult = tool.MaxOutputBytes + 16<<10

func newAllowance(left, calls int) *allowance {
	return &allowance{ample: left >= min(calls, maxCalls)*mostResult, left: max(left, 0)}
}

// take sets aside what result takes. It returns its size and what there is, and
// false when that is less.
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

// runTools runs the calls of one round side by side, and gives the content that
// answers them in their order. What goes wrong in a tool is told to the model, as
// is an output for which the turn has no room beside spare bytes; only the end of
// ctx is an error.
func (s *Service) runTools(ctx context.Context, g *generation, calls []*genai.FunctionCall, round, spare int, out *stream) (*genai.Content, error) {
	parts := make([]*genai.Part, len(calls))
	results := make([]session.ToolCall, len(calls))
	ids := make([]string, len(calls))
	panics := make([]error, len(calls)) // of our own code around the tools
	for i, call := range calls {
		ids[i] = call.ID
		if ids[i] == "" { // in events only: what is stored stays as the model gave it
			ids[i] = fmt.Sprintf("call_%d_%d", round+1, i+1)
		}
		if err := out.toolCall(g.model, ids[i], call); err != nil {
			return nil, err
		}
	}
	room := newAllowance(g.room()-max(spare, len(calls)*leastResult), len(calls))
	var running sync.WaitGroup
	for i, call := range calls {
		running.Go(func() {
			panics[i] = rescue.Call(func() error {
				results[i], parts[i] = s.answerCall(ctx, i, call, room)
				_ = out.toolResult(ids[i], results[i]) // a client that has gone away ends ctx
				return nil
			})
		})
	}
	running.Wait()
	for _, err := range panics {
		if p, ok := errors.AsType[*rescue.Panic](err); ok {
			panic(p.Stack) // this goroutine's end is the request's
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	g.calls = append(g.calls, results...)
	return &genai.Content{Role: genai.RoleUser, Parts: parts}, nil
}

// answerCall runs one call, and gives what clients and the model are told of it.
func (s *Service) answerCall(ctx context.Context, i int, call *genai.FunctionCall, room *allowance) (session.ToolCall, *genai.Part) {
	begin := s.Now()
	calling, step := s.Observer.StartTool(ctx, call.Name)
	response, err := s.runTool(calling, i, call)
	step.End(calling, toolFailure(err))
	result := &genai.FunctionResponse{ID: call.ID, Name: call.Name, Response: response}
	part := &genai.Part{FunctionResponse: result}
	if err == nil {
		if size, left, ok := room.take(part); !ok {
			err = fmt.Errorf("the output has %d bytes, more than the %d that this turn has left: ask for less", size, left)
		}
	}
	if err != nil {
		result.Response = toolError(err, maxToolError)
		if _, _, ok := room.take(part); !ok {
			result.Response = toolError(err, leastToolError)
		}
	}
	return session.ToolCall{Name: telemetry.Truncate(call.Name, 64), OK: err == nil, DurationMS: s.Now().Sub(begin).Milliseconds()}, part
}

// toolError is how the model is told of a failure, in at most so many bytes.
func toolError(err error, most int) map[string]any {
	return map[string]any{"error": telemetry.Truncate(err.Error(), most)}
}

// toolFailure is the code of a tool's failure, "" for none: what it says is for
// the model alone.
func toolFailure(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, errToolTimeout):
		return string(api.Timeout)
	}
	return string(api.Internal)
}

// errToolFailed is all that the model hears of a tool that panicked.
var errToolFailed = errors.New("the tool failed")

// runTool runs one call. It returns at the tool's timeout or ctx's end even if
// the tool goes on: a tool that ignores its context cannot hold the answer up.
func (s *Service) runTool(ctx context.Context, i int, call *genai.FunctionCall) (map[string]any, error) {
	if i >= maxCalls {
		return nil, fmt.Errorf("not run: at most %d calls at once", maxCalls)
	}
	t, ok := s.tools[call.Name]
	if !ok {
		return nil, fmt.Errorf("there is no tool %q", telemetry.Truncate(call.Name, 64))
	}
	timeout := cmp.Or(t.Timeout(), max(s.Agent.ToolTimeout, 0), defaultToolTimeout)
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errToolTimeout)
	defer cancel()
	type result struct {
		response map[string]any
		err      error
	}
	done := make(chan result, 1) // with room: nobody may be waiting any more
	go func() {
		defer func() {
			if p := recover(); p != nil {
				s.Log.ErrorContext(ctx, "A tool panicked.", "tool", t.Name(), "request_id", api.RequestID(ctx),
					"panic", fmt.Sprint(p), "stack_trace", fmt.Sprintf("panic: %v\n%s", p, debug.Stack()))
				done <- result{err: errToolFailed}
			}
		}()
		response, err := t.Call(ctx, call.Args)
		done <- result{response, err}
	}()
	select {
	case r := <-done:
		if r.err != nil && errors.Is(context.Cause(ctx), errToolTimeout) {
			return nil, errToolTimeout
		}
		return r.response, r.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// defaultToolTimeout is for an agent that names none.
const defaultToolTimeout = 10 * time.Second
