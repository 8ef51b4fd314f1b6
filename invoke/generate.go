package invoke

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/genai"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/model"
	"example.com/gatehouse/internal/models"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/session"
)

// A generation is what running the agent for one turn has come to.
type generation struct {
	contents  []*genai.Content // of this turn: the question, the model's, the tools'
	encoded   []byte           // the same, as they are stored: a JSON array, but for its end
	text      strings.Builder  // of the answer: all that the model said
	paragraph bool             // what it says next is another step's
	prompt    session.Prompt   // of the last call, as the model counted it
	// bytesOfToken is how many bytes a token of the prompt has, as a model last counted.
	bytesOfToken float64
	calls        []session.ToolCall
	usage        session.Usage
	asked        string // the model, for the turn's next call
	model        string // that answered
	finish       genai.FinishReason
	warnings     []string
	attempts     int
	modelTime    time.Duration
}

func newGeneration(modelName string) *generation {
	return &generation{asked: modelName, model: modelName, calls: []session.ToolCall{}, warnings: []string{}}
}

func (g *generation) warn(warning string) {
	if !slices.Contains(g.warnings, warning) {
		g.warnings = append(g.warnings, warning)
	}
}

// add takes in a content of the turn, up to what a session can store.
func (g *generation) add(content *genai.Content) error {
	encoded, err := json.Marshal(content)
	if err != nil {
		return api.Fail(api.ModelFailed, fmt.Errorf("encoding a content: %w", err))
	}
	if len(encoded) > g.room() {
		return api.Fail(api.ModelFailed, fmt.Errorf("the turn has more than %d bytes", maxTurnContents))
	}
	separator := byte(',')
	if len(g.contents) == 0 {
		separator = '['
	}
	g.contents = append(g.contents, content)
	g.encoded = append(append(g.encoded, separator), encoded...)
	return nil
}

// maxTurnContents leaves room for what a stored turn holds beside its contents.
const maxTurnContents = session.MaxTurnBytes - 64<<10

// room is how many bytes the turn can still hold.
func (g *generation) room() int { return maxTurnContents - len(g.encoded) - 1 }

// reserve is what tools leave of the room for the model: an answer of so many
// tokens, some more calls, and what is told of tools that failed.
func reserve(maxTokens int) int {
	return min(max(8*maxTokens, 0)+leastReserve, maxTurnContents/2)
}

const leastReserve = 64 << 10

// say takes in text of the answer, and gives it as it is said: what a later step
// says begins on a new paragraph.
func (g *generation) say(text string) string {
	if g.paragraph && text != "" {
		g.paragraph = false
		text = session.Paragraph(g.text.String()) + text
	}
	g.text.WriteString(text)
	return text
}

// turn is what is stored of the generation, which has contents.
func (g *generation) turn(ctx context.Context, now time.Time) session.Turn {
	return session.Turn{
		ID: session.NewID(), Prompt: g.prompt, Contents: append(g.encoded, ']'), ToolCalls: g.calls, Usage: g.usage, Model: g.model,
		FinishReason: string(g.finish), Warnings: g.warnings, RequestID: api.RequestID(ctx), CreatedAt: now.UTC(),
	}
}

// generate runs the agent: the model, the tools it calls, and the model again
// with what they gave, until it has its answer. After the last round of tools
// it is asked once more without any.
func (s *Service) generate(ctx context.Context, g *generation, history []json.RawMessage, req Request, out *stream) (err error) {
	ctx, step := s.Observer.StartAgent(ctx, s.Agent.Name)
	defer func() { step.End(ctx, code(ctx, err)) }()
	if err := g.add(genai.NewContentFromText(req.Query, genai.RoleUser)); err != nil {
		return err
	}
	for round := 0; ; round++ {
		spare := reserve(s.maxTokens(req))
		last := round >= s.MaxToolRounds || g.room() < spare
		if last {
			g.warn(warnRoundsExhausted)
		}
		answer, err := s.ask(ctx, g, history, req, last, out)
		if isEmpty(err) && g.text.Len() > 0 && !last {
			g.warn(warnTruncated) // what earlier steps said is not the answer, but all there is
			return nil
		}
		if err != nil {
			return err
		}
		calls := answer.Calls()
		if last || len(calls) == 0 || !model.MayCallTools(answer.Finish) {
			return s.end(g, answer, last)
		}
		if !g.holds(answer.Content, len(calls)) {
			if err := g.addText(answer.Content); err != nil {
				return err
			}
			round = s.MaxToolRounds // what it wants called is too much
			continue
		}
		if err := g.add(answer.Content); err != nil {
			return err
		}
		results, err := s.runTools(ctx, g, calls, round, spare, out)
		if err != nil {
			return err
		}
		if err := g.add(results); err != nil {
			return err
		}
	}
}

// ask is one step of the model.
func (s *Service) ask(ctx context.Context, g *generation, history []json.RawMessage, req Request, last bool, out *stream) (model.Answer, error) {
	r := s.request(g, history, req)
	r.Alone = out.started() // a stream is one model's
	if last {
		r.Tools = nil
	}
	g.paragraph = true
	var onText func(by, text string) error
	if out != nil {
		onText = func(by, text string) error { return out.delta(by, g.say(text)) }
	}
	answer, err := s.call(ctx, g, r, onText)
	if err != nil {
		return answer, err
	}
	if answer.Usage.Source == session.Counted && answer.Attempts == 1 { // else it counts several prompts
		g.prompt = promptOf(r, g.encoded, answer.Usage.PromptTokens)
		if ratio, ok := believed(g.prompt); ok {
			g.bytesOfToken = ratio
		}
	}
	g.warnOf(answer, s.ModelName, req)
	if out == nil {
		g.say(answer.Text())
	}
	return answer, nil
}

