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

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/loop"
	"example.com/gatehouse/internal/model"
	"example.com/gatehouse/internal/models"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/session"
)

// A turn that cannot be stored would be lost after it was paid for, so its size is bounded
// before each step, not after. Calls are run only if the turn has room for the least form of
// their results (holds), results leave room for an answer (reserve), and an answer that is
// still too long is cut (addText). All of this is counted on the encoded contents, as they are
// stored.

// A generation is the state of running the agent for one turn. The turn's goroutine uses it;
// tools, which run side by side, change only what has a lock.
type generation struct {
	run       *run
	admitted  func()   // called when the model can be asked for the first time
	tools     *toolset // what the model may call
	more      string   // what the agent's Instructions add
	step      int      // of the model, from 1
	earlier   earlierTurns
	contents  []*genai.Content // of this turn: the question, model contents, tool results
	encoded   []byte           // contents as stored: a JSON array without its closing bracket
	text      growingText      // the answer: all text of the model so far
	said      int              // how much of text is in contents
	written   int              // what the step's text takes of the turn, in bytes
	states    *states          // of tools
	cut       bool             // the step's text is longer than the turn can hold
	paragraph bool             // the next text starts a paragraph, because it is of a later step
	prompt    session.Prompt   // size of the last call's prompt, as the model counted it
	// bytesOfToken is the number of prompt bytes per token, by the model's last count.
	bytesOfToken float64
	files        *turnFiles
	calls        []session.ToolCall
	usage        session.Usage
	asked        string // model to use for the turn's next call
	model        string // model that answered last
	finish       genai.FinishReason
	warnings     []string
	attempts     int
	modelTime    time.Duration
	toolTime     time.Duration // of the rounds of tools
	digest       string        // of the agent

	own         int              // calls of Gemini's own tools that came without an id
	ownOpen     string           // the one that has not ended
	thought     int              // bytes of its thoughts
	suggestions string           // of searches, as HTML
	output      json.RawMessage  // the typed answer
	aside       []*genai.Content // asked with the turn's contents, and not of them
	asideBytes  int
	formed      bool // the last call asked for JSON
	shown       bool // the calls of the step were shown

	ends    map[int]callEnd   // of the calls of a step that is not finished
	pending []session.Pending // calls of the step that wait for a person

	past   []loop.Past // of an agent with a Loop: earlier turns
	looped *loopState  // and what is kept of this one

	approved *int // the step of its calls that were approved, while they are open; nil: step

	depth  int     // 0: the turn's own; else that of an agent that is a tool
	rounds *rounds // left to the turn
	turns  rounds  // of the turn's own generation

	mu   sync.Mutex    // protects subs, which tools add to
	subs []*generation // of agents that are tools, in the current round
}

func newGeneration(modelName string, r *run) *generation {
	return &generation{run: r, asked: modelName, model: modelName, calls: []session.ToolCall{}, warnings: []string{}}
}

func (g *generation) warn(warning string) {
	if !slices.Contains(g.warnings, warning) {
		g.warnings = append(g.warnings, warning)
	}
}

// add appends a content to the turn, up to the size that a session can store. Each content is
// encoded once. Checkpoints share the bytes, which only grow.
func (g *generation) add(content *genai.Content) error {
	encoded, err := model.Encode(content)
	if err != nil {
		return api.Fail(api.ModelFailed, fmt.Errorf("encoding a content: %w", err))
	}
	if len(encoded) > g.room() {
		return api.Fail(api.ModelFailed, fmt.Errorf("the turn has more than %d bytes", maxTurnContents))
	}
	g.addHeld(content, encoded)
	return nil
}

// addHeld appends a content that the turn has room for, see [generation.holds].
func (g *generation) addHeld(content *genai.Content, encoded []byte) {
	g.append(content, encoded)
	g.files.add(content)
	g.said = g.text.Len()
}

// append appends a content and its encoded form to the turn.
func (g *generation) append(content *genai.Content, encoded []byte) {
	separator := byte(',')
	if len(g.contents) == 0 {
		separator = '['
	}
	g.contents = append(g.contents, content)
	g.encoded = slices.Grow(g.encoded, len(encoded)+2) // with the separator, and the end of the array
	g.encoded = append(append(g.encoded, separator), encoded...)
}

// maxTurnContents bounds the contents of a turn, in bytes. The rest of a record is for
// usage, tool calls and warnings.
const maxTurnContents = session.MaxTurnBytes - 64<<10

