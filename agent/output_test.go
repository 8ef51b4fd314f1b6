package agent_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"example.com/gatehouse/agent"
)

type quote struct {
	Amount int64    `json:"amount" jsonschema:"in cents"`
	Parts  []string `json:"parts,omitempty"`
	Color  color    `json:"color,omitzero"`
	More   any      `json:"more,omitempty"`
}

// color is a type that checks itself.
type color string

func (c *color) UnmarshalJSON(raw []byte) error {
	if err := json.Unmarshal(raw, (*string)(c)); err != nil {
		return err
	}
	if *c == "none" {
		return errors.New("none is no color")
	}
	return nil
}

func TestOutput(t *testing.T) {
	t.Parallel()
	o := agent.OutputOf[quote]()
	for _, tt := range []struct{ name, answer, want, problem string }{
		{"a value", ` {"amount": 5, "parts": ["a"]} `, `{"amount":5,"parts":["a"]}`, ""},
		{"digits that no float holds", `{"amount": 9007199254740993}`, `{"amount":9007199254740993}`, ""},
		{"within a fence", "```json\n{\"amount\": 5}\n```", `{"amount":5}`, ""},
		{"text", "It costs 5.", "", "not JSON"},
		{"half a value", `{"amount": 5`, "", "not JSON"},
		{"two values", `{"amount": 5} {"amount": 6}`, "", "not JSON"},
		{"nothing", "", "", "not JSON"},
		{"without what is required", `{}`, "", "amount"},
		{"of another type", `{"amount": "five"}`, "", "amount"},
		{"a fraction", `{"amount": 1.5}`, "", "amount"},
		{"more than it has", `{"amount": 1, "tip": 2}`, "", "tip"},
		{"a number that does not fit", `{"amount": 1e30}`, "", "amount"},
		{"a member twice", `{"amount": 5, "amount": 6}`, "", "not JSON"},
		{"a member twice further inside", `{"amount": 5, "more": {"a": 1, "a": 2}}`, "", "not JSON"},
		{"half of a surrogate pair", `{"amount": 5, "parts": ["\ud800"]}`, "", "not JSON"},
		{"escapes and long numbers as they are", `{"amount": 5, "parts": ["\u00e9<\/\u2028"], "more": 1.50e3}`, `{"amount":5,"parts":["\u00e9<\/\u2028"],"more":1.50e3}`, ""},
		{"a number that no decoder takes", `{"amount": 5, "more": 1e400}`, "", "not JSON"},
		{"what the type itself refuses", `{"amount": 1, "color": "none"}`, "", "none is no color"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := o.Check(tt.answer)
			switch {
			case tt.problem == "" && (err != nil || string(got) != tt.want):
				t.Errorf("%s, %v; want %s", got, err, tt.want)
			case tt.problem != "" && (err == nil || !strings.Contains(err.Error(), tt.problem)):
				t.Errorf("%s, %v; want an error with %q", got, err, tt.problem)
			}
		})
	}
}

func TestOutputOfPanicsWithoutASchema(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("did not panic")
		}
	}()
	agent.OutputOf[struct{ F func() }]()
}

// A client's schema may unfold to more than any memory: each of its definitions refers to all of
// them.
func TestASchemaThatUnfoldsWithoutEnd(t *testing.T) {
	t.Parallel()
	definition, definitions := map[string]any{"type": "object"}, map[string]any{}
	references := map[string]any{}
	for i := range 20 {
		name := string(rune('a' + i))
		references[name] = map[string]any{"$ref": "#/$defs/" + name}
		definitions[name] = definition
	}
	definition["properties"] = references
	same, err := agent.OutputOf[quote]().Same(map[string]any{"$defs": definitions, "$ref": "#/$defs/a"})
	if same || err != nil {
		t.Errorf("%t, %v", same, err)
	}
}
