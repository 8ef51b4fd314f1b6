// Package a2awire mends what a2a-go's server writes, and makes parts that it has no words for.
package a2awire

import (
	"bytes"
	"encoding/json"

	"github.com/a2aproject/a2a-go/v2/a2a"
)

// Value returns a JSON value as a part that keeps its digits, nil for null and for none.
func Value(encoded json.RawMessage) *a2a.Part {
	var value any
	decoder := json.NewDecoder(bytes.NewReader(encoded))
	decoder.UseNumber()
	if decoder.Decode(&value) != nil || value == nil {
		return nil
	}
	part := a2a.NewDataPart(value)
	part.MediaType = "application/json"
	return part
}

// The beginning of an error about parameters, up to the words of encoding/json. In a text of
// the agent or of a caller the quotes would be escaped.
var invalid = []byte(`"error":{"code":-32602,"message":"invalid params`)

// Mend returns an answer as JSON-RPC and clients have it. An answer that is void, of a method
// without a result, has the result null, which the server leaves out. An error about
// parameters does not name the types of the program.
func Mend(answer []byte, void bool) []byte {
	if void {
		var members map[string]json.RawMessage
		if json.Unmarshal(answer, &members) == nil && members["error"] == nil && members["result"] == nil {
			members["result"] = json.RawMessage("null") // JSON-RPC 2.0, 5
			answer, _ = json.Marshal(members)           // of JSON
		}
	}
	begin := bytes.Index(answer, invalid)
	if begin < 0 {
		return answer
	}
	begin += len(invalid)
	for end := begin; end < len(answer); end++ {
		switch answer[end] {
		case '\\':
			end++
		case '"':
			return bytes.Join([][]byte{answer[:begin], answer[end:]}, []byte(": they are not what the method takes"))
		}
	}
	return answer
}
