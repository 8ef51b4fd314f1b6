package mcptool

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"example.com/gatehouse/internal/geminischema"
)

// Gemini takes a part of JSON Schema, and refuses a request whose functions go beyond it:
// all of it, so that one tool would take the agent down. What it takes is documented at
// FunctionDeclaration.parametersJsonSchema; the bounds are learned from refusals
// (gemini-cli issues 5923 and 19083, python-genai issue 2170, ghidra-mcp issue 440).
const (
	maxDepth        = 4 // objects and arrays in each other
	maxNodes        = 400
	maxProperties   = 64
	maxAlternatives = 8
	maxEnum         = 64
	maxEnumBytes    = 2048
	maxNote         = 512 // a description within a schema, in bytes
	maxReferences   = 16  // from one to the next
)

var types = []string{"object", "array", "string", "number", "integer", "boolean", "null"}

// fit returns a schema of an object that Gemini takes and that everything fits which fits
// schema: it may restrict less, and the server checks the rest. It is nil for what is not the
// schema of an object, or whose required properties cannot be named.
func fit(schema any) json.RawMessage {
	root, ok := schema.(map[string]any)
	if !ok {
		return nil
	}
	f := fitter{root: root}
	fitted := f.convert(root, 1)
	kind := fitted["type"]
	if f.unnamed || kind != nil && !isKind(kind, "object") {
		return nil
	}
	delete(fitted, "anyOf") // the root is one object
	fitted["type"] = "object"
	encoded, err := json.Marshal(fitted)
	if err != nil {
		return nil
	}
	return encoded
}

// A fitter converts a schema. It visits a bounded number of nodes, so that references
// that multiply come to an end.
type fitter struct {
	root    map[string]any
	nodes   int
	unnamed bool // a required property has a name that cannot be declared
}

// convert returns node as Gemini takes it, at a depth of objects and arrays.
func (f *fitter) convert(node any, depth int) map[string]any {
	if f.nodes++; f.nodes > maxNodes {
		return map[string]any{}
	}
	s, ok := node.(map[string]any)
	if !ok {
		return map[string]any{} // true, or what is no schema: anything
	}
	s = f.flatten(s)
	fitted := map[string]any{}
	if note := describe(s); note != "" {
		fitted["description"] = note
	}
	if alternatives := f.alternatives(s, depth); alternatives != nil {
		fitted["anyOf"] = alternatives
	}
	kind := kindOf(s)
	if kind != nil {
		fitted["type"] = kind
	}
	if values := enumOf(s); values != nil {
		fitted["enum"] = values
	}
	for _, bound := range []string{"minimum", "maximum"} {
		if n, ok := s[bound].(float64); ok {
			fitted[bound] = n
		}
	}
	if isKind(kind, "array") {
		fitted["items"] = f.below(s["items"], depth)
	}
	if isKind(kind, "object") && depth <= maxDepth {
		f.members(s, fitted, depth)
	}
	return fitted
}

