package model

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"google.golang.org/genai"

	"example.com/gatehouse/internal/breaker"
	"example.com/gatehouse/internal/models"
	"example.com/gatehouse/session"
)

const (
	maxAttempts  = 3
	firstBackoff = 200 * time.Millisecond
	maxBackoff   = 2 * time.Second
)

// fairSilence is how long a model may be silent until the caller's deadline and be
// none the worse for it, where half of the request's timeout is not less.
const fairSilence = 10 * time.Second

// Generate calls the model once, and again when that fails in a way that may
// pass, and then the models that stand in for it, all within ctx's deadline. With
// onText it asks for a stream and passes each piece of text on as it comes, with
// the name of the model that answers; once it has, nothing is tried again and no other
// model stands in, unless r.Restart takes the text back.
//
// The error is an [*Error], a [*GoneError] that wraps one, [ErrNoKey], or ctx's own when
// ctx has ended, or onText's. The Answer beside an error holds what was spent.
func (c *Client) Generate(ctx context.Context, r Request, onText func(model, text string) error) (answer Answer, err error) {
	err = c.GenerateTo(ctx, &r, &answer, onText)
	return answer, err
}

// GenerateTo is [Client.Generate] that sets answer, which is to be zero, and may change r. Both
// are large, and a stream waits below: copies of them were a sixth of its stack.
func (c *Client) GenerateTo(ctx context.Context, r *Request, answer *Answer, onText func(model, text string) error) error {
	if c.withdrawn.Load() {
		return ErrNoKey
	}
	name := r.Model // generate leaves r as the last model was asked
	err := c.generate(ctx, r, answer, onText)
	switch {
	case err == nil:
		c.presence.set(false)
	case isGone(err):
		if !r.Alone {
			c.presence.set(true)
		}
		err = c.gone(name, err)
	}
	return err
}

// Askable returns the error that [Client.Generate] would return for r without asking any
// model: there is no key, or the breakers of r's model and of those that stand in for it
// are open.
func (c *Client) Askable(r *Request) error {
	if c.withdrawn.Load() {
		return ErrNoKey
	}
	failure := unavailable(c.breakers[r.Model].Refuses())
	if failure == nil {
		return nil
	}
	for _, name := range c.standIns(r) {
		next := unavailable(c.breakers[name].Refuses())
		if next == nil {
			return nil
		}
		failure = failure.joinFallback(name, next)
	}
	return failure
}

func (c *Client) generate(ctx context.Context, r *Request, answer *Answer, onText func(model, text string) error) error {
	c.budget.call()
	g := &generation{client: c, onText: onText, final: r.Restart == nil || r.TextStays}
	standIns := c.standIns(r)
	maxTokens, thinking := r.MaxTokens, r.Thinking
	err := g.ask(ctx, r, answer, len(standIns))
	failure := g.passes(ctx, err)
	if failure == nil || !failure.isElsewhere() {
		return err
	}
	for i, name := range standIns {
		// What the model before it needed is not for this one.
		r.Model, r.MaxTokens, r.Thinking, r.repair, r.roomy = name, maxTokens, thinking, asStored, false
		err = g.ask(ctx, r, answer, len(standIns)-1-i)
		next := g.passes(ctx, err)
		if next == nil {
			return err
		}
		failure = failure.joinFallback(name, next)
	}
	return failure
}

// standIns are the models to ask after r's, in order.
func (c *Client) standIns(r *Request) []string {
	if r.Alone || len(c.names) < 2 {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(c.names), func(name string) bool { return name == r.Model })
}

// A generation is one call of Generate: what its attempts have come to.
type generation struct {
	client   *Client
	onText   func(model, text string) error // nil: a whole answer is asked for
	final    bool                           // text that has been passed on cannot be taken back
	shown    bool                           // the last attempt has passed on text
	parted   bool                           // it has passed on other parts
	attempts int
	rejected error   // by onText
	spent    []Spent // by the attempts that began
}

// passes returns the failure that another attempt may make good, nil where none may.
func (g *generation) passes(ctx context.Context, err error) *Error {
	failure, ok := errors.AsType[*Error](err)
	if !ok || g.shown && g.final || ctx.Err() != nil {
		return nil
	}
	return failure
}

