package model

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"google.golang.org/genai"

	"example.com/gatehouse/internal/models"
	"example.com/gatehouse/session"
)

const (
	maxAttempts  = 3
	firstBackoff = 200 * time.Millisecond
	maxBackoff   = 2 * time.Second
)

// stallAfter is how long a stream may bring nothing: after it the model counts
// as silent. A whole answer gives no sign before it is there, so that it may take
// all the time that is left.
const stallAfter = 20 * time.Second

// Generate calls the model once, and again when that fails in a way that may
// pass, and then the models that stand in for it, all within ctx's deadline. With
// onText it asks for a stream and passes each piece of text on as it comes, with
// the name of the model that says it; once it has, nothing is tried again and no other model stands in.
//
// The error is an [*Error], a [*GoneError] that wraps one, [ErrNoKey], or ctx's own when ctx has ended, or onText's. The
// Answer beside an error holds what was spent.
func (c *Client) Generate(ctx context.Context, r Request, onText func(model, text string) error) (Answer, error) {
	if c.withdrawn.Load() {
		return Answer{}, ErrNoKey
	}
	answer, err := c.generate(ctx, r, onText)
	switch {
	case err == nil:
		c.presence.set(false)
	case isGone(err):
		if !r.Alone {
			c.presence.set(true)
		}
		err = c.gone(r.Model, err)
	}
	return answer, err
}

func (c *Client) generate(ctx context.Context, r Request, onText func(model, text string) error) (Answer, error) {
	c.budget.call()
	g := &generation{client: c, onText: onText}
	standIns := c.standIns(r)
	answer, err := g.ask(ctx, r, len(standIns))
	failure := g.passes(ctx, err)
	if failure == nil || !failure.away() {
		return answer, err
	}
	for i, name := range standIns {
		r.Model = name
		answer, err = g.ask(ctx, r, len(standIns)-1-i)
		next := g.passes(ctx, err)
		if next == nil {
			return answer, err
		}
		failure = failure.and(name, next)
	}
	return answer, failure
}

// standIns are the models to ask after r's, in order.
func (c *Client) standIns(r Request) []string {
	if r.Alone || len(c.names) < 2 {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(c.names), func(name string) bool { return name == r.Model })
}

// A generation is one call of Generate: what its attempts have come to.
type generation struct {
	client   *Client
	onText   func(model, text string) error // nil: a whole answer is asked for
	shown    bool                           // text has been passed on
	attempts int
	spent    []Spent // by the attempts that began
}

// passes gives the failure that another model may make good, nil where none may.
func (g *generation) passes(ctx context.Context, err error) *Error {
	failure, ok := errors.AsType[*Error](err)
	if !ok || g.shown || ctx.Err() != nil {
		return nil
	}
	return failure
}

// ask asks one model, a few times if need be. behind is how many models could
// still stand in: with any, it takes two thirds of the time that is left.
func (g *generation) ask(ctx context.Context, r Request, behind int) (Answer, error) {
	var until time.Time // zero: ctx's deadline
	if deadline, ok := ctx.Deadline(); ok && behind > 0 {
		until = time.Now().Add(time.Until(deadline) / 3 * 2)
	}
	for try := 1; ; {
		answer, err := g.attempt(ctx, r, until)
		if answer.Usage.Source != "" {
			g.spent = append(g.spent, Spent{answer.Model, answer.Usage})
		}
		answer.Usage, answer.Spent, answer.Attempts = session.Usage{}, g.spent, g.attempts
		for _, spent := range g.spent {
			answer.Usage = answer.Usage.Add(spent.Usage)
		}
		failure := g.passes(ctx, err)
		if failure == nil {
			return answer, err
		}
		if failure.refused && r.repair < asText && r.repairable() {
			// No try of another kind, nor a retry that adds to a load: a refusal costs
			// nobody anything, and the forms are few.
			r.repair++
			continue
		}
		if try == maxAttempts {
			return answer, err
		}
		wait := backoff(try, failure.RetryAfter)
		switch {
		case !failure.temporary:
			return answer, err
		case behind > 0 && failure.RetryAfter > maxBackoff:
			return answer, err // another model is there sooner
		}
		if !inTime(ctx, until, wait) || !g.client.budget.retry() {
			return answer, err
		}
		if !sleep(ctx, wait) {
			return answer, err
		}
		try++
	}
}

// attempt is one HTTP request, if the model's breaker lets it through.
func (g *generation) attempt(ctx context.Context, r Request, until time.Time) (a Answer, err error) {
	if ctx.Err() != nil {
		return Answer{Asked: r.Model, Model: r.Model}, context.Cause(ctx)
	}
	if r.Again != nil && len(g.spent) > 0 {
		if err := r.Again(ctx); err != nil {
			return Answer{Asked: r.Model, Model: r.Model}, err
		}
	}
	permit, refused := g.client.breakers[r.Model].allow()
	if refused != nil {
		return Answer{Asked: r.Model, Model: r.Model}, refused
	}
	g.attempts++
	result := errUncounted // also when onText panics
	defer func() { permit.done(result) }()
	w := watchOf(ctx, g.onText != nil, until)
	defer w.end()
	a, err = g.send(ctx, w, r, permit)
	result = verdict(ctx, w, err)
	return a, err
}

