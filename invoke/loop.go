package invoke

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/genai"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/loop"
	"example.com/gatehouse/internal/model"
	"example.com/gatehouse/internal/rescue"
	"example.com/gatehouse/internal/truncate"
	"example.com/gatehouse/session"
	"example.com/gatehouse/tool"
)

// An agent with a Loop is run by a framework, and the framework's goroutines call what
// the turn's own goroutine does elsewhere. So everything that they reach of the generation
// lies behind the lock of a loopTurn, model calls excepted, each of which has another
// generation until it is over. Once the turn is over the framework may still be running:
// Go cannot stop it. From then on it finds the turn closed.
//
// A loop cannot go on in the middle of its work: what it has done lies on its stack. Its
// run is taken over from the question, or from where it has waited for a person. There the
// calls that were approved are entered in the ledger as effects are, so that none of them
// runs twice.

// A loopTurn is the [loop.Turn] of a run.
type loopTurn struct {
	s       *Service
	ctx     context.Context // of the turn, as tools have it
	cancel  context.CancelCauseFunc
	req     Request
	past    []loop.Past
	resumed *loop.Resumed

	calling sync.WaitGroup // model calls

	mu        sync.Mutex // protects what follows, and g
	g         *generation
	over      bool
	lasts     int   // model calls without tools
	failed    error // of the last model call; nil if that went well
	ledger    error // why the run has to end
	begun     map[string]*loopEffect
	answer    model.Answer    // of the last model call that had one
	grounded  *model.Answer   // whose sources were not shown
	thoughts  bool            // a model call has asked for their summaries
	steps     []*loopStep     // whose calls have no results yet; the first one is in g's contents
	shownStep int             // the last one in the ids of calls
	modelIDs  map[string]bool // of calls, as the model wrote them
	waits     bool

	beforeCommit func(context.Context) error
}

// A loopStep is a content of the model in a turn, with what is known of its calls.
type loopStep struct {
	content *genai.Content // as it is stored
	added   bool           // to the turn's contents
	calls   []*genai.FunctionCall
	ids     []loopID
	ends    map[int]callEnd
	began   time.Time
}

// A loopID names a call for the framework and for clients.
type loopID struct {
	Own   string `json:"own"`
	Shown string `json:"shown"`
}

// A loopState is what the checkpoint of a run has of its loop.
type loopState struct {
	Kept json.RawMessage `json:"kept,omitempty"`
	IDs  []loopID        `json:"ids,omitempty"` // of the calls of the last content
}

// loop runs the agent's Loop for the turn.
func (s *Service) loop(ctx context.Context, g *generation, req *Request) error {
	during, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	t := &loopTurn{s: s, ctx: during, cancel: cancel, g: g, req: *req, past: g.past, modelIDs: map[string]bool{}}
	if err := t.resume(); err != nil {
		return err
	}
	err := callOwn(during, func() error { return s.Agent.Loop.Answer(during, t) })
	t.close()
	if _, panicked := errors.AsType[*rescue.Panic](err); panicked { // it goes on from here
		_ = t.besideCommit(ctx, err)
	}
	return t.besideCommit(ctx, t.outcome(ctx, err))
}

// outcome returns what the turn has come to that the Loop has left with err.
func (t *loopTurn) outcome(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil && err != nil:
		return context.Cause(ctx)
	case t.ledger != nil:
		return t.ledger
	case t.failed != nil && err != nil:
		err = t.failed
	case err != nil && !errors.Is(err, loop.ErrRounds) && !errors.Is(err, loop.ErrRoom):
		return ownFailure(ctx, "Loop", err)
	}
	return t.end(err)
}

// besideCommit writes what the Loop wants written beside the turn that has come to err, and
// returns what it then has come to. A turn that is stored although it has failed is one in
// which a call has changed the world: what that call has changed beside is written, too.
func (t *loopTurn) besideCommit(ctx context.Context, err error) error {
	fails := err != nil && !errors.Is(err, errWaits)
	if t.beforeCommit == nil || fails && !t.g.run.binds(ctx) {
		return err
	}
	writing := ctx
	if fails { // ctx may have ended with it
		detached, cancel := detach(ctx, storeTimeout)
		defer cancel()
		writing = detached
	}
	switch failed := callOwn(writing, func() error { return t.beforeCommit(writing) }); {
	case failed == nil || fails:
		return err
	case errors.Is(failed, errStateUnavailable):
		return api.Fail(api.SessionStoreUnavailable, failed)
	default:
		return ownFailure(ctx, "Loop", failed)
	}
}

