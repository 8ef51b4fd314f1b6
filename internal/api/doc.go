package api

import (
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// The groups in which the OpenAPI document shows operations.
const (
	TagAgent    = "Agent"
	TagSessions = "Sessions"
	TagRuns     = "Runs"
	TagLimits   = "Limits"
	TagHealth   = "Health"
	TagAbout    = "About"
)

// A Doc documents a route in the OpenAPI document, which adds what every route has
// in common: headers, credentials, and the errors of what a request passes before
// its handler.
type Doc struct {
	ID          string // of the operation; generated clients name their method by it
	Tag         string
	Description string      // in CommonMark; the summary is the route's
	Params      []string    // by their names in the document's components
	Body        *DocBody    // nil for a request without a body
	Answers     []DocAnswer // errors without data are in Errors
	Errors      []Code      // besides those of a body and of every route
	Failure     any         // a value of the type of errors that are not in the envelope; nil: they are
	Sentences   bool        // errors are answered by [WriteSentence]
}

// A DocBody is a documented JSON body.
type DocBody struct {
	Type     any            // a value of the type that it is decoded into
	Examples map[string]any // by what they show

	// Refine adds to the schema's properties what only the configuration knows, or
	// the handler checks by itself. It may be nil.
	Refine func(properties map[string]*huma.Schema)
}

// A DocAnswer is a documented response. Data and Content may both be empty.
type DocAnswer struct {
	Status      int
	Name        string // under which routes share it; "" for an answer of one route
	Description string
	Message     string              // of the envelope around Data
	Data        any                 // of the JSON envelope: an example, whose type has the schema
	Code        Code                // of an error that has Data
	Content     map[string]DocMedia // without the envelope, by media type
	Headers     []string            // by their names in the document's components
	Links       map[string]*huma.Link
}

// A DocMedia is a documented body of another form than the envelope.
type DocMedia struct {
	Type    any // a value of the type that has the schema
	Example any // nil for none
}

// NoContent documents a 204.
func NoContent(description string) []DocAnswer {
	return []DocAnswer{{Status: 204, Description: description}}
}

// An RPC documents a message of JSON-RPC.
type RPC struct {
	JSONRPC string         `json:"jsonrpc" enum:"2.0"`
	ID      any            `json:"id,omitempty" doc:"Of a request, and in the response to it: a text or a number."`
	Method  string         `json:"method,omitempty" doc:"Of a request or notification."`
	Params  map[string]any `json:"params,omitempty"`
	Result  map[string]any `json:"result,omitempty"`
	Error   map[string]any `json:"error,omitempty"`
}

// TextOr returns the schema of a text or another value, without a description of either.
func TextOr(description string, other *huma.Schema) *huma.Schema {
	return &huma.Schema{Description: description, OneOf: []*huma.Schema{{Type: huma.TypeString}, other}}
}

// The session and the request of the documented examples.
const (
	ExampleSession = "uCkrQTfRvAJsMuKKzijcpQ"
	ExampleRequest = "Qy7mwY-LCvw-IEA4OwD5Mw"
)

// ExampleTime returns when the documented examples happen.
func ExampleTime() time.Time { return time.Date(2026, time.November, 23, 9, 0, 0, 0, time.UTC) }
