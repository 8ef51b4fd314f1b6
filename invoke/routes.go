package invoke

import (
	"reflect"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"example.com/gatehouse/internal/api"
)

// A route stands beside its handler with its documentation: the OpenAPI document, GET / and
// the audit read it from there, so that none of them has to be kept in step by hand.

// Routes returns the routes of the function "invoke". Those of a nil Service are what it
// will serve once it is ready: their handlers must not be called, and the documentation
// knows no agent.
func (s *Service) Routes() []api.Route {
	if s == nil {
		s = &Service{}
	}
	return slices.Concat(
		s.turnRoutes(), s.chatRoutes(), s.runRoutes(), []api.Route{s.approvalRoute()},
		s.sessionRoutes(), s.feedbackRoutes(), []api.Route{s.exportRoute(), s.usageRoute()},
	)
}

// link refers to an operation on the session whose id is at a JSON pointer in the
// data.
func link(operation, id string) *huma.Link {
	return &huma.Link{OperationID: operation, Parameters: map[string]any{"id": "$response.body#/data" + id}}
}

// schemaOf registers the schema of T with a description and returns a reference to it. The
// description is the component's, wherever it is referred to: of several, the last counts.
func schemaOf[T any](r huma.Registry, description string) *huma.Schema {
	ref := r.Schema(reflect.TypeFor[T](), true, "")
	r.SchemaFromRef(ref.Ref).Description = description
	return ref
}