// verdict is what an attempt that ended with err tells the breaker. What a
// caller can bring about does not count: a request that is refused, an answer
// that cannot be read, going away. Its deadline counts when the model had a fair
// time without a sign of life.
func verdict(ctx context.Context, w *watch, err error) error {
	failure, ok := errors.AsType[*Error](err)
	switch {
	case err == nil:
		return nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded) && w.silent() >= stallAfter/2,
		ctx.Err() == nil && ok && failure.Kind != Failed:
		return errAway
	}
	return errUncounted
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

// send sends the request and takes in the answer.
func (g *generation) send(caller context.Context, w *watch, r Request, permit permit) (a Answer, err error) {
	ours := false // whose code is running
	a = Answer{Asked: r.Model, Model: r.Model}
	ctx, hints := withHints(w.ctx)
	defer func() {
		switch {
		case err == nil:
			a.complete(&r)
			g.client.price(&a)
		case began(caller, w, hints, a, err):
			a.unheard(&r)
			g.client.price(&a)
		default:
			a.Usage = session.Usage{}
		}
	}()
	defer func() {
		// The SDK panics on answers of a form it does not expect, such as a
		// candidate that is null.
		if p := recover(); p != nil {
			if ours {
				panic(p)
			}
			err = &Error{Kind: Failed, err: fmt.Errorf("the model's answer cannot be read: the SDK panicked: %T", p)}
		}
	}()
	failed := func(err error) error {
		if caller.Err() == nil && w.stalled() {
			return &Error{Kind: Timeout, temporary: true, err: errStalled}
		}
		return classify(caller, err, hints)
	}
	models := g.client.models.Load()
	settings, ignored := g.client.settings(&r)
	a.Ignored = ignored
	if hints.ready, err = g.client.ready(&r); err != nil {
		return a, &Error{Kind: Failed, err: err}
	}
	if g.onText == nil {
		response, err := models.GenerateContent(ctx, r.Model, nil, settings)
		if err != nil {
			return a, failed(err)
		}
		a.add(response)
		hints.calls.correct(a.Content)
		a.Usage = usage(response.UsageMetadata)
		return a, nil
	}
	var counts *genai.GenerateContentResponseUsageMetadata
	for chunk, err := range models.GenerateContentStream(ctx, r.Model, nil, settings) {
		if err != nil {
			a.Usage = usage(counts)
			return a, failed(err)
		}
		w.pause()
		permit.answers()
		counts = fuller(counts, chunk.UsageMetadata) // each one counts all so far
		for _, p := range a.add(chunk) {
			text := partText(p)
			if text == "" {
				continue
			}
			g.shown, ours = true, true
			err := g.onText(a.Model, text)
			ours = false
			if err != nil {
				a.Usage = usage(counts)
				return a, err
			}
		}
		w.resume(g.shown)
	}
	hints.calls.correct(a.Content)
	a.Usage = usage(counts)
	if a.Finish == "" && a.Blocked == "" {
		if w.ctx.Err() != nil { // the server may have ended it for that
			return a, failed(w.ctx.Err())
		}
		return a, &Error{Kind: Failed, temporary: true, err: errors.New("the stream ended without a finish reason")}
	}
	return a, nil
}

// began reports whether an attempt that failed may have cost something. One that
// the API refused cost nothing. One that was given up before the API had said
// anything is charged by Google all the same.
func began(caller context.Context, w *watch, h *hints, a Answer, err error) bool {
	failure, ok := errors.AsType[*Error](err)
	switch {
	case a.Content != nil || a.Usage.Source == session.Counted:
		return true
	case h.status == 0:
		return caller.Err() != nil || w.stalled()
	}
	return h.status < 300 && !(ok && failure.api)
}

// add takes in a response or a chunk of one, and gives the parts it added.
func (a *Answer) add(response *genai.GenerateContentResponse) []*genai.Part {
	if response.ModelVersion != "" {
		a.Model, a.Substituted = models.Reported(a.Asked, response.ModelVersion)
	}
	if f := response.PromptFeedback; f != nil && f.BlockReason != "" {
		a.Blocked = string(f.BlockReason)
	}
	if len(response.Candidates) == 0 || response.Candidates[0] == nil {
		return nil
	}
	candidate := response.Candidates[0]
	if candidate.FinishReason != "" {
		a.Finish = candidate.FinishReason
	}
	if candidate.Content == nil {
		return nil
	}
	var parts []*genai.Part
	for _, p := range candidate.Content.Parts {
		if p != nil && !empty(p) {
			parts = append(parts, p)
		}
	}
	if len(parts) == 0 {
		return nil
	}
	if a.Content == nil {
		a.Content = &genai.Content{Role: genai.RoleModel}
	}
	a.Content.Parts = append(a.Content.Parts, parts...)
	return parts
}

// empty reports whether p says nothing: streams end with a part of no text,
// which the API would refuse in the next request.
func empty(p *genai.Part) bool {
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
	return &all
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

var errTooLarge = fmt.Errorf("the model's answer is larger than %d bytes", maxResponse)
