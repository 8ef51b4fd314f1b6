package openapi

import (
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"example.com/gatehouse/internal/api"
)

const components = "#/components/schemas/"

// schemas collects those of the Go types that the operations name.
type schemas struct {
	registry huma.Registry
	strict   map[string]bool // of requests: what they do not name is refused
}

func newSchemas() schemas {
	return schemas{huma.NewMapRegistry(components, huma.DefaultSchemaNamer), map[string]bool{}}
}

// of is a reference to the schema of value's type, which is sent by the service.
func (s schemas) of(value any) *huma.Schema {
	t := reflect.TypeOf(value)
	return s.registry.Schema(t, true, t.Name())
}

// request is the schema of value's type, which the service decodes and checks.
func (s schemas) request(value any) *huma.Schema {
	t := reflect.TypeOf(value)
	s.strict[huma.DefaultSchemaNamer(t, "")] = true
	return s.registry.Schema(t, false, "")
}

// named is a reference to the schema called name, made by create if it is not
// there yet.
func (s schemas) named(name string, create func() *huma.Schema) *huma.Schema {
	all := s.registry.Map()
	if _, ok := all[name]; !ok {
		all[name] = create()
	}
	return &huma.Schema{Ref: components + name}
}

// envelope is that of [api.Envelope], with what success, data and error are.
func (s schemas) envelope(success bool, data, code *huma.Schema) *huma.Schema {
	e := huma.SchemaFromType(s.registry, reflect.TypeFor[api.Envelope]())
	e.Properties["success"].Enum = []any{success}
	e.Properties["data"], e.Properties["error"] = data, code
	e.Properties["request_id"].Pattern = `^[A-Za-z0-9._-]{1,128}$`
	if success {
		delete(e.Properties, "details")
	}
	return e
}

func null() *huma.Schema { return &huma.Schema{Type: "null"} }

// answer is a good answer's envelope around data, a value of its type.
func (s schemas) answer(name string, data *huma.Schema) *huma.Schema {
	return s.named(name+"Answer", func() *huma.Schema { return s.envelope(true, data, null()) })
}

// failure is an error's envelope, with one of codes.
func (s schemas) failure(codes []any) *huma.Schema {
	base := s.named("Failure", func() *huma.Schema {
		return s.envelope(false, null(), s.registry.Schema(reflect.TypeFor[api.Code](), false, ""))
	})
	return &huma.Schema{AllOf: []*huma.Schema{base, only("error", codes...)}}
}

// only is an object whose member name is one of values.
func only(name string, values ...any) *huma.Schema {
	return &huma.Schema{
		Type: huma.TypeObject, Required: []string{name},
		Properties: map[string]*huma.Schema{name: {Type: huma.TypeString, Enum: values}},
	}
}

// event is one of an event stream's: its name, and its data, which is text that
// holds the JSON of data (as OpenAPI 3.2 has it of event streams).
func (s schemas) event(name, description string, data *huma.Schema) *huma.Schema {
	e := only("event", name)
	e.Description = description
	e.Required = append(e.Required, "data")
	e.Properties["data"] = &huma.Schema{Type: huma.TypeString, Extensions: map[string]any{
		"contentMediaType": "application/json", "contentSchema": data,
	}}
	return e
}

// finish makes of huma's defaults what the contract has: lists are never null,
// and an answer may get more members some day.
func (s schemas) finish() {
	for name, schema := range s.registry.Map() {
		s.settle(schema, s.strict[name])
	}
}

func (s schemas) settle(schema *huma.Schema, strict bool) {
	if schema == nil {
		return
	}
	if schema.Type == huma.TypeArray {
		schema.Nullable = false
		s.settle(schema.Items, strict)
	}
	if additional, ok := schema.AdditionalProperties.(bool); ok && !additional && !strict {
		schema.AdditionalProperties = nil
	}
	for _, property := range schema.Properties {
		s.settle(property, strict)
	}
}
