package model

import (
	"bytes"
	"encoding/json"

	"google.golang.org/genai"
)

// The SDK decodes the arguments of calls into float64, which keeps 15 digits of
// an integer that may have 19. So the transport keeps what it read of the
// answer's calls, and their arguments are read once more from there.

// calls are the pieces of an answer's JSON in which functions are called.
type calls struct {
	stream bool   // an event stream, of which only lines with calls are kept
	line   []byte // of a stream, so far; the whole of another answer
	events [][]byte
}

var functionCall = []byte(`"functionCall"`)

// read takes in the next bytes of the answer.
func (c *calls) read(p []byte) {
	for c.stream {
		line, rest, ended := bytes.Cut(p, []byte{'\n'})
		if !ended {
			break
		}
		if len(c.line) == 0 && !bytes.Contains(line, functionCall) {
			p = rest
			continue
		}
		c.line = append(c.line, line...)
		if bytes.Contains(c.line, functionCall) {
			c.events = append(c.events, bytes.TrimPrefix(c.line, []byte("data:")))
			c.line = nil
		}
		c.line = c.line[:0]
		p = rest
	}
	c.line = append(c.line, p...)
}

// correct gives the calls in content the arguments that the model wrote. Where
// the two do not agree on what was called, they are left as the SDK has them.
func (c *calls) correct(content *genai.Content) {
	if bytes.Contains(c.line, functionCall) { // a whole answer, or a stream's last line
		c.events = append(c.events, bytes.TrimPrefix(c.line, []byte("data:")))
	}
	if len(c.events) == 0 || content == nil {
		return
	}
	type call struct {
		Name string         `json:"name"`
		Args map[string]any `json:"args"`
	}
	var written []call
	for _, event := range c.events {
		var response struct {
			Candidates []struct {
				Content struct {
					Parts []struct {
						FunctionCall *call `json:"functionCall"`
					} `json:"parts"`
				} `json:"content"`
			} `json:"candidates"`
		}
		decoder := json.NewDecoder(bytes.NewReader(event))
		decoder.UseNumber()
		if decoder.Decode(&response) != nil || len(response.Candidates) == 0 {
			return
		}
		for _, part := range response.Candidates[0].Content.Parts {
			if part.FunctionCall != nil {
				written = append(written, *part.FunctionCall)
			}
		}
	}
	var decoded []*genai.FunctionCall
	for _, part := range content.Parts {
		if part.FunctionCall != nil {
			decoded = append(decoded, part.FunctionCall)
		}
	}
	if len(decoded) != len(written) {
		return
	}
	for i, call := range decoded {
		if call.Name != written[i].Name {
			return
		}
	}
	for i, call := range decoded {
		call.Args = written[i].Args
	}
}
