package model

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/genai"

	"example.com/gatehouse/internal/telemetry"
)

// A Kind says what a failed call means to who asked.
type Kind int

const (
	// Failed: the model answered with something unusable, or refused our request.
	Failed Kind = iota
	// Unavailable: the model could not be reached, or had no capacity.
	Unavailable
	// Timeout: the model was reached, and went silent.
	Timeout
)

// An Error is a call of the model that failed. What it says is for logs.
type Error struct {
	Kind       Kind
	RetryAfter time.Duration // as the server asked, 0 when it did not
	temporary  bool          // may pass: worth another attempt
	gone       bool          // there is no such model (any more), by the API's own word
	api        bool          // the API's own answer, rather than that of the way there
	refused    bool          // as an invalid request
	err        error
}

func (e *Error) Error() string { return e.err.Error() }

// Unwrap gives the SDK's error.
func (e *Error) Unwrap() error { return e.err }

// away reports whether another model may answer where this one did not.
func (e *Error) away() bool { return e.Kind != Failed || e.gone }

// and is e, and the failure of the model that was to stand in: to the caller
// that one counts which may pass, and the sooner time to come again.
func (e *Error) and(model string, next *Error) *Error {
	both := &Error{Kind: e.Kind, RetryAfter: e.RetryAfter, gone: e.gone && next.gone, err: fmt.Errorf("%w; %s: %w", e, model, next)}
	switch {
	case both.Kind == Failed:
		both.Kind, both.RetryAfter = next.Kind, next.RetryAfter
	case next.Kind != Failed && next.RetryAfter > 0 && (e.RetryAfter == 0 || next.RetryAfter < e.RetryAfter):
		both.RetryAfter = next.RetryAfter
	}
	return both
}

// maxErrorText bounds what an upstream may write into our log, in bytes.
const maxErrorText = 300

// classify says what an error of the SDK's means. The end of ctx, the caller's,
// is passed on.
func classify(ctx context.Context, err error, h *hints) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if api, ok := errors.AsType[genai.APIError](err); ok {
		// The HTTP status counts: the body's code may be missing. An error within a
		// stream has only the latter.
		code := api.Code
		if h != nil && h.status >= 400 {
			code = h.status
		}
		e := &Error{Kind: Failed, api: true, err: fmt.Errorf("the model answered %d %s: %s", code,
			telemetry.Truncate(api.Status, 64), telemetry.Truncate(unquoted(api.Message), maxErrorText))}
		switch {
		case code == http.StatusRequestTimeout, code == http.StatusTooManyRequests, code >= 500:
			e.Kind, e.temporary = Unavailable, true
			e.RetryAfter = max(h.retryAfter(), retryInfo(api.Details))
		case code == http.StatusNotFound:
			e.gone = true
		case code == http.StatusBadRequest:
			e.refused = !hasReason(api.Details, "API_KEY_INVALID")
		}
		return e
	}
	if why := unusable(err); why != "" && !h.broke() {
		return &Error{Kind: Failed, err: errors.New("the model's answer cannot be read: " + why)}
	}
	return &Error{Kind: Unavailable, temporary: true, err: errors.New("the connection to the model broke: " + connectionError(err))}
}

// unquoted is an upstream's message without what stands in double quotes: there
// Google's APIs repeat values of the request, which may be what a caller said.
func unquoted(message string) string {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(message, `"`)
		b.WriteString(before)
		if !found {
			return b.String()
		}
		b.WriteString(`"…"`)
		// A value may hold quotes: none of it is left when the last one ends it.
		end := strings.LastIndexByte(rest, '"')
		if line := strings.IndexByte(rest, '\n'); line >= 0 && end > line {
			end = strings.LastIndexByte(rest[:line], '"')
		}
		if end < 0 {
			return b.String()
		}
		message = rest[end+1:]
	}
}

