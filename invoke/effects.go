package invoke

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"google.golang.org/genai"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/exactjson"
	"example.com/gatehouse/internal/rescue"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/internal/truncate"
	"example.com/gatehouse/session"
	"example.com/gatehouse/tool"
)

// The hard part of a tool that changes the world is an instance that dies while the tool
// runs. The ledger is the record's Effects: before the effects of a step begin, one
// conditional write stores that they do, together with the contents of the model call
// that asked for them. Whoever takes the run over finds the same calls in the same places
// and, in the ledger, each as not begun, finished with its result, or begun. Only the
// last is in doubt, and only the tool's reconcile can end the doubt. A holder that was
// fenced cannot write to the ledger, so it begins nothing.

// warnEffectUnknown: a tool that changes the world began, and its end is not known.
const warnEffectUnknown = "effect_unknown"

var (
	// errWaits ends the work on a run until a person has answered.
	errWaits = errors.New("the run waits for a person")
	// errEffectUnknown ends a run with a call whose end is not known.
	errEffectUnknown = errors.New("the end of a tool call that changes the world is not known")
)

// What the model reads of calls that were not run.
var (
	errNobodyToAsk = errors.New("not run: it needs a person's approval, and nobody can be asked here")
	errNoLedger    = errors.New("not run: an agent that is a tool may not change the world")
	errNotApproved = errors.New("not run: a person was asked and has not approved it")
	errNotRun      = errors.New("not run: the answer ended before")
	errNoEnd       = errors.New("it is not known whether this took effect")
)

// effectID returns the id of the effect that a call of the step has: the same for whoever
// works on the run. It is handed to the tool as an idempotency key for the system that it
// changes, which is why it must not depend on the instance or the attempt. 18 bytes are 144
// bits: two effects never share one by chance.
func (g *generation) effectID(call int) string {
	run := session.RunID(g.run.key.ID, g.run.turnID)
	sum := sha256.Sum256([]byte(run + "/" + strconv.Itoa(g.stepOfCalls()) + "/" + strconv.Itoa(call)))
	return base64.RawURLEncoding.EncodeToString(sum[:18])
}

// stepOfCalls returns the step of which the open calls are. Those that were approved in an
// agent with a Loop may have model calls after them.
func (g *generation) stepOfCalls() int {
	if g.approved != nil {
		return *g.approved
	}
	return g.step
}

// A callEnd is how a call has ended: for clients, and for the model.
type callEnd struct {
	Part     session.Part   `json:"part"`
	Response map[string]any `json:"response"`

	// State is what an effect has changed in the session's state: whoever takes its result
	// from the ledger does not run the tool.
	State map[string]json.RawMessage `json:"state,omitempty"`

	// Kept is what a Loop keeps of it beside.
	Kept json.RawMessage `json:"kept,omitempty"`
}

// decodeEnd decodes a callEnd of the ledger or of a checkpoint: the result must be the one that
// the tool returned, and a float would round an id of 19 digits.
func decodeEnd(data []byte) (end callEnd, err error) {
	err = exactjson.Unmarshal(data, &end)
	return end, err
}

// A plan is what is to be done with a call.
type plan struct {
	id      string           // of the call, for clients
	effect  string           // id of the effect, "" for a tool without
	changes *callStates      // of an effect that runs
	begun   bool             // by an earlier holder of the run, and not known to have ended
	end     *callEnd         // known already
	refused error            // not to be run, for the model
	pending *session.Pending // to be approved first
	unknown bool             // it has ended, and nobody knows how
}

// plan decides what is to be done with the calls of a step. Effects that begin are in the
// ledger when it returns. It is the only place where an effect begins: if its write fails,
// nothing of the step runs. Its errors are those that end the run.
func (s *Service) plan(ctx context.Context, g *generation, calls []*genai.FunctionCall, ids []string) ([]plan, error) {
	plans := make([]plan, len(calls))
	starting := map[string]session.Effect{}
	for i, call := range calls {
		p := &plans[i]
		p.id = ids[i]
		if end, ok := g.ends[i]; ok {
			p.end = &end
			continue
		}
		t, ok := g.tools.byName[call.Name]
		if !ok || i >= maxCalls || !t.HasEffect() && !t.Asks() {
			continue
		}
		if err := s.planOne(ctx, g, p, t, call, i); err != nil {
			return nil, err
		}
		if p.effect != "" && !p.begun && p.end == nil && p.refused == nil && p.pending == nil {
			starting[p.effect] = session.Effect{Name: t.Name(), Step: g.step, Call: i}
		}
	}
	if len(starting) == 0 {
		return plans, nil
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx) // nothing begins any more
	}
	// One write for all effects of the step, which then run side by side.
	return plans, g.run.journal.enter(starting)
}