// close ends the turn for its framework, and returns when no model call is in flight.
func (t *loopTurn) close() {
	t.mu.Lock()
	t.over = true
	t.mu.Unlock()
	t.cancel(loop.ErrOver)
	t.calling.Wait()
}

// end makes the turn whole that the Loop has left with err. Text that was said before an
// error that more calls would have mended is an answer, if not all of it.
func (t *loopTurn) end(err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.g
	said := g.text.Len() > 0
	switch {
	case err == nil && t.waits:
		return errWaits
	case err != nil && said && (errors.Is(err, loop.ErrRounds) || errors.Is(err, loop.ErrRoom) || isEmpty(err)):
		g.warn(warnTruncated)
		g.looped.Kept = nil // from when it waited: the contents have more
	case errors.Is(err, loop.ErrRounds), errors.Is(err, loop.ErrRoom):
		return api.Fail(api.ModelFailed, err)
	case err != nil:
		return err
	case !said && (t.answer.Blocked != "" || model.IsSafetyBlock(t.answer.Finish)):
		return api.Fail(api.ContentBlocked, fmt.Errorf("the answer was blocked: %s %s", t.answer.Blocked, t.answer.Finish))
	case !said && len(g.files.stored) == 0:
		return api.Fail(api.ModelFailed, fmt.Errorf("the agent ended with %q and no text", t.answer.Finish))
	case t.answer.Asked != "" && (t.answer.Finish == genai.FinishReasonMaxTokens || !model.MayCallTools(t.answer.Finish) || t.answer.Blocked != ""):
		g.warn(warnTruncated)
	}
	if g.usage.Source == "" { // the agent has answered without the model
		g.admitted()
		g.usage, g.finish = session.Usage{Source: session.Counted, EstimatedCostUSD: new(float64)}, genai.FinishReasonStop
	}
	for _, step := range t.steps { // calls without results, which no prompt may have
		if err := t.settle(step); err != nil {
			return err
		}
	}
	// Text that was said and never added, of an agent that has left its answer unfinished.
	if rest := g.unsaid(); rest != "" {
		return g.addText(genai.NewContentFromText(rest, genai.RoleModel))
	}
	return nil
}

// resume makes t go on where its run has waited.
func (t *loopTurn) resume() error {
	g := t.g
	if g.looped == nil || len(g.openCalls()) == 0 {
		g.looped = &loopState{}
		return nil
	}
	calls := g.openCalls()
	if len(g.looped.IDs) != len(calls) {
		return api.Fail(api.Internal, errors.New("the record's calls are not those of its loop"))
	}
	step := &loopStep{content: g.contents[len(g.contents)-1], added: true, calls: calls, ids: g.looped.IDs, ends: cloned(g.ends), began: t.s.Now()}
	t.steps, t.shownStep, g.approved = []*loopStep{step}, g.step, new(g.step)
	t.resumed = &loop.Resumed{Kept: g.looped.Kept, Answers: map[string]session.Answer{}}
	for _, id := range step.ids {
		if answer, ok := g.run.journal.answer(answerKey(g.step, id.Shown)); ok {
			t.resumed.Answers[id.Own] = answer
			g.run.out.add(answerPart(id.Shown, answer))
		}
	}
	g.ends, g.shown = nil, false
	return nil
}

func (t *loopTurn) Owner() session.Owner     { return t.g.run.owner }
func (t *loopTurn) Past() []loop.Past        { return t.past }
func (t *loopTurn) Resumed() *loop.Resumed   { return t.resumed }
func (t *loopTurn) Question() *genai.Content { return t.g.contents[0] }

func (t *loopTurn) Contents() []*genai.Content {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.g.contents)
}

