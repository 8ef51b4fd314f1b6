package api

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"example.com/gatehouse/internal/readall"
	"example.com/gatehouse/internal/truncate"
)

// MaxDepth is how many levels of arrays and objects a body may nest.
const MaxDepth = 32

// BodyTimeout is how long a body may take to arrive.
const BodyTimeout = 10 * time.Second

// ReadBody reads a JSON body of at most limit bytes, within timeout or
// [BodyTimeout], whichever is shorter. Its errors are the contract's: 415, 413
// (before the body is read, given a Content-Length), 408.
func ReadBody(w http.ResponseWriter, r *http.Request, limit int64, timeout time.Duration) ([]byte, error) {
	var body []byte
	err := withBody(w, r, limit, timeout, func(from io.Reader) (err error) {
		body, err = readall.Sized(from, r.ContentLength)
		return err
	})
	if err != nil {
		return nil, err
	}
	return body, nil
}

// withBody lets read read the body to its end, within the bounds of [ReadBody].
func withBody(w http.ResponseWriter, r *http.Request, limit int64, timeout time.Duration, read func(io.Reader) error) error {
	if err := checkMediaType(r); err != nil {
		return err
	}
	if r.ContentLength > limit {
		return TooLarge(limit)
	}
	control := http.NewResponseController(w)
	// A server that has no deadlines (a test's recorder) is served, too.
	deadlines := control.SetReadDeadline(time.Now().Add(min(timeout, BodyTimeout))) == nil
	err := read(http.MaxBytesReader(w, r.Body, limit))
	if err == nil {
		if deadlines {
			// Back to none: the server goes on reading to notice a client that
			// leaves. With an error it stays, and bounds what the server reads of
			// the rest before it answers.
			_ = control.SetReadDeadline(time.Time{})
		}
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return TooLarge(limit)
	}
	if netErr, ok := errors.AsType[net.Error](err); errors.Is(err, os.ErrDeadlineExceeded) || ok && netErr.Timeout() {
		w.Header().Set("Connection", "close")
		return Fail(RequestTimeout, err)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || r.Context().Err() != nil {
		return Fail(ClientClosedRequest, err)
	}
	return &Error{Code: MalformedRequest, Details: []Detail{{"body", "could not be read"}}, Cause: err}
}

// TooLarge returns the error of a body that is larger than limit bytes.
func TooLarge(limit int64) *Error {
	return &Error{
		Code: RequestTooLarge, Message: "This is too large: it may have " + bytesInWords(limit) + ".",
		Details: []Detail{{"body", fmt.Sprintf("must have at most %d bytes", limit)}},
	}
}

// bytesInWords returns a limit on bytes for people, rounded down.
func bytesInWords(n int64) string {
	switch {
	case n >= 1e6:
		return fmt.Sprintf("%d MB", n/1e6)
	case n >= 1e3:
		return fmt.Sprintf("%d KB", n/1e3)
	}
	return fmt.Sprintf("%d bytes", n)
}

func checkMediaType(r *http.Request) error {
	for _, coding := range r.Header.Values("Content-Encoding") {
		if !strings.EqualFold(strings.TrimSpace(coding), "identity") {
			return Fail(UnsupportedMediaType, nil)
		}
	}
	types := r.Header.Values("Content-Type")
	if len(types) != 1 {
		return Fail(UnsupportedMediaType, nil)
	}
	if types[0] == "application/json" { // as nearly all send it
		return nil
	}
	mediaType, params, err := mime.ParseMediaType(types[0])
	if err != nil || mediaType != "application/json" {
		return Fail(UnsupportedMediaType, nil)
	}
	if charset, ok := params["charset"]; ok && !strings.EqualFold(charset, "utf-8") {
		return Fail(UnsupportedMediaType, nil)
	}
	return nil
}

// Field names differ by their case, as JSON has it.
func init() { huma.ValidateStrictCasing = true }

// A Body decodes and checks the JSON bodies that become a T. The rules stand
// once, in T's struct tags, in huma's vocabulary
// (https://huma.rocks/features/request-validation/), and serve decoding,
// checking and the OpenAPI document alike. Make it with [NewBody]; it is safe
// for concurrent use.
type Body[T any] struct {
	registry huma.Registry
	schema   *huma.Schema
}

// NewBody derives the schema of T, a struct. adjust (which may be nil) changes
// what only configuration knows.
func NewBody[T any](adjust func(properties map[string]*huma.Schema)) *Body[T] {
	registry := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	schema := huma.SchemaFromType(registry, reflect.TypeFor[T]())
	if adjust != nil {
		adjust(schema.Properties)
	}
	schema.PrecomputeMessages()
	return &Body[T]{registry: registry, schema: schema}
}

// Read reads a body as [ReadBody] does and decodes it.
func (b *Body[T]) Read(w http.ResponseWriter, r *http.Request, limit int64, timeout time.Duration) (T, error) {
	raw, err := ReadBody(w, r, limit, timeout)
	if err != nil {
		var none T
		return none, err
	}
	return b.Decode(raw)
}

// Decode makes a T of raw. What is not one well-formed JSON object is a 400;
// fields that are unknown or break a rule are a 422 that names them all.
func (b *Body[T]) Decode(raw []byte) (T, error) {
	var value T
	parsed, err := parse(raw)
	if err != nil {
		return value, err
	}
	if err := b.check(parsed); err != nil {
		return value, err
	}
	if hasNumber(parsed) {
		// From what was checked, not from raw: there 1.0 is an integer, as JSON
		// Schema has it, and here it is written as one.
		raw, _ = json.Marshal(parsed) // which was JSON
	}
	if err := json.Unmarshal(raw, &value); err != nil {
		return value, decodeError(err)
	}
	return value, nil
}

// parse returns the object that raw is, in the form that [checkForm] admits.
func parse(raw []byte) (map[string]any, error) {
	// The decoder refuses what is no JSON by itself, but not what nests too deep, and that
	// would take it much memory. As many brackets as are in most bodies cannot.
	if bytes.Count(raw, []byte("{"))+bytes.Count(raw, []byte("[")) > MaxDepth {
		if err := checkForm(raw); err != nil {
			return nil, err
		}
	}
	var parsed any
	err := json.Unmarshal(raw, &parsed)
	if object, ok := parsed.(map[string]any); ok && err == nil {
		return object, nil
	}
	if wrong := checkForm(raw); wrong != nil { // and tells what
		return nil, wrong
	}
	return nil, decodeError(err)
}

// hasNumber reports whether there is a number in a value of JSON.
func hasNumber(value any) bool {
	switch value := value.(type) {
	case float64:
		return true
	case []any:
		return slices.ContainsFunc(value, hasNumber)
	case map[string]any:
		for _, each := range value {
			if hasNumber(each) {
				return true
			}
		}
	}
	return false
}

// checkForm admits one JSON object (RFC 8259, and RFC 7493's ban on duplicate
// names and broken UTF-8) of at most [MaxDepth] levels, and nothing after it.
func checkForm(raw []byte) error {
	d := jsontext.NewDecoder(bytes.NewBuffer(raw))
	if kind := d.PeekKind(); kind != '{' && kind != 0 {
		return Malformed("body", "must be one JSON object")
	}
	for {
		_, err := d.ReadToken()
		switch {
		case errors.Is(err, jsontext.ErrDuplicateName):
			return Malformed("body", "must not name a field twice")
		case err != nil:
			return Malformed("body", "must be well-formed JSON in UTF-8")
		case d.StackDepth() > MaxDepth:
			return Malformed("body", fmt.Sprintf("must not nest more than %d levels", MaxDepth))
		case d.StackDepth() == 0:
			if len(bytes.TrimLeft(raw[d.InputOffset():], " \t\r\n")) > 0 {
				return Malformed("body", "must be one JSON object, and nothing after it")
			}
			return nil
		}
	}
}

// CheckRPC refuses a message of JSON-RPC that a protocol's SDK would take: a batch, each call
// of which costs what a request does, and an object that two readers could understand
// differently, as [Body.Decode] does. What is no JSON is left to the SDK, which has a code
// for that.
func CheckRPC(raw []byte) error {
	text := bytes.TrimSpace(raw)
	switch {
	case bytes.HasPrefix(text, []byte("[")):
		return Malformed("body", "must be one message: batches are not supported")
	case !bytes.HasPrefix(text, []byte("{")):
		return nil
	}
	err := checkForm(raw)
	if err == nil {
		return nil
	}
	// An SDK may read the first value only.
	d := jsontext.NewDecoder(bytes.NewReader(text), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if _, unreadable := d.ReadValue(); unreadable != nil {
		return nil
	}
	return err
}

// wrongValue is the issue of a field that may be one of the client's own making.
const wrongValue = "has a value of the wrong type or size"

// decodeError is for what well-formed JSON cannot become in Go: a number that
// no float holds, a float where an integer is due.
func decodeError(err error) error {
	if errors.Is(err, jsontext.ErrDuplicateName) {
		return Malformed("body", "must not name a field twice")
	}
	if semantic, ok := errors.AsType[*json.SemanticError](err); ok {
		if semantic.JSONPointer == "" {
			return Malformed("body", "must be one JSON object")
		}
		field := strings.ReplaceAll(strings.TrimPrefix(string(semantic.JSONPointer), "/"), "/", ".")
		e := Invalid(fieldName(field), wrongValue)
		// Not err, which quotes names and values of the body.
		e.Cause = fmt.Errorf("a JSON %v cannot be a Go %v", semantic.JSONKind, semantic.GoType)
		return e
	}
	return Malformed("body", "must be well-formed JSON in UTF-8")
}

// A workspace is what huma's validation needs for a moment.
type workspace struct {
	path   *huma.PathBuffer
	result huma.ValidateResult
}

var workspaces = sync.Pool{New: func() any { return &workspace{path: huma.NewPathBuffer(make([]byte, 0, 128), 0)} }}

func (b *Body[T]) check(parsed map[string]any) error {
	s := workspaces.Get().(*workspace)
	defer workspaces.Put(s)
	s.path.Reset()
	s.result.Reset()
	huma.Validate(b.registry, b.schema, s.path, huma.ModeWriteToServer, parsed, &s.result)
	nulls := b.nulls(parsed)
	if len(s.result.Errors) == 0 && len(nulls) == 0 {
		return nil
	}
	e := Fail(ValidationFailed, nil)
	e.Details = nulls
	for _, err := range s.result.Errors {
		if len(e.Details) == maxDetails {
			break
		}
		detail, ok := errors.AsType[*huma.ErrorDetail](err)
		if !ok {
			continue
		}
		e.Details = append(e.Details, requiredField(Detail{Field: fieldName(detail.Location), Issue: detail.Message}))
	}
	return e
}

// nulls finds optional fields that are null: huma takes them for absent, the
// contract for values of the wrong type.
func (b *Body[T]) nulls(parsed map[string]any) []Detail {
	var details []Detail
	for name, value := range parsed {
		if value != nil {
			continue
		}
		if property := b.schema.Properties[name]; property != nil && !property.Nullable && !slices.Contains(b.schema.Required, name) {
			details = append(details, Detail{Field: name, Issue: "must not be null"})
		}
	}
	slices.SortFunc(details, func(x, y Detail) int { return strings.Compare(x.Field, y.Field) })
	return details
}

// requiredField moves the name of a missing property, which huma puts into the
// message of the object that lacks it, to where the contract has it.
func requiredField(d Detail) Detail {
	const before, after = "expected required property ", " to be present"
	if name, ok := strings.CutPrefix(d.Issue, before); ok {
		if name, ok := strings.CutSuffix(name, after); ok {
			if d.Field != "" {
				name = d.Field + "." + name
			}
			return Detail{Field: name, Issue: "is required"}
		}
	}
	const dependent, on = "expected property ", " to be present when "
	if rest, ok := strings.CutPrefix(d.Issue, dependent); ok && d.Field == "" {
		if name, rest, ok := strings.Cut(rest, on); ok {
			return Detail{Field: name, Issue: "is required with " + strings.TrimSuffix(rest, " is present")}
		}
	}
	return d
}

// maxDetails bounds the list in an answer.
const maxDetails = 20

// fieldName bounds a name that the client may have made up.
func fieldName(name string) string { return truncate.Text(name, 64) }
