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
	"github.com/danielgtaylor/huma/v2/validation"
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

// StatusClientClosedRequest is for the log, of a client that went away before its answer
// (nginx's convention). Only a client that closed its own direction of the connection and
// reads on sees it.
const StatusClientClosedRequest = 499

// errorTable has, for each code, the HTTP status, the sentence for the person in front of
// a page, when to try again if nothing better is known (0: no Retry-After), and what a
// developer needs beside the code where that is always the same.
//
// A sentence names no header and no field. %s is how long to wait.
var errorTable = map[Code]struct {
	status     int
	message    string
	retryAfter time.Duration
	detail     Detail
}{
	MalformedRequest:        {http.StatusBadRequest, "The service did not understand what was sent. Reload the page and try again.", 0, Detail{}},
	Unauthenticated:         {http.StatusUnauthorized, "You are not signed in, or your sign-in has expired. Sign in and try again.", 0, Detail{}},
	PermissionDenied:        {http.StatusForbidden, "You are not allowed to do this.", 0, Detail{}},
	OriginNotAllowed:        {http.StatusForbidden, "This page is not allowed to use the service.", 0, Detail{"Origin", "is not among ALLOWED_ORIGINS"}},
	NotFound:                {http.StatusNotFound, "There is nothing here.", 0, Detail{}},
	SessionNotFound:         {http.StatusNotFound, "This conversation was deleted or has expired. Start a new one.", 0, Detail{}},
	MethodNotAllowed:        {http.StatusMethodNotAllowed, "This cannot be done here.", 0, Detail{}},
	NotAcceptable:           {http.StatusNotAcceptable, "The service has no answer in the form that was asked for.", 0, Detail{"Accept", "must allow application/json or text/event-stream"}},
	RequestTimeout:          {http.StatusRequestTimeout, "The question took too long to arrive. Try again.", 0, Detail{}},
	IdempotencyInProgress:   {http.StatusConflict, "This question is already being answered. Try again in %s.", time.Second, Detail{}},
	SessionConflict:         {http.StatusConflict, "This conversation went on elsewhere. Reload to see it.", 0, Detail{}},
	RequestTooLarge:         {http.StatusRequestEntityTooLarge, "This is too large. Send less at once.", 0, Detail{}},
	UnsupportedMediaType:    {http.StatusUnsupportedMediaType, "The service cannot read what was sent.", 0, Detail{"Content-Type", "must be application/json in UTF-8, and the body not compressed"}},
	ValidationFailed:        {http.StatusUnprocessableEntity, "Part of what was sent is missing or not valid. Check it and try again.", 0, Detail{}},
	IdempotencyMismatch:     {http.StatusUnprocessableEntity, "This question was sent before in other words. Ask it again as a new one.", 0, Detail{"Idempotency-Key", "was used with another request body"}},
	ContentBlocked:          {http.StatusUnprocessableEntity, "The model refused to answer. Rephrase the question.", 0, Detail{}},
	RateLimited:             {http.StatusTooManyRequests, "Too many questions at once. Try again in %s.", time.Second, Detail{}},
	QuotaExceeded:           {http.StatusTooManyRequests, "Today's allowance is used up. Try again in %s.", time.Minute, Detail{}},
	ClientClosedRequest:     {StatusClientClosedRequest, "The connection was closed before the answer.", 0, Detail{}},
	Internal:                {http.StatusInternalServerError, "The service failed. Try again, and report it if it happens again.", 0, Detail{}},
	ModelFailed:             {http.StatusBadGateway, "The model returned no usable answer. Try again, or ask in other words.", 0, Detail{}},
	ModelUnavailable:        {http.StatusServiceUnavailable, "The model cannot be reached right now. Try again in %s.", 5 * time.Second, Detail{}},
	Overloaded:              {http.StatusServiceUnavailable, "The service is busy right now. Try again in %s.", time.Second, Detail{}},
	SessionStoreUnavailable: {http.StatusServiceUnavailable, "Conversations cannot be read or saved right now. Try again in %s.", 2 * time.Second, Detail{}},
	ShuttingDown:            {http.StatusServiceUnavailable, "The answer was interrupted. Try again in %s.", time.Second, Detail{}},
	NotReady:                {http.StatusServiceUnavailable, "The service is not ready. Try again in %s.", 5 * time.Second, Detail{}},
	Unhealthy:               {http.StatusServiceUnavailable, "The service is unhealthy.", 5 * time.Second, Detail{}},
	Timeout:                 {http.StatusGatewayTimeout, "The answer took longer than the service allows. Try again, or ask for less.", 0, Detail{}},
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
			e := Error{Code: code}
			all = append(all, CodeInfo{code, row.status, e.Sentence(), row.retryAfter})
		}
	}
	slices.SortFunc(all, func(a, b CodeInfo) int {
		return cmp.Or(cmp.Compare(a.Status, b.Status), cmp.Compare(a.Code, b.Code))
	})
	return all
}

// Schema is that of all codes that clients may meet.
func (Code) Schema(r huma.Registry) *huma.Schema {
	const name = "Code"
	if r.Map()[name] == nil {
		s := &huma.Schema{Type: huma.TypeString}
		for _, info := range Table() {
			s.Enum = append(s.Enum, string(info.Code))
		}
		r.Map()[name] = s
	}
	return &huma.Schema{Ref: "#/components/schemas/" + name}
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

// Stack returns where [Fail] was called, or "" for an error that the client made. It has
// the form of [debug.Stack], the only one that Error Reporting reads of Go, and so the
// number of a goroutine, which means nothing. Files are named without the path of the
// machine that built the program.
func (e *Error) Stack() string {
	if e.callers[0] == 0 {
		return ""
	}
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

// Malformed returns a 400 about the form of a header or of the body.
func Malformed(field, issue string) *Error {
	return &Error{Code: MalformedRequest, Details: []Detail{{field, issue}}}
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

// Sentence returns the message for the person in front of a page.
func (e *Error) Sentence() string {
	if e.Message != "" {
		return e.Message
	}
	message := errorTable[e.Code].message
	if strings.Contains(message, "%s") {
		return fmt.Sprintf(message, e.Wait())
	}
	return message
}

// details returns the details for a developer, beside the code.
func (e *Error) details() []Detail {
	if usual := errorTable[e.Code].detail; e.Details == nil && usual.Field != "" {
		return []Detail{usual}
	}
	return e.Details
}

// Faults returns the details for the log: a page shows its reader the sentence only. Of a
// field that the service may not know it has no name, which a client may fill with anything.
func (e *Error) Faults() string {
	var faults []string
	for _, d := range e.Details {
		if d.Issue == validation.MsgUnexpectedProperty || d.Issue == wrongValue {
			d.Field = "body"
		}
		if fault := d.Field + " " + d.Issue; len(faults) < maxFaults && !slices.Contains(faults, fault) {
			faults = append(faults, fault)
		}
	}
	return strings.Join(faults, "; ")
}

// maxFaults bounds the details in the log.
const maxFaults = 4

// Wait returns how long the client should wait, rounded up to a second: RetryAfter, or what
// the code's row of the table has; 0 if waiting does not help.
func (e *Error) Wait() Seconds {
	wait := errorTable[e.Code].retryAfter
	if e.RetryAfter > 0 {
		wait = e.RetryAfter
	}
	return Seconds(math.Ceil(wait.Seconds()))
}
