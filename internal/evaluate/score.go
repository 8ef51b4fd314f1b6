package evaluate

import (
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"example.com/gatehouse/internal/trial"
)

// A Score is what one scorer makes of an answer.
type Score struct {
	Scorer string `json:"scorer"`
	Pass   bool   `json:"pass"`
	Points int    `json:"points,omitempty"` // of a judge, 1 to 5
	Detail string `json:"detail,omitempty"` // why it does not pass; of a judge always
}

// score returns the scores of the deterministic scorers for an answer to c.
//
// A case without expectations has one scorer, that it was answered at all. Each kind of
// expectation is a separate score, so that a report names all that fail.
func (c *Case) score(a *trial.Answer) []Score {
	var scores []Score
	add := func(scorer, problem string) {
		scores = append(scores, Score{Scorer: scorer, Pass: problem == "", Detail: problem})
	}
	e := c.Expect
	switch {
	case e.Error != "" && a.Error == "":
		add("error", fmt.Sprintf("an answer, not the error %s", e.Error))
	case a.Error != e.Error:
		add("answered", fmt.Sprintf("the error %s: %s", a.Error, a.Message))
	default:
		add("answered", "")
	}
	if e.MaxSeconds > 0 {
		add("latency", tooMuch(a.Took.Seconds(), e.MaxSeconds, "%.3g s, more than %.3g s"))
	}
	if a.Error != "" {
		return scores // the rest is about an answer
	}
	if e.Tools != nil {
		add("tools", differentTools(*e.Tools, a.Tools))
	}
	if len(e.Contains) > 0 {
		add("contains", firstProblem(e.Contains, func(text string) bool { return strings.Contains(a.Text, text) }, "the answer lacks %q"))
	}
	if len(e.NotContains) > 0 {
		add("not_contains", firstProblem(e.NotContains, func(text string) bool { return !strings.Contains(a.Text, text) }, "the answer has %q"))
	}
	for _, pattern := range c.patterns {
		problem := ""
		if !pattern.MatchString(a.Text) {
			problem = fmt.Sprintf("nothing matches %s", pattern)
		}
		add("matches", problem)
	}
	if e.JSON || c.schema != nil {
		add("json", c.wrongForm(a))
	}
	if e.MaxCostUSD > 0 {
		if cost := costOf(a); cost != nil {
			add("cost", tooMuch(*cost, e.MaxCostUSD, "$%.3g, more than $%.3g"))
		} else { // a model without a price must not be within any budget
			add("cost", "unknown: the model is not in the table of models")
		}
	}
	return scores
}

// firstProblem returns what is wrong with the first text that does not hold, "" if all do.
func firstProblem(texts []string, holds func(string) bool, format string) string {
	for _, text := range texts {
		if !holds(text) {
			return fmt.Sprintf(format, text)
		}
	}
	return ""
}

// tooMuch returns what is wrong with got, "" if it is at most most.
func tooMuch(got, most float64, format string) string {
	if got <= most {
		return ""
	}
	return fmt.Sprintf(format, got, most)
}

// differentTools returns how the calls are not those that are expected, "" if they are.
//
// Calls are compared in the order of the model's requests. Arguments that are not named are
// free.
func differentTools(want []ToolExpect, got []trial.ToolCall) string {
	names := make([]string, len(got))
	for i, call := range got {
		names[i] = call.Name
	}
	called := cmp.Or(strings.Join(names, ", "), "none")
	for i, t := range want {
		if i >= len(got) || got[i].Name != t.Name {
			return fmt.Sprintf("call %d is not %s; called: %s", i+1, t.Name, called)
		}
		for name, value := range t.Args {
			arg, ok := got[i].Args[name]
			switch {
			case !ok:
				return fmt.Sprintf("call %d, %s: the argument %s is missing", i+1, t.Name, name)
			case !equalJSON(value, arg):
				return fmt.Sprintf("call %d, %s: the argument %s is %v, not %v", i+1, t.Name, name, arg, value)
			}
		}
	}
	if len(got) > len(want) {
		return fmt.Sprintf("%d calls more than expected; called: %s", len(got)-len(want), called)
	}
	return ""
}

// equalJSON reports whether two values are the same in JSON, where 3 is 3.0.
//
// YAML decodes 3 as an int and JSON as a float64, so both sides are decoded from JSON before
// they are compared.
func equalJSON(a, b any) bool {
	normal := func(v any) any {
		raw, err := json.Marshal(v)
		if err != nil {
			return v
		}
		var out any
		_ = trial.Unmarshal(raw, &out)
		return out
	}
	return reflect.DeepEqual(normal(a), normal(b))
}

// wrongForm returns what is wrong with the form of the answer: of its typed output, or
// of the text.
func (c *Case) wrongForm(a *trial.Answer) string {
	value := a.Data["output"]
	if value == nil {
		if err := trial.Unmarshal([]byte(a.Text), &value); err != nil {
			return fmt.Sprintf("the answer is not JSON: %v", err)
		}
	}
	if c.schema == nil {
		return ""
	}
	if err := c.schema.Validate(value); err != nil {
		return err.Error()
	}
	return ""
}

// costOf returns the cost of the turn in dollars, nil if it is unknown.
func costOf(a *trial.Answer) *float64 {
	usage, _ := a.Data["usage"].(map[string]any)
	cost, ok := usage["estimated_cost_usd"].(float64)
	if !ok {
		return nil
	}
	return &cost
}