// room returns how many more bytes the turn can hold. What is shown and follows from no
// content, such as reasoning and sources, is stored too.
func (g *generation) room() int {
	room := maxTurnContents - len(g.encoded) - 1 - g.run.out.size()
	if g.looped != nil {
		room -= len(g.looped.Kept)
	}
	return room
}

// reserve returns the bytes that tool results must leave for the model: an answer of
// maxTokens, some more calls, and error messages of tools. 8 bytes a token are twice the
// usual: JSON escapes, and some scripts take more. At most half of the turn is reserved, so
// that a large max_tokens leaves tools something.
func reserve(maxTokens int) int {
	return min(max(8*maxTokens, 0)+leastReserve, maxTurnContents/2)
}

// leastReserve is for the calls that may still come and for tools' error messages, in bytes.
const leastReserve = 64 << 10

// textSpare is what the text of a step leaves of the turn's room, in bytes: for what is shown
// behind it, such as sources and files.
const textSpare = 32 << 10

// fit returns as much of a step's text as the turn can hold. What is not stored is not shown
// either: page, session and the model's next prompt agree, and a replay shows the same.
func (g *generation) fit(text string) string {
	if g.cut {
		return ""
	}
	room := g.room() - textSpare - g.written
	n, left := escaped(text, room)
	g.written += room - left
	g.cut = n < len(text)
	return prefix(text, n)
}

// unsaid returns the text that was shown and is not in contents.
func (g *generation) unsaid() string {
	text := g.text.String()
	return strings.TrimPrefix(text[g.said:], session.Paragraph(text[:g.said]))
}

// appendText appends text to the answer and shows it: text of a later step starts a new
// paragraph.
func (g *generation) appendText(text string) {
	text = g.fit(text)
	if g.paragraph && text != "" {
		g.paragraph = false
		text = session.Paragraph(g.text.String()) + text
	}
	g.text.WriteString(text)
	g.run.out.appendText(session.KindText, text)
}

// turn returns the turn to store. g must have contents.
func (g *generation) turn(ctx context.Context, now time.Time) session.Turn {
	parts, resets := g.run.out.stored()
	var kept json.RawMessage
	// What a turn holds that ended early is not what its Loop has kept.
	if g.looped != nil && g.finish != finishWaiting && g.finish != finishStopped && g.finish != finishFailed {
		kept = g.looped.Kept
	}
	contents := append(g.encoded, ']')
	var span session.Span
	if hasFiles(contents) == (len(g.files.stored) > 0) { // a reader looks for files among these
		span = session.Span{Bytes: len(contents), Prompt: promptBytes(contents)}
	}
	return session.Turn{
		Loop: kept,
		ID:   g.run.turnID, QuestionID: g.run.questionID(), Prompt: g.prompt, Files: g.files.stored, Span: span, Contents: contents, ToolCalls: g.calls, Usage: g.usage, Model: g.model,
		FinishReason: string(g.finish), Warnings: g.warnings, RequestID: api.RequestID(ctx), CreatedAt: now.UTC(), Timing: g.timing(),
		Parts: parts, Resets: resets, Output: g.output, Suggestions: g.suggestions, AgentDigest: g.digest,
		Pending: g.pending, Effects: g.run.journal.began(), Epoch: g.run.epoch(),
	}
}

// timing returns where the time of the turn went.
func (g *generation) timing() session.Timing {
	return session.Timing{Load: g.run.loadTime.Milliseconds(), Model: g.modelTime.Milliseconds(), Tools: g.toolTime.Milliseconds()}
}

