package openapi

import (
	"path"
	"reflect"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"example.com/gatehouse/internal/api"
)

const components = "#/components/schemas/"

// schemas collects those of the Go types that the routes name.
type schemas struct {
	registry huma.Registry
	strict   map[string]bool // of requests: members that they do not name are refused
}

func newSchemas() schemas {
	return schemas{huma.NewMapRegistry(components, namer()), map[string]bool{}}
}

// namer returns a function that names the schemas of types. Packages may have types of one
// name, such as the errors of two doors: those after the first have their package's name
// before it.
func namer() func(reflect.Type, string) string {
	types := map[string]reflect.Type{}
	return func(t reflect.Type, hint string) string {
		name := huma.DefaultSchemaNamer(t, hint)
		for t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct || t.Name() == "" {
			return name
		}
		if first, ok := types[name]; ok && first != t {
			name = strings.ToUpper(path.Base(t.PkgPath())) + name
		}
		types[name] = t
		return name
	}
}

// named returns a reference to the schema called name, made by create if it is not
// there yet.
func (s schemas) named(name string, create func() *huma.Schema) *huma.Schema {
	if all := s.registry.Map(); all[name] == nil {
		all[name] = create()
	}
	return &huma.Schema{Ref: components + name}
}

// of returns the schema of value's type: a reference, where it is a struct.
func (s schemas) of(value any) *huma.Schema {
	t := reflect.TypeOf(value)
	if provider, ok := value.(huma.SchemaProvider); ok {
		return s.named(huma.DefaultSchemaNamer(t, ""), func() *huma.Schema { return provider.Schema(s.registry) })
	}
	return s.registry.Schema(t, true, t.Name())
}

// body returns the schema of a body, which the service decodes and checks. Bodies are
// marked strict: the service refuses members that it does not know, so that a misspelled
// option is an error and not ignored.
func (s schemas) body(body *api.DocBody) *huma.Schema {
	ref := s.of(body.Type)
	s.strict[strings.TrimPrefix(ref.Ref, components)] = true
	if body.Refine != nil {
		body.Refine(s.registry.SchemaFromRef(ref.Ref).Properties)
	}
	return ref
}

// envelope returns the schema of an [api.Envelope] with this success, data and error.
func (s schemas) envelope(success bool, data, code *huma.Schema) *huma.Schema {
	e := huma.SchemaFromType(s.registry, reflect.TypeFor[api.Envelope]())
	e.Properties["success"].Enum = []any{success}
	e.Properties["data"], e.Properties["error"] = data, code
	e.Properties["request_id"].Pattern = requestID
	if success { // the members are described once, with Error
		delete(e.Properties, "details")
		delete(e.Properties, "retry_after_seconds")
		e.Properties["message"].Description, e.Properties["request_id"].Description = "", ""
	} else {
		e.Properties["retry_after_seconds"].Nullable = true
		e.Required = append(e.Required, "retry_after_seconds")
	}
	return e
}

func null() *huma.Schema { return &huma.Schema{Type: "null"} }

// success returns the schema of the envelope around data: what all have in common, and the
// data.
func (s schemas) success(data any) *huma.Schema {
	name := huma.DefaultSchemaNamer(reflect.TypeOf(data), "") + "Answer"
	return s.named(name, func() *huma.Schema {
		common := s.named("Answer", func() *huma.Schema {
			e := s.envelope(true, nil, null())
			delete(e.Properties, "data")
			e.Required = slices.DeleteFunc(e.Required, func(member string) bool { return member == "data" })
			return e
		})
		return &huma.Schema{AllOf: []*huma.Schema{common, {
			Type: huma.TypeObject, Properties: map[string]*huma.Schema{"data": s.of(data)}, Required: []string{"data"},
		}}}
	})
}

// failure returns the schema of an error's envelope.
func (s schemas) failure() *huma.Schema {
	return s.named("Error", func() *huma.Schema {
		return s.envelope(false, null(), s.registry.Schema(reflect.TypeFor[api.Code](), false, ""))
	})
}

// finish makes of huma's defaults what the contract promises: lists are never null, and
// answers may get more members. Answers stay open so that a client that was generated from
// an older document still reads them; huma closes every object and lets every list be null.
func (s schemas) finish() {
	for name, schema := range s.registry.Map() {
		settle(schema, s.strict[name])
	}
}

func settle(schema *huma.Schema, strict bool) {
	if schema == nil {
		return
	}
	schema.PatternDescription = "" // for our messages; the pattern says it too
	if schema.Format == "int64" || schema.Format == "double" {
		schema.Format = "" // the document is smaller, and JSON knows no other numbers
	}
	if !strict { // bounds are for those who send
		schema.Minimum, schema.Maximum, schema.Pattern = nil, nil, ""
	}
	if schema.Type == huma.TypeArray {
		schema.Nullable = false
		settle(schema.Items, strict)
	}
	if additional, ok := schema.AdditionalProperties.(bool); ok && !additional && !strict {
		schema.AdditionalProperties = nil
	}
	for _, property := range schema.Properties {
		settle(property, strict)
	}
	for _, parts := range [][]*huma.Schema{schema.AllOf, schema.AnyOf, schema.OneOf} {
		for _, part := range parts {
			settle(part, strict)
		}
	}
}
