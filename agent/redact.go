package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/genai"

	"example.com/gatehouse/internal/exactjson"
)

// Redaction returns hooks by which replace has seen every text of a turn before it is
// stored, logged, sent to the model or shown: what people write, the names of their files,
// what the model says, the arguments that it writes, also for the tool that it calls, and
// what tools return, report by tool.Progress, or fail with. It is given whole texts, such
// as all the text of a step, and JSON's strings, names and numbers one by one; a number
// that it changes becomes a string. The contents of files, and what a tool stores or logs by
// itself, it does not see.
//
//	Hooks: agent.Redaction(func(text string) string { return cardNumber.ReplaceAllString(text, "[card number]") }),
func Redaction(replace func(text string) string) Hooks {
	return Hooks{
		Question: func(_ context.Context, q *Question) error {
			q.Text = replace(q.Text)
			for i := range q.Files {
				q.Files[i].Name = replace(q.Files[i].Name)
			}
			return nil
		},
		Model: func(_ context.Context, c *ModelCall, next func() error) error {
			if err := next(); err != nil {
				return err
			}
			if c.Answer == nil { // it was held back
				return nil
			}
			c.Answer = &genai.Content{Role: c.Answer.Role, Parts: slices.Clone(c.Answer.Parts)}
			for i, p := range c.Answer.Parts {
				c.Answer.Parts[i] = redactPart(p, replace)
			}
			return nil
		},
		Tool: func(_ context.Context, c *ToolCall, next func() error) error {
			c.Progress = replace
			if err := next(); err != nil {
				if text := replace(err.Error()); text != err.Error() {
					return &redactedError{text, err}
				}
				return err
			}
			c.Output, _ = redactValue(c.Output, replace).(map[string]any)
			return nil
		},
		Answer: func(_ context.Context, a *Answer) error {
			a.Text = replace(a.Text)
			return nil
		},
	}
}

// A redactedError is an error with another text. What it is stays: whether a tool that
// changes the world knows how its call has ended, for one.
type redactedError struct {
	text string
	err  error
}

func (e *redactedError) Error() string { return e.text }
func (e *redactedError) Unwrap() error { return e.err }

// redactPart returns a part of the model's answer with what is not its text replaced: that
// is for the hook Answer, which sees all of it.
func redactPart(p *genai.Part, replace func(string) string) *genai.Part {
	changed := *p
	switch {
	case p.FunctionCall != nil:
		call := *p.FunctionCall
		call.Args, _ = redactValue(call.Args, replace).(map[string]any)
		changed.FunctionCall = &call
	case p.ToolCall != nil:
		call := *p.ToolCall
		call.Args, _ = redactValue(call.Args, replace).(map[string]any)
		changed.ToolCall = &call
	case p.ToolResponse != nil:
		response := *p.ToolResponse
		response.Response, _ = redactValue(response.Response, replace).(map[string]any)
		changed.ToolResponse = &response
	case p.ExecutableCode != nil:
		code := *p.ExecutableCode
		code.Code = replace(code.Code)
		changed.ExecutableCode = &code
	case p.CodeExecutionResult != nil:
		result := *p.CodeExecutionResult
		result.Output = replace(result.Output)
		changed.CodeExecutionResult = &result
	}
	return &changed
}

// redactValue returns a JSON value with its texts and numbers replaced. It changes nothing
// in value.
func redactValue(value any, replace func(string) string) any {
	switch v := value.(type) {
	case nil, bool:
		return v
	case string:
		return replace(v)
	case map[string]any:
		if v == nil {
			return v
		}
		changed := make(map[string]any, len(v))
		same := map[string]int{} // how many names have become this one
		for _, name := range slices.Sorted(maps.Keys(v)) {
			as := replace(name)
			to := as
			for _, taken := changed[to]; taken; _, taken = changed[to] {
				same[as] = max(same[as], 1) + 1
				to = fmt.Sprintf("%s (%d)", as, same[as])
			}
			changed[to] = redactValue(v[name], replace)
		}
		return changed
	case []any:
		changed := make([]any, len(v))
		for i, element := range v {
			changed[i] = redactValue(element, replace)
		}
		return changed
	}
	raw, err := json.Marshal(value)
	if err != nil {
		return replace(fmt.Sprint(value)) // no JSON value; the service reports an output that is none
	}
	if c := raw[0]; c == '-' || c >= '0' && c <= '9' {
		if text := replace(string(raw)); text != string(raw) {
			return text
		}
		return value
	}
	var decoded any
	if err := exactjson.Unmarshal(raw, &decoded); err != nil {
		return replace(string(raw))
	}
	return redactValue(decoded, replace)
}
