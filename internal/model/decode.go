package model

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	jsonv2 "github.com/go-json-experiment/json"
	jsonv1 "github.com/go-json-experiment/json/v1"
	"google.golang.org/genai"

	"example.com/gatehouse/internal/exactjson"
)

// Decoding answers was the largest part of a model call's CPU: encoding/json passes over an
// answer four times, two of them to call the SDK's UnmarshalJSON. The next version of
// encoding/json passes over it once, in a quarter of the time and with half the memory. It is
// the stricter one: it refuses names that come twice, and text that is not UTF-8. What it
// takes, encoding/json decodes to the same value; what it refuses is left to encoding/json, so
// that the same answers are taken as before, and errors read the same.

// A response is genai's, without its method UnmarshalJSON.
type response genai.GenerateContentResponse

// sameNames finds members by the names by which encoding/json finds them: in any case.
var sameNames = jsonv2.JoinOptions(jsonv2.MatchCaseInsensitiveNames(true), jsonv1.MatchCaseSensitiveDelimiter(true))

// decode returns the answer that raw holds, or the chunk of one, or the error that it is.
func decode(raw []byte, header http.Header) (*genai.GenerateContentResponse, error) {
	if failure := failureIn(raw); failure != nil {
		return nil, failure.error(0, header)
	}
	raw = quoteArguments(raw)
	chunk := new(genai.GenerateContentResponse)
	if jsonv2.Unmarshal(raw, (*response)(chunk), sameNames) == nil {
		return chunk, nil
	}
	if err := checkJSON(raw); err != nil {
		return nil, err
	}
	chunk = new(genai.GenerateContentResponse)
	return chunk, json.Unmarshal(raw, chunk)
}

// checkJSON returns an error unless raw is JSON.
func checkJSON(raw []byte) error {
	if json.Valid(raw) {
		return nil
	}
	var value json.RawMessage
	err := json.NewDecoder(bytes.NewReader(raw)).Decode(&value)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &Error{Kind: Failed, temporary: true, err: errors.New("the model's answer ended early")}
	}
	return unreadable("not JSON")
}

// Numbers in the arguments of calls may have more digits than a float64 keeps. So
// the SDK's types get the arguments' JSON as one text, by the name argumentsText, and
// [unquoteArguments] decodes it.
const argumentsText = "json"

func quoteArguments(raw []byte) []byte {
	// Within a text the quotes would be escaped.
	if !bytes.Contains(raw, []byte(`"functionCall"`)) {
		return raw
	}
	var response any
	if exactjson.Unmarshal(raw, &response) != nil {
		return raw
	}
	quoteWithin(response)
	quoted, _ := json.Marshal(response) // it was decoded: it cannot fail
	return quoted
}

func quoteWithin(value any) {
	switch value := value.(type) {
	case []any:
		for _, element := range value {
			quoteWithin(element)
		}
	case map[string]any:
		for name, member := range value {
			if name != "functionCall" {
				quoteWithin(member)
			}
		}
		call, _ := value["functionCall"].(map[string]any)
		if arguments, ok := call["args"]; ok {
			text, _ := json.Marshal(arguments) // it was decoded: it cannot fail
			call["args"] = map[string]any{argumentsText: string(text)}
		}
	}
}

// unquoteArguments returns a call's arguments as the model wrote them.
func unquoteArguments(quoted map[string]any) (map[string]any, error) {
	text, ok := quoted[argumentsText].(string)
	if !ok {
		return quoted, nil // the call has none
	}
	var arguments map[string]any
	if exactjson.Unmarshal([]byte(text), &arguments) != nil {
		return nil, unreadable("a call's arguments are no object")
	}
	quoteEndless(arguments)
	return arguments, nil
}

// quoteEndless makes texts of numbers beyond a float64, such as 1e400: no tool takes them,
// and clients could not read the event or the session that has one.
func quoteEndless(value any) any {
	switch value := value.(type) {
	case []any:
		for i, element := range value {
			value[i] = quoteEndless(element)
		}
	case map[string]any:
		for name, member := range value {
			value[name] = quoteEndless(member)
		}
	case json.Number:
		if _, err := value.Float64(); err != nil {
			return string(value)
		}
	}
	return value
}
