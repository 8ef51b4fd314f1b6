package openapi

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"example.com/gatehouse/config"
	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/version"
	"example.com/gatehouse/invoke"
)

// A document is being made.
type document struct {
	config   *config.Config
	schemas  schemas
	security []map[string][]string // of what needs a credential; nil: nothing does
	refuses  bool                  // a credential can be refused
}

// newDocument describes routes. Those without an entry in operations are left out.
func newDocument(c *config.Config, about *AgentDescription, routes []api.Route) *huma.OpenAPI {
	d := &document{config: c, schemas: newSchemas()}
	schemes := map[string]*huma.SecurityScheme{}
	d.secure(schemes)
	o := &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{
			Title: "Gatehouse", Version: version.Version, Description: about.introduction() + d.introduction(),
			License: &huma.License{Name: "Apache 2.0", Identifier: "Apache-2.0"},
		},
		Servers: []*huma.Server{{URL: "./", Description: "Where this document is."}},
		Tags:    tags,
		Paths:   map[string]*huma.PathItem{},
	}
	for _, route := range routes {
		if entry, ok := operations[route.Pattern()]; ok {
			o.AddOperation(d.operation(route, entry))
		}
	}
	o.Components = &huma.Components{
		Schemas: d.schemas.registry, SecuritySchemes: schemes,
		Parameters: parameters(), Headers: headers, Examples: failures(),
	}
	d.schemas.finish()
	return o
}

// operation describes one route.
func (d *document) operation(route api.Route, entry operation) *huma.Operation {
	op := &huma.Operation{
		Method: route.Method, Path: route.Path, OperationID: entry.id, Tags: []string{entry.tag},
		Summary: strings.TrimSuffix(route.Summary, "."), Description: entry.description, Responses: map[string]*huma.Response{},
	}
	for _, name := range entry.parameters {
		op.Parameters = append(op.Parameters, &huma.Param{Ref: "#/components/parameters/" + name})
	}
	if !route.Probe {
		for _, name := range []string{"X-End-User", "X-Request-ID", "traceparent", "X-Cloud-Trace-Context"} {
			op.Parameters = append(op.Parameters, &huma.Param{Ref: "#/components/parameters/" + name})
		}
		op.Security = d.security
		if route.Public && d.security != nil && len(d.security[0]) > 0 {
			op.Security = append([]map[string][]string{{}}, d.security...)
		}
	}
	if entry.body != nil {
		op.RequestBody = entry.body(d)
		op.RequestBody.Required = true
	}
	for status, answer := range entry.answers {
		response := answer(d)
		if response == nil {
			continue
		}
		if response.Headers == nil {
			response.Headers = map[string]*huma.Param{}
		}
		d.everywhere(route, response)
		op.Responses[strconv.Itoa(status)] = response
	}
	d.errors(route, entry, op)
	return op
}

// everywhere adds the headers that all answers of route have.
func (d *document) everywhere(route api.Route, response *huma.Response) {
	names := []string{"X-Request-ID", "X-Content-Type-Options", "Cache-Control", "Vary"}
	if !route.Public && !route.Probe {
		names = append(names, "RateLimit-Policy", "RateLimit")
	}
	for _, name := range names {
		response.Headers[name] = header(name)
	}
}

func header(name string) *huma.Param { return &huma.Param{Ref: "#/components/headers/" + name} }

// codes are the errors that route can answer with: its own, and those of what
// every request goes through before it.
func (d *document) codes(route api.Route, entry operation) []api.Code {
	codes := slices.Concat(entry.errors, []api.Code{api.Internal})
	if route.Probe {
		return codes
	}
	codes = append(codes, api.MalformedRequest, api.PermissionDenied, api.OriginNotAllowed, api.ShuttingDown, api.NotReady)
	if route.Media == "" {
		codes = append(codes, api.NotAcceptable)
	}
	if d.refuses {
		codes = append(codes, api.Unauthenticated)
	}
	if !route.Public {
		codes = append(codes, api.Overloaded, api.RateLimited)
	}
	return codes
}

// errors describes the answers of op that are errors.
func (d *document) errors(route api.Route, entry operation, op *huma.Operation) {
	codes := d.codes(route, entry)
	byStatus := map[int][]api.CodeInfo{}
	for _, info := range api.Table() {
		if slices.Contains(codes, info.Code) {
			byStatus[info.Status] = append(byStatus[info.Status], info)
		}
	}
	for status, infos := range byStatus {
		var text strings.Builder
		examples := map[string]*huma.Example{}
		var names []any
		retry := false
		for _, info := range infos {
			fmt.Fprintf(&text, "- `%s`: %s\n", info.Code, info.Message)
			examples[string(info.Code)] = &huma.Example{Ref: "#/components/examples/" + string(info.Code)}
			names = append(names, string(info.Code))
			retry = retry || info.RetryAfter > 0
		}
		response := &huma.Response{
			Description: strings.TrimSuffix(text.String(), "\n"),
			Headers:     map[string]*huma.Param{},
			Content: map[string]*huma.MediaType{"application/json": {
				Schema: d.schemas.failure(names), Examples: examples,
			}},
		}
		d.everywhere(route, response)
		if retry {
			response.Headers["Retry-After"] = header("Retry-After")
		}
		if status == http.StatusUnauthorized {
			response.Headers["WWW-Authenticate"] = header("WWW-Authenticate")
		}
		if entry.failed != nil {
			entry.failed(d, status, response)
		}
		op.Responses[strconv.Itoa(status)] = response
	}
}

