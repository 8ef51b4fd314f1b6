package agent

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/jsonschema-go/jsonschema"
)

// An Output is the type of an agent's answers: the model is asked for JSON of it. Make
// one with [OutputOf]. It is immutable and safe for concurrent use.
type Output struct {
	schema   *jsonschema.Schema
	resolved *jsonschema.Resolved
	decode   func([]byte) error
}

// OutputOf returns the Output of T: its exported fields, named by their json tags and
// described by their jsonschema tags; a field with omitempty or omitzero is optional.
// Where T implements json.Unmarshaler, an error of it refuses an answer, too.
//
// OutputOf panics when T has no JSON schema: that is fixed when the program is written.
func OutputOf[T any]() *Output {
	schema, err := jsonschema.For[T](nil)
	if err != nil {
		panic(fmt.Sprintf("agent: the output: %v", err))
	}
	resolved, err := schema.Resolve(nil)
	if err != nil {
		panic(fmt.Sprintf("agent: the output: %v", err))
	}
	return &Output{schema, resolved, func(raw []byte) error { return json.Unmarshal(raw, new(T)) }}
}

// Schema is the JSON schema of the answers.
func (o *Output) Schema() *jsonschema.Schema { return o.schema }

// Check returns the value in a model's answer, as JSON on one line with its digits as
// they are. Its error is for the model to read: it names what does not fit.
func (o *Output) Check(answer string) (json.RawMessage, error) {
	text := strings.TrimSpace(answer)
	if body, ok := strings.CutPrefix(text, "```json"); ok { // a model that wraps what it was asked for
		text = strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(body), "```"))
	}
	// Clients read the value as a part of the response. Two members of one name, or half of
	// a surrogate pair, encoding/json lets pass; other decoders refuse the whole response.
	compact := jsontext.Value(text)
	if err := compact.Format(jsontext.PreserveRawStrings(true)); err != nil {
		return nil, fmt.Errorf("it is not JSON: %v", err)
	}
	var value any
	if err := json.Unmarshal(compact, &value); err != nil {
		return nil, fmt.Errorf("it is not JSON: %v", err)
	}
	if err := o.resolved.Validate(value); err != nil {
		return nil, fmt.Errorf("it does not fit the schema: %v", err)
	}
	if err := o.decode(compact); err != nil {
		return nil, fmt.Errorf("it does not fit the schema: %v", err)
	}
	return json.RawMessage(compact), nil
}
