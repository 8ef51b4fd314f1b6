// Package mcpwire mends what the Go SDK of MCP writes, and has the forms that it has no words for.
package mcpwire

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"example.com/gatehouse/internal/api"
)

// A Writer bounds each write to a client that does not read, and keeps back the SDK's errors
// in plain text and the names of the types that it decodes into.
type Writer struct {
	http.ResponseWriter
	control *http.ResponseController
	refused int // the status of an error in plain text, which was not sent
}

// NewWriter returns a Writer to w.
func NewWriter(w http.ResponseWriter) *Writer {
	return &Writer{ResponseWriter: w, control: http.NewResponseController(w)}
}

// WriteHeader keeps back an error in plain text: it is no JSON-RPC.
func (w *Writer) WriteHeader(status int) {
	if status >= 400 && strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain") {
		w.refused = status
		return
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements [http.ResponseWriter].
func (w *Writer) Write(b []byte) (int, error) {
	if w.refused != 0 {
		return len(b), nil
	}
	api.BoundWrite(w.control)
	if _, err := w.ResponseWriter.Write(mend(b)); err != nil {
		return 0, err
	}
	return len(b), nil
}

// Unwrap lets an [http.ResponseController] flush.
func (w *Writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// File returns a file of an answer as content: a picture or a sound as such, another one as a
// resource, a link to one that is kept. One that has neither content nor an address was too
// large to be kept for the repeat of a call.
func File(name, mediaType, uri string, data []byte) sdk.Content {
	name = cmp.Or(name, "file")
	switch kind, _, _ := strings.Cut(mediaType, "/"); {
	case uri != "":
		return &sdk.ResourceLink{URI: uri, Name: name, MIMEType: mediaType}
	case len(data) == 0:
		return &sdk.TextContent{Text: fmt.Sprintf("The file %q (%s) came with the first answer only: it is too large to be kept.", name, mediaType)}
	case kind == "image":
		return &sdk.ImageContent{Data: data, MIMEType: mediaType}
	case kind == "audio":
		return &sdk.AudioContent{Data: data, MIMEType: mediaType}
	}
	return &sdk.EmbeddedResource{Resource: &sdk.ResourceContents{URI: "file:///" + url.PathEscape(name), MIMEType: mediaType, Blob: data}}
}

// Complete is the type of a result that is whole.
const Complete = "complete"

// A CompleteResult is a result inside of a task, where the SDK does not write its type.
type CompleteResult struct{ *sdk.CallToolResult }

// MarshalJSON implements [json.Marshaler].
func (r CompleteResult) MarshalJSON() ([]byte, error) {
	encoded, err := json.Marshal(r.CallToolResult)
	if err != nil {
		return nil, err
	}
	return append([]byte(`{"resultType":"`+Complete+`",`), encoded[1:]...), nil // it has content
}

// CapabilitiesOf returns what a request says that its client can, nil for one of an older
// spec.
func CapabilitiesOf(meta sdk.Meta) (can *sdk.ClientCapabilities) {
	encoded, _ := json.Marshal(meta[sdk.MetaKeyClientCapabilities]) // it came as JSON
	if json.Unmarshal(encoded, &can) != nil {
		return nil // what cannot be read declares nothing
	}
	return can
}

// invalidParams is where the message begins of an error about parameters.
var invalidParams = []byte(`"error":{"code":-32602,"message":`)

// mend returns a message of the SDK without its words on parameters that it cannot decode,
// which name its types and repeat what was sent. They come before any middleware of its
// server. A text of the agent or of a caller has its quotes escaped, and a value of a tool
// stands in a result.
func mend(message []byte) []byte {
	begin := bytes.Index(message, invalidParams)
	if begin < 0 || bytes.Contains(message[:begin], []byte(`"result":`)) {
		return message
	}
	begin += len(invalidParams)
	d := json.NewDecoder(bytes.NewReader(message[begin:]))
	token, _ := d.Token() // nil: no JSON
	if text, _ := token.(string); !strings.HasPrefix(text, "handling '") {
		return message // the gate's own
	}
	return slices.Concat(message[:begin], []byte(`"the parameters are not what the method takes"`), message[begin+int(d.InputOffset()):])
}

// needParams are the methods of MCP's servers whose calls have parameters.
var needParams = []string{
	"completion/complete", "initialize", "logging/setLevel", "prompts/get", "resources/read", "resources/subscribe", "resources/unsubscribe",
	"subscriptions/listen", "tools/call",
}

// Refusal answers a call that the SDK has refused in plain text, or returns the error for that
// request; nil if the SDK has answered. Its words are not shown: they name its types and quote
// what was sent.
func (w *Writer) Refusal(r *http.Request, body []byte) error {
	if w.refused == 0 {
		return nil
	}
	sent, malformed := jsonrpc.DecodeMessage(body)
	version, versions := r.Header.Get("Mcp-Protocol-Version"), sdk.SupportedProtocolVersions()
	jsonOK, streamOK, _ := api.Negotiate(r)
	switch {
	case w.refused == http.StatusForbidden: // of a page that has renamed its address
		return &api.Error{Code: api.PermissionDenied, Details: []api.Detail{{Field: "Host", Issue: "must be localhost or a loopback address"}}}
	case w.refused >= 500:
		return api.Fail(api.Internal, fmt.Errorf("the SDK answers %d", w.refused))
	case malformed != nil:
		return api.Malformed("body", "must be a message of JSON-RPC 2.0")
	case version != "" && !slices.Contains(versions, version):
		return api.Malformed("Mcp-Protocol-Version", "must be one of "+strings.Join(versions, ", "))
	case !jsonOK || !streamOK || r.Header.Get("Accept") == "":
		return api.Malformed("Accept", "must allow application/json and text/event-stream")
	case r.Header.Get("Last-Event-ID") != "":
		return api.Malformed("Last-Event-ID", "must be left out: no stream can be resumed")
	}
	call, ok := sent.(*jsonrpc.Request)
	if !ok || !call.IsCall() || w.refused != http.StatusBadRequest {
		return api.Malformed("body", "must be a request with a method that this server has, an id and what it needs")
	}
	// The SDK refuses a call here only for its method or its missing parameters, for which
	// JSON-RPC has answers.
	code, failed, message := int64(jsonrpc.CodeMethodNotFound), api.NotFound, "there is no such method"
	if len(call.Params) == 0 && slices.Contains(needParams, call.Method) {
		code, failed, message = jsonrpc.CodeInvalidParams, api.ValidationFailed, "the method takes parameters"
	}
	answer, err := jsonrpc.EncodeMessage(&jsonrpc.Response{ID: call.ID, Error: Error(r.Context(), code, failed, message)})
	if err != nil {
		return err
	}
	return api.WriteJSON(w.ResponseWriter, http.StatusOK, json.RawMessage(answer))
}

// Error returns an error of JSON-RPC that has the gate's own code beside.
func Error(ctx context.Context, code int64, failed api.Code, message string) *jsonrpc.Error {
	data, _ := json.Marshal(map[string]any{"error": failed, "request_id": api.RequestID(ctx)}) // strings
	return &jsonrpc.Error{Code: code, Message: message, Data: data}
}

// CheckArguments returns the result of a call of a tool whose arguments are no object, nil for
// any other request: the SDK's words for that name its types.
func CheckArguments(req sdk.Request) *sdk.CallToolResult {
	call, ok := req.(*sdk.CallToolRequest)
	if !ok || call.Params == nil {
		return nil
	}
	if a := call.Params.Arguments; len(a) == 0 || a[0] == '{' || string(a) == "null" {
		return nil // without any there is nothing wrong
	}
	result := &sdk.CallToolResult{}
	result.SetError(errors.New("the arguments are not an object"))
	return result
}