// What the examples are of.
const exampleRequest = "Qy7mwY-LCvw-IEA4OwD5Mw"

var exampleTime = time.Date(2026, time.November, 23, 9, 0, 0, 0, time.UTC)

// enveloped is an example of an answer as a client sees it.
func enveloped(message string, data any) api.Envelope {
	e := api.Success(api.WithRequestID(context.Background(), exampleRequest), message, data)
	e.Timestamp = api.Timestamp(exampleTime)
	return e
}

func failed(e *api.Error) api.Envelope {
	envelope := api.Failure(api.WithRequestID(context.Background(), exampleRequest), e)
	envelope.Timestamp = api.Timestamp(exampleTime)
	return envelope
}

// failures are an example of each error.
func failures() map[string]*huma.Example {
	examples := map[string]*huma.Example{}
	for _, info := range api.Table() {
		e := api.Fail(info.Code, nil)
		if info.Code == api.ValidationFailed {
			e = api.Invalid("query", "must not be empty")
		}
		examples[string(info.Code)] = &huma.Example{Summary: info.Message, Value: failed(e)}
	}
	return examples
}

// introduction is what the agent's author says of it.
func (a *AgentDescription) introduction() string {
	if a == nil || a.Description == "" {
		return ""
	}
	var b strings.Builder
	b.WriteString(a.Description + "\n\n")
	for _, question := range a.Examples {
		fmt.Fprintf(&b, "- %s\n", strings.ReplaceAll(question, "\n", " "))
	}
	if len(a.Examples) > 0 {
		b.WriteString("\n")
	}
	return b.String()
}

// introduction is what a reader needs before any operation.
func (d *document) introduction() string {
	c := d.config
	var b strings.Builder
	b.WriteString(`An AI agent as a service: ask it with ` + "`POST /invoke`" + `, as JSON or as an event stream, go on with the
session by its id, read and delete sessions.

## Answers

Every JSON answer has one form: ` + "`success`, `message`, `data`, `error`, `request_id`, `timestamp`" + `. When ` + "`success`" + ` is
false, ` + "`error`" + ` is one of the codes below, ` + "`message`" + ` a sentence a person can act on, and ` + "`details`" + ` names the fields
meant, where that helps. Clients should take fields they do not know for additions.

## Limits

| what | how much |
|---|---|
`)
	fmt.Fprintf(&b, "| body of a request | %d bytes, %d levels |\n", c.MaxBodyBytes, api.MaxDepth)
	fmt.Fprintf(&b, "| that of `POST /chat`, which has the whole conversation | %d bytes |\n", invoke.ChatBodies*c.MaxBodyBytes)
	fmt.Fprintf(&b, "| a whole invocation | %s |\n", c.RequestTimeout)
	fmt.Fprintf(&b, "| calls a minute of an end user, of a caller | %d, %d; a `GET` counts a tenth |\n", c.RateLimitPerMinute, c.CallerRateLimitPerMinute)
	fmt.Fprintf(&b, "| model tokens a day of an end user, of a caller, of everybody | %s, %s, %s |\n", budget(c.DailyTokenLimit), budget(c.CallerDailyTokenLimit), budget(c.ServiceDailyTokenLimit))
	fmt.Fprintf(&b, "| requests at once in an instance | %d |\n", c.MaxConcurrent)
	fmt.Fprintf(&b, "| a session without a new turn | %s |\n", c.SessionTTL)
	b.WriteString("\nAn API key may have limits of its own. `RateLimit` says what is left, `GET /usage` too.\n\n## Errors\n\n| status | `error` | meaning | `Retry-After` |\n|---|---|---|---|\n")
	for _, info := range api.Table() {
		retry := ""
		if info.RetryAfter > 0 {
			retry = "yes"
		}
		fmt.Fprintf(&b, "| %d | `%s` | %s | %s |\n", info.Status, info.Code, info.Message, retry)
	}
	b.WriteString("\nHeaders over 32 KiB are answered with a plain 431.\n")
	return b.String()
}

func budget(tokens int64) string {
	if tokens == 0 {
		return "any"
	}
	return strconv.FormatInt(tokens, 10)
}