// planOne decides what is to be done with a call of a tool that has an effect or asks. The
// order matters. A call that has begun is not asked about again, an answer is not asked for
// again, and only what is left gets a question.
func (s *Service) planOne(ctx context.Context, g *generation, p *plan, t tool.Tool, call *genai.FunctionCall, i int) error {
	journal := g.run.journal
	switch {
	case g.depth > 0 || journal == nil:
		p.refused = errNoLedger
		return nil
	// The model reads why and can answer without the tool. A run that waited could be answered
	// by nobody.
	case t.Asks() && (!g.run.req.Options.keepsEffects() || g.run.req.Options.NobodyToAsk):
		p.refused = errNobodyToAsk
		return nil
	}
	if t.HasEffect() {
		p.effect = g.effectID(i)
		if e, ok := journal.effect(p.effect); ok {
			if p.begun = !e.Done; p.begun {
				return nil // it was approved, if it had to be
			}
			end, err := decodeEnd(e.Result)
			if err != nil {
				return err
			}
			g.states.restore(end.State)
			end.State = nil // it is the turn's now
			p.end = &end
			return nil
		}
	}
	if !t.Asks() {
		return nil
	}
	if answer, ok := journal.answer(answerKey(g.step, p.id)); ok {
		g.run.out.add(answerPart(p.id, answer))
		if !answer.Approve {
			p.refused = errors.New("not run: a person has denied it")
			if answer.Reason != "" {
				p.refused = fmt.Errorf("%w: %s", p.refused, answer.Reason)
			}
		}
		return nil
	}
	question, err := s.askPerson(ctx, t, call)
	switch {
	case err != nil && ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		p.refused = err
		return nil
	}
	if question != "" {
		p.pending = new(s.pendingCall(p.id, t.Name(), call.Args, question))
	}
	return nil
}

// pendingCall returns a call that waits for a person from now on.
func (s *Service) pendingCall(id, name string, args map[string]any, question string) session.Pending {
	if args == nil {
		args = map[string]any{}
	}
	return session.Pending{CallID: id, Name: name, Args: args, Question: truncate.Text(question, maxQuestion), ExpiresAt: s.Now().Add(s.approvalTTL()).UTC()}
}

// approvalPart is what clients are shown of a call that waits.
func approvalPart(p session.Pending) session.Part {
	return session.Part{Kind: session.KindApproval, ID: p.CallID, Name: p.Name, Args: p.Args, Question: p.Question, ExpiresAt: p.ExpiresAt}
}

// answerPart is what clients are shown of a person's answer to a call.
func answerPart(id string, a session.Answer) session.Part {
	return session.Part{Kind: session.KindAnswered, ID: id, Approve: a.Approve, Reason: a.Reason}
}

// askPerson returns what to ask a person before a call, "" if it needs no approval. The
// question is the tool's own code, made of arguments that the model chose, and has the tool's
// timeout. An error is for the model to read.
func (s *Service) askPerson(ctx context.Context, t tool.Tool, call *genai.FunctionCall) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.toolTimeout(t), errToolTimeout)
	defer cancel()
	var question string
	err := callOwn(ctx, func() (err error) {
		question, err = t.Question(call.Args)
		return err
	})
	if err != nil {
		return "", s.ownToolFailure(ctx, t, err)
	}
	return question, nil
}

// ownToolFailure returns err of what a tool has beside its function, without what only the log
// may have: a panic.
func (s *Service) ownToolFailure(ctx context.Context, t tool.Tool, err error) error {
	if p, ok := errors.AsType[*rescue.Panic](err); ok {
		telemetry.LogPanic(ctx, s.Log, "The question or reconcile of the tool "+t.Name()+" panicked.", p.Stack)
		return errToolFailed
	}
	return err
}

// maxQuestion bounds the question about a call, in bytes. It is stored in the record and shown
// to the person as text.
const maxQuestion = 4 << 10

// approvalTTL is how long a run waits for a person. The record of a run that waits is kept as
// long.
func (s *Service) approvalTTL() time.Duration { return cmp.Or(s.ApprovalTTL, 72*time.Hour) }

// answerKey names the answer to a call in the record of its run: ids of calls are the
// model's, and two steps may have the same.
func answerKey(step int, call string) string { return strconv.Itoa(step) + "/" + call }

