// Package api is the part of the HTTP contract that every route shares: the
// envelope around each JSON answer, the table of errors, strict decoding of
// request bodies, content negotiation, and the router that answers unknown
// paths and methods in the same form.
//
// A handler is a func(w, r) error. What it returns is turned into the answer
// in one place, [Routes.ServeHTTP]; an error that is not an [*Error] is a bug
// and becomes a 500 without its text.
package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// An Envelope is the form of every JSON answer.
type Envelope struct {
	Success bool     `json:"success"`
	Message string   `json:"message" doc:"A sentence for people."`
	Data    any      `json:"data"`
	Error   *Code    `json:"error"`
	Details []Detail `json:"details,omitempty"`
	// RetryAfter is nil in a success.
	RetryAfter *Seconds  `json:"retry_after_seconds,omitempty" doc:"As Retry-After."`
	RequestID  string    `json:"request_id" doc:"As X-Request-ID."`
	Timestamp  Timestamp `json:"timestamp"`
}

// Seconds are how long to wait; 0, which is null in JSON, where nothing is known.
type Seconds int

// MarshalJSON writes an integer or null.
func (s Seconds) MarshalJSON() ([]byte, error) {
	if s <= 0 {
		return []byte("null"), nil
	}
	return strconv.AppendInt(nil, int64(s), 10), nil
}

// String returns the time in words.
func (s Seconds) String() string {
	n, unit := int(s), "second"
	switch {
	case n > 2*60*60:
		n, unit = (n+60*60-1)/(60*60), "hour"
	case n > 2*60:
		n, unit = (n+60-1)/60, "minute"
	}
	if n != 1 {
		unit += "s"
	}
	return strconv.Itoa(n) + " " + unit
}

// A Timestamp is written in UTC with milliseconds, as the contract shows it.
type Timestamp time.Time

// MarshalJSON writes t as RFC 3339 with exactly three decimals.
func (t Timestamp) MarshalJSON() ([]byte, error) {
	// With room for the nanoseconds, which package time cuts off after it has written them.
	return time.Time(t).UTC().AppendFormat(make([]byte, 0, 32), `"2006-01-02T15:04:05.000Z"`), nil
}

// Schema is that of what MarshalJSON writes.
func (Timestamp) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Format: "date-time"}
}

// UnmarshalJSON reads what MarshalJSON writes.
func (t *Timestamp) UnmarshalJSON(raw []byte) error {
	return (*time.Time)(t).UnmarshalJSON(raw)
}

type requestIDKey struct{}

// WithRequestID returns a context that carries the request's id.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestIDKey{}, id)
}

// RequestID returns the id that [WithRequestID] set, or "".
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

// Success makes the envelope of a good answer.
func Success(ctx context.Context, message string, data any) Envelope {
	return Envelope{
		Success: true, Message: message, Data: data,
		RequestID: RequestID(ctx), Timestamp: Timestamp(time.Now()),
	}
}

// Failure makes the envelope of an error.
func Failure(ctx context.Context, e *Error) Envelope {
	wait := e.Wait()
	return Envelope{
		Message: e.Sentence(), Error: &e.Code, Details: e.details(), RetryAfter: &wait,
		RequestID: RequestID(ctx), Timestamp: Timestamp(time.Now()),
	}
}

// Failure returns the error of an envelope, which a door writes in its own form.
func (e Envelope) Failure() *Error {
	f := &Error{Code: Internal, Message: e.Message, Details: e.Details}
	if e.Error != nil {
		f.Code = *e.Error
	}
	return f
}

// AsError returns the [*Error] in err's chain, or an internal one caused by err.
func AsError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return Fail(Internal, err)
}

// WriteSuccess answers 200 with data in the envelope.
func WriteSuccess(w http.ResponseWriter, r *http.Request, message string, data any) error {
	return WriteJSON(w, http.StatusOK, Success(r.Context(), message, data))
}

// WriteAccepted answers 202 with data in the envelope.
func WriteAccepted(w http.ResponseWriter, r *http.Request, message string, data any) error {
	return WriteJSON(w, http.StatusAccepted, Success(r.Context(), message, data))
}

// WriteError answers with the error's status, headers and envelope.
func WriteError(w http.ResponseWriter, r *http.Request, e *Error) error {
	return WriteErrorData(w, r, e, nil)
}

// WriteSentence answers with the error's status, headers and sentence, for clients that
// show the body of a failed response to a person as it is, and with the envelope to those
// that name application/json in Accept.
func WriteSentence(w http.ResponseWriter, r *http.Request, e *Error) error {
	if accepted(r, "application/*", "application/json").named() {
		return WriteError(w, r, e)
	}
	e.SetHeader(w.Header())
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(e.Status())
	_, _ = io.WriteString(w, e.Sentence())
	return nil
}

// WriteErrorData is WriteError with data beside the error, which only /health
// has.
func WriteErrorData(w http.ResponseWriter, r *http.Request, e *Error, data any) error {
	e.SetHeader(w.Header())
	envelope := Failure(r.Context(), e)
	envelope.Data = data
	return WriteJSON(w, e.Status(), envelope)
}

// SetHeader sets the headers that an answer with e has in every form.
func (e *Error) SetHeader(h http.Header) {
	maps.Copy(h, e.Header)
	if wait := e.Wait(); wait > 0 {
		h.Set("Retry-After", strconv.Itoa(int(wait)))
	}
}

// WriteJSON answers with a body as JSON, in any form.
func WriteJSON(w http.ResponseWriter, status int, value any) error {
	return json.NewEncoder(&answerWriter{w, status}).Encode(value)
}

// An answerWriter makes an answer of what a [json.Encoder] writes, which is a whole value
// and a line break in one call, from memory that it uses again: json.Marshal would copy it.
type answerWriter struct {
	w      http.ResponseWriter
	status int
}

// Write implements [io.Writer].
func (a *answerWriter) Write(line []byte) (int, error) {
	body := bytes.TrimSuffix(line, []byte("\n"))
	h := a.w.Header()
	h["Content-Type"] = mediaTypeJSON
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	a.w.WriteHeader(a.status)
	_, _ = a.w.Write(body) // a client that has gone away is noticed by its context
	return len(line), nil
}

// mediaTypeJSON is of all answers, and is not changed by any.
var mediaTypeJSON = []string{"application/json"}

// Printable reports whether text is 1 to most printable ASCII characters, as
// the headers that callers fill freely must be.
func Printable(text string, most int) bool {
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			return false
		}
	}
	return len(text) >= 1 && len(text) <= most
}
