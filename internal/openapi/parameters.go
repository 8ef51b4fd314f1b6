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
		"sessionId": {Name: "id", In: "path", Required: true, Schema: text(session.IDPattern), Example: api.ExampleSession,
			Description: "The session."},
		"chatId": {Name: "id", In: "path", Required: true, Schema: text(""), Example: "chat-7f3a",
			Description: "The chat, which is the session."},
		"responseId": {Name: "response", In: "path", Required: true, Schema: text(""), Example: "resp_dUNrUVRm",
			Description: "The response."},
		"runId": {Name: "id", In: "path", Required: true, Schema: text(""), Example: api.ExampleSession + ".Qx3v0Tn7kYcE9dRb2LwHsA",
			Description: "The run."},
		"runState":   {Name: "state", In: "query", Schema: &huma.Schema{Type: huma.TypeString, Enum: []any{"working", "waiting", "done", "failed", "stopped"}}},
		"runSession": {Name: "session_id", In: "query", Schema: text(session.IDPattern)},
		"Last-Event-ID": {Name: "Last-Event-ID", In: "header", Schema: text(""),
			Description: "Of the last event that was read: the stream goes on behind it."},
		"turnNumber": {Name: "turn", In: "path", Required: true, Schema: whole(1, 0), Example: 1, Description: "The turn's number."},
		"fileName": {Name: "file", In: "path", Required: true, Schema: text(`^[A-Za-z0-9_-]{43}$`), Example: "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU",
			Description: "From its `uri`."},
		"limit": {Name: "limit", In: "query", Schema: limit},
		"cursor": {Name: "cursor", In: "query", Schema: text(""),
			Description: "An earlier answer's `next_cursor`."},

		"Idempotency-Key": {Name: "Idempotency-Key", In: "header", Schema: text(printable(255)),
			Description: "Names this call, such as `order-4711`: within 24 hours every repetition gets the first one's answer, and one turn is made."},
		"Prefer": {Name: "Prefer", In: "header", Schema: text(""),
			Description: "`respond-async` asks for a run in the background. Without a queue it changes nothing."},
		"X-AI-SDK": {Name: "X-AI-SDK", In: "header", Schema: &huma.Schema{Type: huma.TypeString, Enum: []any{"5", "6", "7"}},
			Description: "The major version of the AI SDK; 6 when absent. 5 knows no approvals."},
		"X-End-User": {Name: "X-End-User", In: "header", Schema: text(printable(128)),
			Description: "The person for whom a service calls, such as `ada@example.com`. It splits sessions and limits."},
		"If-None-Match": {Name: "If-None-Match", In: "header", Schema: text(""),
			Description: "The client's copy."},
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
		"X-Request-ID":                  {Required: true, Schema: text(requestID)},
		"X-Content-Type-Options":        {Required: true, Schema: word("nosniff")},
		"Cache-Control":                 {Required: true, Schema: text("")},
		"Vary":                          {Required: true, Schema: text("")},
		"Retry-After":                   {Schema: whole(1, 0), Description: "In seconds."},
		"RateLimit-Policy":              {Schema: text(""), Description: "By draft-ietf-httpapi-ratelimit-headers."},
		"RateLimit":                     {Schema: text("")},
		"Idempotency-Replayed":          {Schema: word("true"), Description: "The answer is that of an earlier call with this key."},
		"Location":                      {Required: true, Schema: text(""), Description: "The run."},
		"Preference-Applied":            {Required: true, Schema: word("respond-async")},
		"WWW-Authenticate":              {Schema: text("")},
		"ETag":                          {Required: true, Schema: text(`^"[A-Za-z0-9_-]+"$`)},
		"Content-Security-Policy":       {Required: true, Schema: text("")},
		"X-Accel-Buffering":             {Schema: text(""), Description: "`no`, of an event stream."},
		"x-vercel-ai-ui-message-stream": {Required: true, Schema: word("v1")},
	}
}