// runEffect runs a call of a tool that changes the world and reports false if its end is
// not known.
func (s *Service) runEffect(ctx context.Context, g *generation, p *plan, i int, call *genai.FunctionCall) (response map[string]any, known bool, err error) {
	in := tool.From(ctx)
	in.EffectID = p.effect
	ctx = tool.NewContext(ctx, in)
	if g.states != nil {
		p.changes = &callStates{states: g.states}
		ctx = tool.WithStates(ctx, p.changes)
	}
	t := g.tools.byName[call.Name]
	// An earlier holder died in the call. If the tool cannot find out how it ended, nothing
	// runs: doing it twice is worse than leaving it to a person.
	if p.begun {
		response, done, err := s.reconcile(ctx, g, t, call)
		switch {
		case err != nil || done:
			return response, err == nil, err
		case ctx.Err() != nil:
			return nil, true, errNotRun
		}
	}
	response, err = s.hookedTool(ctx, g, i, call)
	over := ctx.Err() != nil // the turn, which may be why the tool has failed
	switch {
	case err == nil:
		return response, true, nil
	// The tool's own error means that nothing was changed, see [tool.Effect].
	case !over && !errors.Is(err, tool.ErrUnknown) && !errors.Is(err, errToolTimeout) && !errors.Is(err, errToolFailed):
		return nil, true, err
	}
	// A timeout, a panic and ErrUnknown leave open whether the world was changed.
	response, done, failed := s.reconcile(ctx, g, t, call)
	switch {
	case failed != nil:
		return nil, false, err
	case done:
		return response, true, nil
	case over:
		return nil, true, errNotRun
	}
	return nil, true, err
}

// lateReconcile is how long a tool may be asked how its call has ended after the turn is
// over. The answer and the commit wait for it.
const lateReconcile = 2 * time.Second

// reconcile asks a tool how a call has ended. It returns false without an error when the tool
// is certain that the call has changed nothing, and an error when nobody knows. It has the
// tool's own timeout once more, and not more than lateReconcile of that once the turn is over.
// A run that goes on elsewhere asks there.
func (s *Service) reconcile(turn context.Context, g *generation, t tool.Tool, call *genai.FunctionCall) (map[string]any, bool, error) {
	if !t.Reconciles() || turn.Err() != nil && !g.run.binds(turn) {
		return nil, false, errNoEnd
	}
	ctx, cancel := detach(turn, s.toolTimeout(t))
	defer cancel()
	defer context.AfterFunc(turn, func() {
		if g.run.binds(turn) {
			select {
			case <-time.After(lateReconcile):
			case <-ctx.Done():
			}
		}
		cancel()
	})()
	var response map[string]any
	var done bool
	err := callOwn(ctx, func() (err error) {
		response, done, err = t.Reconcile(ctx, call.Args)
		return err
	})
	if err != nil {
		_ = s.ownToolFailure(ctx, t, err)
		s.Log.WarnContext(ctx, "A tool could not say how its call ended.", "tool", t.Name(), "request_id", api.RequestID(ctx))
		return nil, false, errNoEnd
	}
	return response, done, nil
}

// maxProgress bounds the texts of progress that a call shows, maxProgressText each of
// them in bytes.
const (
	maxProgress     = 64
	maxProgressText = 1 << 10
)

// progress returns a context in which a tool shows how far its call is. A tool of an
// agent that is a tool shows it as progress of the call that asks this agent: the bound is
// that of the call.
func (g *generation) progress(ctx context.Context, id, name string) context.Context {
	if g.depth > 0 {
		return tool.WithProgress(ctx, func(text string) {
			if text != "" {
				tool.Progress(ctx, truncate.Text(name, 64)+": "+text)
			}
		})
	}
	if g.run == nil || g.run.out == nil {
		return ctx
	}
	var shown atomic.Int32
	out, during := g.run.out, ctx
	return tool.WithProgress(ctx, func(text string) {
		if text != "" && during.Err() == nil && shown.Add(1) <= maxProgress {
			out.add(session.Part{Kind: session.KindProgress, ID: id, Name: truncate.Text(name, 64), Text: truncate.Text(text, maxProgressText)})
		}
	})
}

// effect returns the entry of an effect in the ledger.
func (j *journal) effect(id string) (session.Effect, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e, ok := j.record.Effects[id]
	return e, ok
}

// answer returns a person's answer.
func (j *journal) answer(key string) (session.Answer, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	a, ok := j.record.Answers[key]
	return a, ok
}

// began reports whether an effect of the run has begun, or may have.
func (j *journal) began() bool {
	if j == nil {
		return false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.record.Effects) > 0
}