// ask asks r's model, a few times if need be, and changes r for it. behind is how many
// models could still stand in: with any, it takes two thirds of the time that is left.
func (g *generation) ask(ctx context.Context, r *Request, answer *Answer, behind int) error {
	var until time.Time // zero: ctx's deadline
	if deadline, ok := ctx.Deadline(); ok && behind > 0 {
		until = time.Now().Add(time.Until(deadline) / 3 * 2)
	}
	for try := 1; ; {
		began := time.Now()
		err := g.attempt(ctx, r, answer, until)
		took := time.Since(began)
		if answer.Usage.Source != "" {
			g.spent = append(g.spent, Spent{answer.Model, answer.Usage})
		}
		answer.Usage, answer.Spent, answer.Attempts = session.Usage{}, g.spent, g.attempts
		for _, spent := range g.spent {
			answer.Usage = answer.Usage.Add(spent.Usage)
		}
		failure := g.passes(ctx, err)
		if failure == nil {
			return err
		}
		if failure.refused && r.repair < asText && r.repairable() {
			// No try of another kind, nor a retry that adds to a load: a refusal costs
			// nobody anything, and the forms are few.
			r.repair++
			continue
		}
		wait := backoff(try, failure.RetryAfter)
		switch {
		case failure.noRoom && !r.roomy:
			g.client.makeRoom(r)
			wait = 0
		case !failure.temporary, try == maxAttempts,
			failure.Kind == Timeout && try > 1,            // it stalls, and others count on the breaker
			behind > 0 && failure.RetryAfter > maxBackoff: // another model is there sooner
			return err
		}
		// What took so long may take as long again.
		if !inTime(ctx, until, wait+took) || !g.client.budget.retry() || !sleep(ctx, wait) {
			return err
		}
		try++
	}
}

// attempt is one HTTP request, if the model's breaker lets it through.
func (g *generation) attempt(ctx context.Context, r *Request, a *Answer, until time.Time) (err error) {
	*a = Answer{Asked: r.Model, Model: r.Model}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if r.Again != nil && len(g.spent) > 0 {
		if err := r.Again(ctx, r.PromptTokens+r.MaxTokens); err != nil {
			return err
		}
	}
	permit, refused := g.client.breakers[r.Model].Allow()
	if refused != nil {
		return unavailable(refused)
	}
	g.attempts++
	result := breaker.Uncounted // also when onText panics
	defer func() { permit.Done(result) }()
	if (g.shown || g.parted) && r.Restart != nil {
		r.Restart()
	}
	g.shown, g.parted = false, false
	w := newWatch(ctx, until)
	defer w.end()
	if err = g.send(w, r, a, permit); err == nil {
		result = breaker.Answered
		a.settlePositions()
		a.complete(r)
		g.client.price(a)
		if failure := a.judge(); failure != nil {
			return failure
		}
		return nil
	}
	if failure, ok := errors.AsType[*Error](err); ok && failure.free && a.Content == nil && a.Usage.Source != session.Counted {
		a.Usage = session.Usage{}
	} else { // an attempt that was given up, before anything came or after, is charged by Google
		a.unheard(r)
		g.client.price(a)
	}
	switch {
	case g.rejected != nil:
		err = g.rejected
	case ctx.Err() == nil && w.stalled():
		err = &Error{Kind: Timeout, temporary: true, err: errStalled}
	default:
		err = classify(ctx, err)
	}
	result = g.client.verdict(ctx, w, err)
	return err
}

// verdict is what an attempt that ended with err means for the model's breaker. What a caller
// can bring about does not count: a request that is refused, an answer that cannot be
// read, going away. Its deadline counts when the model had a fair time without a sign
// of life.
func (c *Client) verdict(ctx context.Context, w *watch, err error) breaker.Verdict {
	failure, ok := errors.AsType[*Error](err)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) && w.silent() >= c.fair ||
		ctx.Err() == nil && ok && failure.Kind != Failed {
		return breaker.Away
	}
	return breaker.Uncounted
}

// backoff is how long to wait after a failed attempt: what the server asked
// for, and full jitter over an exponential bound.
func backoff(attempt int, asked time.Duration) time.Duration {
	bound := min(firstBackoff<<(attempt-1), maxBackoff)
	return asked + rand.N(bound)
}

// inTime reports whether d from now is before ctx's deadline and before until.
func inTime(ctx context.Context, until time.Time, d time.Duration) bool {
	deadline, ok := ctx.Deadline()
	return (!ok || time.Until(deadline) > d) && (until.IsZero() || time.Until(until) > d)
}