// connectionError says how a connection failed. Other errors of the SDK's hold
// what it had read by then.
func connectionError(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return telemetry.Truncate(op.Error(), maxErrorText)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return "the answer ended early"
	}
	if sent, ok := errors.AsType[*url.Error](err); ok {
		return telemetry.Truncate(sent.Err.Error(), maxErrorText) // without the URL
	}
	return "the answer ended early"
}

// unusable says why an answer could not be read, "" for other errors. The
// SDK's own text is left out, because it holds the answer.
func unusable(err error) string {
	if errors.Is(err, errTooLarge) {
		return errTooLarge.Error()
	}
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Sprintf("not JSON at byte %d", syntax.Offset)
	}
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return "a value of the wrong type in " + telemetry.Truncate(wrong.Field, maxErrorText)
	}
	// The SDK's other errors about the form of a stream or a body have no type.
	for _, prefix := range []string{"iterateResponseStream:", "mapToStruct:"} {
		if strings.Contains(err.Error(), prefix) {
			return "not in the form of a response"
		}
	}
	return ""
}

// retryInfo finds google.rpc.RetryInfo among an error's details.
func retryInfo(details []map[string]any) time.Duration {
	for _, d := range details {
		if d["@type"] == "type.googleapis.com/google.rpc.RetryInfo" {
			text, _ := d["retryDelay"].(string)
			if delay, err := time.ParseDuration(text); err == nil && believable(delay) > 0 {
				return delay
			}
		}
	}
	return 0
}

// hasReason reports whether google.rpc.ErrorInfo among an error's details has the
// reason.
func hasReason(details []map[string]any, reason string) bool {
	for _, d := range details {
		if d["reason"] == reason {
			return true
		}
	}
	return false
}

// believable is d where a server may mean it, and 0 elsewhere.
func believable(d time.Duration) time.Duration {
	if d < 0 || d > 24*time.Hour {
		return 0
	}
	return d
}

// maxResponse bounds what is read of one answer: the SDK itself reads all there is.
const maxResponse = 16 << 20

// bounded is a transport that completes requests, cuts answers off at maxResponse,
// and remembers the Retry-After header, which the SDK's errors do not hold.
type bounded struct{ next http.RoundTripper }

func (b *bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	h, ok := r.Context().Value(hintsKey{}).(*hints)
	if ok {
		var err error
		if r, err = h.complete(r); err != nil {
			return nil, err
		}
	}
	response, err := b.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if ok {
		h.status = response.StatusCode
		h.after = response.Header.Get("Retry-After")
		h.calls.stream = strings.HasPrefix(response.Header.Get("Content-Type"), "text/event-stream")
	}
	response.Body = &limitedBody{ReadCloser: response.Body, left: maxResponse, hints: h}
	return response, nil
}

type limitedBody struct {
	io.ReadCloser
	left  int64
	hints *hints // nil for requests that are not ours to judge
}

func (b *limitedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLarge
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	if b.hints != nil {
		b.hints.calls.read(p[:n])
	}
	if err != nil && err != io.EOF && b.hints != nil {
		b.hints.failed.Store(true)
	}
	return n, err
}

// hints are what the SDK passes on neither way: what the transport puts into a
// request, and what it saw of the response.
type hints struct {
	ready  [2][]byte // see [Client.ready]
	status int
	after  string // Retry-After
	calls  calls
	failed atomic.Bool // reading the body: what came of it is cut
}

// broke reports whether the answer was cut by its connection.
func (h *hints) broke() bool { return h != nil && h.failed.Load() }

type hintsKey struct{}

func withHints(ctx context.Context) (context.Context, *hints) {
	h := &hints{}
	return context.WithValue(ctx, hintsKey{}, h), h
}

// retryAfter reads the header in both its forms (RFC 9110, 10.2.3).
func (h *hints) retryAfter() time.Duration {
	if h == nil || h.after == "" {
		return 0
	}
	if seconds, err := strconv.Atoi(h.after); err == nil {
		if seconds < 0 || seconds > 24*60*60 {
			return 0 // and no Duration may hold it
		}
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(h.after); err == nil {
		return believable(time.Until(at))
	}
	return 0
}
