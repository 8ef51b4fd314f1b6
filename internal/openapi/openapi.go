// Package openapi describes the service to programs and to people: an OpenAPI
// 3.1 document (https://spec.openapis.org/oas/v3.1.1) made from the routes that
// are served, the Go types that their handlers decode and encode, and the one
// table of errors; and a page that shows it.
//
// What the code does not tell of a route (its parameters, its errors, an example)
// stands in operations.go. A route without an entry there is left out of the
// document, and fails this package's test.
package openapi

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
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

// An AgentDescription is what answers, in its own words.
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

// Routes are those of the document and of the page that shows it. The document
// is made at its first request, of what routes gives then: all routes that are
// served, these among them.
func Routes(c *config.Config, about *AgentDescription, routes func() []api.Route) []api.Route {
	document := sync.OnceValues(func() (*file, error) {
		encoded, err := json.Marshal(newDocument(c, about, routes()))
		if err != nil {
			return nil, fmt.Errorf("encoding the OpenAPI document: %w", err)
		}
		return newFile("application/json", encoded), nil
	})
	return []api.Route{
		{Method: http.MethodGet, Path: "/openapi.json", Public: true, Media: "application/json", Summary: "This API, as an OpenAPI 3.1 document.",
			Handler: func(w http.ResponseWriter, r *http.Request) error {
				f, err := document()
				if err != nil {
					return err
				}
				f.serve(w, r)
				return nil
			}},
		{Method: http.MethodGet, Path: "/docs", Public: true, Media: "text/html", Summary: "A page to read this API, and to try it.", Handler: servePage},
		{Method: http.MethodGet, Path: "/docs/{file}", Public: true, Media: "*/*", Summary: "The files of the page.", Handler: serveFile},
	}
}

// A file is an answer that is the same for everybody.
type file struct {
	media   string
	content []byte
	packed  bool // content is gzipped
	etag    string
}

func newFile(media string, content []byte) *file {
	sum := sha256.Sum256(content)
	return &file{media: media, content: content, etag: `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`}
}

// serve answers with the file, or that it is still the one the client has
// (RFC 9110, 13.1.2).
func (f *file) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("ETag", f.etag)
	if api.Holds(r, f.etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", f.media)
	h.Set("Content-Length", strconv.Itoa(len(f.content)))
	_, _ = w.Write(f.content) // a client that has gone away needs nothing more
}
