// Package openapi describes the service to programs and to people: an OpenAPI
// 3.1 document (https://spec.openapis.org/oas/v3.1.1) made from the routes that
// are served, the Go types that their handlers decode and encode, and the one
// table of errors; and a page that shows it.
//
// The document follows the service, because it is not written beside it: a route carries
// its own documentation ([api.Doc]), schemas come from the types that are encoded, limits
// from the configuration, errors from the table that answers are made of. Package
// openapitest holds real answers against it. Its size matters, since generators make a type
// for each schema: what several operations share is a component, and an example is shown
// once.
package openapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"

	"example.com/gatehouse/config"
	"example.com/gatehouse/internal/api"
)

// Description is the data of GET /.
type Description struct {
	Service   string            `json:"service"`
	Version   string            `json:"version"`
	Agent     *AgentDescription `json:"agent,omitempty"`
	Endpoints []Endpoint        `json:"endpoints"`
}

// An AgentDescription is the agent in its author's words.
type AgentDescription struct {
	Name        string   `json:"name"`
	Description string   `json:"description,omitempty"`
	Examples    []string `json:"examples,omitempty"`
}

// An Endpoint is a route as GET / lists it.
type Endpoint struct {
	Method      string `json:"method"`
	Path        string `json:"path"`
	Description string `json:"description"`
}

// Routes returns the routes of the document and of the page that shows it. The
// document is made at its first request, from what routes returns then: every route
// that is served, these included.
//
// Most instances are never asked for it, and a start must not pay for it. It is encoded
// once and kept, with its compressed form and its ETag, and is safe for concurrent use. It
// is public: it holds no more than the contract, and a client reads it before it has a
// credential.
func Routes(c *config.Config, about *AgentDescription, routes func() []api.Route) []api.Route {
	document := sync.OnceValues(func() (*api.File, error) {
		encoded, err := json.Marshal(newDocument(c, about, routes()))
		if err != nil {
			return nil, fmt.Errorf("encoding the OpenAPI document: %w", err)
		}
		return api.NewFile("application/json", encoded)
	})
	holds := api.DocAnswer{Status: 304, Name: "NotModified", Description: "The copy still holds.", Headers: []string{"ETag"}}
	return []api.Route{
		{Method: http.MethodGet, Path: "/openapi.json", Public: true, Media: "application/json", Summary: "This API, as an OpenAPI 3.1 document.",
			Handler: func(w http.ResponseWriter, r *http.Request) error {
				f, err := document()
				if err != nil {
					return err
				}
				return f.Serve(w, r)
			},
			Doc: api.Doc{
				ID: "getDocument", Tag: api.TagAbout, Params: []string{"If-None-Match"},
				Answers: []api.DocAnswer{holds, {
					Status: 200, Description: "This document.", Headers: []string{"ETag"},
					Content: map[string]any{"application/json": map[string]any{}},
				}},
			}},
		{Method: http.MethodGet, Path: "/docs", Public: true, Media: "text/html", Handler: servePage, Summary: "A page to read this API, and to try it.",
			Doc: api.Doc{
				ID: "getPage", Tag: api.TagAbout, Params: []string{"If-None-Match"},
				Answers: []api.DocAnswer{holds, {
					Status: 200, Description: "The page.", Headers: []string{"ETag", "Content-Security-Policy"},
					Content: map[string]any{"text/html": ""},
				}},
			}},
		{Method: http.MethodGet, Path: "/docs/{file}", Public: true, Media: "*/*", Handler: serveFile, Summary: "The files of the page."},
	}
}
