package invoke

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/genai"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/model"
	"example.com/gatehouse/internal/rescue"
)

// An agent with a typed answer is asked for JSON that fits the type's schema. Models
// from Gemini 3 on take the schema beside tools. Others refuse both together: they are
// asked a last time for the form once they have an answer. What does not fit is asked for
// once more, with what is wrong. None of this goes out before it fits, and only the
// answer that does is stored.

// What the model is asked aside costs like any call, so a turn with a typed answer makes at
// most two calls more: one for the form and one for what did not fit. After that the turn
// ends with model_failed.

const (
	askForm  = "Give this answer as JSON that fits the schema, and nothing else."
	askAgain = "This answer does not fit: %s. Give it again, as JSON that fits the schema, and nothing else."
	// maxMisfit bounds how much of an answer that does not fit, and of what is wrong,
	// goes back to the model, in bytes.
	maxMisfit = 16 << 10
)

var errMisfit = errors.New("it was asked for twice")

// typed reports whether r is to ask for JSON.
func (s *Service) typed(r *model.Request, last bool) bool {
	return s.schema != nil && (last || r.Tools.JSON == nil || s.Model.Combines(r.Model))
}

// endTyped ends a turn whose answer has a type. What is shown is the value as it was checked.
// The turn's contents keep the model's own text.
func (s *Service) endTyped(ctx context.Context, g *generation, req *Request, answer *model.Answer) error {
	asks := 0
	if !g.formed && answer.Text() != "" && answer.Blocked == "" && !model.IsSafetyBlock(answer.Finish) {
		if err := s.askForForm(ctx, g, req, answer, askForm); err != nil {
			return err
		}
	}
	for {
		if answer.Blocked != "" || model.IsSafetyBlock(answer.Finish) {
			return api.Fail(api.ContentBlocked, fmt.Errorf("the answer was blocked: %s %s", answer.Blocked, answer.Finish))
		}
		value, err := s.checkOutput(ctx, answer.Text())
		if err == nil {
			g.output = value
			break
		}
		if _, ok := errors.AsType[*rescue.Panic](err); ok || ctx.Err() != nil {
			return ownFailure(ctx, "Output", err)
		}
		if asks++; asks > 1 {
			if !s.LogContent {
				err = errMisfit // the other quotes the answer
			}
			return api.Fail(api.ModelFailed, fmt.Errorf("the answer does not fit its type: %w", err))
		}
		if err = s.askForForm(ctx, g, req, answer, fmt.Sprintf(askAgain, prefix(err.Error(), maxMisfit))); err != nil {
			return err
		}
	}
	content := *answer.Content
	content.Parts = slices.DeleteFunc(slices.Clone(content.Parts), func(p *genai.Part) bool { return p.FunctionCall != nil })
	// Text may be cut to fit in a turn; JSON may not.
	n, _ := escaped(string(g.output), g.room()-textSpare)
	_, held := g.holds(&content, 0)
	if n < len(g.output) || !held {
		return api.Fail(api.ModelFailed, errors.New("the typed answer does not fit in the turn"))
	}
	g.paragraph, g.written, g.cut = false, 0, false
	g.appendText(string(g.output))
	return g.add(&content)
}

// checkOutput returns the value in an answer. The type may decode itself, in code of the agent.
// The error of an answer that does not fit is for the model to read.
func (s *Service) checkOutput(ctx context.Context, text string) (json.RawMessage, error) {
	checked := make(chan json.RawMessage, 1)
	err := callOwn(ctx, func() error {
		value, err := s.Agent.Output.Check(text)
		checked <- value
		return err
	})
	if err != nil {
		return nil, err
	}
	return <-checked, nil
}

// askForForm asks the model for its answer in another form. The text of that is not
// of the turn. Later prompts have the answer only.
func (s *Service) askForForm(ctx context.Context, g *generation, req *Request, answer *model.Answer, ask string) error {
	said := prefix(answer.Text(), maxMisfit)
	if said == "" { // the API refuses a text of nothing
		said = "{}"
	}
	aside := []*genai.Content{genai.NewContentFromText(said, genai.RoleModel), genai.NewContentFromText(ask, genai.RoleUser)}
	encoded, err := json.Marshal(aside)
	if err != nil {
		return api.Fail(api.ModelFailed, err)
	}
	g.aside, g.asideBytes = aside, len(encoded)
	defer func() { g.aside, g.asideBytes = nil, 0 }()
	return s.ask(ctx, g, req, answer, true)
}