// generate runs the agent: it calls the model, runs the tools that the model requests,
// and calls the model again with their results, until the model answers. After
// MaxToolRounds, or when the turn has no room for more results, it calls the model
// once more without tools, so that the turn ends with an answer.
func (s *Service) generate(ctx context.Context, g *generation, req *Request) (err error) {
	ctx, step := s.Observer.StartAgent(ctx, s.Agent.Name)
	defer func() { step.End(ctx, code(ctx, err)) }()
	if len(g.contents) == 0 {
		question := genai.NewContentFromText(req.Query, genai.RoleUser)
		for _, a := range req.attached {
			question.Parts = append(question.Parts, s.refer(g.files, a))
		}
		if err := g.add(question); err != nil {
			return err
		}
		// From here on another can take the run over: contents have the question, and refer to
		// its files.
		g.finishStep()
	}
	if s.Agent.Loop != nil {
		return s.loop(ctx, g, req)
	}
	g.tools = s.toolset(ctx)
	g.digest = cmp.Or(g.tools.digest, g.digest)
	if g.more, err = s.instructions(ctx); err != nil {
		return err
	}
	if req.Options.Instructions != "" {
		g.more += "\n\n" + req.Options.Instructions
	}
	full := false // the turn has no room for more calls
	for {
		spare := reserve(s.maxTokens(req))
		// A run that was taken over, or has waited, begins with the calls that its last
		// content has open.
		if calls := g.openCalls(); len(calls) > 0 {
			if err := s.answerCalls(ctx, g, calls, spare); err != nil {
				return err
			}
			continue
		}
		last := full || g.rounds.left.Load() <= 0 || g.room() < spare
		if last {
			g.warn(warnRoundsExhausted)
		}
		var answer model.Answer
		err := s.ask(ctx, g, req, &answer, last)
		if isEmpty(err) && g.text.Len() > 0 && !last {
			g.warn(warnTruncated) // earlier text is not an answer, but better than an error
			return nil
		}
		if err != nil {
			return err
		}
		calls := answer.Calls()
		if last || len(calls) == 0 || !model.MayCallTools(answer.Finish) {
			if s.schema != nil {
				return s.endTyped(ctx, g, req, &answer)
			}
			return s.end(g, &answer, last)
		}
		encoded, held := g.holds(answer.Content, len(calls))
		if g.cut || !held {
			if err := g.addAnswer(&answer); err != nil {
				return err
			}
			full = true // the requested calls do not fit
			continue
		}
		g.rounds.take()
		g.addHeld(answer.Content, encoded)
		g.finishStep()
		if err := s.answerCalls(ctx, g, calls, spare); err != nil {
			return err
		}
	}
}

// answerCalls runs the calls of a step and adds their results to the turn.
func (s *Service) answerCalls(ctx context.Context, g *generation, calls []*genai.FunctionCall, spare int) error {
	begin := s.Now()
	results, err := s.runTools(ctx, g, calls, spare)
	g.toolTime += s.Now().Sub(begin)
	if err != nil {
		return err
	}
	if err := g.add(results); err != nil {
		return err
	}
	g.finishStep()
	return nil
}

// ask runs one step of the model and sets its answer.
func (s *Service) ask(ctx context.Context, g *generation, req *Request, answer *model.Answer, last bool) error {
	var r model.Request
	s.setRequest(&r, g, req)
	r.Alone = g.run.watched && g.run.out.spoke() // text already sent must continue from the same model
	if last {
		r.Tools = model.Tools{}
	}
	g.paragraph, g.written, g.cut = true, 0, false
	g.step++
	if g.formed = s.typed(&r, last); g.formed {
		r.Schema = s.schema
	}
	before := g.text.Len()
	// Text goes out after the hooks, and typed once it fits.
	whole := s.Agent.Hooks.Model != nil || s.Agent.Hooks.Answer != nil || s.schema != nil
	var onText func(by, text string) error
	if g.run.watched && !whole {
		r.Restart, r.TextStays = g.restarts(), !g.run.req.Options.Resets && g.run.taken == nil
		onText = func(_, text string) error {
			g.appendText(text)
			return nil
		}
		if s.ownParts {
			r.OnPart = func(_ string, p *genai.Part) error {
				g.showPart(p)
				return nil
			}
		}
	}
	if err := s.hookedCall(ctx, g, &r, answer, onText); err != nil {
		return err
	}
	g.measure(g, &r, answer)
	g.warnOf(answer, cmp.Or(req.Model, s.ModelName), req)
	if onText == nil {
		g.admitted() // also when a hook answers in the model's place
		g.appendAnswer(s, answer)
	}
	if g.cut {
		g.warn(warnTruncated)
	}
	g.showSources(answer, max(before, g.text.Len()-len(answer.Text())), !whole)
	var made []*attachment
	made, answer.Content = s.takeFiles(ctx, g.files, answer.Content)
	g.files.show(made)
	return nil
}

// restarts returns a function that takes back what the step that begins now has shown by
// then, for a new attempt at it. Clients are shown a reset for it. For one that cannot be, no
// attempt comes after text, see [Options.Resets].
func (g *generation) restarts() func() {
	text, calls, suggestions, thought, mark := g.text.Len(), len(g.calls), g.suggestions, g.thought, g.run.out.mark()
	return func() {
		kept := g.text.String()[:text]
		g.text = growingText{}
		g.text.WriteString(kept)
		g.paragraph, g.ownOpen, g.written, g.cut = true, "", 0, false
		g.calls, g.suggestions, g.thought = g.calls[:calls:calls], suggestions, thought
		g.run.out.reset(mark, g.step)
	}
}

