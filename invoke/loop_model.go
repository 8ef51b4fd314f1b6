package invoke

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/genai"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/loop"
	"example.com/gatehouse/internal/model"
)

// maxLastCalls bounds the model calls without tools after the turn's rounds are taken: the
// agents that have asked each other each need one to answer.
const maxLastCalls = 4

// begin begins a model call: it returns its generation, and whether the model may
// call tools.
func (t *loopTurn) begin() (call *generation, tools bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.g
	if t.over {
		return nil, false, loop.ErrOver
	}
	tools = g.room() >= reserve(t.s.maxTokens(&t.req)) && g.rounds.take()
	if !tools {
		g.warn(warnRoundsExhausted)
		if t.lasts++; t.lasts > maxLastCalls {
			return nil, false, loop.ErrRounds
		}
	}
	g.step++
	call = newGeneration(g.asked, g.run)
	call.step, call.files, call.states, call.bytesOfToken, call.depth, call.rounds = g.step, g.files, g.states, g.bytesOfToken, g.depth, g.rounds
	call.admitted = func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		g.admitted()
	}
	t.calling.Add(1)
	return call, tools, nil
}

func (t *loopTurn) Generate(ctx context.Context, contents []*genai.Content, config *genai.GenerateContentConfig, onText func(string) error) (*genai.GenerateContentResponse, error) {
	limitOf(ctx).lift()
	call, tools, err := t.begin()
	if err != nil {
		return nil, err
	}
	defer t.calling.Done()
	// The turn's own context carries for whom tokens are spent, and ends the call with the turn
	// also where the framework passes another one.
	calling, cancel := context.WithCancelCause(t.ctx)
	defer cancel(nil)
	defer context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })()
	encoded, err := json.Marshal(contents)
	if err != nil {
		return nil, api.Fail(api.ModelFailed, fmt.Errorf("encoding the contents: %w", err))
	}
	call.encoded = encoded
	r := t.request(call, contents, config, tools)
	var pass func(by, text string) error
	if onText != nil && t.Streams() {
		pass = func(_, text string) error { return onText(text) }
	}
	var answer model.Answer
	err = t.s.hookedCall(calling, call, &r, &answer, pass)
	if err == nil && (!tools || !model.MayCallTools(answer.Finish)) {
		answer, err = answerWithoutCalls(answer, tools)
	}
	return t.count(ctx, call, r, answer, err)
}

// answerWithoutCalls returns an answer whose calls are not run: the model was told that it cannot
// call tools, or did not end as one that calls them does.
func answerWithoutCalls(answer model.Answer, tools bool) (model.Answer, error) {
	calls := len(answer.Calls())
	if calls == 0 {
		return answer, nil
	}
	if answer.Content = withoutCalls(answer.Content); answer.Text() == "" && !tools {
		return answer, api.Fail(api.ModelFailed, fmt.Errorf("the model ended with %d calls of tools that it had none of, and no text", calls))
	}
	return answer, nil
}

// request returns the request of a model call: what the framework wants, within what the
// service and the caller allow.
func (t *loopTurn) request(call *generation, contents []*genai.Content, config *genai.GenerateContentConfig, tools bool) model.Request {
	settings := genai.GenerateContentConfig{}
	if config != nil {
		settings = *config
	}
	r := model.Request{
		Model: call.asked, Instruction: joined(textOf(settings.SystemInstruction), t.req.Options.Instructions), Contents: contents, Files: call.files.blobs, Temperature: t.req.Temperature,
		MaxTokens: min(t.s.maxTokens(&t.req), cmp.Or(int(max(settings.MaxOutputTokens, 0)), t.s.MaxOutputTokens)),
		Alone:     call.run.watched && call.run.out.spoke(),
	}
	if r.Temperature == nil && settings.Temperature != nil {
		r.Temperature = new(float64(*settings.Temperature))
	}
	if tools {
		r.Tools = model.DeclareTools(settings.Tools)
	}
	if r.Tools.JSON == nil {
		settings.ToolConfig = nil
	}
	// What the service sets, and what would lead the call past its bounds.
	settings.SystemInstruction, settings.Tools, settings.CachedContent, settings.HTTPOptions = nil, nil, "", nil
	settings.MaxOutputTokens, settings.Temperature, settings.CandidateCount, settings.ServiceTier = 0, nil, 0, ""
	r.Settings = &settings
	r.Thinking = t.s.thinking(&r)
	return r
}

// textOf joins the texts of a content.
func textOf(content *genai.Content) string {
	if content == nil {
		return ""
	}
	var texts []string
	for _, p := range content.Parts {
		if p != nil && !p.Thought {
			texts = append(texts, p.Text)
		}
	}
	return joined(texts...)
}

// joined joins texts as paragraphs, without the empty ones.
func joined(texts ...string) string {
	return strings.Join(slices.DeleteFunc(texts, func(text string) bool { return text == "" }), "\n\n")
}

// count makes what a model call has spent and answered a part of the turn.
func (t *loopTurn) count(ctx context.Context, call *generation, r model.Request, answer model.Answer, err error) (*genai.GenerateContentResponse, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.g
	if call.usage.Source != "" {
		g.usage = g.usage.Add(call.usage)
	}
	g.asked, g.model, g.finish = call.asked, call.model, call.finish
	g.attempts += call.attempts
	g.modelTime += call.modelTime
	if err != nil {
		if ctx.Err() == nil {
			t.failed = err
		}
		return nil, err
	}
	if t.over {
		return nil, loop.ErrOver
	}
	g.admitted() // also when a hook has answered
	g.measure(call, &r, &answer)
	g.warnOf(&answer, cmp.Or(t.req.Model, t.s.ModelName), &t.req)
	if thinking := r.Settings.ThinkingConfig; thinking != nil && thinking.IncludeThoughts {
		t.thoughts = true
	}
	made, content := t.s.takeFiles(t.ctx, g.files, answer.Content)
	g.files.show(made)
	answer.Content = content
	for _, fc := range answer.Calls() {
		if fc.ID != "" {
			t.modelIDs[fc.ID] = true
		}
	}
	t.failed, t.answer = nil, answer
	if answer.Grounding != nil {
		t.grounded = &answer
	}
	response := &genai.GenerateContentResponse{
		Candidates:   []*genai.Candidate{{Content: content, FinishReason: answer.Finish}},
		ModelVersion: answer.Model,
		UsageMetadata: &genai.GenerateContentResponseUsageMetadata{
			PromptTokenCount: int32(answer.Usage.PromptTokens), CachedContentTokenCount: int32(answer.Usage.CachedTokens),
			CandidatesTokenCount: int32(answer.Usage.CompletionTokens), ThoughtsTokenCount: int32(answer.Usage.ThoughtTokens),
			TotalTokenCount: int32(answer.Usage.TotalTokens),
		},
	}
	if answer.Blocked != "" {
		response.PromptFeedback = &genai.GenerateContentResponsePromptFeedback{BlockReason: genai.BlockedReason(answer.Blocked)}
	}
	return response, nil
}