// binds reports whether the run keeps its key although its call has failed: an effect has
// begun, or a person has answered, which is done once.
func (j *journal) binds() bool {
	if j == nil {
		return false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.record.Effects)+len(j.record.Answers) > 0
}

// stored reports whether the record is stored.
func (j *journal) stored() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.record.Revision != nil
}

// unknown reports whether the end of an effect is not known.
func (j *journal) unknown() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range j.record.Effects {
		if !e.Done {
			return true
		}
	}
	return false
}

// ended enters the end of an effect in the ledger, for the next write.
func (j *journal) ended(id string, end callEnd) {
	result, err := json.Marshal(end)
	if err != nil {
		return // it was encoded before
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	e := j.record.Effects[id]
	e.Done, e.Result = true, result
	j.record.Effects = cloned(j.record.Effects) // the store may hold the map
	j.record.Effects[id] = e
}

// wait ends the writes and returns the record of a run that waits.
func (j *journal) wait(pending []session.Pending) *session.Run {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = true
	if j.timer != nil {
		j.timer.Stop()
	}
	j.attempted = true
	waits := j.record
	waits.State, waits.Stop, waits.Pending = session.Waiting, false, pending
	waits.Parts, waits.Resets = j.run.out.shown()
	waits.Checkpoint = j.checkpoint.encode(waits.Checkpoint)
	return &waits
}

// resultsOf returns the content with the results of the calls of g's last content. The
// results of those without an end are the error.
func (g *generation) resultsOf(calls []*genai.FunctionCall, ends map[int]callEnd, without error) *genai.Content {
	content := &genai.Content{Role: genai.RoleUser}
	for i, call := range calls {
		response := toolError(without, maxToolError)
		if end, ok := ends[i]; ok {
			response = end.Response
			g.calls = append(g.calls, toolCall(end.Part))
		}
		content.Parts = append(content.Parts, &genai.Part{FunctionResponse: &genai.FunctionResponse{ID: call.ID, Name: call.Name, Response: response}})
	}
	return content
}

// suspend makes g the turn of a run that waits, and returns the run's record. What the
// model reads of the calls, if no answer comes, is that they were not approved. The error is
// [errStopped] if a stop came first.
func (s *Service) suspend(ctx context.Context, g *generation) (*session.Run, error) {
	g.finishStep()
	// A stop in this process would be lost from here on.
	s.live.pass(g.run)
	if errors.Is(context.Cause(ctx), errStopped) {
		return nil, errStopped
	}
	// The question of a run without a session is its only write. Were it the first one, it
	// could take place after it was given up and all of its owner was deleted, and be answered.
	if g.run.req.Options.Sessionless && !g.run.journal.stored() {
		if err := g.run.journal.enter(nil); err != nil {
			return nil, err
		}
	}
	record := g.run.journal.wait(g.pending)
	if err := g.add(g.resultsOf(g.openCalls(), g.ends, errNotApproved)); err != nil {
		return nil, err
	}
	g.finish = finishWaiting
	return record, nil
}

// fail makes g the turn of a run that ended after an effect had begun: it states what is
// known, so that the next question knows it too.
func (g *generation) fail(finish genai.FinishReason, failed *api.Error) error {
	journal := g.run.journal
	unknown := journal.unknown()
	if rest := g.unsaid(); rest != "" && len(g.openCalls()) == 0 {
		if err := g.addText(genai.NewContentFromText(rest, genai.RoleModel)); err != nil {
			return err
		}
	}
	if calls := g.openCalls(); len(calls) > 0 {
		ends := cloned(g.ends)
		for i := range calls {
			e, ok := journal.effect(g.effectID(i))
			if !ok {
				continue
			}
			end := callEnd{Part: session.Part{Name: e.Name}, Response: toolError(errNoEnd, maxToolError)}
			if e.Done {
				var err error
				if end, err = decodeEnd(e.Result); err != nil {
					return err
				}
			}
			ends[i] = end
		}
		if err := g.add(g.resultsOf(calls, ends, errNotRun)); err != nil {
			return err
		}
	}
	sentence := "The answer ended before it was finished. What was done before stays done."
	if unknown {
		g.warn(warnEffectUnknown)
		sentence = "The answer ended before it was known whether what was asked for has been done. Check it before you ask for it again."
	}
	if failed != nil && !unknown {
		g.warn(string(failed.Code))
	}
	g.paragraph, g.written, g.cut = true, 0, false
	g.appendText(sentence)
	if err := g.addText(genai.NewContentFromText(sentence, genai.RoleModel)); err != nil {
		return err
	}
	g.finish = finish
	if g.usage.Source == "" {
		g.usage.Source = session.Estimated
	}
	return nil
}
