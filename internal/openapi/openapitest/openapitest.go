// Package openapitest holds answers of the service against its OpenAPI document:
// their status, headers and body must be as the document has the operation.
// It is stricter than the document in one thing: members that the document does
// not name are an error, so that none is sent undocumented.
package openapitest

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/google/jsonschema-go/jsonschema"

	"example.com/gatehouse/internal/api"
)

const components = "#/components/schemas/"

// A Contract is a document that answers are held against. It is safe for
// concurrent use.
type Contract struct {
	paths   map[string]map[string]operation
	groups  map[string][]api.Code // of error codes
	shared  map[string]response
	bodies  map[string]response
	headers map[string]parameter
	defs    map[string]any

	mu       sync.Mutex
	resolved map[string]*jsonschema.Resolved // by the schema's JSON
}

type operation struct {
	Body      response            `json:"requestBody"`
	Responses map[string]response `json:"responses"`
	Codes     []string            `json:"x-error-codes"`
}

type response struct {
	Ref     string               `json:"$ref"`
	Headers map[string]parameter `json:"headers"`
	Content map[string]media     `json:"content"`
}

type media struct {
	Schema   any                `json:"schema"`
	Examples map[string]example `json:"examples"`
}

type example struct {
	Value json.RawMessage `json:"value"`
}

type parameter struct {
	Ref      string         `json:"$ref"`
	Required bool           `json:"required"`
	Schema   map[string]any `json:"schema"`
}

// New reads a document. Its error means that the document is not the service's, such as a
// page that came in its place.
func New(document []byte) (*Contract, error) {
	var d struct {
		Paths      map[string]map[string]operation `json:"paths"`
		Groups     map[string][]api.Code           `json:"x-error-codes"`
		Components struct {
			Schemas map[string]any       `json:"schemas"`
			Shared  map[string]response  `json:"responses"`
			Bodies  map[string]response  `json:"requestBodies"`
			Headers map[string]parameter `json:"headers"`
		} `json:"components"`
	}
	if err := json.Unmarshal(document, &d); err != nil {
		return nil, fmt.Errorf("reading the document: %w", err)
	}
	if len(d.Paths) == 0 || d.Components.Schemas["Error"] == nil {
		return nil, errors.New("this is not the service's document")
	}
	composed := map[string]bool{} // parts of others, which have more members
	for _, schema := range d.Components.Schemas {
		object, _ := schema.(map[string]any)
		parts, _ := object["allOf"].([]any)
		for _, part := range parts {
			object, _ := part.(map[string]any)
			ref, _ := object["$ref"].(string)
			composed[strings.TrimPrefix(ref, components)] = true
		}
	}
	for name, schema := range d.Components.Schemas {
		if !composed[name] {
			closeObjects(schema)
		}
	}
	return &Contract{paths: d.Paths, groups: d.Groups, shared: d.Components.Shared, bodies: d.Components.Bodies, headers: d.Components.Headers, defs: d.Components.Schemas, resolved: map[string]*jsonschema.Resolved{}}, nil
}

// CheckExamples returns how many examples the document has, and an error that names those
// that are not as it describes them.
func (c *Contract) CheckExamples() (int, error) {
	count := 0
	var problems []error
	for path, item := range c.paths {
		for method, op := range item {
			for status, r := range op.all() {
				r = c.response(r)
				for kind, m := range r.Content {
					for name, e := range m.Examples {
						count++
						if err := c.checkExample(kind, m.Schema, e); err != nil {
							problems = append(problems, fmt.Errorf("%s %s, %s, example %s: %w", method, path, status, name, err))
						}
					}
				}
			}
		}
	}
	return count, errors.Join(problems...)
}

// all are what goes in and out, by status, "request" for what goes in.
func (op operation) all() map[string]response {
	all := maps.Clone(op.Responses)
	all["request"] = op.Body
	return all
}

// response returns r, or the shared response or request body that it refers to.
func (c *Contract) response(r response) response {
	if name, ok := strings.CutPrefix(r.Ref, "#/components/requestBodies/"); ok {
		return c.bodies[name]
	}
	if name, ok := strings.CutPrefix(r.Ref, "#/components/responses/"); ok {
		return c.shared[name]
	}
	return r
}

// checkCode reports an error code that the operation does not list, or that has another
// status.
func (c *Contract) checkCode(op operation, status int, body []byte) error {
	var e struct{ Error api.Code }
	if status < 400 || json.Unmarshal(body, &e) != nil {
		return nil
	}
	listed := slices.Contains(op.Codes, string(e.Error)) || slices.ContainsFunc(append([]string{"all"}, op.Codes...), func(name string) bool {
		return slices.Contains(c.groups[name], e.Error)
	})
	if !listed {
		return fmt.Errorf("the error %q of a %d is not documented", e.Error, status)
	}
	if want := api.Fail(e.Error, nil).Status(); status != want {
		return fmt.Errorf("the status %d of the error %q, which has %d", status, e.Error, want)
	}
	return nil
}

func (c *Contract) checkExample(kind string, schema any, e example) error {
	if kind == eventStream {
		var text string
		if err := json.Unmarshal(e.Value, &text); err != nil {
			return err
		}
		return c.checkStream(schema, []byte(text))
	}
	return c.validate(schema, e.Value)
}

// closeObjects lets objects have only the members that they name.
func closeObjects(schema any) {
	switch schema := schema.(type) {
	case map[string]any:
		if parts, ok := schema["allOf"].([]any); ok {
			schema["unevaluatedProperties"] = false
			for _, part := range parts { // each may have the members of the others
				object, _ := part.(map[string]any)
				closeObjects(object["properties"])
			}
			return
		}
		if _, ok := schema["additionalProperties"]; !ok && schema["properties"] != nil {
			schema["additionalProperties"] = false
		}
		for _, child := range schema {
			closeObjects(child)
		}
	case []any:
		for _, child := range schema {
			closeObjects(child)
		}
	}
}