// members converts the properties of an object.
func (f *fitter) members(s, fitted map[string]any, depth int) {
	listed, _ := s["properties"].(map[string]any)
	properties := map[string]any{}
	var required []any
	names, _ := s["required"].([]any)
	isRequired := func(name string) bool { return slices.Contains(names, any(name)) }
	// In a stable order, so that the same schema stays the same; what is required first.
	ordered := slices.SortedFunc(maps.Keys(listed), func(a, b string) int {
		if isRequired(a) != isRequired(b) {
			if isRequired(a) {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	for _, name := range ordered {
		fits := geminischema.ValidArgument(name) && len(properties) < maxProperties
		switch {
		case fits:
			properties[name] = f.below(listed[name], depth)
		case isRequired(name):
			f.unnamed = true
		}
		if fits && isRequired(name) {
			required = append(required, name)
		}
	}
	if len(properties) > 0 {
		fitted["properties"] = properties
	}
	if len(required) > 0 {
		fitted["required"] = required
	}
	if more, ok := s["additionalProperties"].(bool); ok && len(properties) == len(listed) {
		fitted["additionalProperties"] = more
	}
}

// below converts what is within an object or array at a depth. What would be too deep is
// described, and may be anything.
func (f *fitter) below(node any, depth int) map[string]any {
	if depth < maxDepth || !isNested(f.flatten(mapOf(node))) {
		return f.convert(node, depth+1)
	}
	fitted := map[string]any{}
	if note := describe(mapOf(node)); note != "" {
		fitted["description"] = note
	}
	return fitted
}

func mapOf(node any) map[string]any {
	s, _ := node.(map[string]any)
	return s
}

func isNested(s map[string]any) bool {
	kind := kindOf(s)
	return isKind(kind, "object") || isKind(kind, "array") || s["anyOf"] != nil || s["oneOf"] != nil
}

// alternatives converts anyOf and oneOf, nil without them or with too many.
func (f *fitter) alternatives(s map[string]any, depth int) []any {
	var converted []any
	for _, keyword := range []string{"anyOf", "oneOf"} {
		list, _ := s[keyword].([]any)
		if len(list) == 0 || len(list) > maxAlternatives || converted != nil {
			continue
		}
		for _, alternative := range list {
			// Alternatives within alternatives count as deeper: a type that is a list of
			// itself, or of others, would have no end.
			if s := f.flatten(mapOf(alternative)); s["anyOf"] != nil || s["oneOf"] != nil {
				converted = append(converted, f.below(alternative, depth))
				continue
			}
			converted = append(converted, f.convert(alternative, depth))
		}
	}
	return converted
}

// flatten returns s with what it refers to, and with all of its allOf, in one map. A
// reference to itself is an object that may hold anything.
func (f *fitter) flatten(s map[string]any) map[string]any {
	flat := map[string]any{}
	f.merge(flat, s, maxReferences)
	return flat
}

func (f *fitter) merge(flat, s map[string]any, left int) {
	if left <= 0 {
		flat["type"] = "object"
		return
	}
	for keyword, value := range s {
		switch keyword {
		case "$ref", "allOf":
		case "properties":
			properties := maps.Clone(mapOf(flat["properties"]))
			if properties == nil {
				properties = map[string]any{}
			}
			maps.Copy(properties, mapOf(value))
			flat["properties"] = properties
		case "required":
			names, _ := value.([]any)
			earlier, _ := flat["required"].([]any)
			flat["required"] = slices.Concat(earlier, names)
		default:
			if _, ok := flat[keyword]; !ok {
				flat[keyword] = value
			}
		}
	}
	if reference, ok := s["$ref"].(string); ok {
		if target, ok := f.resolve(reference); ok {
			f.merge(flat, target, left-1)
		}
	}
	all, _ := s["allOf"].([]any)
	for _, each := range all[:min(len(all), maxAlternatives)] {
		if f.nodes++; f.nodes > maxNodes {
			return
		}
		f.merge(flat, mapOf(each), left-1)
	}
}

// resolve returns what a reference within the schema points to.
func (f *fitter) resolve(reference string) (map[string]any, bool) {
	pointer, ok := strings.CutPrefix(reference, "#")
	if !ok || pointer != "" && pointer[0] != '/' {
		return nil, false
	}
	var node any = f.root
	for _, token := range strings.Split(pointer, "/")[1:] {
		token = strings.NewReplacer("~1", "/", "~0", "~").Replace(token)
		node, ok = mapOf(node)[token]
		if !ok {
			return nil, false
		}
	}
	s, ok := node.(map[string]any)
	return s, ok
}

// kindOf returns the type that s names: a string, a list of several, nil without any.
func kindOf(s map[string]any) any {
	switch kind := s["type"].(type) {
	case string:
		if slices.Contains(types, kind) {
			return kind
		}
	case []any:
		var kinds []any
		for _, each := range kind {
			if name, ok := each.(string); ok && slices.Contains(types, name) && !slices.Contains(kinds, each) {
				kinds = append(kinds, name)
			}
		}
		if len(kinds) == 1 {
			return kinds[0]
		}
		if len(kinds) > 1 {
			return kinds
		}
	}
	if len(mapOf(s["properties"])) > 0 {
		return "object"
	}
	return nil
}

func isKind(kind any, name string) bool {
	kinds, _ := kind.([]any)
	return kind == any(name) || slices.Contains(kinds, any(name))
}

// enumOf returns the values that s is limited to; nil if it is not, or to too many.
func enumOf(s map[string]any) []any {
	values, _ := s["enum"].([]any)
	if constant, ok := s["const"]; ok {
		values = []any{constant}
	}
	size := 0
	for _, value := range values {
		switch v := value.(type) {
		case string:
			if v == "" { // Gemini takes no empty one
				return nil
			}
			size += len(v)
		case float64:
			size += 8
		default:
			return nil
		}
	}
	if len(values) == 0 || len(values) > maxEnum || size > maxEnumBytes {
		return nil
	}
	return values
}

// describe returns what a model may read of s besides its type.
func describe(s map[string]any) string {
	note, _ := s["description"].(string)
	if format, ok := s["format"].(string); ok && len(format) <= 32 {
		note = strings.TrimSpace(note + " (" + format + ")")
	}
	return clean(note, maxNote)
}
