package api

import (
	"cmp"
	"fmt"
	"math"
	"net/http"
	"path"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"example.com/gatehouse/internal/telemetry"
)

// A Code is the machine-readable name of an error in the envelope's "error".
type Code string

// The errors of the HTTP contract.
const (
	MalformedRequest        Code = "malformed_request"
	Unauthenticated         Code = "unauthenticated"
	PermissionDenied        Code = "permission_denied"
	OriginNotAllowed        Code = "origin_not_allowed"
	NotFound                Code = "not_found"
	SessionNotFound         Code = "session_not_found"
	MethodNotAllowed        Code = "method_not_allowed"
	NotAcceptable           Code = "not_acceptable"
	RequestTimeout          Code = "request_timeout"
	IdempotencyInProgress   Code = "idempotency_in_progress"
	SessionConflict         Code = "session_conflict"
	RequestTooLarge         Code = "request_too_large"
	UnsupportedMediaType    Code = "unsupported_media_type"
	ValidationFailed        Code = "validation_failed"
	IdempotencyMismatch     Code = "idempotency_mismatch"
	ContentBlocked          Code = "content_blocked"
	RateLimited             Code = "rate_limited"
	QuotaExceeded           Code = "quota_exceeded"
	ClientClosedRequest     Code = "client_closed_request"
	Internal                Code = "internal"
	ModelFailed             Code = "model_failed"
	ModelUnavailable        Code = "model_unavailable"
	Overloaded              Code = "overloaded"
	SessionStoreUnavailable Code = "session_store_unavailable"
	ShuttingDown            Code = "shutting_down"
	NotReady                Code = "not_ready"
	Unhealthy               Code = "unhealthy"
	Timeout                 Code = "timeout"
)

// StatusClientClosedRequest is logged, never sent, for a client that went away
// before its answer (nginx's convention).
const StatusClientClosedRequest = 499

// errorTable has, for each code, the HTTP status, the sentence for people, and
// when to try again if nothing better is known (0: no Retry-After).
var errorTable = map[Code]struct {
	status     int
	message    string
	retryAfter time.Duration
}{
	MalformedRequest:        {http.StatusBadRequest, "The request is malformed.", 0},
	Unauthenticated:         {http.StatusUnauthorized, "A valid credential is required.", 0},
	PermissionDenied:        {http.StatusForbidden, "The caller is not allowed to do this.", 0},
	OriginNotAllowed:        {http.StatusForbidden, "Pages of this origin are not allowed to call the service.", 0},
	NotFound:                {http.StatusNotFound, "There is nothing at this path. GET / lists the routes.", 0},
	SessionNotFound:         {http.StatusNotFound, "There is no such session, or it has expired. Leave session_id out to start a new one.", 0},
	MethodNotAllowed:        {http.StatusMethodNotAllowed, "This path does not support the method; Allow lists those that it does.", 0},
	NotAcceptable:           {http.StatusNotAcceptable, "Accept must allow application/json or text/event-stream.", 0},
	RequestTimeout:          {http.StatusRequestTimeout, "The request body did not arrive in time.", 0},
	IdempotencyInProgress:   {http.StatusConflict, "A call with this Idempotency-Key is still in progress.", time.Second},
	SessionConflict:         {http.StatusConflict, "The session does not have that many turns. Read it and decide again.", 0},
	RequestTooLarge:         {http.StatusRequestEntityTooLarge, "The request body is too large.", 0},
	UnsupportedMediaType:    {http.StatusUnsupportedMediaType, "The body must be application/json in UTF-8, not compressed.", 0},
	ValidationFailed:        {http.StatusUnprocessableEntity, "The request is invalid; see details.", 0},
	IdempotencyMismatch:     {http.StatusUnprocessableEntity, "This Idempotency-Key was used with another request body.", 0},
	ContentBlocked:          {http.StatusUnprocessableEntity, "The model refused to answer. Rephrase the question.", 0},
	RateLimited:             {http.StatusTooManyRequests, "Too many calls; retry after the delay in Retry-After.", time.Second},
	QuotaExceeded:           {http.StatusTooManyRequests, "Today's tokens are used up; retry after the delay in Retry-After.", time.Minute},
	ClientClosedRequest:     {StatusClientClosedRequest, "The client disconnected before the answer.", 0},
	Internal:                {http.StatusInternalServerError, "The service failed. Report the request_id, which finds the cause in the log.", 0},
	ModelFailed:             {http.StatusBadGateway, "The model returned no usable answer.", 0},
	ModelUnavailable:        {http.StatusServiceUnavailable, "The model is unavailable; retry after the delay in Retry-After.", 5 * time.Second},
	Overloaded:              {http.StatusServiceUnavailable, "The service is at capacity; retry after the delay in Retry-After.", time.Second},
	SessionStoreUnavailable: {http.StatusServiceUnavailable, "Sessions cannot be read or written now; retry after the delay in Retry-After.", 2 * time.Second},
	ShuttingDown:            {http.StatusServiceUnavailable, "This instance is shutting down; try again.", time.Second},
	NotReady:                {http.StatusServiceUnavailable, "The service is not ready; GET /health/ready has the reason.", 5 * time.Second},
	Unhealthy:               {http.StatusServiceUnavailable, "The service is unhealthy.", 5 * time.Second},
	Timeout:                 {http.StatusGatewayTimeout, "The answer took longer than the service allows.", 0},
}

