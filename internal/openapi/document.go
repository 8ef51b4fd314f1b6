package openapi

import (
	"fmt"
	"maps"
	"slices"
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
	named    map[string]*huma.Response       // answers that operations share
	bodies   map[string]*huma.RequestBody    // that they share
}

// newDocument describes the routes that c has the service serve, and its agent. Operations
// come first, since they collect what the components then hold; huma's registry is only
// used for schemas, none of its routing. The server's URL is relative, as the document is
// served under names that it cannot know.
func newDocument(c *config.Config, about *AgentDescription, routes []api.Route) *huma.OpenAPI {
	d := &document{config: c, schemas: newSchemas(), bodies: map[string]*huma.RequestBody{}, named: map[string]*huma.Response{}, schemes: map[string]*huma.SecurityScheme{}}
	d.secure()
	o := &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{
			Title: "Gatehouse", Version: version.Version, Description: about.introduction() + d.introduction(),
			License: &huma.License{Name: "Apache 2.0", Identifier: "Apache-2.0"},
		},
		Servers:  []*huma.Server{{URL: "./"}},
		Security: d.security,
		Tags:     tagList(),
		Paths:    map[string]*huma.PathItem{},
	}
	for _, route := range routes {
		if route.Doc.ID != "" {
			o.AddOperation(d.operation(route))
		}
	}
	o.Components = &huma.Components{
		Schemas: d.schemas.registry, SecuritySchemes: d.schemes, Responses: d.named, RequestBodies: d.bodies,
		Parameters: parameters(), Headers: headers(),
	}
	o.Extensions = map[string]any{"x-error-codes": d.errorGroups()}
	d.schemas.finish()
	return o
}

// introduction returns what the agent's author says of it. A nil description is that of a
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
	b.WriteString(`Ask the agent with ` + "`POST /invoke`" + `, as JSON or as an event stream, and continue the session by its id.

## Answers

Every JSON answer has one form. When ` + "`success`" + ` is false, ` + "`error`" + ` is one of the codes below, ` + "`message`" + ` a sentence
that a person can act on, and ` + "`details`" + ` names the fields at fault. ` + "`x-error-codes`" + ` lists the codes of an operation, or groups of them,
which are at the document's root; ` + "`all`" + ` is of every operation except the probes. Ignore members that you do not know.

Every answer has the headers ` + "`X-Request-ID`, `X-Content-Type-Options`, `Cache-Control` and `Vary`" + `; where limits apply,
` + "`RateLimit-Policy` and `RateLimit`" + ` too. A request may name itself by ` + "`X-Request-ID`" + ` (1 to 128 letters, digits, ` + "`.`, `_` and `-`" + `), and its
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
	b.WriteString("\nAn API key may have its own limits. The header `RateLimit` and `GET /usage` show what is left.\n\n## Errors\n\n| status | `error` |\n|---|---|\n")
	codes := map[int][]string{}
	for _, info := range api.Table() {
		codes[info.Status] = append(codes[info.Status], "`"+string(info.Code)+"`")
	}
	for _, status := range slices.Sorted(maps.Keys(codes)) {
		fmt.Fprintf(&b, "| %d | %s |\n", status, strings.Join(codes[status], ", "))
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