// appendAnswer shows an answer that has come whole, in its order.
func (g *generation) appendAnswer(s *Service, answer *model.Answer) {
	if !s.ownParts {
		if s.schema == nil {
			g.appendText(answer.Text())
		}
		return
	}
	if answer.Content == nil {
		return
	}
	for _, p := range answer.Content.Parts {
		switch {
		case p.Text == "" || p.Thought:
			g.showPart(p)
		case s.schema == nil:
			g.appendText(p.Text)
		}
	}
}

// call makes one model call. It reserves the most that the call can spend before and
// settles it afterwards. Once it has started, the request's permit is not refunded.
func (s *Service) call(ctx context.Context, g *generation, r *model.Request, answer *model.Answer, onText func(by, text string) error) error {
	*answer = model.Answer{} // not that of a call before it in the same hook, also where nothing is sent
	// Once start was sent the status is 200. An open circuit breaker without a stand-in is an
	// ordinary 503 only before.
	if g.run.watched && !g.run.out.started() {
		if err := s.Model.Askable(r); err != nil {
			return err
		}
	}
	// A count of few tokens predicts little about other text, such as a tool's large output: a
	// reservation never weighs less than usual text.
	r.PromptTokens = model.EstimateTokens(int(g.promptOf(r, 0).Bytes)+g.asideBytes, min(g.bytesOfToken, usualBytes)) + g.files.tokens()
	hold, err := s.reserve(ctx, r)
	if err != nil {
		return err
	}
	// A panic must not leave the reservation open.
	settled := false
	defer func() {
		if !settled {
			hold.settleUnknown(r)
		}
	}()
	r.Again = hold.reserveMore
	g.admitted()
	telemetry.SetTurn(ctx, func(t *telemetry.Turn) { t.Asked = true })
	begin := s.Now()
	calling, step := s.Observer.StartModel(ctx, r.Model)
	sent := *r // which is changed for the models that stand in
	err = s.Model.GenerateTo(calling, &sent, answer, onText)
	g.modelTime += s.Now().Sub(begin)
	if g.attempts+answer.Attempts == 0 { // all circuit breakers are open; nothing was sent
		telemetry.SetTurn(ctx, func(t *telemetry.Turn) { t.Asked = false })
	}
	g.count(answer)
	hold.settle(answer.Spent)
	settled = true
	step.Usage(answer.Model, answer.Usage.PromptTokens, answer.Usage.CompletionTokens+answer.Usage.ThoughtTokens)
	step.End(calling, code(ctx, err))
	return err
}

// setRequest makes r the request to the model: the agent's settings, overridden by the
// caller's. A turn stays with the model that has answered in it, because the contents
// hold that model's thought signatures.
func (s *Service) setRequest(r *model.Request, g *generation, req *Request) {
	*r = model.Request{
		Model:       g.asked,
		Instruction: s.Agent.Instruction + g.more,
		History:     g.earlier.turns,
		Exact:       g.earlier.exact,
		Contents:    slices.Concat(g.contents, g.aside),
		Files:       g.files.blobs,
		Tools:       g.tools.declarations,
		Temperature: cmp.Or(req.Temperature, s.Agent.Temperature),
		MaxTokens:   s.maxTokens(req),
		Settings:    s.Agent.Model,
	}
	r.Thinking = s.thinking(r)
}

// thinking returns how much the model thinks for r: as configured, as r's settings have it, or
// little if it may call tools.
func (s *Service) thinking(r *model.Request) models.Level {
	level := cmp.Or(s.Thinking, model.ThinkingLevel(r.Settings))
	if level == "" && r.Tools.JSON != nil && !model.HasThinkingBudget(r.Settings) {
		return models.Low
	}
	return level
}

// maxTokens returns the limit on each answer of the model, in tokens.
func (s *Service) maxTokens(req *Request) int {
	if req.MaxTokens != nil {
		return *req.MaxTokens
	}
	return min(cmp.Or(s.Agent.MaxTokens, s.MaxOutputTokens), s.MaxOutputTokens)
}

