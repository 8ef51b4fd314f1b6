// Package geminischema checks JSON schemas for what Gemini can take: of a function's
// parameters, and of an answer.
//
// Gemini takes a part of JSON Schema
// (https://ai.google.dev/gemini-api/docs/structured-output#json_schema_support). Of
// the rest, what only narrows a value, such as pattern or minLength, is left unread by
// it, and checked by us once the value is there. What would change a value's
// form, such as allOf or patternProperties, is refused here, at start and by its place,
// instead of by the API at every turn.
package geminischema

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
)

// MaxFunctions is how many functions Gemini takes in a request (gemini-cli issue 19083:
// "At most 512 function declarations can be specified").
const MaxFunctions = 512

// Bounds of a schema. Gemini documents none, and refuses schemas that are too large
// or too deep with 400.
const (
	maxDepth = 32
	maxNodes = 2000
)

// maxArgument bounds the name of an argument, in bytes.
const maxArgument = 64

// ValidArgument reports whether Gemini takes an argument of this name: letters, digits, _ $
// . and -, none of the last two nor a digit first.
func ValidArgument(name string) bool {
	for i := range len(name) {
		c := name[i]
		letter := 'a' <= c|0x20 && c|0x20 <= 'z' || c == '_' || c == '$'
		if !letter && (i == 0 || c != '.' && c != '-' && (c < '0' || c > '9')) {
			return false
		}
	}
	return name != "" && len(name) <= maxArgument
}

var types = []string{"", "object", "array", "string", "number", "integer", "boolean", "null"}

// A Problem is the first thing in a schema that Gemini cannot take.
type Problem struct {
	Path  string // from the root, such as "items[].price"; "" for the root
	Issue string
}

func (p *Problem) Error() string {
	if p.Path == "" {
		return "the schema " + p.Issue
	}
	return "the schema's " + p.Path + " " + p.Issue
}

// Check returns a [*Problem] for the schema of an answer that Gemini cannot take.
func Check(s *jsonschema.Schema) error { return (&checker{root: s}).run() }

// CheckArguments returns a [*Problem] for the schema of a function's arguments that Gemini
// cannot take.
func CheckArguments(s *jsonschema.Schema) error { return (&checker{root: s, arguments: true}).run() }

type checker struct {
	root      *jsonschema.Schema
	arguments bool // names of members are those of arguments
	nodes     int
	open      []string // the definitions that are being visited
}

func (c *checker) run() error {
	if p := c.check(c.root, "", 0, nil); p != nil {
		return p
	}
	return nil
}

// check visits s. required holds the definitions that a value of s must contain: one
// that contains itself has no end.
func (c *checker) check(s *jsonschema.Schema, path string, depth int, required []string) *Problem {
	if s == nil {
		return nil
	}
	problem := func(format string, args ...any) *Problem { return &Problem{path, fmt.Sprintf(format, args...)} }
	if c.nodes++; c.nodes > maxNodes {
		return problem("is too large: at most %d parts", maxNodes)
	}
	if depth > maxDepth {
		return problem("is too deep: at most %d levels", maxDepth)
	}
	if word := refused(s); word != "" {
		return problem("has %s, which Gemini does not take", word)
	}
	for _, name := range append(s.Types[:len(s.Types):len(s.Types)], s.Type) {
		if !slices.Contains(types, name) {
			return problem("has the type %q, which is none of %s", name, strings.Join(types[1:], ", "))
		}
	}
	if s.Enum != nil && len(s.Enum) == 0 {
		return problem("has an enum without values, which Gemini does not take")
	}
	for _, value := range s.Enum {
		switch value.(type) {
		case string:
			if value == "" {
				return problem("has an enum with an empty text, which Gemini does not take; make the member optional instead")
			}
		case float64, int, int64:
		default:
			return problem("has an enum of something other than texts and numbers, which Gemini does not take")
		}
	}
	if s.Ref != "" {
		return c.checkRef(s, path, depth, required)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		if c.arguments && !ValidArgument(name) {
			return problem("has a member %.80q: Gemini takes letters, digits, _ $ . and -, a letter, _ or $ first, at most %d", name, maxArgument)
		}
		inner := required
		if !slices.Contains(s.Required, name) {
			inner = nil
		}
		if p := c.check(s.Properties[name], join(path, name), depth+1, inner); p != nil {
			return p
		}
	}
	if s.MinItems == nil || *s.MinItems == 0 {
		required = nil
	}
	for _, element := range append([]*jsonschema.Schema{s.Items}, s.PrefixItems...) {
		if p := c.check(element, path+"[]", depth+1, required); p != nil {
			return p
		}
	}
	for _, alternative := range slices.Concat(s.AnyOf, s.OneOf) {
		if p := c.check(alternative, path, depth+1, nil); p != nil {
			return p
		}
	}
	if isFalse(s.AdditionalProperties) {
		return nil
	}
	return c.check(s.AdditionalProperties, join(path, "*"), depth+1, nil)
}

// checkRef visits what s refers to, unless it is being visited already.
func (c *checker) checkRef(s *jsonschema.Schema, path string, depth int, required []string) *Problem {
	name, ok := strings.CutPrefix(s.Ref, "#/$defs/")
	to := c.root.Defs[name]
	if !ok || to == nil {
		return &Problem{path, fmt.Sprintf("refers to %q; Gemini takes references to $defs of the same schema only", s.Ref)}
	}
	if slices.Contains(required, name) {
		return &Problem{path, fmt.Sprintf("needs another %q without end; make the member optional", name)}
	}
	if slices.Contains(c.open, name) { // an optional one that contains itself: Gemini unrolls it to some depth
		return nil
	}
	c.open = append(c.open, name)
	defer func() { c.open = c.open[:len(c.open)-1] }()
	return c.check(to, path, depth+1, append(slices.Clip(required), name))
}

// refused returns the first keyword of s that changes a value's form in a way that
// Gemini does not know.
func refused(s *jsonschema.Schema) string {
	for _, k := range []struct {
		word string
		set  bool
	}{
		{"$dynamicRef", s.DynamicRef != ""},
		{"allOf", len(s.AllOf) > 0},
		{"not", s.Not != nil},
		{"if", s.If != nil},
		{"then", s.Then != nil},
		{"else", s.Else != nil},
		{"patternProperties", len(s.PatternProperties) > 0},
		{"propertyNames", s.PropertyNames != nil},
		{"dependentSchemas", len(s.DependentSchemas) > 0 || len(s.DependencySchemas) > 0},
		{"unevaluatedProperties", s.UnevaluatedProperties != nil && !isFalse(s.UnevaluatedProperties)},
		{"unevaluatedItems", s.UnevaluatedItems != nil && !isFalse(s.UnevaluatedItems)},
		{"contains", s.Contains != nil},
		{"items as a list", len(s.ItemsArray) > 0},
	} {
		if k.set {
			return k.word
		}
	}
	return ""
}

// isFalse reports whether s is the schema false, as "additionalProperties": false is
// decoded.
func isFalse(s *jsonschema.Schema) bool {
	return s != nil && s.Not != nil && s.Not.Type == "" && len(s.Not.Types) == 0 && s.Not.Properties == nil
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