func (t *loopTurn) Streams() bool {
	return t.g.run.watched && t.s.Agent.Hooks.Model == nil && t.s.Agent.Hooks.Answer == nil
}

func (t *loopTurn) CanAsk() bool {
	return t.g.depth == 0 && t.g.run.journal != nil && !t.req.Options.Sessionless && !t.req.Options.NobodyToAsk
}

func (t *loopTurn) Say(text string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return loop.ErrOver
	}
	t.g.admitted()
	t.g.appendText(text)
	return nil
}

func (t *loopTurn) Add(content *genai.Content, said bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.over:
		return loop.ErrOver
	case content == nil || len(content.Parts) == 0:
		return nil
	case content.Role == genai.RoleModel:
		return t.addModel(content, said)
	}
	return t.addResults(content)
}

// addModel adds a content of the model. While calls before it have no results it is kept
// back: the API wants results directly behind their calls.
func (t *loopTurn) addModel(content *genai.Content, said bool) error {
	g := t.g
	g.admitted()
	step := &loopStep{content: &genai.Content{Role: genai.RoleModel}, ends: map[int]callEnd{}, began: t.s.Now()}
	before := g.text.Len()
	for _, p := range content.Parts {
		if p == nil {
			continue
		}
		stored := *p
		step.content.Parts = append(step.content.Parts, &stored)
		switch {
		case p.FunctionCall != nil:
			call := *p.FunctionCall
			step.ids = append(step.ids, loopID{Own: call.ID})
			if !t.modelIDs[call.ID] { // the framework's: the model would not know it
				call.ID = ""
			}
			stored.FunctionCall = &call
			step.calls = append(step.calls, &call)
		case p.Thought && !t.thoughts: // which nobody asked for
		case p.Text == "" || p.Thought:
			g.showPart(p)
		case !said:
			g.appendText(p.Text)
		}
	}
	defer func() { g.paragraph, g.written, g.cut = true, 0, false }() // for the next step
	if t.grounded != nil {
		text := (&model.Answer{Content: content}).Text()
		placed := text == t.grounded.Text()
		begin := g.text.Len() - len(text) // behind the break of a later paragraph
		if !said {
			begin = max(begin, before) // of a text that was cut
		}
		g.showSources(t.grounded, max(begin, 0), placed)
		t.grounded = nil
	}
	t.showCalls(step)
	if len(t.steps) > 0 {
		t.steps = append(t.steps, step)
		return nil
	}
	encoded, held := g.holds(step.content, len(step.calls))
	if g.cut || !held {
		g.warn(warnTruncated)
		if err := g.addText(genai.NewContentFromText(g.unsaid(), genai.RoleModel)); err != nil {
			return err
		}
		return loop.ErrRoom
	}
	g.addHeld(step.content, encoded)
	if step.added = true; len(step.calls) > 0 {
		t.steps = append(t.steps, step)
	}
	return nil
}

// showCalls names the calls of a step for clients, each differently from those before it,
// and shows them.
func (t *loopTurn) showCalls(step *loopStep) {
	if len(step.calls) == 0 {
		return
	}
	t.shownStep = max(t.g.step, t.shownStep+1)
	earlier := t.g.earlierCalls()
	for _, open := range t.steps {
		for _, call := range open.calls {
			if call.ID != "" {
				if earlier == nil {
					earlier = map[string]bool{}
				}
				earlier[call.ID] = true
			}
		}
	}
	for i, call := range step.calls {
		id := &step.ids[i]
		id.Shown = call.ID
		if id.Shown == "" || earlier[id.Shown] || slices.ContainsFunc(step.ids[:i], func(other loopID) bool { return other.Shown == id.Shown }) {
			id.Shown = fmt.Sprintf("call_%d_%d", t.shownStep, i+1)
		}
		t.g.run.out.add(session.Part{Kind: session.KindToolCall, ID: id.Shown, Name: call.Name, Args: call.Args})
	}
}