// call is one call of the model, with what it may spend set aside before and settled
// after. From its beginning on, the request's permit is spent.
func (s *Service) call(ctx context.Context, g *generation, r model.Request, onText func(by, text string) error) (answer model.Answer, err error) {
	r.PromptTokens = model.EstimateTokens(int(promptOf(r, g.encoded, 0).Bytes), g.bytesOfToken)
	hold, err := s.reserve(ctx, r)
	if err != nil {
		return model.Answer{}, err
	}
	settled := false
	defer func() {
		if !settled {
			hold.lose(r)
		}
	}()
	r.Again = hold.again
	telemetry.SetTurn(ctx, func(t *telemetry.Turn) { t.Asked = true })
	begin := s.Now()
	calling, step := s.Observer.StartModel(ctx, r.Model)
	answer, err = s.Model.Generate(calling, r, onText)
	g.modelTime += s.Now().Sub(begin)
	if g.attempts+answer.Attempts == 0 { // every breaker is open: nothing was sent
		telemetry.SetTurn(ctx, func(t *telemetry.Turn) { t.Asked = false })
	}
	g.count(answer)
	hold.settle(answer.Spent)
	settled = true
	step.Usage(answer.Model, answer.Usage.PromptTokens, answer.Usage.CompletionTokens+answer.Usage.ThoughtTokens)
	step.End(calling, code(ctx, err))
	return answer, err
}

// request is what the model is asked: the agent's own settings, and what the
// caller said instead. A turn stays with the model that has answered in it: its
// signatures are in the contents.
func (s *Service) request(g *generation, history []json.RawMessage, req Request) model.Request {
	r := model.Request{
		Model:       g.asked,
		Instruction: s.Agent.Instruction,
		History:     history,
		Contents:    slices.Clone(g.contents),
		Tools:       s.declarations,
		Temperature: cmp.Or(req.Temperature, s.Agent.Temperature),
		MaxTokens:   s.maxTokens(req),
		Thinking:    s.Thinking,
	}
	if r.Thinking == "" && s.declarations != nil {
		r.Thinking = models.Low
	}
	return r
}

// maxTokens bounds each answer of the model, in tokens.
func (s *Service) maxTokens(req Request) int {
	if req.MaxTokens != nil {
		return *req.MaxTokens
	}
	return min(cmp.Or(s.Agent.MaxTokens, s.MaxOutputTokens), s.MaxOutputTokens)
}

// warnOf warns of what was less than asked for in an answer: by another model
// than the service's, by another than was asked, or without settings of the
// request's own.
func (g *generation) warnOf(answer model.Answer, configured string, req Request) {
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

// count takes in what one model call has cost.
func (g *generation) count(answer model.Answer) {
	g.asked, g.model = answer.Asked, answer.Model
	g.attempts += answer.Attempts
	g.finish = answer.Finish
	if answer.Usage.Source != "" {
		g.usage = g.usage.Add(answer.Usage)
	}
}

// end judges the model's last answer, whose finish reason says how it ended,
// and takes it in. Calls that nobody will answer are left out: the model would
// be refused with them in its history.
func (s *Service) end(g *generation, answer model.Answer, last bool) error {
	text := g.text.Len() > 0 && !last || answer.Text() != ""
	switch {
	case answer.Blocked != "" && !text:
		return api.Fail(api.ContentBlocked, fmt.Errorf("the prompt was blocked: %s", answer.Blocked))
	case model.IsSafetyBlock(answer.Finish) && !text:
		return api.Fail(api.ContentBlocked, fmt.Errorf("the answer was blocked: %s", answer.Finish))
	case !text: // but calls, which nobody makes
		return api.Fail(api.ModelFailed, fmt.Errorf("the model ended with %q and no text", answer.Finish))
	case answer.Finish == genai.FinishReasonMaxTokens || !model.MayCallTools(answer.Finish) || answer.Blocked != "":
		g.warn(warnTruncated)
	}
	if answer.Content == nil {
		return nil
	}
	content := *answer.Content
	content.Parts = slices.DeleteFunc(slices.Clone(content.Parts), func(p *genai.Part) bool { return p.FunctionCall != nil })
	if len(content.Parts) == 0 {
		return nil
	}
	if !g.holds(&content, 0) {
		return g.addText(&content)
	}
	return g.add(&content)
}

// leastResult is more than what answers a call at least, beside its name and id:
// that it failed, in [leastToolError] bytes, each of which may be escaped.
const leastResult = 1024

// holds reports whether the turn has room for content and for what answers its
// calls, which names them once more.
func (g *generation) holds(content *genai.Content, calls int) bool {
	encoded, err := json.Marshal(content)
	size := len(encoded)
	if calls > 0 {
		size = 2*size + calls*leastResult
	}
	return err == nil && size <= g.room()
}

// addText takes in the text of a content that is too large otherwise, as much of
// it as there is room for.
func (g *generation) addText(content *genai.Content) error {
	text := (&model.Answer{Content: content}).Text()
	for {
		short := genai.NewContentFromText(text, genai.RoleModel)
		switch {
		case text == "":
			return nil
		case g.holds(short, 0):
			return g.add(short)
		}
		g.warn(warnTruncated)
		text = prefix(text, min(len(text)*3/4, g.room()))
	}
}

// isEmpty reports whether err is that of a model that answered nothing.
func isEmpty(err error) bool {
	failure, ok := errors.AsType[*model.Error](err)
	return ok && failure.Empty
}

var errToolTimeout = errors.New("the tool took too long")
