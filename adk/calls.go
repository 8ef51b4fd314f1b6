package adk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	adkagent "google.golang.org/adk/v2/agent"
	"google.golang.org/adk/v2/artifact"
	"google.golang.org/adk/v2/model"
	"google.golang.org/adk/v2/plugin"
	"google.golang.org/adk/v2/session"
	adktool "google.golang.org/adk/v2/tool"
	"google.golang.org/adk/v2/tool/toolconfirmation"
	"google.golang.org/genai"

	"example.com/gatehouse/internal/loop"
	"example.com/gatehouse/internal/rescue"
	store "example.com/gatehouse/session"
)

// ADK runs the calls of a step side by side, each with a context of the turn. What a call is
// of, only ADK's callbacks and the tool itself learn; so each has a [call] as its context,
// which becomes that of the gate's call once it is known.
//
// There are two ways to a tool. One that the model has called is [limited]: it is not waited
// for beyond its time. One that a person has approved ADK runs past the request of the model,
// where it cannot be exchanged. It is found by the plugin's callbacks, entered in the ledger,
// and ends the turn if it takes too long.

// A call is the context of a call of a tool.
type call struct {
	outer   context.Context
	current atomic.Pointer[context.Context] // outer, or that of the gate while the tool runs
	ended   func(error)                     // of the latter
}

type callKey struct{}

func newCall(ctx context.Context) *call {
	c := &call{outer: ctx}
	c.current.Store(&ctx)
	return c
}

// callOf returns the call of a context, nil outside of one.
func callOf(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	return c
}

func (c *call) now() context.Context { return *c.current.Load() }

func (c *call) Deadline() (time.Time, bool) { return c.now().Deadline() }
func (c *call) Done() <-chan struct{}       { return c.now().Done() }
func (c *call) Err() error                  { return c.now().Err() }

func (c *call) Value(key any) any {
	if key == (callKey{}) {
		return c
	}
	return c.now().Value(key)
}

// begin makes c the context of a call of the gate.
func (c *call) begin(t *turn, id, name string) {
	ctx, ended := t.Calling(c.outer, loop.Call{ID: id, Name: name, Timeout: t.timeouts[name]})
	c.current.Store(&ctx)
	c.ended = ended
}

// end ends the call, if it has begun. Callbacks after it have the context of those before.
func (c *call) end(err error) {
	if c.ended != nil {
		c.current.Store(&c.outer)
		c.ended(err)
		c.ended = nil
	}
}

// maxTasks bounds how many tools of a step run at once.
const maxTasks = 32

// runTasks runs the calls of a step. ADK would run each in a goroutine in which a panic of
// a callback ends the process; here it ends the turn.
func (t *turn) runTasks(ctx context.Context, tasks []func(context.Context)) {
	var running sync.WaitGroup
	places := make(chan struct{}, maxTasks)
	for _, task := range tasks {
		places <- struct{}{}
		running.Go(func() {
			defer func() { <-places }()
			c := newCall(ctx)
			err := rescue.Call(func() error { task(c); return nil })
			c.end(err)
			if err != nil {
				t.cancel(err)
			}
		})
	}
	running.Wait()
}

// newPlugin returns the plugin by which calls that a person has approved run once, and no
// model is asked past the gate.
func newPlugin() (*plugin.Plugin, error) {
	return plugin.New(plugin.Config{
		Name: "gatehouse",
		// The first callback of a run, before any of the user's, which may hang.
		OnUserMessageCallback: func(ctx adkagent.InvocationContext, _ *genai.Content) (*genai.Content, error) {
			if t := turnOf(ctx); t != nil {
				t.entered(true)
			}
			return nil, nil
		},
		BeforeModelCallback: func(ctx adkagent.Context, req *model.LLMRequest) (*model.LLMResponse, error) {
			if req.Model != modelName {
				return nil, fmt.Errorf("adk: the agent %s has the model %q; set adk.Model(), whose calls are limited and counted", ctx.AgentName(), req.Model)
			}
			limit(req.Tools) // another callback may answer in the model's place
			return nil, nil
		},
		BeforeToolCallback: func(ctx adkagent.Context, called adktool.Tool, _ map[string]any) (map[string]any, error) {
			t := turnOf(ctx)
			if t == nil || !t.isApproved(ctx.FunctionCallID()) {
				return nil, nil
			}
			result, err := t.beginApproved(ctx, called.Name())
			if err != nil {
				t.cancel(err)
			}
			return result, err
		},
		AfterToolCallback: func(ctx adkagent.Context, _ adktool.Tool, _, result map[string]any, err error) (map[string]any, error) {
			t := turnOf(ctx)
			if t == nil || !t.runs(ctx.FunctionCallID()) || context.Cause(ctx) != nil {
				return nil, nil
			}
			if err := t.endApproved(ctx, result, err); err != nil && !errors.Is(err, loop.ErrOver) {
				t.cancel(err)
			}
			return nil, nil
		},
	})
}

// isApproved reports whether a person has approved a call.
func (t *turn) isApproved(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, approved := t.approved[id]
	return approved
}

