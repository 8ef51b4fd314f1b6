package openapi

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"example.com/gatehouse/internal/api"
)

// bodyErrors are those of reading a JSON body.
var bodyErrors = []api.Code{api.MalformedRequest, api.RequestTimeout, api.RequestTooLarge, api.UnsupportedMediaType, api.ValidationFailed}

// operation describes one route.
//
// An error is described by its status: an operation refers to one shared response for each,
// and x-error-codes lists the codes, which OpenAPI has no member for. A route whose errors
// have another form than the envelope (Failure, Sentences) refers to that form. An answer
// that the route documents itself goes before the shared one of its status.
func (d *document) operation(route api.Route) *huma.Operation {
	op := &huma.Operation{
		Method: route.Method, Path: route.Path, OperationID: route.Doc.ID, Tags: []string{route.Doc.Tag},
		Summary: strings.TrimSuffix(route.Summary, "."), Description: route.Doc.Description, Responses: map[string]*huma.Response{},
	}
	params := route.Doc.Params
	if !route.Probe {
		params = append(slices.Clone(params), "X-End-User")
		op.Security = d.security
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
	}
	codes := d.codes(route)
	op.Extensions = map[string]any{"x-error-codes": codes}
	for _, answer := range route.Doc.Answers {
		response := d.answer(answer)
		if answer.Name != "" {
			d.named[answer.Name] = response
			response = &huma.Response{Ref: "#/components/responses/" + answer.Name}
		}
		op.Responses[strconv.Itoa(answer.Status)] = response
	}
	for _, code := range codes {
		status := api.Fail(code, nil).Status()
		switch _, ok := op.Responses[strconv.Itoa(status)]; {
		case ok:
		case route.Doc.Failure != nil:
			op.Responses[strconv.Itoa(status)] = &huma.Response{Ref: "#/components/responses/" + d.failureOf(route.Doc.Failure)}
		case route.Doc.Sentences:
			op.Responses[strconv.Itoa(status)] = d.sentence()
		default:
			op.Responses[strconv.Itoa(status)] = &huma.Response{Ref: "#/components/responses/" + responseName(status)}
			d.errors[status] = true
		}
	}
	return op
}

// failureOf describes an error in another form than the envelope, and returns the
// response's name. Statuses share it.
func (d *document) failureOf(body any) string {
	ref := d.schemas.of(body)
	name := strings.TrimPrefix(ref.Ref, components)
	d.named[name] = &huma.Response{
		Description: "An error; the status is that of its code.",
		Content:     map[string]*huma.MediaType{"application/json": {Schema: ref}},
	}
	return name
}

// sentence describes an error as [api.WriteSentence] answers with it. Statuses share it.
func (d *document) sentence() *huma.Response {
	d.named["Sentence"] = &huma.Response{
		Description: "An error; the status is that of its code.", Headers: headersOf("Retry-After", "WWW-Authenticate"),
		Content: map[string]*huma.MediaType{
			"application/json": {Schema: d.schemas.failure()},
			"text/plain":       {Schema: &huma.Schema{Type: huma.TypeString, Description: "What to show to a person; the envelope with Accept: application/json."}},
		},
	}
	return &huma.Response{Ref: "#/components/responses/Sentence"}
}

// first reports whether an example is shown for the first time: later ones would only
// repeat it.
func (d *document) first(example string) bool {
	if d.shown[example] {
		return false
	}
	d.shown[example] = true
	return true
}

