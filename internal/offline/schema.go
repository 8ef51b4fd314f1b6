package offline

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// A function is one that the request declares.
type function struct {
	name, description string
	properties        []property // required ones first
}

type property struct {
	name     string
	required bool
	kind     string   // string, integer, number, boolean, array, or anything else
	enum     []string // the only values a string may have
	items    string   // the kind of an array's elements; enum is theirs then
}

// declared lists the functions that may be called.
func declared(in *request) []function {
	config := in.ToolConfig.FunctionCallingConfig
	if strings.EqualFold(config.Mode, "NONE") {
		return nil
	}
	var out []function
	for _, raw := range in.Tools {
		var tool struct {
			FunctionDeclarations []struct {
				Name                 string          `json:"name"`
				Description          string          `json:"description"`
				Parameters           json.RawMessage `json:"parameters"`
				ParametersJSONSchema json.RawMessage `json:"parametersJsonSchema"`
			} `json:"functionDeclarations"`
		}
		if json.Unmarshal(raw, &tool) != nil {
			continue
		}
		for _, d := range tool.FunctionDeclarations {
			if d.Name == "" || len(config.AllowedFunctionNames) > 0 && !slices.Contains(config.AllowedFunctionNames, d.Name) {
				continue
			}
			schema := d.ParametersJSONSchema
			if len(schema) == 0 {
				schema = d.Parameters
			}
			out = append(out, function{d.Name, d.Description, propertiesOf(decode(schema))})
		}
	}
	return out
}

// propertiesOf reads both JSON Schema and Gemini's own Schema. What it does not
// understand it leaves out: such a property is never filled in.
func propertiesOf(schema any) []property {
	object, _ := schema.(map[string]any)
	fields, _ := object["properties"].(map[string]any)
	required := stringsIn(object["required"])
	var out []property
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		p := property{name: name, required: slices.Contains(required, name)}
		p.kind, p.enum = kindOf(fields[name])
		if field, ok := fields[name].(map[string]any); ok && p.kind == "array" {
			p.items, p.enum = kindOf(field["items"])
		}
		out = append(out, p)
	}
	position := func(p property) int {
		if i := slices.Index(required, p.name); i >= 0 {
			return i
		}
		return len(required)
	}
	slices.SortStableFunc(out, func(a, b property) int { return cmp.Compare(position(a), position(b)) })
	return out
}

// kindOf takes the first alternative that is not null, which is how optional
// values are commonly declared.
func kindOf(schema any) (kind string, enum []string) {
	object, _ := schema.(map[string]any)
	for _, alternatives := range []string{"anyOf", "oneOf"} {
		list, _ := object[alternatives].([]any)
		for _, a := range list {
			if kind, enum := kindOf(a); kind != "" && kind != "null" {
				return kind, enum
			}
		}
	}
	kinds := stringsIn(object["type"])
	if kind, ok := object["type"].(string); ok {
		kinds = []string{kind}
	}
	for _, k := range kinds {
		if k = strings.ToLower(k); k != "null" {
			kind = k
			break
		}
	}
	enum = stringsIn(object["enum"])
	if kind == "" && len(enum) > 0 {
		kind = "string"
	}
	return kind, enum
}

func stringsIn(v any) []string {
	list, _ := v.([]any)
	var out []string
	for _, e := range list {
		if s, ok := e.(string); ok {
			out = append(out, s)
		}
	}
	return out
}
