package invoke

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"google.golang.org/genai"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/files"
	"example.com/gatehouse/internal/model"
	"example.com/gatehouse/internal/rescue"
	"example.com/gatehouse/session"
	"example.com/gatehouse/tool"
)

// The agent's own functions that run within a turn run in goroutines: one that ignores
// its context must not hold the request. What one of them calls in turn, next, runs in
// the turn's goroutine, so that a hook that was given up touches nothing of the turn.

// maxOwnText bounds the text of Instructions and of a changed question, in bytes.
const maxOwnText = 64 << 10

var errRefused = errors.New("a hook refused")

// ownFailure returns what ends a turn in which the agent's own code named what returned
// err. It panics if that did. A refusal is the hook's decision, and counts even when the time
// is over by then. Any other error in a context that has ended is only the end's consequence.
// What is left is a fault of the agent, 500, with its text in the log only.
func ownFailure(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	if p, ok := errors.AsType[*rescue.Panic](err); ok {
		panic(p.Stack) // repanic where the request ends
	}
	if _, ok := errors.AsType[*agent.Refusal](err); ok {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return api.Fail(api.Internal, fmt.Errorf("the agent's %s: %w", what, err))
}

// instructions returns what the agent's Instructions add to its Instruction.
func (s *Service) instructions(ctx context.Context) (string, error) {
	if s.Agent.Instructions == nil {
		return "", nil
	}
	var text string
	err := callOwn(ctx, func() (err error) {
		text, err = s.Agent.Instructions(ctx)
		return err
	})
	switch {
	case err != nil:
		return "", ownFailure(ctx, "Instructions", err)
	case len(text) > maxOwnText:
		return "", api.Fail(api.Internal, fmt.Errorf("the agent's Instructions have %d bytes, more than %d", len(text), maxOwnText))
	case text == "" || s.Agent.Instruction == "":
		return text, nil
	}
	return "\n\n" + text, nil
}

// question returns req as the hook Question leaves it, which may change its query: a copy,
// since the request as it was sent identifies a retry. ctx is that of tools.
func (s *Service) question(ctx context.Context, req *Request) (*Request, error) {
	hook := s.Agent.Hooks.Question
	if hook == nil {
		return req, nil
	}
	q := &agent.Question{Text: req.Query}
	for _, a := range req.attached {
		q.Files = append(q.Files, agent.QuestionFile{Name: a.Name, Type: a.Type, URI: a.URI})
	}
	if err := callOwn(ctx, func() error { return hook(ctx, q) }); err != nil {
		return nil, ownFailure(ctx, "hook Question", err)
	}
	if q.Text = strings.TrimSpace(q.Text); q.Text == "" || len(q.Text) > maxOwnText {
		return nil, api.Fail(api.Internal, fmt.Errorf("the agent's hook Question left %d bytes, want 1 to %d", len(q.Text), maxOwnText))
	}
	changed := *req
	changed.Query = q.Text
	// Files are matched by their place, so a hook may rename them but neither drop nor add
	// any.
	if len(q.Files) != len(req.attached) {
		return nil, api.Fail(api.Internal, errors.New("the agent's hook Question changed the number of files"))
	}
	for i, file := range q.Files {
		if files.CheckName(file.Name) != nil {
			return nil, api.Fail(api.Internal, fmt.Errorf("the agent's hook Question left a name of %d bytes that is no file's", len(file.Name)))
		}
		req.attached[i].Name = file.Name
	}
	return &changed, nil
}

// comment returns what a person has written beside a question, as the hook Question leaves
// it: no more than most characters. It can hold what the hook takes out of questions, so the
// hook runs before anything is stored. A longer one is cut and not refused: the person has kept
// the bound, and it is the hook that has made the text longer.
func (s *Service) comment(ctx context.Context, key session.Key, turn int, of, text string, most int) (string, error) {
	hook := s.Agent.Hooks.Question
	if hook == nil || text == "" {
		return text, nil
	}
	ctx = toolContext(ctx, &session.Session{Key: key}, turn, &Request{})
	q := &agent.Question{Text: text, Of: of}
	if err := callOwn(ctx, func() error { return hook(ctx, q) }); err != nil {
		return "", failure(ctx, ctx, ownFailure(ctx, "hook Question", err))
	}
	q.Text = strings.ToValidUTF8(q.Text, "\uFFFD") // a store may take nothing else
	if characters := []rune(q.Text); len(characters) > most {
		q.Text = string(characters[:most])
	}
	return q.Text, nil
}

// hookedCall makes one model call within the hooks Model and Answer. Beside an error, answer
// has what was spent.
func (s *Service) hookedCall(ctx context.Context, g *generation, r *model.Request, answer *model.Answer, onText func(by, text string) error) (err error) {
	if hook := s.Agent.Hooks.Model; hook != nil {
		err = s.hookModel(ctx, g, r, answer, hook)
	} else {
		err = s.call(ctx, g, r, answer, onText)
	}
	if err != nil || s.Agent.Hooks.Answer == nil || answer.Content == nil {
		return err
	}
	answer.Content, err = s.hookAnswer(ctx, answer.Content)
	return err
}

// hookModel makes one model call as hook wants it. The hook may call next more than once, each
// time with what it has changed since; each is a model call that is paid for. The answer that
// it leaves is checked, since it is stored and sent again with later prompts.
func (s *Service) hookModel(ctx context.Context, g *generation, r *model.Request, answer *model.Answer, hook func(context.Context, *agent.ModelCall, func() error) error) error {
	*answer = model.Answer{} // the hook may give its own, without a call
	c := &agent.ModelCall{Model: r.Model, Step: g.step, Instruction: r.Instruction, History: slices.Clone(r.History), Contents: r.Contents}
	var failure error // of the model
	asked := false
	err := callHook(ctx, func(next func() error) error { return hook(ctx, c, next) }, func() error {
		if err := checkCall(c, r); err != nil {
			return err
		}
		r.Instruction, r.History, r.Contents, r.Exact = c.Instruction, c.History, c.Contents, false
		// A turn stays with the model that has answered in it, which may be a stand-in.
		if asked && failure == nil {
			r.Model, r.Alone = answer.Asked, true
		}
		asked = true
		failure = s.call(ctx, g, r, answer, nil)
		c.Answer = answer.Content
		return failure
	})
	switch {
	case err != nil && failure != nil && errors.Is(err, failure):
		return failure
	case err != nil:
		return ownFailure(ctx, "hook Model", err)
	case failure != nil: // which the hook has put an answer in the place of
		*answer = model.Answer{Model: answer.Model, Asked: answer.Asked, Attempts: answer.Attempts, Spent: answer.Spent}
		fallthrough
	case !asked:
		answer.Finish = genai.FinishReasonStop
		if answer.Asked == "" {
			answer.Asked, answer.Model = r.Model, r.Model
		}
		g.model, g.finish = answer.Model, answer.Finish
		if g.usage.Source == "" {
			g.usage = session.Usage{Source: session.Counted, EstimatedCostUSD: new(float64)} // nothing was spent
		}
	}
	if c.Answer == nil && answer.Content == nil && asked && failure == nil { // it was held back
		return nil
	}
	left, changed := c.Answer, c.Answer != answer.Content
	answer.Content = left
	switch {
	case left == nil || len(left.Parts) == 0:
		return api.Fail(api.Internal, errors.New("the agent's hook Model left no answer"))
	case left.Role != genai.RoleModel || slices.Contains(left.Parts, nil):
		return api.Fail(api.Internal, errors.New("the agent's hook Model left an answer that is not the model's: set the role and no nil parts"))
	case changed && !slices.ContainsFunc(left.Parts, func(p *genai.Part) bool { return !isEmptyPart(p) }):
		return api.Fail(api.Internal, errors.New("the agent's hook Model left an empty answer"))
	case changed:
		if _, err := json.Marshal(left); err != nil {
			return api.Fail(api.Internal, fmt.Errorf("the agent's hook Model left an answer that is no JSON: %w", err))
		}
	}
	return nil
}

// checkCall returns an error if what a hook has put into the place of r's history or contents
// cannot be sent. The API would blame the request, and the caller read that the model failed.
func checkCall(c *agent.ModelCall, r *model.Request) error {
	for i, turn := range c.History {
		if i < len(r.History) && len(turn) > 0 && len(turn) == len(r.History[i]) && &turn[0] == &r.History[i][0] {
			continue // as it was
		}
		if list := bytes.TrimSpace(turn); len(list) == 0 || list[0] != '[' || !json.Valid(list) {
			return fmt.Errorf("it put into History what is no list of contents, at %d", i)
		}
	}
	for i, content := range c.Contents {
		if i < len(r.Contents) && content == r.Contents[i] {
			continue
		}
		if content == nil || slices.Contains(content.Parts, nil) {
			return fmt.Errorf("it put nil into Contents, at %d", i)
		}
		if _, err := json.Marshal(content); err != nil {
			return fmt.Errorf("it put into Contents what is no JSON, at %d: %w", i, err)
		}
	}
	return nil
}

// hookAnswer returns content with its text as the hook Answer leaves it, and without
// thoughts. The hook sees the text of all parts as one and leaves one, which goes into the
// first part that had text; the other parts keep their signatures.
func (s *Service) hookAnswer(ctx context.Context, content *genai.Content) (*genai.Content, error) {
	changed := &genai.Content{Role: content.Role, Parts: slices.DeleteFunc(slices.Clone(content.Parts), func(p *genai.Part) bool { return p.Thought })}
	before := (&model.Answer{Content: changed}).Text()
	if before == "" {
		return changed, nil
	}
	a := &agent.Answer{Text: before}
	if err := callOwn(ctx, func() error { return s.Agent.Hooks.Answer(ctx, a) }); err != nil {
		return nil, ownFailure(ctx, "hook Answer", err)
	}
	switch a.Text {
	case before:
		return changed, nil
	case "":
		return nil, api.Fail(api.ContentBlocked, errRefused)
	}
	text := a.Text
	for i, p := range changed.Parts {
		if p.Text == "" {
			continue
		}
		part := *p // with its signature
		part.Text, text = text, ""
		changed.Parts[i] = &part
	}
	changed.Parts = slices.DeleteFunc(changed.Parts, isEmptyPart)
	return changed, nil
}

// isEmptyPart reports whether nothing is left of a part, such as of one that had text.
func isEmptyPart(p *genai.Part) bool { return reflect.ValueOf(*p).IsZero() }

// hookedTool runs one call within the hook Tool. The output is bounded again after the hook,
// which may have enlarged what the tool was allowed.
func (s *Service) hookedTool(ctx context.Context, g *generation, i int, call *genai.FunctionCall) (map[string]any, error) {
	hook := s.Agent.Hooks.Tool
	if hook == nil {
		return s.runTool(ctx, g, i, call)
	}
	c := &agent.ToolCall{Name: call.Name, Args: cloneJSON(call.Args)}
	err := callHook(ctx, func(next func() error) error { return hook(ctx, c, next) }, func() (err error) {
		made := *call
		made.Args = c.Args
		during := ctx
		if show := c.Progress; show != nil {
			during = tool.WithProgress(ctx, func(text string) { tool.Progress(ctx, show(text)) })
		}
		c.Output, err = s.runTool(during, g, i, &made)
		return err
	})
	if p, ok := errors.AsType[*rescue.Panic](err); ok {
		panic(p.Stack) // repanic where the request ends
	}
	if err != nil {
		return nil, err
	}
	encoded, err := json.Marshal(c.Output)
	switch {
	case err != nil:
		return nil, fmt.Errorf("encoding the output: %w", err)
	case len(encoded) > tool.MaxOutputBytes:
		return nil, fmt.Errorf("the output has %d bytes, more than the %d allowed", len(encoded), tool.MaxOutputBytes)
	case c.Output == nil:
		return map[string]any{}, nil
	}
	return c.Output, nil
}

// cloneJSON returns a copy of an object that shares nothing that can change with it. A hook
// that changes arguments in place would otherwise change the call that is stored and shown.
func cloneJSON(object map[string]any) map[string]any {
	copied, _ := cloneValue(object).(map[string]any)
	return copied
}

func cloneValue(value any) any {
	switch v := value.(type) {
	case map[string]any:
		copied := make(map[string]any, len(v))
		for name, member := range v {
			copied[name] = cloneValue(member)
		}
		return copied
	case []any:
		copied := make([]any, len(v))
		for i, element := range v {
			copied[i] = cloneValue(element)
		}
		return copied
	}
	return value
}

// errHookOver is what next returns to a hook that was not waited for.
var errHookOver = errors.New("the turn does not wait for this hook any more")

// callHook calls hook as [callOwn] does. What hook calls as next is run, one at a time,
// in the caller's goroutine. The hook's goroutine may outlive the call. over is closed then,
// so that a next that it calls later returns an error instead of waiting for somebody who has
// left.
func callHook(ctx context.Context, hook func(next func() error) error, run func() error) error {
	calls, over := make(chan chan error), make(chan struct{})
	defer close(over)
	next := func() error {
		result := make(chan error, 1)
		select {
		case calls <- result:
		case <-over:
			return errHookOver
		}
		select {
		case err := <-result:
			return err
		case <-over: // run panicked
			return errHookOver
		}
	}
	done := make(chan error, 1)
	go func() { done <- rescue.Call(func() error { return hook(next) }) }()
	for {
		select {
		case result := <-calls:
			result <- run()
		case err := <-done:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