// warnOf adds warnings for an answer that came from a fallback model, came from
// another model than requested, or ignored a setting of the request.
func (g *generation) warnOf(answer *model.Answer, configured string, req *Request) {
	if answer.Asked != configured {
		g.warn(warnFallback)
	}
	if answer.Substituted {
		g.warn(warnSubstituted)
	}
	if req.Temperature != nil && slices.Contains(answer.Ignored, model.SettingTemperature) ||
		req.MaxTokens != nil && slices.Contains(answer.Ignored, model.SettingMaxTokens) {
		g.warn(warnIgnored)
	}
}

// count adds the cost of one model call. It is called after failures, too: an attempt that
// failed may have cost tokens.
func (g *generation) count(answer *model.Answer) {
	g.asked, g.model = answer.Asked, answer.Model
	g.attempts += answer.Attempts
	g.finish = answer.Finish
	if answer.Usage.Source != "" {
		g.usage = g.usage.Add(answer.Usage)
	}
}

// end checks the finish reason of the model's last answer and adds the answer to the
// turn. Calls without a result are left out: the model API rejects a history that
// contains them. With last, text of earlier steps is not the answer: the model was asked once
// more for one, and a success is never empty. Blocked answers are 422, other empty ones 502.
func (s *Service) end(g *generation, answer *model.Answer, last bool) error {
	text := g.text.Len() > 0 && !last || answer.Text() != "" || answer.HasFiles()
	switch {
	case answer.Blocked != "" && !text:
		return api.Fail(api.ContentBlocked, fmt.Errorf("the prompt was blocked: %s", answer.Blocked))
	case model.IsSafetyBlock(answer.Finish) && !text:
		return api.Fail(api.ContentBlocked, fmt.Errorf("the answer was blocked: %s", answer.Finish))
	case !text: // only calls, which are not run
		return api.Fail(api.ModelFailed, fmt.Errorf("the model ended with %q and no text", answer.Finish))
	case answer.Finish == genai.FinishReasonMaxTokens || !model.MayCallTools(answer.Finish) || answer.Blocked != "":
		g.warn(warnTruncated)
	}
	if answer.Content == nil {
		return nil
	}
	content := withoutCalls(answer.Content)
	if len(content.Parts) == 0 {
		return nil
	}
	encoded, held := g.holds(content, 0)
	if g.cut || !held {
		return g.addAnswer(answer)
	}
	g.addHeld(content, encoded)
	return nil
}

// withoutCalls returns content without its calls, a copy if it has some.
func withoutCalls(content *genai.Content) *genai.Content {
	isCall := func(p *genai.Part) bool { return p.FunctionCall != nil }
	if !slices.ContainsFunc(content.Parts, isCall) {
		return content
	}
	rest := *content
	rest.Parts = slices.DeleteFunc(slices.Clone(rest.Parts), isCall)
	return &rest
}

// addAnswer adds the text of an answer that is too large for the turn: as much as was shown.
func (g *generation) addAnswer(answer *model.Answer) error {
	if g.cut {
		return g.addText(genai.NewContentFromText(g.unsaid(), genai.RoleModel))
	}
	return g.addText(answer.Content)
}

// leastResult bounds the smallest result of a call apart from its name and id, in
// bytes: an error of [leastToolError] bytes, each of which may be escaped.
const leastResult = 1024

// holds reports whether the turn has room for content and the results of its calls,
// which repeat their names. It returns the encoded form, so that what is then added is not
// encoded again.
func (g *generation) holds(content *genai.Content, calls int) (encoded []byte, held bool) {
	encoded, err := model.Encode(content)
	size := len(encoded)
	if calls > 0 {
		// Twice: each result repeats the id and the name of its call.
		size = 2*size + calls*leastResult
	}
	return encoded, err == nil && size <= g.room()
}

// addText appends as much of a too large content's text as fits.
func (g *generation) addText(content *genai.Content) error {
	text := (&model.Answer{Content: content}).Text()
	for {
		if text == "" {
			return nil
		}
		short := genai.NewContentFromText(text, genai.RoleModel)
		if encoded, held := g.holds(short, 0); held {
			g.addHeld(short, encoded)
			return nil
		}
		g.warn(warnTruncated)
		// Escaping makes the encoded size unknown beforehand; a quarter less each time ends
		// soon.
		text = prefix(text, min(len(text)*3/4, g.room()))
	}
}

// isEmpty reports whether err is that of a model that answered nothing.
func isEmpty(err error) bool {
	failure, ok := errors.AsType[*model.Error](err)
	return ok && failure.Empty
}

// errToolTimeout is the cause of the end of a tool's context at its timeout, and what the
// model reads of it.
var errToolTimeout = errors.New("the tool took too long")
