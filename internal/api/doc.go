package api

import (
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
	// ID is the operation's; generated clients name their method by it. A route without one,
	// such as that of a page's files, is in no document.
	ID          string
	Tag         string
	Description string      // in CommonMark; the summary is the route's
	Params      []string    // by their names in the document's components
	Body        *DocBody    // nil for a request without a body
	Answers     []DocAnswer // errors without data are in Errors
	Errors      []Code      // besides those of a body and of every route
	Failure     any         // a value of the type of errors that are not in the envelope; nil: they are
	FailureText string      // describes errors in plain text; "" where there are none
	FailureData any         // a value of the type of data that an error in the envelope may have
}

// A DocBody is a documented JSON body.
type DocBody struct {
	Name     string         // under which routes share it; "" for a body of one route
	Type     any            // a value of the type that it is decoded into
	Examples map[string]any // by what they show

	// Refine adds to the schema's properties what only the configuration knows, or
	// the handler checks by itself. It may be nil.
	Refine func(properties map[string]*huma.Schema)
}

// A DocAnswer is a documented response. Data and Content may both be empty.
type DocAnswer struct {
	Status      int
	Name        string // under which routes share it, one of which describes it; "" for an answer of one route
	Description string
	Data        any            // a value of the type in the JSON envelope
	Content     map[string]any // values of the types without the envelope, by media type
	Headers     []string       // by their names in the document's components
	Links       map[string]*huma.Link
}

// TurnErrors returns the errors of a turn, except those of its body.
func TurnErrors() []Code {
	return []Code{
		SessionNotFound, IdempotencyInProgress, SessionConflict, IdempotencyMismatch, ContentBlocked, QuotaExceeded,
		ModelFailed, ModelUnavailable, SessionStoreUnavailable, Timeout,
	}
}

// NoContent documents a 204.
func NoContent(description string) []DocAnswer {
	return []DocAnswer{{Status: 204, Description: description}}
}

// An RPC documents a message of JSON-RPC.
type RPC struct {
	JSONRPC string         `json:"jsonrpc" enum:"2.0"`
	ID      any            `json:"id,omitempty"`
	Method  string         `json:"method,omitempty"`
	Params  map[string]any `json:"params,omitempty"`
	Result  map[string]any `json:"result,omitempty"`
	Error   map[string]any `json:"error,omitempty"`
}

// TextOr returns the schema of a text or another value, without a description of either.
func TextOr(description string, other *huma.Schema) *huma.Schema {
	return &huma.Schema{Description: description, OneOf: []*huma.Schema{{Type: huma.TypeString}, other}}
}

// ExampleSession is the session of the documented examples.
const ExampleSession = "uCkrQTfRvAJsMuKKzijcpQ"
