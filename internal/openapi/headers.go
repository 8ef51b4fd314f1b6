package openapi

import (
	"fmt"

	"github.com/danielgtaylor/huma/v2"

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

// parameters are what operations take beside a body, by name. Headers have their
// examples in words: a viewer would send others with every call.
func parameters() map[string]*huma.Param {
	limit := whole(1, 100)
	limit.Default = 20
	return map[string]*huma.Param{
		"session": {Name: "id", In: "path", Required: true, Schema: text(session.IDPattern), Example: exampleSession,
			Description: "A session's id, as an earlier answer gave it."},
		"chat": {Name: "id", In: "path", Required: true, Schema: text(""), Example: "chat-7f3a",
			Description: "The chat's id, as the frontend made it."},
		"turn": {Name: "turn", In: "path", Required: true, Schema: whole(1, 0), Example: 1, Description: "A turn's number: 1 for the session's first."},
		"file": {Name: "file", In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString, Enum: fileNames},
			Description: "One of the page's files."},
		"limit": {Name: "limit", In: "query", Schema: limit, Description: "How many there may be on a page."},
		"cursor": {Name: "cursor", In: "query", Schema: text(""),
			Description: "Where the page begins: an earlier answer's `next_cursor`. Anything else is refused."},

		"Idempotency-Key": {Name: "Idempotency-Key", In: "header", Schema: text(printable(255)),
			Description: "Names this call, such as `order-4711`, so that it can be repeated: within 24 hours every repetition is answered as the first was, and one turn is made. Its scope is the caller, the end user and, when one is named, the session."},
		"X-End-User": {Name: "X-End-User", In: "header", Schema: text(printable(128)),
			Description: "Whom a service calls for, such as `ada@example.com`. It splits the caller's own sessions and limits; only service callers may send it."},
		"X-Request-ID": {Name: "X-Request-ID", In: "header", Schema: text(""),
			Description: "The request's name in logs, such as `checkout-81c2`. One of other than 1 to 128 letters, digits, `.`, `_` and `-` is replaced."},
		"traceparent": {Name: "traceparent", In: "header", Schema: text(""),
			Description: "The trace that the request belongs to (W3C Trace Context)."},
		"X-Cloud-Trace-Context": {Name: "X-Cloud-Trace-Context", In: "header", Schema: text(""),
			Description: "The same in Google Cloud's older form."},
		"If-None-Match": {Name: "If-None-Match", In: "header", Schema: text(""),
			Description: "The `ETag` of the copy that the client has."},
	}
}

// printable is the pattern of a header of 1 to most characters that callers
// fill freely. HTTP takes white space off its ends.
func printable(most int) string { return fmt.Sprintf(`^[!-~]([ -~]{0,%d}[!-~])?$`, most-2) }

// headers are what answers carry.
var headers = map[string]*huma.Param{
	"X-Request-ID": {Required: true, Schema: text(`^[A-Za-z0-9._-]{1,128}$`), Description: "The request's name in logs; the envelope's `request_id`."},
	"X-Content-Type-Options": {Required: true, Schema: &huma.Schema{Type: huma.TypeString, Enum: []any{"nosniff"}},
		Description: "Answers are what their `Content-Type` says."},
	"Cache-Control":        {Required: true, Schema: text(""), Description: "`no-store`; of an event stream `no-store, no-transform`; of the page's files `no-cache`."},
	"Vary":                 {Required: true, Schema: text(""), Description: "`Origin`: pages of origins on the list get more headers."},
	"Retry-After":          {Schema: whole(1, 0), Description: "How many seconds to wait before trying again."},
	"RateLimit-Policy":     {Schema: text(""), Description: "The limits: quota (`q`) in so many seconds (`w`), by draft-ietf-httpapi-ratelimit-headers."},
	"RateLimit":            {Schema: text(""), Description: "What is left of them (`r`), and in how many seconds they are reset (`t`)."},
	"Idempotency-Replayed": {Schema: &huma.Schema{Type: huma.TypeString, Enum: []any{"true"}}, Description: "The answer is that of an earlier call with the same `Idempotency-Key`."},
	"WWW-Authenticate":     {Schema: text(""), Description: "Which credentials the service takes."},
	"ETag":                 {Required: true, Schema: text(`^"[A-Za-z0-9_-]+"$`), Description: "Changes with the content."},
	"Content-Security-Policy": {Required: true, Schema: text(""),
		Description: "The page runs and fetches nothing but what this service serves."},
	"X-Accel-Buffering":             {Schema: text(""), Description: "`no`, of an event stream: proxies pass each event on at once."},
	"x-vercel-ai-ui-message-stream": {Required: true, Schema: &huma.Schema{Type: huma.TypeString, Enum: []any{"v1"}}, Description: "The version of the protocol."},
}
