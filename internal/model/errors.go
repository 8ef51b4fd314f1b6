package model

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"example.com/gatehouse/internal/breaker"
	"example.com/gatehouse/internal/truncate"
)

// A Kind is what a failed call means to the caller.
type Kind int

const (
	// Failed: the model answered with something unusable, or refused our request.
	Failed Kind = iota
	// Unavailable: the model could not be reached, or had no capacity.
	Unavailable
	// Timeout: the model was reached, and went silent.
	Timeout
)

// An Error is a call of the model that failed. Its text is for logs.
type Error struct {
	Kind       Kind
	RetryAfter time.Duration // as the server asked, at most maxRetryAfter; 0 when it did not
	Empty      bool          // the model answered, with neither text nor a call
	temporary  bool          // may pass: worth another attempt, and another model
	noRoom     bool          // max_tokens were used up before there was any text
	foreign    bool          // it is not in the form of Google's APIs
	gone       bool          // there is no such model (any more), by the API's own word
	free       bool          // the attempt cost nothing: it was refused, or never arrived
	refused    bool          // as an invalid request
	err        error
}

func (e *Error) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.err }

// isElsewhere reports whether another model may answer where this one did not.
func (e *Error) isElsewhere() bool { return e.Kind != Failed || e.temporary || e.gone }

// joinFallback returns e with the failure of the model that was to stand in: to the
// caller the one counts that may pass, and the sooner time to come again.
func (e *Error) joinFallback(model string, next *Error) *Error {
	both := &Error{
		Kind: e.Kind, RetryAfter: e.RetryAfter, Empty: e.Empty && next.Empty, gone: e.gone && next.gone,
		err: fmt.Errorf("%w; %s: %w", e, model, next),
	}
	switch {
	case both.Kind == Failed:
		both.Kind, both.RetryAfter = next.Kind, next.RetryAfter
	case next.Kind != Failed && next.RetryAfter > 0 && (e.RetryAfter == 0 || next.RetryAfter < e.RetryAfter):
		both.RetryAfter = next.RetryAfter
	}
	return both
}

// unavailable returns the error of a model that its breaker keeps calls away from, nil for
// nil.
func unavailable(refused *breaker.RefusedError) *Error {
	if refused == nil {
		return nil
	}
	return &Error{Kind: Unavailable, RetryAfter: refused.RetryAfter, err: refused}
}

// maxErrorText bounds what an upstream may write into our log, in bytes.
const maxErrorText = 300

// classify returns what the error of an attempt means: an [*Error] of the transport's, or an
// answer that the SDK's types do not decode. The end of ctx, the caller's, is passed on.
func classify(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if failure, ok := errors.AsType[*Error](err); ok {
		return failure
	}
	// The decoder's own text is left out, because it holds the answer.
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return unreadable("a value of the wrong type in " + truncate.Text(wrong.Field, maxErrorText))
	}
	return unreadable("not in the form of a response")
}

func unreadable(why string) *Error {
	return &Error{Kind: Failed, err: errors.New("the model's answer cannot be read: " + why)}
}

// connectionError returns the error of a connection that broke. free: before
// anything was answered.
func connectionError(err error, free bool) *Error {
	why := "the answer ended early"
	if op, ok := errors.AsType[*net.OpError](err); ok {
		why = op.Error()
	} else if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		why = err.Error()
	}
	return &Error{Kind: Unavailable, temporary: true, free: free, err: errors.New("the connection to the model broke: " + truncate.Text(why, maxErrorText))}
}

// A failure is an error in the form of Google's APIs. The members are decoded one by
// one, for others send them in other types.
type failure struct {
	Code, Status, Message, Details json.RawMessage
}

// failureIn returns the error that a body holds, as an object or in a list; nil for an answer.
func failureIn(raw []byte) *failure {
	if !bytes.Contains(raw, []byte(`"error"`)) {
		return nil
	}
	type holder struct {
		Error json.RawMessage `json:"error"`
	}
	var list []holder
	if json.Unmarshal(raw, &list) != nil {
		list = make([]holder, 1)
		_ = json.Unmarshal(raw, &list[0])
	}
	for _, element := range list {
		if len(element.Error) == 0 || string(element.Error) == "null" {
			continue
		}
		var f failure
		if json.Unmarshal(element.Error, &f) != nil {
			f.Message = element.Error // a text, as some gateways have it
		}
		return &f
	}
	return nil
}