// sleep waits for d. It is false when ctx has ended before.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// send sends the request and takes the answer in, which is whole when there is no
// error.
func (g *generation) send(w *watch, r *Request, a *Answer, permit breaker.Permit) error {
	p, err := g.client.prepare(w.ctx, r, g.onText != nil)
	if err != nil {
		return &Error{Kind: Failed, free: true, err: err}
	}
	body, err := g.client.body(r, p.head)
	if err != nil {
		return &Error{Kind: Failed, free: true, err: err}
	}
	a.Ignored = p.ignored
	var counts *genai.GenerateContentResponseUsageMetadata
	defer func() {
		a.Usage, a.FileTokens = usage(counts), fileTokens(counts)
		a.Usage.SearchQueries = a.Grounding.searches()
	}()
	ctx, used := follow(w.ctx)
	response, err := g.client.transport.send(p.withBody(ctx, body), used)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	next := answers(response, g.onText != nil)
	unshown := "" // white space, which is no answer yet
	for {
		chunk, err := next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		w.pause()
		permit.Begins()
		counts = fuller(counts, chunk.UsageMetadata) // each one counts all so far
		parts, err := a.add(chunk)
		if err != nil {
			return err
		}
		if g.onText == nil {
			return nil
		}
		for _, p := range parts {
			if p.Text == "" || p.Thought {
				if g.rejected = g.showPart(r, a.Model, p); g.rejected != nil {
					return g.rejected
				}
				continue
			}
			text := unshown + p.Text
			if unshown = ""; !g.shown && strings.TrimSpace(text) == "" {
				unshown = text
				continue
			}
			g.shown = true
			if g.rejected = g.onText(a.Model, text); g.rejected != nil {
				return g.rejected
			}
		}
		w.resume(g.shown)
	}
	if a.Finish == "" && a.Blocked == "" {
		if w.ctx.Err() != nil { // the server may have ended it for that
			return w.ctx.Err()
		}
		return &Error{Kind: Failed, temporary: true, err: errors.New("the stream ended without a finish reason")}
	}
	return nil
}

// showPart passes on a part that is not the answer's text, in the form in which it
// is seen by others: not a function's call, which is its runner's to show.
func (g *generation) showPart(r *Request, model string, p *genai.Part) error {
	if r.OnPart == nil || p.FunctionCall != nil || p.Thought && p.Text == "" {
		return nil
	}
	g.parted = true
	return r.OnPart(model, p)
}

// answers returns a function that returns the answer, of a stream each chunk and then
// [io.EOF].
func answers(response *http.Response, stream bool) func() (*genai.GenerateContentResponse, error) {
	read := func() ([]byte, error) { return readAnswer(response) }
	if stream {
		read = newEvents(response.Body).next
	}
	return func() (*genai.GenerateContentResponse, error) {
		raw, err := read()
		if err != nil {
			return nil, err
		}
		return decode(raw, response.Header)
	}
}

// add takes in a response or a chunk of one, and returns the parts it added.
func (a *Answer) add(response *genai.GenerateContentResponse) ([]*genai.Part, error) {
	if response.ModelVersion != "" {
		a.Model, a.Substituted = models.Reported(a.Asked, response.ModelVersion)
	}
	if f := response.PromptFeedback; f != nil && f.BlockReason != "" {
		a.Blocked = string(f.BlockReason)
	}
	if len(response.Candidates) == 0 || response.Candidates[0] == nil {
		return nil, nil
	}
	candidate := response.Candidates[0]
	if candidate.FinishReason != "" {
		a.Finish = candidate.FinishReason
	}
	a.ground(candidate)
	if candidate.Content == nil {
		return nil, nil
	}
	var parts []*genai.Part
	for _, p := range candidate.Content.Parts {
		if p == nil || isEmpty(p) {
			continue
		}
		if call := p.FunctionCall; call != nil {
			var err error
			if call.Args, err = unquoteArguments(call.Args); err != nil {
				return nil, err
			}
		}
		parts = append(parts, p)
	}
	if len(parts) == 0 {
		return nil, nil
	}
	if a.Content == nil {
		a.Content = &genai.Content{Role: genai.RoleModel}
	}
	a.Content.Parts = append(a.Content.Parts, parts...)
	return parts, nil
}

