package mcptool

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"
	"pgregory.net/rapid"
)

func TestFit(t *testing.T) {
	t.Parallel()
	deep := func(n int) string {
		return strings.Repeat(`{"type":"object","properties":{"a":`, n) + `{"type":"string"}` + strings.Repeat("}}", n)
	}
	tests := []struct {
		name, schema, want string
	}{
		{"an object", `{"type":"object","properties":{"city":{"type":"string","description":"Where."}},"required":["city"]}`,
			`{"properties":{"city":{"description":"Where.","type":"string"}},"required":["city"],"type":"object"}`},
		{"nothing said", `{}`, `{"type":"object"}`},
		{"not even the type", `{"properties":{"a":{"type":"integer"}}}`, `{"properties":{"a":{"type":"integer"}},"type":"object"}`},
		{"a string", `{"type":"string"}`, ``},
		{"a list", `[]`, ``},
		{"true", `true`, ``},
		{"null", `null`, ``},
		{"keywords that Gemini refuses", `{"$schema":"http://json-schema.org/draft-07/schema#","$id":"x","type":"object","properties":{"a":{"type":"string","pattern":"^x","minLength":1,"default":"x","examples":["x"]},"b":{"type":"array","items":{"type":"number"},"maxItems":1000,"uniqueItems":true}},"patternProperties":{"^x":{}},"not":{},"if":{},"additionalProperties":false}`,
			`{"additionalProperties":false,"properties":{"a":{"type":"string"},"b":{"items":{"type":"number"},"type":"array"}},"type":"object"}`},
		{"a format is told", `{"type":"object","properties":{"at":{"type":"string","format":"date-time","description":"When"}}}`,
			`{"properties":{"at":{"description":"When (date-time)","type":"string"}},"type":"object"}`},
		{"bounds", `{"type":"object","properties":{"n":{"type":"integer","minimum":1,"maximum":10,"exclusiveMinimum":0}}}`,
			`{"properties":{"n":{"maximum":10,"minimum":1,"type":"integer"}},"type":"object"}`},
		{"an enum and a constant", `{"type":"object","properties":{"a":{"enum":["x","y"]},"b":{"const":"z"},"c":{"enum":[null,{}]},"d":{"enum":["","x"]},"e":{"enum":[]}}}`,
			`{"properties":{"a":{"enum":["x","y"]},"b":{"enum":["z"]},"c":{},"d":{},"e":{}},"type":"object"}`},
		{"several types", `{"type":"object","properties":{"a":{"type":["string","null","money"]},"b":{"type":["string"]}}}`,
			`{"properties":{"a":{"type":["string","null"]},"b":{"type":"string"}},"type":"object"}`},
		{"alternatives", `{"type":"object","properties":{"a":{"oneOf":[{"type":"string"},{"type":"integer"}]}}}`,
			`{"properties":{"a":{"anyOf":[{"type":"string"},{"type":"integer"}]}},"type":"object"}`},
		{"alternatives that are themselves", `{"type":"object","properties":{"a":{"anyOf":[{"$ref":"#/properties/a"},{"type":"string"}]}}}`,
			`{"properties":{"a":{"anyOf":[{"anyOf":[{"anyOf":[{},{"type":"string"}]},{"type":"string"}]},{"type":"string"}]}},"type":"object"}`},
		{"alternatives at the root", `{"type":"object","anyOf":[{"required":["a"]},{"required":["b"]}],"properties":{"a":{}}}`,
			`{"properties":{"a":{}},"type":"object"}`},
		{"a reference", `{"type":"object","properties":{"a":{"$ref":"#/$defs/A~1b","description":"Ours."}},"$defs":{"A/b":{"type":"string","description":"Theirs."}}}`,
			`{"properties":{"a":{"description":"Ours.","type":"string"}},"type":"object"}`},
		{"a reference to nothing", `{"type":"object","properties":{"a":{"$ref":"#/$defs/none"},"b":{"$ref":"https://example.org/x"},"c":{"$ref":"#anchor"}}}`,
			`{"properties":{"a":{},"b":{},"c":{}},"type":"object"}`},
		{"a reference to itself", `{"type":"object","properties":{"a":{"$ref":"#/properties/a"}}}`,
			`{"properties":{"a":{"type":"object"}},"type":"object"}`},
		{"a tree", `{"type":"object","properties":{"left":{"$ref":"#"},"name":{"type":"string"}}}`,
			`{"properties":{"left":{"properties":{"left":{"properties":{"left":{"properties":{"left":{},"name":{"type":"string"}},"type":"object"},"name":{"type":"string"}},"type":"object"},"name":{"type":"string"}},"type":"object"},"name":{"type":"string"}},"type":"object"}`},
		{"all of several", `{"type":"object","allOf":[{"properties":{"a":{"type":"string"}},"required":["a"]},{"$ref":"#/$defs/B"}],"$defs":{"B":{"properties":{"b":{"type":"integer"}}}}}`,
			`{"properties":{"a":{"type":"string"},"b":{"type":"integer"}},"required":["a"],"type":"object"}`},
		{"deeper than Gemini takes", deep(9),
			`{"properties":{"a":{"properties":{"a":{"properties":{"a":{"properties":{"a":{}},"type":"object"}},"type":"object"}},"type":"object"}},"type":"object"}`},
		{"lists in lists", `{"type":"object","properties":{"a":{"type":"array","items":{"type":"array","items":{"type":"array","items":{"type":"array"}}}},"b":{"type":"array"}}}`,
			`{"properties":{"a":{"items":{"items":{"items":{},"type":"array"},"type":"array"},"type":"array"},"b":{"items":{},"type":"array"}},"type":"object"}`},
		{"names that cannot be declared", `{"type":"object","properties":{"a b":{"type":"string"},"$filter":{"type":"string"}},"additionalProperties":false}`,
			`{"properties":{"$filter":{"type":"string"}},"type":"object"}`},
		{"one of them required", `{"type":"object","properties":{"a b":{"type":"string"}},"required":["a b"]}`, ``},
		{"properties that are none", `{"type":"object","properties":{"a":true,"b":7,"c":{"type":7,"properties":[],"required":"x","enum":"x","items":[]}},"required":[7,{}]}`,
			`{"properties":{"a":{},"b":{},"c":{}},"type":"object"}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var schema any
			if err := json.Unmarshal([]byte(test.schema), &schema); err != nil {
				t.Fatal(err)
			}
			if got := string(fit(schema)); got != test.want {
				t.Errorf("%s\nwant %s", got, test.want)
			}
		})
	}
}

// References that multiply come to an end, and a schema of any size stays small.
func TestFitIsBounded(t *testing.T) {
	t.Parallel()
	definitions := map[string]any{}
	for i := range 40 {
		next := map[string]any{"$ref": fmt.Sprintf("#/$defs/d%d", i+1)}
		definitions[fmt.Sprintf("d%d", i)] = map[string]any{"allOf": []any{next, next, next}, "properties": map[string]any{"a": next, "b": next, "c": next}}
	}
	wide := map[string]any{}
	for i := range 10_000 {
		wide[fmt.Sprintf("p%05d", i)] = map[string]any{"type": "string", "description": strings.Repeat("x", 10_000)}
	}
	for name, schema := range map[string]map[string]any{
		"multiplying": {"type": "object", "$ref": "#/$defs/d0", "$defs": definitions},
		"wide":        {"type": "object", "properties": wide},
	} {
		if got := len(fit(schema)); got == 0 || got > 64<<10 {
			t.Errorf("%s: %d bytes", name, got)
		}
	}
}

// What fits a schema fits what it becomes, and what it becomes can be declared.
func TestFitIsNeverStricter(t *testing.T) {
	t.Parallel()
	var node func(depth int) *rapid.Generator[any]
	node = func(depth int) *rapid.Generator[any] {
		return rapid.Custom(func(t *rapid.T) any {
			s := map[string]any{}
			kinds := []string{"string", "integer", "boolean"}
			if depth > 0 {
				kinds = append(kinds, "object", "array", "any", "one")
			}
			switch kind := rapid.SampledFrom(kinds).Draw(t, "kind"); kind {
			case "object":
				s["type"] = kind
				properties, required := map[string]any{}, []any{}
				for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", "d e"}), 0, 3, rapid.ID).Draw(t, "names") {
					properties[name] = node(depth-1).Draw(t, name)
					if rapid.Bool().Draw(t, "required") {
						required = append(required, name)
					}
				}
				s["properties"], s["required"] = properties, required
				if rapid.Bool().Draw(t, "closed") {
					s["additionalProperties"] = false
				}
			case "array":
				s["type"], s["items"] = kind, node(depth-1).Draw(t, "items")
			case "one":
				s["anyOf"] = []any{node(depth-1).Draw(t, "first"), node(depth-1).Draw(t, "second")}
			case "any":
			default:
				s["type"] = kind
			}
			return s
		})
	}
	var value func(s map[string]any) any // that fits the schema
	value = func(s map[string]any) any {
		if alternatives, ok := s["anyOf"].([]any); ok {
			return value(alternatives[0].(map[string]any))
		}
		switch s["type"] {
		case "string":
			return "x"
		case "integer":
			return 7
		case "boolean":
			return true
		case "array":
			return []any{value(s["items"].(map[string]any))}
		}
		object := map[string]any{}
		properties, _ := s["properties"].(map[string]any)
		for name, p := range properties {
			object[name] = value(p.(map[string]any))
		}
		return object
	}
	rapid.Check(t, func(t *rapid.T) {
		root := map[string]any{"type": "object", "properties": map[string]any{"root": node(5).Draw(t, "node")}}
		fitted := fit(root)
		if fitted == nil {
			return // a required property that cannot be named
		}
		var s jsonschema.Schema
		if err := json.Unmarshal(fitted, &s); err != nil {
			t.Fatal(err)
		}
		resolved, err := s.Resolve(nil)
		if err != nil {
			t.Fatalf("%s: %v", fitted, err)
		}
		args := value(root)
		if err := resolved.Validate(args); err != nil {
			encoded, _ := json.Marshal(root)
			t.Fatalf("%v fits %s, but not %s: %v", args, encoded, fitted, err)
		}
	})
}