// answeredError returns the error of an answer with a status that is one.
func answeredError(status int, header http.Header, raw []byte) *Error {
	f := failureIn(raw)
	if f == nil {
		text, _ := json.Marshal(string(raw)) // a proxy's page
		f = &failure{Message: text}
	}
	e := f.error(status, header)
	e.foreign = len(f.Code) == 0 && len(f.Status) == 0
	return e
}

// statusCodes are the HTTP statuses of the API's names, of those that differ from
// that of an error of the server's.
var statusCodes = map[string]int{
	"INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 400, "OUT_OF_RANGE": 400, "UNAUTHENTICATED": 401, "PERMISSION_DENIED": 403,
	"NOT_FOUND": 404, "ABORTED": 409, "ALREADY_EXISTS": 409, "RESOURCE_EXHAUSTED": 429, "CANCELLED": statusCancelled,
	"UNAVAILABLE": 503, "DEADLINE_EXCEEDED": 504,
}

// statusCancelled is what the API answers when it has given up a call by itself.
const statusCancelled = 499

// error returns what f means. status is the HTTP status, which counts, or 0 where it
// was a success; then the body's code does, or its name, or it is an error of
// the server's.
func (f *failure) error(status int, header http.Header) *Error {
	name, message := text(f.Status), text(f.Message)
	code := status
	if code == 0 {
		said, _ := strconv.Atoi(strings.Trim(string(f.Code), `"`))
		code = cmp.Or(said, statusCodes[name], http.StatusInternalServerError)
	}
	var details []map[string]any
	_ = json.Unmarshal(f.Details, &details) // without, in another form
	e := &Error{Kind: Failed, free: true, err: fmt.Errorf("the model answered %d %s: %s", code,
		truncate.Text(name, 64), truncate.Text(unquoted(message), maxErrorText))}
	switch {
	case code == http.StatusRequestTimeout, code == http.StatusTooManyRequests, code == statusCancelled, code >= 500:
		e.Kind, e.temporary = Unavailable, true
		e.RetryAfter = max(retryAfter(header), retryInfo(details))
	case code == http.StatusNotFound:
		e.gone = true
	case code == http.StatusBadRequest:
		// google.rpc.ErrorInfo says so of a key, which no other form of the request mends.
		e.refused = !slices.ContainsFunc(details, func(d map[string]any) bool { return d["reason"] == "API_KEY_INVALID" })
	}
	return e
}

// text is what raw holds: a text, or any other value as it is written, in which encoding/json
// admits bytes that are not UTF-8.
func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return strings.ToValidUTF8(string(raw), "\uFFFD")
	}
	return s
}

// unquoted is an upstream's message without what stands in double quotes: there
// Google's APIs repeat values of the request, which may be a caller's text.
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

// maxRetryAfter bounds what an upstream may ask us to wait: a day, after which its
// budgets begin again.
const maxRetryAfter = 24 * time.Hour

// retryInfo returns the delay of google.rpc.RetryInfo among an error's details, and 0
// without: a text such as "1.5s", or from servers that do not encode durations as
// Protobuf's JSON does, an object of seconds and nanos.
func retryInfo(details []map[string]any) time.Duration {
	for _, d := range details {
		if d["@type"] == "type.googleapis.com/google.rpc.RetryInfo" {
			switch delay := d["retryDelay"].(type) {
			case string:
				return clampRetryAfter(strings.TrimSuffix(delay, "s"))
			case map[string]any:
				nanos, _ := delay["nanos"].(float64)
				return clampRetryAfter(fmt.Sprint(delay["seconds"])) + min(max(time.Duration(nanos), 0), time.Second)
			}
			return 0
		}
	}
	return 0
}

// retryAfter reads the header Retry-After in both its forms (RFC 9110, 10.2.3), and
// retry-after-ms, which proxies for models send.
func retryAfter(header http.Header) time.Duration {
	if wait := clampRetryAfter(header.Get("Retry-After-Ms") + "e-3"); wait > 0 {
		return wait // the same, more exactly
	}
	value := header.Get("Retry-After")
	if at, err := http.ParseTime(value); err == nil {
		return min(max(time.Until(at), 0), maxRetryAfter)
	}
	return clampRetryAfter(value)
}

// clampRetryAfter returns a number of seconds as a duration that may be waited.
func clampRetryAfter(seconds string) time.Duration {
	n, err := strconv.ParseFloat(seconds, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) || math.IsNaN(n) {
		return 0
	}
	return time.Duration(min(max(n, 0), maxRetryAfter.Seconds()) * float64(time.Second))
}
