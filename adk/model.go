package adk

import (
	"context"
	"errors"
	"iter"

	"google.golang.org/adk/v2/model"
	"google.golang.org/genai"
)

// Model returns the model of the gate, for all agents behind it: MODEL, or the one that the
// request names, with the fallbacks. Of an agent's GenerateContentConfig it takes what
// agent.Agent's Model takes, the response's schema, Temperature and MaxOutputTokens, which
// requests override. It answers within a turn only.
func Model() model.LLM { return llm{} }

type llm struct{}

// modelName is by what ADK knows the model. It is of the family whose requests the gate makes.
const modelName = "gemini-by-gatehouse"

// Name implements [model.LLM].
func (llm) Name() string { return modelName }

var (
	errNoTurn  = errors.New("adk: the gate's model can be asked only within a turn")
	errStopped = errors.New("adk: nobody reads the model's answer")
)

// GenerateContent implements [model.LLM].
func (llm) GenerateContent(ctx context.Context, req *model.LLMRequest, stream bool) iter.Seq2[*model.LLMResponse, error] {
	return func(yield func(*model.LLMResponse, error) bool) {
		t := turnOf(ctx)
		if t == nil {
			yield(nil, errNoTurn)
			return
		}
		// ADK goes on after a step that has ended the turn, and reads the response beside an error.
		if cause := context.Cause(ctx); cause != nil {
			yield(&model.LLMResponse{}, cause)
			return
		}
		limit(req.Tools)
		var onText func(string) error
		stopped := false
		if stream {
			onText = func(text string) error {
				piece := &model.LLMResponse{Content: genai.NewContentFromText(text, genai.RoleModel), Partial: true}
				if !yield(piece, nil) {
					stopped = true
					return errStopped
				}
				return nil
			}
		}
		got, err := t.Generate(ctx, req.Contents, req.Config, onText)
		switch {
		case stopped:
		case err != nil:
			yield(&model.LLMResponse{}, err)
		default:
			yield(responseOf(got), nil)
		}
	}
}

// responseOf returns an answer in ADK's form.
func responseOf(got *genai.GenerateContentResponse) *model.LLMResponse {
	candidate := got.Candidates[0]
	r := &model.LLMResponse{
		Content: candidate.Content, FinishReason: candidate.FinishReason, ModelVersion: got.ModelVersion, UsageMetadata: got.UsageMetadata, TurnComplete: true,
	}
	if r.Content == nil || len(r.Content.Parts) == 0 {
		r.Content, r.ErrorCode = nil, string(candidate.FinishReason)
		if f := got.PromptFeedback; f != nil {
			r.ErrorCode = string(f.BlockReason)
		}
	}
	return r
}