// Check returns what of an answer to method and path (which may have a query) is
// not as the document has it; nil: nothing.
func (c *Contract) Check(method, path string, status int, header http.Header, body []byte) error {
	if status == http.StatusRequestHeaderFieldsTooLarge {
		return nil // the server's own plain answer, as in the document's introduction
	}
	op, ok := c.operation(method, path)
	if !ok {
		return c.checkUnknown(method, status, header, body)
	}
	r, ok := op.Responses[strconv.Itoa(status)]
	if !ok && status >= 400 {
		r, ok = op.Responses["default"]
	}
	if !ok {
		return fmt.Errorf("status %d is not documented: %.300s", status, body)
	}
	r = c.response(r)
	if err := c.checkHeaders(r, header); err != nil {
		return err
	}
	if method == http.MethodHead {
		return nil
	}
	if len(r.Content) == 0 {
		if len(body) > 0 {
			return fmt.Errorf("status %d has a body, which is not documented: %.300s", status, body)
		}
		return nil
	}
	media, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	content, ok := r.Content[media]
	if err != nil || !ok {
		return fmt.Errorf("the media type %q of a %d is not documented", header.Get("Content-Type"), status)
	}
	switch media {
	case "application/json":
		return errors.Join(c.validate(content.Schema, body), c.checkCode(op, status, body))
	case eventStream:
		return c.checkStream(content.Schema, body)
	}
	return nil
}

// operation finds that of a request: the path with the fewest parameters. A path that is
// written out wins over a parameter, as in [http.ServeMux]. HEAD is that of GET.
func (c *Contract) operation(method, path string) (operation, bool) {
	if u, err := url.Parse(path); err == nil {
		path = u.EscapedPath()
	}
	if method == http.MethodHead {
		method = http.MethodGet
	}
	segments := strings.Split(path, "/")
	var found operation
	best := -1
	for template, item := range c.paths {
		op, ok := item[strings.ToLower(method)]
		if !ok {
			continue
		}
		literal := 0
		matches := slices.EqualFunc(strings.Split(template, "/"), segments, func(want, got string) bool {
			if want == got {
				literal++
			}
			return want == got || strings.HasPrefix(want, "{") && got != ""
		})
		if matches && literal > best {
			found, best = op, literal
		}
	}
	return found, best >= 0
}

// checkUnknown is for what is no operation: an error in the usual form, where it
// is JSON at all.
func (c *Contract) checkUnknown(method string, status int, header http.Header, body []byte) error {
	if method == http.MethodHead || header.Get("Content-Type") != "application/json" {
		return nil
	}
	if status < 400 {
		return fmt.Errorf("status %d, and no such operation is documented", status)
	}
	return c.validate(map[string]any{"$ref": components + "Error"}, body)
}

// common are the headers that answers of every route have, as the document's
// introduction lists them.
var common = []string{"X-Request-ID", "X-Content-Type-Options", "Cache-Control", "Vary", "RateLimit-Policy", "RateLimit"}

func (c *Contract) checkHeaders(r response, header http.Header) error {
	for _, name := range common {
		if err := c.checkHeader(c.headers[name], header.Values(name)); err != nil {
			return fmt.Errorf("header %s: %w", name, err)
		}
	}
	for name, p := range r.Headers {
		if err := c.checkHeader(p, header.Values(name)); err != nil {
			return fmt.Errorf("header %s: %w", name, err)
		}
	}
	return nil
}

func (c *Contract) checkHeader(p parameter, values []string) error {
	if name, ok := strings.CutPrefix(p.Ref, "#/components/headers/"); ok {
		p = c.headers[name]
	}
	if len(values) == 0 {
		if p.Required {
			return errors.New("is missing")
		}
		return nil
	}
	value := strings.Join(values, ", ")
	encoded, err := json.Marshal(value)
	if err != nil {
		return err
	}
	if p.Schema["type"] == "integer" {
		encoded = []byte(value)
	}
	return c.validate(p.Schema, encoded)
}

// validate checks JSON against a schema of the document.
func (c *Contract) validate(schema any, raw []byte) error {
	var value any
	if err := json.Unmarshal(raw, &value); err != nil {
		return fmt.Errorf("not JSON: %w: %.300q", err, raw)
	}
	resolved, err := c.resolve(schema)
	if err != nil {
		return err
	}
	if err := resolved.Validate(value); err != nil {
		return fmt.Errorf("%w: %.1000s", err, raw)
	}
	return nil
}

// resolve makes a schema ready, with those that it may refer to beside it. Each is resolved
// with all components beside it, so it is resolved once and kept: there are only as many as
// the document has.
func (c *Contract) resolve(schema any) (*jsonschema.Resolved, error) {
	encoded, err := json.Marshal(schema)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if r, ok := c.resolved[string(encoded)]; ok {
		return r, nil
	}
	whole, err := json.Marshal(map[string]any{"allOf": []any{json.RawMessage(encoded)}, "$defs": c.defs})
	if err != nil {
		return nil, err
	}
	var s jsonschema.Schema
	if err := json.Unmarshal([]byte(strings.ReplaceAll(string(whole), components, "#/$defs/")), &s); err != nil {
		return nil, fmt.Errorf("reading a schema: %w", err)
	}
	r, err := s.Resolve(nil)
	if err != nil {
		return nil, fmt.Errorf("resolving a schema: %w", err)
	}
	c.resolved[string(encoded)] = r
	return r, nil
}