// runs reports whether a call that was approved has begun here.
func (t *turn) runs(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.approved[id]
}

// beginApproved has an approved call begin, or returns the result that it has had already,
// with what it has done to the session.
func (t *turn) beginApproved(ctx adkagent.Context, name string) (map[string]any, error) {
	id := ctx.FunctionCallID()
	end, err := t.Began(id, name)
	if err != nil {
		return nil, err
	}
	if end != nil {
		return end.Result, t.redo(ctx, end.Kept)
	}
	t.mu.Lock()
	t.approved[id] = true
	t.mu.Unlock()
	if c := callOf(ctx); c != nil {
		c.begin(t, id, name)
	}
	return nil, nil
}

// maxActions bounds what is kept of a call's actions: a little more than the states may have.
const maxActions = 3*store.MaxStateBytes + 4<<10

var errActions = fmt.Errorf("adk: what a tool has changed in the state is not JSON, or has more than %d bytes", maxActions)

// endApproved enters in the ledger how an approved call has ended, with all that it has done
// to the session: whoever takes the run over does not run the tool. The states are changed
// now, and not by the event that comes when all calls of the step have ended: what was done
// stays done, even if the turn gets no further.
func (t *turn) endApproved(ctx adkagent.Context, result map[string]any, failed error) error {
	if failed != nil {
		result = map[string]any{"error": failed.Error()}
	}
	// What holds for the run only need not be JSON.
	actions := *ctx.Actions()
	kept, err := json.Marshal(actions)
	if err != nil || len(kept) > maxActions {
		actions = withoutTemporary(&session.Event{Actions: actions}).Actions
		if kept, err = json.Marshal(actions); err != nil || len(kept) > maxActions {
			kept, err = nil, errActions
		}
	}
	if err == nil {
		err = t.change(actions.StateDelta)
	}
	if c := callOf(ctx); c != nil {
		c.end(failed)
	}
	return errors.Join(t.Ended(ctx.FunctionCallID(), loop.End{Result: result, Kept: kept}), err)
}

// redo makes the actions of a call that has ended in another process.
func (t *turn) redo(ctx adkagent.Context, kept json.RawMessage) error {
	if kept == nil { // of an earlier release
		return nil
	}
	var actions session.EventActions
	if err := json.Unmarshal(kept, &actions); err != nil {
		return fmt.Errorf("adk: what was kept of a call: %w", err)
	}
	setActions(ctx, actions)
	return t.change(actions.StateDelta)
}

// setActions makes actions those of ctx, and changes the state as they say.
func setActions(ctx adkagent.Context, actions session.EventActions) {
	if actions.StateDelta == nil {
		actions.StateDelta = map[string]any{}
	}
	if actions.ArtifactDelta == nil {
		actions.ArtifactDelta = map[string]int64{}
	}
	changes := maps.Clone(actions.StateDelta)
	*ctx.Actions() = actions
	for key, value := range changes {
		_ = ctx.State().Set(key, value) // of a session in memory
	}
}

// A function is a tool that returns its result.
type function interface {
	adktool.Tool
	Declaration() *genai.FunctionDeclaration
	Run(ctx adkagent.Context, args any) (map[string]any, error)
}

// A streamer is a tool that returns its result in pieces, which ADK joins.
type streamer interface {
	adktool.Tool
	Declaration() *genai.FunctionDeclaration
	RunStream(ctx adkagent.Context, args any) iter.Seq2[string, error]
}

// A limited is a tool whose calls are those of the gate: they are not waited for beyond
// their time.
type limited struct{ function }

// limit exchanges the tools of a request for limited ones. ADK runs the request's tools,
// and does the same with those that it wants confirmed.
func limit(tools map[string]any) {
	for name, each := range tools {
		if isOfSubAgent(each) {
			continue
		}
		switch t := each.(type) {
		case limited:
		case streamer:
			tools[name] = limited{joined{t}}
		case function:
			tools[name] = limited{t}
		}
	}
}

// isOfSubAgent reports whether a tool is ADK's own for an agent below the one that has it,
// such as one of the mode single_turn. ADK runs that agent beside the call and not in its
// context, and so with the time of the turn. The types are in an internal package of ADK.
func isOfSubAgent(t any) bool {
	of := reflect.TypeOf(t)
	return of != nil && of.Kind() == reflect.Pointer && strings.HasSuffix(of.Elem().PkgPath(), "/internal/workflowinternal")
}

// joined is a streamer as a function. ADK calls no callbacks for a streamer, so that a call
// of one that was approved would be in no ledger: it cannot ask.
type joined struct{ streamer }

var errStreamerAsks = errors.New("not run: it needs a person's approval, and a tool that streams cannot ask for it")

func (j joined) Run(ctx adkagent.Context, args any) (map[string]any, error) {
	var text strings.Builder
	for piece, err := range j.RunStream(ctx, args) {
		if err != nil {
			if ctx.Actions().RequestedToolConfirmations != nil {
				ctx.Actions().RequestedToolConfirmations, ctx.Actions().SkipSummarization = nil, false
				err = errStreamerAsks
			}
			return nil, err
		}
		text.WriteString(piece)
	}
	return map[string]any{"result": text.String()}, nil
}

