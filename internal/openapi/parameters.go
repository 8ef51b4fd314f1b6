package openapi

import (
	"fmt"

	"github.com/danielgtaylor/huma/v2"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/session"
)

func text(pattern string) *huma.Schema { return &huma.Schema{Type: huma.TypeString, Pattern: pattern} }

func whole(least, most float64) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeInteger, Minimum: &least}
	if most > 0 {
		s.Maximum = &most
	}
	return s
}

// parameters returns those of operations, by name. Headers have their examples in
// the description: a viewer would send others with every call.
func parameters() map[string]*huma.Param {
	limit := whole(1, 100)
	limit.Default = 20
	return map[string]*huma.Param{
		"session": {Name: "id", In: "path", Required: true, Schema: text(session.IDPattern), Example: api.ExampleSession,
			Description: "A session's id, from an earlier answer."},
		"chat": {Name: "id", In: "path", Required: true, Schema: text(""), Example: "chat-7f3a",
			Description: "The chat's id, which the page made."},
		"response": {Name: "response", In: "path", Required: true, Schema: text(""), Example: "resp_dUNrUVRm",
			Description: "A response's id."},
		"run": {Name: "id", In: "path", Required: true, Schema: text(""), Example: api.ExampleSession + ".Qx3v0Tn7kYcE9dRb2LwHsA",
			Description: "A run's id, from `start` or an answer."},
		"run_state": {Name: "state", In: "query", Schema: &huma.Schema{Type: huma.TypeString, Enum: []any{"working", "waiting", "done", "failed", "stopped"}},
			Description: "Only runs in this state."},
		"run_session": {Name: "session_id", In: "query", Schema: text(session.IDPattern), Description: "Only runs of this session."},
		"Last-Event-ID": {Name: "Last-Event-ID", In: "header", Schema: text(""),
			Description: "The id of the last event that was read: the stream goes on behind it."},
		"turn": {Name: "turn", In: "path", Required: true, Schema: whole(1, 0), Example: 1, Description: "A turn's number: 1 for the session's first."},
		"file": {Name: "file", In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString, Enum: fileNames()},
			Description: "One of the page's files."},
		"stored_file": {Name: "file", In: "path", Required: true, Schema: text(`^[A-Za-z0-9_-]{43}$`), Example: "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU",
			Description: "A file's name, from its `uri`."},
		"limit": {Name: "limit", In: "query", Schema: limit, Description: "The most entries of a page."},
		"cursor": {Name: "cursor", In: "query", Schema: text(""),
			Description: "Where the page begins: an earlier answer's `next_cursor`."},

		"Idempotency-Key": {Name: "Idempotency-Key", In: "header", Schema: text(printable(255)),
			Description: "Names this call, such as `order-4711`, so that it can be repeated: within 24 hours every repetition gets the first one's answer, and one turn is made. Its scope is the caller, the end user and the session that is named."},
		"Prefer": {Name: "Prefer", In: "header", Schema: text(""),
			Description: "`respond-async` asks for a run in the background: the answer comes at once, and the run is read at its `Location`. Without a queue it changes nothing."},
		"X-AI-SDK": {Name: "X-AI-SDK", In: "header", Schema: &huma.Schema{Type: huma.TypeString, Enum: []any{"5", "6", "7"}},
			Description: "The major version of the page's AI SDK; 6 when absent. Version 5 knows no approvals."},
		"X-End-User": {Name: "X-End-User", In: "header", Schema: text(printable(128)),
			Description: "The person for whom a service calls, such as `ada@example.com`. It splits the caller's sessions and limits; only service callers may send it."},
		"If-None-Match": {Name: "If-None-Match", In: "header", Schema: text(""),
			Description: "The `ETag` of the client's copy."},
	}
}

// printable returns the pattern of a header of 1 to most printable characters. HTTP
// removes white space from its ends.
func printable(most int) string { return fmt.Sprintf(`^[!-~]([ -~]{0,%d}[!-~])?$`, most-2) }

// requestID is the pattern of X-Request-ID.
const requestID = `^[A-Za-z0-9._-]{1,128}$`

// headers returns those of answers, by name.
func headers() map[string]*huma.Param {
	word := func(word string) *huma.Schema { return &huma.Schema{Type: huma.TypeString, Enum: []any{word}} }
	return map[string]*huma.Param{
		"X-Request-ID":                  {Required: true, Schema: text(requestID), Description: "The request's name in logs; the envelope's `request_id`."},
		"X-Content-Type-Options":        {Required: true, Schema: word("nosniff"), Description: "Browsers must not guess another type."},
		"Cache-Control":                 {Required: true, Schema: text(""), Description: "`no-store`; of an event stream `no-store, no-transform`; of the page's files `no-cache`."},
		"Vary":                          {Required: true, Schema: text(""), Description: "`Origin`: pages of allowed origins get more headers."},
		"Retry-After":                   {Schema: whole(1, 0), Description: "Seconds to wait before trying again."},
		"RateLimit-Policy":              {Schema: text(""), Description: "The limits: quota (`q`) in so many seconds (`w`), by draft-ietf-httpapi-ratelimit-headers."},
		"RateLimit":                     {Schema: text(""), Description: "What is left of them (`r`), and the seconds until they are reset (`t`)."},
		"Idempotency-Replayed":          {Schema: word("true"), Description: "The answer is that of an earlier call with the same `Idempotency-Key`."},
		"Location":                      {Required: true, Schema: text(""), Description: "Where the run is read."},
		"Preference-Applied":            {Required: true, Schema: word("respond-async"), Description: "The preference that the answer follows."},
		"WWW-Authenticate":              {Schema: text(""), Description: "The credentials that the service accepts."},
		"ETag":                          {Required: true, Schema: text(`^"[A-Za-z0-9_-]+"$`), Description: "Changes with the content."},
		"Content-Security-Policy":       {Required: true, Schema: text(""), Description: "The page runs and fetches only what this service serves."},
		"X-Accel-Buffering":             {Schema: text(""), Description: "`no`, of an event stream: proxies pass each event on at once."},
		"x-vercel-ai-ui-message-stream": {Required: true, Schema: word("v1"), Description: "The version of the protocol."},
	}
}