// answer describes a response that is documented by its route.
func (d *document) answer(a api.DocAnswer) *huma.Response {
	r := &huma.Response{Description: a.Description, Headers: headersOf(a.Headers...), Links: a.Links}
	if a.Data != nil {
		media := &huma.MediaType{Schema: d.schemas.success(a.Data)}
		if data, err := json.Marshal(a.Data); err == nil && d.first(string(data)) {
			media.Examples = map[string]*huma.Example{"answer": {Value: enveloped(a.Message, a.Data)}}
		}
		r.Content = map[string]*huma.MediaType{"application/json": media}
	}
	if a.Code != "" {
		e := failed(api.Fail(a.Code, nil))
		e.Data = a.Data
		own := d.schemas.envelope(false, d.schemas.of(a.Data), &huma.Schema{Type: huma.TypeString, Enum: []any{string(a.Code)}})
		r.Content["application/json"] = &huma.MediaType{
			Schema:   &huma.Schema{AnyOf: []*huma.Schema{own, d.schemas.failure()}},
			Examples: map[string]*huma.Example{string(a.Code): {Value: e}},
		}
	}
	for name, media := range a.Content {
		if r.Content == nil {
			r.Content = map[string]*huma.MediaType{}
		}
		r.Content[name] = &huma.MediaType{Schema: d.schemas.of(media.Type)}
		if text, ok := media.Example.(string); media.Example != nil && (!ok || d.first(text)) {
			r.Content[name].Examples = map[string]*huma.Example{"answer": {Value: media.Example}}
		}
	}
	return r
}

// codes returns the errors that route can answer with, sorted: its own, and those of what
// every request passes before its handler. They follow the middleware: a probe passes none
// of it, a public route no limit. A code that is missing here fails the tests that hold
// real answers against the document.
func (d *document) codes(route api.Route) []api.Code {
	codes := append([]api.Code{api.Internal}, route.Doc.Errors...)
	if route.Doc.Body != nil {
		codes = append(codes, bodyErrors...)
	}
	for _, answer := range route.Doc.Answers {
		if answer.Code != "" {
			codes = append(codes, answer.Code)
		}
	}
	if !route.Probe {
		codes = append(codes, api.MalformedRequest, api.PermissionDenied, api.OriginNotAllowed, api.ShuttingDown, api.NotReady)
		if route.Media == "" {
			codes = append(codes, api.NotAcceptable)
		}
		if len(d.schemes) > 0 {
			codes = append(codes, api.Unauthenticated)
		}
		if !route.Public {
			codes = append(codes, api.Overloaded, api.RateLimited)
		}
	}
	slices.Sort(codes)
	return slices.Compact(codes)
}

// responses describes the errors that operations share, one response for each status.
func (d *document) responses() map[string]*huma.Response {
	all := maps.Clone(d.named)
	for status := range d.errors {
		all[responseName(status)] = d.failure(status)
	}
	return all
}

// failure describes the errors of a status in the envelope.
func (d *document) failure(status int) *huma.Response {
	var codes []string
	var headers []string
	for _, info := range api.Table() {
		if info.Status == status && info.Code != api.Unhealthy { // which has data: GET /health documents it
			codes = append(codes, "`"+string(info.Code)+"`")
			if info.RetryAfter > 0 {
				headers = append(headers, "Retry-After")
			}
		}
	}
	if status == http.StatusUnauthorized {
		headers = append(headers, "WWW-Authenticate")
	}
	media := &huma.MediaType{Schema: d.schemas.failure()}
	if status == http.StatusUnprocessableEntity {
		media.Examples = map[string]*huma.Example{"a field": {Value: failed(api.Invalid("query", "must not be empty"))}}
	}
	return &huma.Response{
		Description: strings.Join(codes, ", "), Headers: headersOf(headers...),
		Content: map[string]*huma.MediaType{"application/json": media},
	}
}

// responseName returns the name of a shared error, by its status: NotFound for 404.
func responseName(status int) string {
	return strings.ReplaceAll(http.StatusText(status), " ", "")
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
		{Name: api.TagAgent, Description: "Ask the agent."},
		{Name: api.TagSessions, Description: "Questions and answers. Only the identity that made a session can see it."},
		{Name: api.TagRuns, Description: "Executions of the agent, each of which appends a turn: watched, resumed and stopped on any instance."},
		{Name: api.TagLimits, Description: "What is left of the limits."},
		{Name: api.TagHealth, Description: "The state of the service."},
		{Name: api.TagAbout, Description: "The service, and this document."},
	}
}