// Codes are all that there are, sorted.
func Codes() []string {
	codes := make([]string, 0, len(errorTable))
	for code := range errorTable {
		codes = append(codes, string(code))
	}
	slices.Sort(codes)
	return codes
}

// A CodeInfo is a code's row of the table.
type CodeInfo struct {
	Code       Code
	Status     int
	Message    string
	RetryAfter time.Duration // 0: the answer has no Retry-After
}

// Table is that of the errors that clients may meet, by status and name.
func Table() []CodeInfo {
	var all []CodeInfo
	for code, row := range errorTable {
		if row.status != StatusClientClosedRequest {
			all = append(all, CodeInfo{code, row.status, row.message, row.retryAfter})
		}
	}
	slices.SortFunc(all, func(a, b CodeInfo) int {
		return cmp.Or(cmp.Compare(a.Status, b.Status), cmp.Compare(a.Code, b.Code))
	})
	return all
}

// Schema is that of all codes that clients may meet.
func (Code) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, info := range Table() {
		s.Enum = append(s.Enum, string(info.Code))
	}
	return s
}

// A Detail names a field of the request and what is wrong with it. It never
// holds the value that was sent.
type Detail struct {
	Field string `json:"field" example:"query"`
	Issue string `json:"issue" example:"must not be empty"`
}

// An Error is an answer that is not a success. Its code, message and details
// are for the client; its cause is only for the log.
type Error struct {
	Code       Code
	Message    string        // replaces the table's sentence when not empty
	Details    []Detail      // which fields, where that helps
	RetryAfter time.Duration // replaces the table's when not 0
	Header     http.Header   // more headers for the answer, such as Allow
	Cause      error         // never sent

	callers [8]uintptr // of Fail, when the mistake is not the client's
}

// Fail makes the error named code, caused by cause (which may be nil). It
// remembers where it was called, for the log, unless the mistake is the client's.
func Fail(code Code, cause error) *Error {
	e := &Error{Code: code, Cause: cause}
	if e.Status() >= 500 {
		runtime.Callers(2, e.callers[:])
	}
	return e
}

// Failure is e for the log.
func (e *Error) Failure() telemetry.Failure {
	f := telemetry.Failure{Code: string(e.Code), Cause: e.Cause}
	if e.callers[0] != 0 {
		f.Stack = e.stack
	}
	return f
}

// stack is where Fail was called, in the form of Go's own traces, which Error
// Reporting groups by. Files are named without the path of the machine that
// built the program.
func (e *Error) stack() string {
	var b strings.Builder
	b.WriteString("goroutine 1 [running]:\n")
	for frames := runtime.CallersFrames(e.callers[:]); ; {
		frame, more := frames.Next()
		if frame.PC == 0 {
			break
		}
		fmt.Fprintf(&b, "%s(...)\n\t%s/%s:%d\n", path.Base(frame.Function), path.Base(path.Dir(frame.File)), path.Base(frame.File), frame.Line)
		if !more {
			break
		}
	}
	return b.String()
}

// Invalid is a 422 about one field.
func Invalid(field, issue string) *Error {
	return &Error{Code: ValidationFailed, Details: []Detail{{field, issue}}}
}

// Malformed returns a 400 whose message names the fault in the request's form.
func Malformed(message string) *Error {
	return &Error{Code: MalformedRequest, Message: message}
}

// Error is for logs: it holds the cause.
func (e *Error) Error() string {
	if e.Cause != nil {
		return string(e.Code) + ": " + e.Cause.Error()
	}
	return string(e.Code)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Status is the HTTP status of the code.
func (e *Error) Status() int {
	if row, ok := errorTable[e.Code]; ok {
		return row.status
	}
	return http.StatusInternalServerError
}

// Sentence is what the client is told.
func (e *Error) Sentence() string {
	if e.Message != "" {
		return e.Message
	}
	return errorTable[e.Code].message
}

// seconds is how long the client should wait, rounded up.
func (e *Error) seconds() Seconds {
	wait := errorTable[e.Code].retryAfter
	if e.RetryAfter > 0 {
		wait = e.RetryAfter
	}
	return Seconds(math.Ceil(wait.Seconds()))
}
