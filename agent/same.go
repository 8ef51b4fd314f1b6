package agent

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
)

// Same reports whether a decoded JSON schema demands what o's does: clients that ask for
// a typed answer derive theirs from a type of their own. What describes (titles,
// defaults), the order of names, and whether a value may be null make no difference.
func (o *Output) Same(schema any) (bool, error) {
	encoded, err := json.Marshal(o.schema)
	if err != nil {
		return false, err
	}
	var own any
	if err := json.Unmarshal(encoded, &own); err != nil {
		return false, err
	}
	ours, theirs := schemaReader{own, maxSchemaNodes}, schemaReader{schema, maxSchemaNodes}
	same := reflect.DeepEqual(ours.demands(own, 0), theirs.demands(schema, 0))
	return same && theirs.left > 0, nil
}

const (
	// maxSchemaDepth bounds the levels of a schema that are compared: one may refer to itself.
	maxSchemaDepth = 16
	// maxSchemaNodes bounds the parts that are: a few definitions that refer to each other many
	// times unfold to more than any memory. An agent's own schema has at most 2000.
	maxSchemaNodes = 10_000
)

// A schemaReader reads one schema.
type schemaReader struct {
	root any
	left int // nodes that may still be read
}

// demands returns what binds in a schema, with its references to the root resolved.
func (r *schemaReader) demands(schema any, depth int) any {
	s, ok := schema.(map[string]any)
	if !ok || depth > maxSchemaDepth || r.left == 0 {
		return schema
	}
	r.left--
	ref, _ := s["$ref"].(string)
	if name, ok := strings.CutPrefix(ref, "#/$defs/"); ok {
		top, _ := r.root.(map[string]any)
		defs, _ := top["$defs"].(map[string]any)
		return r.demands(defs[name], depth+1)
	}
	out := map[string]any{}
	for key, value := range s {
		list, _ := value.([]any)
		switch key {
		case "$schema", "$id", "$defs", "title", "description", "default", "examples":
			continue
		case "type":
			if list = slices.DeleteFunc(slices.Clone(list), func(v any) bool { return v == "null" }); len(list) == 1 {
				value = list[0]
			}
		case "required":
			names := map[any]bool{}
			for _, name := range list {
				if _, ok := name.(string); ok {
					names[name] = true
				}
			}
			value = names
		case "properties":
			each := map[string]any{}
			properties, _ := value.(map[string]any)
			for name, property := range properties {
				each[name] = r.demands(property, depth+1)
			}
			value = each
		case "enum", "const":
		default:
			value = r.demands(value, depth+1)
			if list != nil {
				all := make([]any, len(list))
				for i := range list {
					all[i] = r.demands(list[i], depth+1)
				}
				value = all
			}
		}
		out[key] = value
	}
	return out
}
