package tool

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"

	"github.com/google/jsonschema-go/jsonschema"
)

// adapt returns arguments as they are checked and decoded, and changes none of
// what it was given: that is the model's own, and stored. An integer of up to 64
// bits stays as it is written, digit by digit, and where the schema wants an
// integer, 5.0 and "5" are one. Every other number is a float64, whose size is
// bounded.
func adapt(s *jsonschema.Schema, value any) any {
	switch v := value.(type) {
	case json.Number:
		if n, ok := integer(string(v)); ok {
			return n
		}
		f, err := v.Float64()
		if err != nil {
			return string(v) // nobody can mean it: the check refuses it
		}
		return f
	case string:
		if n, ok := integer(v); ok && wants(s, "integer") && !wants(s, "string") {
			return n
		}
	case map[string]any:
		adapted := maps.Clone(v) // of nil: nil
		for name, member := range v {
			adapted[name] = adapt(property(s, name), member)
		}
		return adapted
	case []any:
		adapted := slices.Clone(v)
		for i, element := range v {
			var items *jsonschema.Schema
			if s != nil {
				items = s.Items
			}
			adapted[i] = adapt(items, element)
		}
		return adapted
	}
	return value
}

// integer returns text as an int64 or uint64 if it is one in JSON's form.
func integer(text string) (any, bool) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && strconv.FormatInt(n, 10) == text {
		return n, true
	}
	if n, err := strconv.ParseUint(text, 10, 64); err == nil && strconv.FormatUint(n, 10) == text {
		return n, true
	}
	return nil, false
}

// exact returns decoded JSON with its numbers as float64, as encoding/json has
// them, but for integers that a float64 cannot hold: they stay a json.Number.
func exact(value any) any {
	switch v := value.(type) {
	case json.Number:
		const most = 1 << 53
		if n, err := v.Int64(); err == nil && -most <= n && n <= most {
			return float64(n)
		}
		if _, ok := integer(string(v)); ok {
			return v
		}
		if f, err := v.Float64(); err == nil {
			return f
		}
	case map[string]any:
		for name, member := range v {
			v[name] = exact(member)
		}
	case []any:
		for i, element := range v {
			v[i] = exact(element)
		}
	}
	return value
}

// wants reports whether s names the type.
func wants(s *jsonschema.Schema, name string) bool {
	return s != nil && (s.Type == name || slices.Contains(s.Types, name))
}

// property is the schema of a member of an object; nil where the schema has none for it.
func property(s *jsonschema.Schema, name string) *jsonschema.Schema {
	if s == nil {
		return nil
	}
	if p, ok := s.Properties[name]; ok {
		return p
	}
	return s.AdditionalProperties
}
