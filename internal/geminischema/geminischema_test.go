package geminischema

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	nested := `{"type":"string"}`
	for range 40 {
		nested = `{"type":"object","properties":{"a":` + nested + `}}`
	}
	var many strings.Builder
	for i := range 2500 {
		fmt.Fprintf(&many, `,"p%d":{"type":"string"}`, i)
	}
	for _, tt := range []struct {
		name, schema string
		want         string // "": taken
	}{
		{"what a Go type has", `{"type":"object","properties":{"a":{"type":["null","array"],"items":{"type":"integer"}}},"required":["a"],"additionalProperties":false}`, ""},
		{"what is left unread", `{"type":"object","properties":{"a":{"type":"string","pattern":"^x","minLength":1,"default":"x"}}}`, ""},
		{"alternatives", `{"type":"object","properties":{"a":{"anyOf":[{"type":"string"},{"type":"null"}]}}}`, ""},
		{"a definition", `{"type":"object","properties":{"a":{"$ref":"#/$defs/t"}},"required":["a"],"$defs":{"t":{"type":"string"}}}`, ""},
		{"an optional one that holds itself", `{"type":"object","properties":{"a":{"$ref":"#/$defs/t"}},"$defs":{"t":{"type":"object","properties":{"next":{"$ref":"#/$defs/t"}}}}}`, ""},
		{"a tree", `{"type":"object","properties":{"a":{"$ref":"#/$defs/t"}},"$defs":{"t":{"type":"object","properties":{"l":{"$ref":"#/$defs/t"},"m":{"$ref":"#/$defs/t"},"r":{"$ref":"#/$defs/t"}}}}}`, ""},
		{"a map", `{"type":"object","additionalProperties":{"type":"number"}}`, ""},
		{"one that holds itself without end", `{"type":"object","properties":{"a":{"$ref":"#/$defs/t"}},"required":["a"],"$defs":{"t":{"type":"object","properties":{"next":{"$ref":"#/$defs/t"}},"required":["next"]}}}`, `the schema's a.next needs another "t" without end; make the member optional`},
		{"a conjunction", `{"type":"object","properties":{"a":{"allOf":[{"type":"string"}]}}}`, "the schema's a has allOf, which Gemini does not take"},
		{"a negation within a list", `{"type":"object","properties":{"a":{"type":"array","items":{"not":{"type":"string"}}}}}`, "the schema's a[] has not, which Gemini does not take"},
		{"a condition", `{"type":"object","if":{"required":["a"]}}`, "the schema has if, which Gemini does not take"},
		{"names by pattern", `{"type":"object","patternProperties":{"^x":{"type":"string"}}}`, "the schema has patternProperties, which Gemini does not take"},
		{"a map of what is refused", `{"type":"object","properties":{"m":{"type":"object","additionalProperties":{"allOf":[{}]}}}}`, "the schema's m.* has allOf, which Gemini does not take"},
		{"a reference elsewhere", `{"type":"object","properties":{"a":{"$ref":"https://example.com/x"}}}`, `the schema's a refers to "https://example.com/x"; Gemini takes references to $defs of the same schema only`},
		{"an enum of objects", `{"type":"object","properties":{"a":{"enum":[{"x":1}]}}}`, "the schema's a has an enum of something other than texts and numbers, which Gemini does not take"},
		{"a type that is none", `{"type":"object","properties":{"a":{"type":"text"}}}`, `the schema's a has the type "text", which is none of object, array`},
		{"a type of several that is none", `{"type":"object","properties":{"a":{"type":["null","text"]}}}`, `the schema's a has the type "text"`},
		{"an enum of nothing", `{"type":"object","properties":{"a":{"enum":[]}}}`, "the schema's a has an enum without values"},
		{"an enum with an empty text", `{"type":"object","properties":{"a":{"enum":["","x"]}}}`, "the schema's a has an enum with an empty text"},
		{"too deep", nested, "is too deep"},
		{"too large", `{"type":"object","properties":{"a":{"type":"string"}` + many.String() + `}}`, "is too large"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var s jsonschema.Schema
			if err := json.Unmarshal([]byte(tt.schema), &s); err != nil {
				t.Fatal(err)
			}
			err := Check(&s)
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

func TestNamesOfArguments(t *testing.T) {
	t.Parallel()
	for name, ok := range map[string]bool{
		"a": true, "_a1": true, "$top": true, "a.b-c": true, strings.Repeat("a", 64): true,
		"": false, "1a": false, "-a": false, ".a": false, "my field": false, "größe": false, "a\x00": false, strings.Repeat("a", 65): false,
	} {
		s := &jsonschema.Schema{Type: "object", Properties: map[string]*jsonschema.Schema{"in": {Type: "object", Properties: map[string]*jsonschema.Schema{name: {Type: "string"}}}}}
		err := CheckArguments(s)
		if (err == nil) != ok || !ok && !strings.HasPrefix(err.Error(), "the schema's in has a member") {
			t.Errorf("%q: %v", name, err)
		}
		if err := Check(s); err != nil {
			t.Errorf("%q in an answer: %v", name, err)
		}
	}
}