// judge returns the failure of an answer that was heard to its end and holds
// nothing: neither text nor calls that can be made. What was held back for its
// content is for the caller to judge.
func (a *Answer) judge() *Error {
	calls := a.Calls()
	nameless := slices.ContainsFunc(calls, func(call *genai.FunctionCall) bool { return call.Name == "" })
	unusable := nameless || a.Finish == genai.FinishReasonMalformedFunctionCall || a.Finish == genai.FinishReasonUnexpectedToolCall
	switch {
	case a.Blocked != "" || IsSafetyBlock(a.Finish):
		return nil
	case unusable:
	case strings.TrimSpace(a.Text()) != "", a.HasFiles(), len(calls) > 0 && MayCallTools(a.Finish):
		return nil
	}
	failure := &Error{Kind: Failed, temporary: true, err: fmt.Errorf("the model returned nothing that can be used: it ended with %q", a.Finish)}
	if failure.Empty = !unusable; failure.Empty && a.Finish == genai.FinishReasonMaxTokens { // the next answer would end as this one
		failure.temporary, failure.noRoom = false, true
	}
	return failure
}

// MayCallTools reports whether the calls of an answer that finished so are whole.
func MayCallTools(f genai.FinishReason) bool {
	return f == genai.FinishReasonStop || f == genai.FinishReasonMaxTokens || f == genai.FinishReasonUnspecified || f == ""
}

// finishModelArmor ends an answer that Model Armor's template holds back. The SDK has
// no name for it.
const finishModelArmor = genai.FinishReason("MODEL_ARMOR")

// IsSafetyBlock reports whether f means that the answer was held back for its content.
func IsSafetyBlock(f genai.FinishReason) bool {
	switch f {
	case genai.FinishReasonSafety, genai.FinishReasonRecitation, genai.FinishReasonProhibitedContent,
		genai.FinishReasonBlocklist, genai.FinishReasonSPII, genai.FinishReasonLanguage,
		finishModelArmor:
		return true
	}
	return false
}

// isEmpty reports whether p holds nothing: streams end with a part of no text,
// which the API would refuse in the next request.
func isEmpty(p *genai.Part) bool {
	return p.Text == "" && len(p.ThoughtSignature) == 0 && p.FunctionCall == nil && p.FunctionResponse == nil &&
		p.InlineData == nil && p.FileData == nil && p.ExecutableCode == nil && p.CodeExecutionResult == nil &&
		p.ToolCall == nil && p.ToolResponse == nil
}

// fuller returns the counts of an answer as they are after next: of each the last that
// is not zero, for some objects hold fewer counts than those before.
func fuller(counts, next *genai.GenerateContentResponseUsageMetadata) *genai.GenerateContentResponseUsageMetadata {
	if counts == nil || next == nil {
		return cmp.Or(next, counts)
	}
	all := *next
	all.PromptTokenCount = cmp.Or(next.PromptTokenCount, counts.PromptTokenCount)
	all.ToolUsePromptTokenCount = cmp.Or(next.ToolUsePromptTokenCount, counts.ToolUsePromptTokenCount)
	all.CachedContentTokenCount = cmp.Or(next.CachedContentTokenCount, counts.CachedContentTokenCount)
	all.ThoughtsTokenCount = cmp.Or(next.ThoughtsTokenCount, counts.ThoughtsTokenCount)
	all.CandidatesTokenCount = cmp.Or(next.CandidatesTokenCount, counts.CandidatesTokenCount)
	all.TotalTokenCount = cmp.Or(next.TotalTokenCount, counts.TotalTokenCount)
	if all.PromptTokensDetails == nil {
		all.PromptTokensDetails = counts.PromptTokensDetails
	}
	return &all
}

// fileTokens returns the tokens of a prompt that are not text; 0 when the model does not
// count them apart.
func fileTokens(m *genai.GenerateContentResponseUsageMetadata) (tokens int64) {
	if m == nil {
		return 0
	}
	for _, count := range m.PromptTokensDetails {
		if count != nil && count.Modality != genai.MediaModalityText {
			tokens += int64(max(count.TokenCount, 0))
		}
	}
	return tokens
}

// usage takes the model's own counts over; an object without any is source
// "estimate", to be completed.
func usage(m *genai.GenerateContentResponseUsageMetadata) session.Usage {
	if m == nil {
		return session.Usage{Source: session.Estimated}
	}
	count := func(n int32) int64 { return int64(max(n, 0)) }
	u := session.Usage{
		PromptTokens:     count(m.PromptTokenCount) + count(m.ToolUsePromptTokenCount),
		CachedTokens:     count(m.CachedContentTokenCount),
		ThoughtTokens:    count(m.ThoughtsTokenCount),
		CompletionTokens: count(m.CandidatesTokenCount),
		TotalTokens:      count(m.TotalTokenCount),
		Source:           session.Counted,
	}
	if u.PromptTokens+u.ThoughtTokens+u.CompletionTokens+u.TotalTokens == 0 {
		u.Source = session.Estimated
	}
	return u
}
