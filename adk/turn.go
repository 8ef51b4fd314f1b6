package adk

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	adkagent "google.golang.org/adk/v2/agent"
	"google.golang.org/adk/v2/platform"
	"google.golang.org/adk/v2/runner"
	"google.golang.org/adk/v2/session"
	"google.golang.org/adk/v2/tool/toolconfirmation"
	"google.golang.org/genai"

	"example.com/gatehouse/internal/loop"
	"example.com/gatehouse/tool"
)

// ADK's runner is the loop of a turn. Its events are looked at in one goroutine, that of
// the runner's iteration, as they are appended to ADK's session: each becomes a content of
// the gate's turn, with its calls and results, before the next model call reads it. Pieces of
// text go by on the way. Agents that run side by side take turns to be shown: while one
// streams, what the others have to say waits.

// An app is an agent of ADK behind the gate.
type app struct {
	root     adkagent.Agent
	runner   *runner.Runner
	timeouts map[string]time.Duration // of tools, by name

	// ADK's runner completes the root agent at the beginning of each run, without a lock. So
	// the first run is alone until then: later ones find it complete.
	first sync.Mutex
	begun atomic.Bool
}

// enter waits for the first run to begin. The caller, which may be that run, must call
// entered once, or more often, to report whether it has begun.
func (a *app) enter() (entered func(begun bool)) {
	if a.begun.Load() {
		return func(bool) {}
	}
	a.first.Lock()
	var once sync.Once
	return func(begun bool) {
		once.Do(func() {
			if begun {
				a.begun.Store(true)
			}
			a.first.Unlock()
		})
	}
}

// A turn is what ADK does in one turn of the gate.
type turn struct {
	loop.Turn
	ctx      context.Context
	session  *conversation
	cancel   context.CancelCauseFunc
	entered  func(begun bool) // of app.enter
	timeouts map[string]time.Duration

	begin  int               // where the turn's events begin in the session's
	delta  map[string]any    // of the state
	stream string            // who is being shown piece by piece
	said   strings.Builder   // and what of
	later  []*session.Event  // of others, to be shown after
	asks   []ask             // of persons, not answered
	held   []*genai.Part     // results of the step that asks
	denied map[string]string // what the model reads, by the ids of calls

	mu       sync.Mutex
	approved map[string]bool // whether calls that a person has approved have begun here
	changed  map[string]any  // in the states
}

// An ask is a confirmation that a tool has asked for.
type ask struct {
	id   string // of ADK's own call
	call *genai.FunctionCall
	hint string
}

type turnKey struct{}

// turnOf returns the turn of a context, nil outside of one.
func turnOf(ctx context.Context) *turn {
	t, _ := ctx.Value(turnKey{}).(*turn)
	return t
}

// maxDenials bounds how often a turn in which nobody can be asked goes on after it wanted to.
const maxDenials = 4

// answer answers a turn of the gate.
func (a *app) answer(ctx context.Context, gate loop.Turn) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	t := &turn{
		Turn: gate, ctx: ctx, cancel: cancel, timeouts: a.timeouts,
		delta: map[string]any{}, denied: map[string]string{}, approved: map[string]bool{}, changed: map[string]any{},
	}
	message, err := a.open(ctx, t)
	if err != nil {
		return err
	}
	ctx = platform.WithTaskRunner(context.WithValue(ctx, turnKey{}, t), t.runTasks)
	for denials := 0; ; denials++ {
		if err := a.run(ctx, t, message); err != nil {
			return err
		}
		switch {
		case len(t.asks) == 0:
			return t.end()
		case t.CanAsk():
			return t.wait()
		case denials == maxDenials:
			return loop.ErrRounds
		}
		if err := t.Add(&genai.Content{Role: genai.RoleUser, Parts: t.settled()}, false); err != nil {
			return err
		}
		message = t.answers(func(string) (bool, string) {
			return false, "not run: it needs a person's approval, and nobody can be asked here"
		})
	}
}

// open loads the session, and returns what ADK's run begins with.
func (a *app) open(ctx context.Context, t *turn) (*genai.Content, error) {
	raw, err := sessionState.Get(ctx)
	if err != nil {
		return nil, err
	}
	state, err := objectOf(raw)
	if err != nil {
		return nil, err
	}
	t.session = newConversation(a.root.Name(), string(t.Owner()), tool.From(ctx).SessionID, state, func(prefix string) (map[string]any, error) { return t.load(ctx, prefix) })
	for i, past := range t.Past() {
		all, err := eventsOf(i, past, a.root.Name())
		if err != nil {
			return nil, err
		}
		t.session.events = append(t.session.events, all...)
	}
	t.begin = len(t.session.events)
	resumed := t.Resumed()
	if resumed == nil {
		return withIDs(t.Question(), nil), nil
	}
	all, err := decodeEvents(resumed.Kept, t.Contents())
	if err != nil {
		return nil, fmt.Errorf("adk: what was kept of the turn: %w", err)
	}
	restoreCalls(all)
	for _, e := range all {
		t.session.events = append(t.session.events, e)
		maps.Copy(t.session.state, e.Actions.StateDelta)
		if e.Author == "user" { // whose message has answered what was asked before it
			t.asks = nil
		}
		t.note(e)
	}
	return t.answers(func(call string) (bool, string) {
		answer := resumed.Answers[call]
		refusal := "not run: a person has denied it"
		if answer.Reason != "" {
			refusal += ": " + answer.Reason
		}
		return answer.Approve, refusal
	}), nil
}

