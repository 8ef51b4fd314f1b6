package openapi

import (
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"example.com/gatehouse/internal/api"
)

// everyOperation names the group of the errors of what a request passes before its handler,
// which any operation but a probe may answer with. It is in no operation's list.
const everyOperation = "all"

// errorGroups returns the errors that many operations can answer with together, sorted, by
// the name under which an operation lists them.
func (d *document) errorGroups() map[string][]api.Code {
	all := []api.Code{
		api.Internal, api.MalformedRequest, api.NotAcceptable, api.NotReady, api.OriginNotAllowed, api.Overloaded, api.PermissionDenied,
		api.RateLimited, api.ShuttingDown,
	}
	if len(d.schemes) > 0 {
		all = append(all, api.Unauthenticated)
	}
	turn := api.TurnErrors()
	slices.Sort(turn)
	return map[string][]api.Code{
		everyOperation: all,
		"body":         {api.RequestTimeout, api.RequestTooLarge, api.UnsupportedMediaType, api.ValidationFailed},
		"session":      {api.SessionNotFound, api.SessionStoreUnavailable},
		"turn":         turn,
	}
}

// operation describes one route.
//
// All errors of an operation are one shared response, "default": a client that is generated
// from the document then has one type for them, and the document is much smaller than with a
// response for each status. x-error-codes lists the codes, which OpenAPI has no member for and
// each of which has one status. A route whose errors have another form than the envelope refers to that
// form. An answer that the route documents itself goes before the
// shared one.
func (d *document) operation(route api.Route) *huma.Operation {
	op := &huma.Operation{
		Method: route.Method, Path: route.Path, OperationID: route.Doc.ID, Tags: []string{route.Doc.Tag},
		Summary: strings.TrimSuffix(route.Summary, "."), Description: route.Doc.Description, Responses: map[string]*huma.Response{},
	}
	params := route.Doc.Params
	if route.Probe && d.security != nil {
		op.Security = []map[string][]string{} // none, whatever the document has
	}
	if !route.Probe {
		if !route.Public { // whose answers are nobody's own
			params = append(slices.Clone(params), "X-End-User")
		}
		// The empty requirement means that a credential may be left out. It comes first where
		// AUTH has none, and must not be there twice.
		if route.Public && d.security != nil && len(d.security[0]) > 0 {
			op.Security = append([]map[string][]string{{}}, d.security...)
		}
	}
	for _, name := range params {
		op.Parameters = append(op.Parameters, &huma.Param{Ref: "#/components/parameters/" + name})
	}
	if body := route.Doc.Body; body != nil {
		media := &huma.MediaType{Schema: d.schemas.body(body), Examples: map[string]*huma.Example{}}
		for name, value := range body.Examples {
			media.Examples[name] = &huma.Example{Summary: name, Value: value}
		}
		op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/json": media}}
		if body.Name != "" {
			d.bodies[body.Name] = op.RequestBody
			op.RequestBody = &huma.RequestBody{Ref: "#/components/requestBodies/" + body.Name}
		}
	}
	if codes := d.codes(route); len(codes) > 0 {
		op.Extensions = map[string]any{"x-error-codes": codes}
	}
	for _, answer := range route.Doc.Answers {
		response := d.answer(answer)
		if answer.Name != "" {
			if answer.Description != "" {
				d.named[answer.Name] = response
			}
			response = &huma.Response{Ref: "#/components/responses/" + answer.Name}
		}
		op.Responses[strconv.Itoa(answer.Status)] = response
	}
	op.Responses["default"] = d.failure(route.Doc)
	return op
}

// failure describes the errors of an operation, and returns a reference to the response.
func (d *document) failure(doc api.Doc) *huma.Response {
	name, shared := "Failed", &huma.Response{Description: "An error."}
	schema := d.schemas.failure()
	if doc.FailureData != nil {
		data := d.schemas.registry.SchemaFromRef(schema.Ref).Properties
		data["data"] = &huma.Schema{AnyOf: []*huma.Schema{null(), d.schemas.of(doc.FailureData)}}
	}
	if doc.Failure != nil {
		schema = d.schemas.of(doc.Failure)
		name += strings.TrimPrefix(schema.Ref, components)
	} else {
		shared.Headers = headersOf("Retry-After", "WWW-Authenticate")
	}
	shared.Content = map[string]*huma.MediaType{"application/json": {Schema: schema}}
	if doc.FailureText != "" {
		name += "Text"
		shared.Content["text/plain"] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString, Description: doc.FailureText}}
	}
	d.named[name] = shared
	return &huma.Response{Ref: "#/components/responses/" + name}
}

// answer describes a response that is documented by its route.
func (d *document) answer(a api.DocAnswer) *huma.Response {
	r := &huma.Response{Description: a.Description, Headers: headersOf(a.Headers...), Links: a.Links, Content: map[string]*huma.MediaType{}}
	if a.Data != nil {
		r.Content["application/json"] = &huma.MediaType{Schema: d.schemas.success(a.Data)}
	}
	for name, value := range a.Content {
		r.Content[name] = &huma.MediaType{Schema: d.schemas.of(value)}
	}
	return r
}

// codes returns the errors that route can answer with: the names of groups, and the codes
// that are in none of them. A code that is missing here fails the tests that hold real
// answers against the document.
func (d *document) codes(route api.Route) []string {
	groups := d.errorGroups()
	rest := slices.Clone(route.Doc.Errors)
	if route.Doc.Body != nil {
		rest = append(rest, groups["body"]...)
	}
	var names []string
	take := func(name string) {
		names = append(names, name)
		rest = slices.DeleteFunc(rest, func(code api.Code) bool { return slices.Contains(groups[name], code) })
	}
	if route.Probe {
		rest = append(rest, api.Internal)
	} else {
		take(everyOperation)
		names = nil
	}
	for _, name := range []string{"turn", "body", "session"} {
		if !slices.ContainsFunc(groups[name], func(code api.Code) bool { return !slices.Contains(rest, code) }) {
			take(name)
		}
	}
	for _, code := range rest {
		names = append(names, string(code))
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// headersOf refers to the headers of these names. The introduction lists those that
// answers of every route have.
func headersOf(names ...string) map[string]*huma.Param {
	all := make(map[string]*huma.Param, len(names))
	for _, name := range names {
		all[name] = &huma.Param{Ref: "#/components/headers/" + name}
	}
	return all
}

// tagList describes the groups, in the order in which they are shown.
func tagList() []*huma.Tag {
	return []*huma.Tag{
		{Name: api.TagAgent},
		{Name: api.TagSessions},
		{Name: api.TagRuns},
		{Name: api.TagLimits},
		{Name: api.TagHealth},
		{Name: api.TagAbout},
	}
}
