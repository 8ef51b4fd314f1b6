package invoke

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/files"
)

// MaxQuery is the maximum length of a query in code points, after trimming. It is part of the
// HTTP contract, and not configurable.
const MaxQuery = 10_000

// What a request asks for is in two places. The fields that a body of POST /invoke has are
// exported and have tags, from which decoding, validation and the OpenAPI document follow.
// What a header or another protocol asks for is in Options, which no body can set. A Request
// is a value: the run's own copy stays as it was sent, which is what identifies a retry, and
// hooks change another one.

// A Request is the body of POST /invoke, validated by its tags.
type Request struct {
	Query       string      `json:"query" example:"What can you do?"`
	SessionID   string      `json:"session_id,omitempty" pattern:"^[A-Za-z0-9_-]{16,64}$" doc:"A new session when absent."`
	AfterTurn   *int        `json:"after_turn,omitempty" minimum:"0" maximum:"9007199254740991" doc:"How many turns you believe the session has; another number is a conflict."`
	Replaces    *int        `json:"replaces,omitempty" minimum:"1" dependentRequired:"session_id,after_turn" doc:"The turn to replace, with all after it."`
	Temperature *float64    `json:"temperature,omitempty" minimum:"0" maximum:"2" doc:"The agent's own when absent."`
	MaxTokens   *int        `json:"max_tokens,omitempty" minimum:"1" doc:"Of each model call."`
	Model       string      `json:"model,omitempty" doc:"The service's own when absent. Another may stand in while it is unavailable."`
	Files       []FileInput `json:"files,omitempty" maxItems:"8"`
	Stream      bool        `json:"stream,omitempty" doc:"As Accept: text/event-stream."`
	Webhook     string      `json:"webhook,omitempty" maxLength:"2048" doc:"https, told when a run in the background has ended, or waits."`

	OnDisconnect string `json:"on_disconnect,omitempty" enum:"cancel,continue" doc:"When absent, runs with an Idempotency-Key and those of POST /chat continue."`

	Options Options `json:"-"`

	attached []*attachment // of Files
}

// Options are what a door asks for beside the body of POST /invoke.
type Options struct {
	Key        string // Idempotency-Key; "": none
	Locale     string // the client's preferred language, "" if it names none
	Create     bool   // the named session need not exist yet
	Regenerate bool   // make the answer to Query again
	Page       *Page  // the conversation as the page that asks shows it; nil: only the last turn is replaced, if it answers Query
	Derived    bool   // AfterTurn and Regenerate follow from what is stored, and identify no retry
	WebhookID  string // by which a door's client knows the webhook
	Stay       bool   // the run goes on when the client leaves, unless OnDisconnect differs

	Resets bool // the client can be shown that a step begins again, see [KindReset]

	// NobodyToAsk has tools that ask a person refused: the client cannot show the question.
	NobodyToAsk bool

	// Instructions are the client's own, for this run, after the agent's.
	Instructions string

	// Sessionless runs have no session: they know what History holds, and leave no
	// turn. SessionID, AfterTurn, Create and Regenerate are not used.
	Sessionless bool
	// History holds earlier turns of a sessionless run, oldest first: each the contents
	// of a turn, a JSON array of genai.Content that begins with the user's.
	History []json.RawMessage

	// Call is the tool call that a run without a session and without a model makes, see
	// [Service.CallTool].
	Call *Call
}

// keepsEffects reports whether what a run has changed in the world stays with it when it
// fails: in its turn, or in the record of a run of one call.
func (o Options) keepsEffects() bool { return !o.Sessionless || o.Call != nil }

// The values of [Request.OnDisconnect].
const (
	DisconnectCancel   = "cancel"
	DisconnectContinue = "continue"
)

// edits reports whether req replaces what the session has, instead of going on with it.
func (req *Request) edits() bool {
	return req.Replaces != nil || req.Options.Regenerate || req.Options.Page != nil && req.Options.Page.MessageID != ""
}

// queryPattern requires a character other than white space, and no NUL. The escapes are for
// readers of the document: ECMA 262's \s lacks U+0085, which Go trims, and Python's has
// U+001C to U+001F.
const queryPattern = `^[^\x00]*[^\s\x00\x1c-\x1f\x85][^\x00]*$`

// newBody returns the validator of a Request with the configured limit on max_tokens
// and the models that it may name.
func newBody(maxOutputTokens int, models []string) *api.Body[Request] {
	return api.NewBody[Request](func(properties map[string]*huma.Schema) { bound(properties, maxOutputTokens, models) })
}

// bound limits properties by the configuration. The OpenAPI document is bounded by it too, so
// that what is documented is what is accepted.
func bound(properties map[string]*huma.Schema, maxOutputTokens int, models []string) {
	most := float64(maxOutputTokens)
	properties["max_tokens"].Maximum = &most
	properties["files"].Nullable = false // as Go's lists are not
	properties["model"].Enum = make([]any, len(models))
	for i, name := range models {
		properties["model"].Enum[i] = name
	}
}

// Models returns the models that a request may name; the first is the agent's own.
// ModelsAllowed may repeat that one; an enum may not.
func (c *Config) Models() []string {
	return append([]string{c.ModelName}, slices.DeleteFunc(slices.Clone(c.ModelsAllowed), func(name string) bool { return name == c.ModelName })...)
}

// decode decodes and validates a request, and reports whether the response is a
// stream. Files in the body take memory.
func (s *Service) decode(w http.ResponseWriter, r *http.Request, memory *memoryClaim, req *Request) (stream bool, err error) {
	var raw []byte
	var data [][]byte // of files
	// A body within MAX_BODY_BYTES is read whole even if it has files: only a longer one, or
	// one of unknown length, is worth decoding as it comes, with its memory taken from what
	// all requests share.
	if s.Files.accepted() && (r.ContentLength < 0 || r.ContentLength > s.MaxBodyBytes) {
		bounds := api.FileBody{Limit: s.MaxBodyBytes, Files: s.Files.MaxBytes, Max: files.Max, Hold: memory.take}
		raw, data, err = bounds.Read(w, r, s.Timeout, files.Decode)
	} else {
		raw, err = api.ReadBody(w, r, s.MaxBodyBytes, s.Timeout)
	}
	if err != nil {
		return false, err
	}
	if *req, err = s.body.Decode(raw); err != nil {
		return false, err
	}
	if err := req.Validate("query"); err != nil {
		return false, err
	}
	if err := s.decodeFiles(req, data); err != nil {
		return false, err
	}
	req.Options.Locale = api.Locale(r)
	if req.Options.Key, err = s.key(r); err != nil {
		return false, err
	}
	_, _, preferStream := api.Negotiate(r)
	return req.Stream || preferStream, nil
}

// Validate removes white space around the query and checks it. field is its path in the
// body. Doors call it for the queries that they make of their own bodies. The error is an
// [*api.Error] that names the field.
func (req *Request) Validate(field string) error {
	req.Query = strings.TrimSpace(req.Query)
	switch n := utf8.RuneCountInString(req.Query); {
	case n == 0:
		return api.Invalid(field, "must not be empty")
	case n > MaxQuery:
		return api.Invalid(field, "must have at most 10000 characters")
	case strings.ContainsRune(req.Query, 0):
		return api.Invalid(field, "must not contain NUL")
	}
	return nil
}