// What ADK keeps in the state of the session, and of the user.
var (
	sessionState = tool.SessionState[json.RawMessage](stateName)
	userState    = tool.UserState[json.RawMessage](stateName)
)

// load returns the state of the user, or of the app.
func (t *turn) load(ctx context.Context, prefix string) (map[string]any, error) {
	load := userState.Get
	if prefix == session.KeyPrefixApp {
		load = func(ctx context.Context) (json.RawMessage, error) { return t.App().LoadState(ctx, true, stateName) }
	}
	raw, err := load(ctx)
	if err != nil {
		return nil, err
	}
	return objectOf(raw)
}

// merging returns a change of a state by which it has the changes, too.
func merging(changes map[string]any) func(*json.RawMessage) error {
	return func(raw *json.RawMessage) (err error) {
		*raw, err = merge(*raw, changes)
		return err
	}
}

// run runs ADK's runner once.
func (a *app) run(ctx context.Context, t *turn, message *genai.Content) error {
	config := adkagent.RunConfig{}
	if t.Streams() {
		config.StreamingMode = adkagent.StreamingModeSSE
	}
	t.asks, t.held = nil, nil
	t.entered = a.enter()
	defer t.entered(false)
	for e, err := range a.runner.Run(ctx, t.session.user, t.session.id, message, config) {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		if err != nil {
			return err
		}
		if e == nil || !e.Partial || e.Content == nil {
			continue
		}
		if err := t.piece(e); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// who identifies an agent among those that run side by side.
func who(e *session.Event) string { return e.Branch + "\x00" + e.Author }

// piece shows a piece of text.
func (t *turn) piece(e *session.Event) error {
	text := textOf(e.Content)
	if t.stream == "" {
		t.stream = who(e)
	}
	if text == "" || t.stream != who(e) {
		return nil
	}
	t.said.WriteString(text)
	return t.Say(text)
}

// textOf returns the text of a content, without thoughts.
func textOf(content *genai.Content) string {
	var text strings.Builder
	for _, p := range content.Parts {
		if p != nil && !p.Thought {
			text.WriteString(p.Text)
		}
	}
	return text.String()
}

// append adds an event to ADK's session and to the gate's turn.
func (t *turn) append(e *session.Event) error {
	t.shorten(e)
	maps.Copy(t.delta, e.Actions.StateDelta)
	t.session.append(e)
	if t.stream != "" && t.stream != who(e) && e.Author != "user" {
		t.later = append(t.later, e)
		return nil
	}
	if err := t.show(e); err != nil {
		return err
	}
	if t.stream != "" {
		return nil
	}
	later := t.later
	t.later = nil
	for _, e := range later {
		if err := t.show(e); err != nil {
			return err
		}
	}
	return nil
}

// note notes what an event asks a person, and reports whether it is of ADK only.
func (t *turn) note(e *session.Event) (own bool) {
	if e.Content == nil { // it changes the state only
		return false
	}
	for _, p := range e.Content.Parts {
		if p == nil || p.FunctionCall == nil || p.FunctionCall.Name != toolconfirmation.FunctionCallName {
			continue
		}
		own = true
		call, err := toolconfirmation.OriginalCallFrom(p.FunctionCall)
		if err != nil {
			continue
		}
		t.asks = append(t.asks, ask{p.FunctionCall.ID, call, hintOf(p.FunctionCall.Args["toolConfirmation"])})
	}
	return own
}

// hintOf returns the question in a confirmation, which is JSON once it was stored.
func hintOf(confirmation any) string {
	switch c := confirmation.(type) {
	case toolconfirmation.ToolConfirmation:
		return c.Hint
	case map[string]any:
		hint, _ := c["hint"].(string)
		return hint
	}
	return ""
}

// show makes an event's content one of the gate's turn.
func (t *turn) show(e *session.Event) error {
	if e.Content == nil || e.Author == "user" || t.note(e) {
		return nil
	}
	if e.Content.Role != genai.RoleModel {
		results := withIDs(e.Content, idsOf(e.Content))
		results.Parts = slices.DeleteFunc(results.Parts, func(p *genai.Part) bool { return p.FunctionResponse == nil })
		if asked := e.Actions.RequestedToolConfirmations; len(asked) > 0 { // whose results are errors that say so
			t.held = results.Parts
			return nil
		}
		return t.Add(results, false)
	}
	said := false
	if t.stream == who(e) {
		rest, ok := strings.CutPrefix(textOf(e.Content), t.said.String())
		if ok && rest != "" {
			if err := t.Say(rest); err != nil {
				return err
			}
		}
		// Where a callback has changed the text after its pieces went out, they stay: clients
		// have read them.
		said, t.stream = t.said.Len() > 0, ""
		t.said.Reset()
	}
	return t.Add(e.Content, said)
}

// shorten changes results of tools, before ADK's session has them: what is too large for
// the model, what a tool's panic says, and why a person has denied a call.
func (t *turn) shorten(e *session.Event) {
	if e.Content == nil || e.Author == "user" {
		return
	}
	for _, p := range e.Content.Parts {
		if p == nil || p.FunctionResponse == nil {
			continue
		}
		r := p.FunctionResponse
		if refusal, ok := t.denied[r.ID]; ok {
			r.Response = map[string]any{"error": refusal}
			continue
		}
		if message, ok := r.Response["error"].(string); ok {
			if first, _, panicked := strings.Cut(message, "\nstack: "); panicked { // functiontool's
				r.Response = map[string]any{"error": first}
			}
		}
		raw, err := json.Marshal(r.Response)
		switch {
		case err != nil:
			r.Response = map[string]any{"error": "the output is not JSON"}
		case len(raw) > tool.MaxOutputBytes:
			r.Response = map[string]any{"error": fmt.Sprintf("the output has %d bytes, more than the %d allowed", len(raw), tool.MaxOutputBytes)}
		}
	}
}

// settled returns the results of the step's calls that nobody is asked about.
func (t *turn) settled() []*genai.Part {
	return slices.DeleteFunc(slices.Clone(t.held), func(p *genai.Part) bool {
		return slices.ContainsFunc(t.asks, func(a ask) bool { return a.call.ID == p.FunctionResponse.ID })
	})
}

// answers returns the message from which ADK learns how its questions were answered.
func (t *turn) answers(of func(call string) (approved bool, refusal string)) *genai.Content {
	message := &genai.Content{Role: genai.RoleUser}
	for _, a := range t.asks {
		approved, refusal := of(a.call.ID)
		if approved {
			t.approved[a.call.ID] = false
		} else {
			t.denied[a.call.ID] = refusal
		}
		message.Parts = append(message.Parts, &genai.Part{FunctionResponse: &genai.FunctionResponse{
			ID: a.id, Name: toolconfirmation.FunctionCallName, Response: map[string]any{"confirmed": approved},
		}})
	}
	return message
}

// end keeps the turn's events and changes the states.
func (t *turn) end() error {
	own := make([]*session.Event, 0, len(t.session.events)-t.begin)
	for _, e := range t.session.events[t.begin:] {
		kept := *e
		kept.UsageMetadata = nil // the turn has the usage
		own = append(own, &kept)
	}
	kept, err := keepEvents(own, t.Contents())
	if err != nil {
		return fmt.Errorf("adk: encoding the events: %w", err)
	}
	if err := t.Keep(kept); err != nil {
		return err
	}
	return t.change(t.delta)
}

// change makes changes in the states: in the session's own now, for the turn's commit, and
// in the others beside it, once it is certain that there is one.
func (t *turn) change(delta map[string]any) error {
	if own := byScope(delta)[""]; own != nil {
		if err := sessionState.Update(t.ctx, merging(own)); err != nil {
			return err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.Copy(t.changed, delta)
	changes := byScope(t.changed)
	user, app := changes[session.KeyPrefixUser], changes[session.KeyPrefixApp]
	if user == nil && app == nil {
		return nil
	}
	t.BeforeCommit(func(ctx context.Context) error {
		if user != nil {
			if err := userState.Update(ctx, merging(user)); err != nil {
				return err
			}
		}
		if app == nil {
			return nil
		}
		return t.App().UpdateState(ctx, true, stateName, func(raw json.RawMessage) (json.RawMessage, error) { return merge(raw, app) })
	})
	return nil
}

// wait has the turn wait for the persons who are asked.
func (t *turn) wait() error {
	var questions []loop.Question
	for _, a := range t.asks {
		text := a.hint
		if text == "" || strings.HasPrefix(text, "Please approve or reject the tool call ") { // functiontool's, which is for programs
			text = fmt.Sprintf("May %s be called?", a.call.Name)
		}
		questions = append(questions, loop.Question{ID: a.call.ID, Name: a.call.Name, Args: a.call.Args, Text: text})
	}
	var results []*genai.FunctionResponse
	for _, p := range t.settled() {
		results = append(results, p.FunctionResponse)
	}
	if err := t.end(); err != nil {
		return err
	}
	return t.Wait(questions, results)
}
