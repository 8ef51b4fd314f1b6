package model

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/genai"

	"example.com/gatehouse/session"
)

const (
	maxAttempts  = 3
	firstBackoff = 200 * time.Millisecond
	maxBackoff   = 2 * time.Second
)

// Generate calls the model once, and again when that fails in a way that may
// pass, within ctx's deadline. With onText it asks for a stream and passes each
// piece of text on as it comes; once it has, nothing is tried again.
//
// The error is an [*Error], or ctx's own when ctx has ended. The Answer beside
// an error holds what is known of the tokens spent.
func (c *Client) Generate(ctx context.Context, r Request, onText func(string) error) (Answer, error) {
	var spent session.Usage // by the attempts that failed
	for attempt := 1; ; attempt++ {
		answer, shown, err := c.attempt(ctx, r, onText)
		answer.Model, answer.Attempts = r.Model, attempt
		answer.Usage = spent.Add(answer.Usage)
		if err == nil || ctx.Err() != nil {
			return answer, err
		}
		failure, ok := errors.AsType[*Error](err)
		if !ok || !failure.temporary || shown || attempt == maxAttempts {
			return answer, err
		}
		if answer.Usage.Source == session.Counted {
			spent = answer.Usage
		}
		if wait := backoff(attempt, failure.RetryAfter); !sleep(ctx, wait) {
			return answer, err // what is left of the time would not do
		}
	}
}

// backoff is how long to wait after a failed attempt: what the server asked
// for, and full jitter over an exponential bound.
func backoff(attempt int, asked time.Duration) time.Duration {
	bound := min(firstBackoff<<(attempt-1), maxBackoff)
	return asked + rand.N(bound)
}

// sleep waits for d. It is false at once when ctx would end before.
func sleep(ctx context.Context, d time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= d {
		return false
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// attempt is one HTTP request. shown: text has been passed on.
func (c *Client) attempt(ctx context.Context, r Request, onText func(string) error) (a Answer, shown bool, err error) {
	ours := false // whose code is running
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
	ctx, hints := withHints(ctx)
	config := r.config()
	if onText == nil {
		response, err := c.models.Load().GenerateContent(ctx, r.Model, r.Contents, config)
		if err != nil {
			return Answer{}, false, classify(ctx, err, hints)
		}
		a.add(response)
		a.Usage = usage(response.UsageMetadata)
		return a, false, nil
	}
	var counts *genai.GenerateContentResponseUsageMetadata
	for chunk, err := range c.models.Load().GenerateContentStream(ctx, r.Model, r.Contents, config) {
		if err != nil {
			if counts != nil {
				a.Usage = usage(counts)
			}
			return a, shown, classify(ctx, err, hints)
		}
		if chunk.UsageMetadata != nil {
			counts = chunk.UsageMetadata // each one counts all so far
		}
		for _, p := range a.add(chunk) {
			text := partText(p)
			if text == "" {
				continue
			}
			shown, ours = true, true
			err := onText(text)
			ours = false
			if err != nil {
				a.Usage = usage(counts)
				return a, shown, err
			}
		}
	}
	a.Usage = usage(counts)
	if a.Finish == "" && a.Blocked == "" {
		return a, shown, &Error{Kind: Failed, temporary: true, err: errors.New("the stream ended without a finish reason")}
	}
	return a, shown, nil
}

// add takes in a response or a chunk of one, and gives the parts it added.
func (a *Answer) add(response *genai.GenerateContentResponse) []*genai.Part {
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

// usage takes the model's own counts over; none is source "estimate", to be
// filled in by who knows the texts.
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
	if u.TotalTokens == 0 {
		u.TotalTokens = u.PromptTokens + u.ThoughtTokens + u.CompletionTokens
	}
	return u
}

// config is r in the SDK's terms.
func (r *Request) config() *genai.GenerateContentConfig {
	config := &genai.GenerateContentConfig{
		HTTPOptions:     &genai.HTTPOptions{ExtrasRequestProvider: restore},
		Temperature:     genai.Ptr(float32(r.Temperature)),
		MaxOutputTokens: int32(r.MaxTokens),
		Tools:           r.Tools,
		// The SDK would ask again by itself, uncounted and unbounded.
		AutomaticContinuation: genai.Ptr(false),
	}
	if r.Instruction != "" {
		config.SystemInstruction = &genai.Content{Parts: []*genai.Part{{Text: r.Instruction}}}
	}
	return config
}

// restore puts back what the SDK's types leave out when it is empty: the text
// of a part that only carries a thought signature, and the arguments of a call
// without any. The model gave them, and gets its own contents unchanged.
func restore(body map[string]any) map[string]any {
	for _, content := range objects(body["contents"]) {
		for _, part := range objects(content["parts"]) {
			if call, ok := part["functionCall"].(map[string]any); ok && call["args"] == nil {
				call["args"] = map[string]any{}
			}
			if _, signed := part["thoughtSignature"]; signed && onlySigned(part) {
				part["text"] = ""
			}
		}
	}
	return body
}

// objects gives the objects of a list in either form that the SDK builds.
func objects(list any) []map[string]any {
	switch list := list.(type) {
	case []map[string]any:
		return list
	case []any:
		var out []map[string]any
		for _, item := range list {
			if object, ok := item.(map[string]any); ok {
				out = append(out, object)
			}
		}
		return out
	}
	return nil
}

func onlySigned(part map[string]any) bool {
	for key := range part {
		if key != "thoughtSignature" && key != "thought" {
			return false
		}
	}
	return true
}

var errTooLarge = fmt.Errorf("the model's answer is larger than %d bytes", maxResponse)