func (l limited) Run(ctx adkagent.Context, args any) (map[string]any, error) {
	t, c := turnOf(ctx), callOf(ctx)
	if t == nil || c == nil {
		return l.function.Run(ctx, args)
	}
	c.begin(t, ctx.FunctionCallID(), l.Name())
	result, err := l.run(t, ctx, newOwnContext(ctx, c.now()), args)
	c.end(err)
	return result, err
}

// run runs the tool in own, at most until ctx ends: Go cannot stop a tool that ignores its context.
// What it does later is not ADK's any more.
func (l limited) run(t *turn, ctx context.Context, own *ownContext, args any) (map[string]any, error) {
	if object, ok := args.(map[string]any); ok {
		args = maps.Clone(object)
	}
	type end struct {
		result map[string]any
		err    error
	}
	done := make(chan end, 1) // buffered, because nobody may receive
	go func() {
		var e end
		if err := rescue.Call(func() error { e.result, e.err = l.function.Run(own, args); return nil }); err != nil {
			t.cancel(err)
			e.err = err
		}
		done <- e
	}()
	select {
	case e := <-done:
		own.settle()
		if e.err != nil && ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return e.result, e.err
	case <-ctx.Done():
		own.leave()
		return nil, context.Cause(ctx)
	}
}

// An ownContext is the context of a tool that may outlive its call. It stays that of the
// call, and what the tool does to ADK's actions, which nothing protects, is kept here until
// the tool has returned in time.
type ownContext struct {
	adkagent.Context
	call    context.Context // the gate's
	actions *session.EventActions
	saving  *sync.Mutex // held while an artifact is saved, which ADK's actions have then
}

func newOwnContext(ctx adkagent.Context, call context.Context) *ownContext {
	actions := *ctx.Actions()
	actions.StateDelta = maps.Clone(actions.StateDelta)
	actions.ArtifactDelta = maps.Clone(actions.ArtifactDelta)
	actions.RequestedToolConfirmations = maps.Clone(actions.RequestedToolConfirmations)
	return &ownContext{ctx, call, &actions, new(sync.Mutex)}
}

// settle makes what the tool has done ADK's.
func (c *ownContext) settle() {
	maps.Copy(c.actions.ArtifactDelta, c.Context.Actions().ArtifactDelta)
	setActions(c.Context, *c.actions)
}

// leave leaves a tool to itself. From then on it saves nothing.
func (c *ownContext) leave() {
	c.saving.Lock()
	defer c.saving.Unlock()
}

func (c *ownContext) Deadline() (time.Time, bool) { return c.call.Deadline() }
func (c *ownContext) Done() <-chan struct{}       { return c.call.Done() }
func (c *ownContext) Err() error                  { return c.call.Err() }

func (c *ownContext) Value(key any) any {
	if value := c.call.Value(key); value != nil {
		return value
	}
	return c.Context.Value(key)
}

func (c *ownContext) Actions() *session.EventActions { return c.actions }

func (c *ownContext) State() session.State { return ownState{c} }

func (c *ownContext) Artifacts() adkagent.Artifacts { return ownArtifacts{c.Context.Artifacts(), c} }

func (c *ownContext) WithAgentCancel() (adkagent.Context, context.CancelFunc) {
	ctx, cancel := c.Context.WithAgentCancel()
	return &ownContext{ctx, ctx, c.actions, c.saving}, cancel
}

func (c *ownContext) RequestConfirmation(hint string, payload any) error {
	if c.actions.RequestedToolConfirmations == nil {
		c.actions.RequestedToolConfirmations = map[string]toolconfirmation.ToolConfirmation{}
	}
	c.actions.RequestedToolConfirmations[c.FunctionCallID()] = toolconfirmation.ToolConfirmation{Hint: hint, Payload: payload}
	c.actions.SkipSummarization = true // it ends ADK's loop
	return nil
}

type ownState struct{ c *ownContext }

func (s ownState) Get(key string) (any, error) {
	if value, ok := s.c.actions.StateDelta[key]; ok {
		return value, nil
	}
	return s.c.Context.State().Get(key)
}

func (s ownState) Set(key string, value any) error {
	if s.c.Err() != nil {
		return context.Cause(s.c)
	}
	s.c.actions.StateDelta[key] = value
	return nil
}

func (s ownState) All() iter.Seq2[string, any] {
	all := maps.Collect(s.c.Context.State().All())
	maps.Copy(all, s.c.actions.StateDelta)
	return maps.All(all)
}

type ownArtifacts struct {
	adkagent.Artifacts
	c *ownContext
}

func (a ownArtifacts) Save(ctx context.Context, name string, data *genai.Part) (*artifact.SaveResponse, error) {
	a.c.saving.Lock()
	defer a.c.saving.Unlock()
	if a.c.Err() != nil {
		return nil, context.Cause(a.c)
	}
	return a.Artifacts.Save(ctx, name, data)
}
