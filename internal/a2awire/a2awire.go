// Package a2awire mends what a2a-go's server writes, and makes parts that it has no words for.
package a2awire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/a2aproject/a2a-go/v2/a2a"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/exactjson"
)

// Value returns a JSON value as a part that keeps its digits, nil for null and for none.
func Value(encoded json.RawMessage) *a2a.Part {
	var value any
	if exactjson.Unmarshal(encoded, &value) != nil || value == nil {
		return nil
	}
	part := a2a.NewDataPart(value)
	part.MediaType = "application/json"
	return part
}

// An sdkError is a kind of error that the server makes by itself.
type sdkError struct {
	code  int
	gate  api.Code
	words string // that its message begins with, up to what names types of the program; "" for none
	end   string // in the place of these
}

var sdkErrors = []sdkError{
	{-32700, api.MalformedRequest, "parse error", ": what was sent cannot be read"},
	{-32600, api.MalformedRequest, "", ""},
	{-32601, api.NotFound, "", ""},
	{-32602, api.ValidationFailed, "invalid params", ": they are not what the method takes"},
	{-32002, api.SessionConflict, "", ""},
	{-32003, api.ValidationFailed, "", ""},
	{-32007, api.NotFound, "", ""},
}

// A Request is what is known of the request that the server answers.
type Request struct {
	ID   string // of the gate's
	JSON bool   // its body was JSON
	Void bool   // its method has no result
}

// Where errors begin of the server, which calls parameters that are missing, or that a type
// decodes by itself, no JSON.
const (
	parseError    = `"error":{"code":-32700,"message":"parse error`
	invalidParams = `"error":{"code":-32602,"message":"invalid params`
)

// Mend returns an answer to r as JSON-RPC and clients have it. One without a result has the
// result null, which the server leaves out. The server's own errors have the gate's code and
// the request's id in their metadata, as the gate's have, and do not name the types of the
// program. In a text of the agent or of a caller what is looked for has its quotes escaped.
func (r Request) Mend(answer []byte) []byte {
	if r.Void {
		var members map[string]json.RawMessage
		if json.Unmarshal(answer, &members) == nil && members["error"] == nil && members["result"] == nil {
			members["result"] = json.RawMessage("null") // JSON-RPC 2.0, 5
			answer, _ = json.Marshal(members)           // of JSON
		}
	}
	begin := bytes.Index(answer, []byte(`"error":{"code":-32`))
	if begin < 0 || bytes.Contains(answer[:begin], []byte(`"result":`)) {
		return answer
	}
	if rest, found := bytes.CutPrefix(answer[begin:], []byte(parseError)); found && r.JSON {
		rest = bytes.Replace(rest, []byte(`"reason":"PARSE_ERROR"`), []byte(`"reason":"INVALID_PARAMS"`), 1)
		answer = slices.Concat(answer[:begin], []byte(invalidParams), rest)
	}
	for _, kind := range sdkErrors {
		head := fmt.Appendf(nil, `"error":{"code":%d,"message":"%s`, kind.code, kind.words)
		if !bytes.HasPrefix(answer[begin:], head) {
			continue
		}
		if kind.words != "" {
			answer = replaceText(answer, begin+len(head), kind.end)
		}
		// The gate's own have more before the time.
		const time = `"metadata":{"timestamp":`
		if at := bytes.Index(answer, []byte(time)); at > begin {
			added := fmt.Appendf(nil, `"metadata":{"error":%q,"request_id":%q,"timestamp":`, kind.gate, r.ID)
			answer = slices.Concat(answer[:at], added, answer[at+len(time):])
		}
	}
	return answer
}

// replaceText replaces what is left of a JSON text from begin on, if that has an end.
func replaceText(answer []byte, begin int, text string) []byte {
	for end := begin; end < len(answer); end++ {
		switch answer[end] {
		case '\\':
			end++
		case '"':
			return slices.Concat(answer[:begin], []byte(text), answer[end:])
		}
	}
	return answer
}
