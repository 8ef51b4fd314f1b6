package openapi

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"example.com/gatehouse/config"
	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/version"
)

// A document is being made.
type document struct {
	config   *config.Config
	schemas  schemas
	schemes  map[string]*huma.SecurityScheme // of credentials, by name
	security []map[string][]string           // of a route that needs a credential; nil: none does
	errors   map[int]bool                    // the statuses of the errors that operations share
	named    map[string]*huma.Response       // other answers that they share
	shown    map[string]bool                 // examples
}

// newDocument describes the routes that c has the service serve, and its agent. Operations
// come first, since they collect what the components then hold; huma's registry is only
// used for schemas, none of its routing. The server's URL is relative, as the document is
// served under names that it cannot know.
func newDocument(c *config.Config, about *AgentDescription, routes []api.Route) *huma.OpenAPI {
	d := &document{config: c, schemas: newSchemas(), errors: map[int]bool{}, named: map[string]*huma.Response{}, shown: map[string]bool{}, schemes: map[string]*huma.SecurityScheme{}}
	d.secure()
	o := &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{
			Title: "Gatehouse", Version: version.Version, Description: about.introduction() + d.introduction(),
			License: &huma.License{Name: "Apache 2.0", Identifier: "Apache-2.0"},
		},
		Servers: []*huma.Server{{URL: "./", Description: "Where this document is."}},
		Tags:    tagList(),
		Paths:   map[string]*huma.PathItem{},
	}
	for _, route := range routes {
		o.AddOperation(d.operation(route))
	}
	o.Components = &huma.Components{
		Schemas: d.schemas.registry, SecuritySchemes: d.schemes, Responses: d.responses(),
		Parameters: parameters(), Headers: headers(),
	}
	d.schemas.finish()
	return o
}

// exampleContext is of the request that examples answer.
func exampleContext() context.Context {
	return api.WithRequestID(context.Background(), api.ExampleRequest)
}

// enveloped returns the example of an answer as a client sees it.
func enveloped(message string, data any) api.Envelope {
	e := api.Success(exampleContext(), message, data)
	e.Timestamp = api.Timestamp(api.ExampleTime())
	return e
}

// failed returns the example of an error as a client sees it.
func failed(e *api.Error) api.Envelope {
	envelope := api.Failure(exampleContext(), e)
	envelope.Timestamp = api.Timestamp(api.ExampleTime())
	return envelope
}

// introduction returns the agent's description, by its author. A nil description is that of a
// process without an agent, such as the function "health".
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

// introduction returns what a reader needs before any operation.
func (d *document) introduction() string {
	c := d.config
	var b strings.Builder
	b.WriteString(`An AI agent as a service: ask it with ` + "`POST /invoke`" + `, as JSON or as an event stream, continue the
session by its id, read and delete sessions.

## Answers

Every JSON answer has one form: ` + "`success`, `message`, `data`, `error`, `request_id`, `timestamp`" + `. When ` + "`success`" + ` is
false, ` + "`error`" + ` is one of the codes below, ` + "`message`" + ` a sentence that a person can act on, and ` + "`details`" + ` names the fields
at fault. Of an operation, ` + "`x-error-codes`" + ` lists the codes it can answer. Clients should ignore members that they do not know.

Every answer has the headers ` + "`X-Request-ID`, `X-Content-Type-Options`, `Cache-Control` and `Vary`" + `; where limits apply, it has
` + "`RateLimit-Policy` and `RateLimit`" + `. A request may name itself in the log by ` + "`X-Request-ID`" + ` (1 to 128 letters, digits, ` + "`.`, `_` and `-`" + `), and its
trace by ` + "`traceparent` or `X-Cloud-Trace-Context`" + `.

## Limits

| limit | value |
|---|---|
`)
	fmt.Fprintf(&b, "| size of a request body | %d bytes, %d levels |\n", c.MaxBodyBytes, api.MaxDepth)
	fmt.Fprintf(&b, "| duration of an invocation | %s |\n", c.RequestTimeout)
	fmt.Fprintf(&b, "| calls a minute, per end user and per caller | %d, %d; a `GET` counts a tenth |\n", c.RateLimitPerMinute, c.CallerRateLimitPerMinute)
	fmt.Fprintf(&b, "| model tokens a day, per end user, per caller and in all | %s, %s, %s |\n", budget(c.DailyTokenLimit), budget(c.CallerDailyTokenLimit), budget(c.ServiceDailyTokenLimit))
	fmt.Fprintf(&b, "| concurrent requests per instance | %d |\n", c.MaxConcurrent)
	fmt.Fprintf(&b, "| life of a session without a new turn | %s |\n", c.SessionTTL)
	b.WriteString("\nAn API key may have its own limits. The header `RateLimit` and `GET /usage` show what is left.\n\n## Errors\n\n| status | `error` | meaning | `Retry-After` |\n|---|---|---|---|\n")
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
		return "unlimited"
	}
	return strconv.FormatInt(tokens, 10)
}