// addResults adds the results of calls. One that does not fit in the turn is replaced in
// content by an error, which is what the model then reads.
func (t *loopTurn) addResults(content *genai.Content) error {
	room := newAllowance(t.g.room()-reserve(t.s.maxTokens(&t.req)), len(content.Parts))
	for _, p := range content.Parts {
		if p == nil || p.FunctionResponse == nil {
			continue
		}
		step, i := t.find(p.FunctionResponse.ID)
		if step == nil {
			continue // of a call that the framework made by itself
		}
		t.endCall(step, i, p.FunctionResponse, room)
	}
	for len(t.steps) > 0 {
		step := t.steps[0]
		if len(step.ends) < len(step.calls) {
			return nil
		}
		if err := t.settle(step); err != nil {
			return err
		}
		t.steps, t.g.approved = t.steps[1:], nil
	}
	return nil
}

// find returns the open call that the framework names so.
func (t *loopTurn) find(id string) (*loopStep, int) {
	for _, step := range t.steps {
		for i := range step.ids {
			if _, ended := step.ends[i]; step.ids[i].Own == id && !ended {
				return step, i
			}
		}
	}
	return nil, 0
}

// endCall enters the result of a call and shows it.
func (t *loopTurn) endCall(step *loopStep, i int, result *genai.FunctionResponse, room *allowance) {
	size, left, ok := room.take(&genai.Part{FunctionResponse: result})
	switch {
	case size > mostResult:
		result.Response = toolError(fmt.Errorf("the output has %d bytes, more than the %d allowed", size, tool.MaxOutputBytes), maxToolError)
	case !ok:
		result.Response = toolError(fmt.Errorf("the output has %d bytes, more than the %d that this turn has left: ask for less", size, left), maxToolError)
	}
	end := session.Part{
		Kind: session.KindToolResult, ID: step.ids[i].Shown, Name: truncate.Text(step.calls[i].Name, 64), OK: true,
		DurationMS: t.s.Now().Sub(step.began).Milliseconds(),
	}
	if failed, ok := result.Response["error"]; ok {
		end.OK, end.Error = false, truncate.Text(fmt.Sprint(failed), maxToolError)
	} else if t.s.ShowTools {
		end.Shown, end.Result = true, result.Response
	}
	step.ends[i] = callEnd{Part: end, Response: result.Response}
	if len(step.ends) == len(step.calls) {
		t.g.toolTime += t.s.Now().Sub(step.began)
	}
	t.g.run.out.add(end)
}

// settle adds a step to the turn's contents, with the results of its calls.
func (t *loopTurn) settle(step *loopStep) error {
	if !step.added {
		if err := t.g.add(step.content); err != nil {
			return err
		}
		step.added = true
	}
	if len(step.calls) == 0 {
		return nil
	}
	return t.g.add(t.g.resultsOf(step.calls, step.ends, errNotRun))
}

func (t *loopTurn) Keep(kept json.RawMessage) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.over:
		return loop.ErrOver
	case len(kept)-len(t.g.looped.Kept) > t.g.room():
		return loop.ErrRoom
	}
	t.g.looped.Kept = kept
	return nil
}

func (t *loopTurn) BeforeCommit(f func(context.Context) error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.over { // the turn's own goroutine reads it then
		t.beforeCommit = f
	}
}

// appOwner owns the state that all users of an agent share. It is no hash, as callers'
// owners are, so that no caller is it.
const appOwner session.Owner = "app"

func (t *loopTurn) App() tool.States {
	return &states{store: t.s.Store, key: session.Key{Owner: appOwner}, begin: t.s.Now(), log: t.s.Log, request: api.RequestID(t.ctx)}
}

// pastOf returns the earlier turns that history has chosen, with what a Loop has kept of
// them. ids are those of the chosen turns' records, nil for a history that is not of records.
func pastOf(turns []json.RawMessage, chosen []chosenTurn) []loop.Past {
	past := make([]loop.Past, len(turns))
	for i, contents := range turns {
		past[i].Contents = contents
		if i >= len(chosen) {
			continue
		}
		record := chosen[i].record
		past[i].ID, _ = record.ID()
		if chosen[i].whole {
			past[i].Kept = record.Loop()
		}
	}
	return past
}
