package model

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"google.golang.org/genai"

	"example.com/gatehouse/tool"
)

// In the SDK's types numbers lose digits and empty members vanish, so contents go into the
// body as they are stored, beside what is the same in all of an agent's requests.

// body returns r's body, which begins with head, up to the first content.
func (c *Client) body(r *Request, head []byte) ([]byte, error) {
	own, err := r.own()
	if err != nil {
		return nil, err
	}
	instruction := c.instruction(r.Instruction)
	const tools = `,"tools":`
	size := len(head) + len(own) + len(tools) + len(r.Tools.JSON) + len(instruction) + len("]}")
	for _, turn := range r.History {
		size += len(turn) // whose brackets leave room for the comma
	}
	body := append(make([]byte, 0, size), head...)
	for _, turn := range r.History {
		if !r.Exact || r.repair != asStored {
			if turn, err = r.repair.rewrite(turn); err != nil {
				return nil, fmt.Errorf("the history: %w", err)
			}
		}
		if body, err = r.appendContents(body, turn); err != nil {
			return nil, fmt.Errorf("the history: %w", err)
		}
	}
	if body, err = r.appendContents(body, own); err != nil {
		return nil, err
	}
	body = append(body, ']')
	if r.Tools.JSON != nil {
		body = append(append(body, tools...), r.Tools.JSON...)
	}
	return append(append(body, instruction...), '}'), nil
}

// maxInstructions bounds the instructions that are kept as they are sent. An agent's is the
// same at each turn, unless it is told something new.
const maxInstructions = 8

// instruction returns the member of a body that has an agent's instruction, with a comma
// before it; nothing for none.
func (c *Client) instruction(text string) []byte {
	if text == "" {
		return nil
	}
	if member, ok := c.instructions.Get(text); ok {
		return member
	}
	encoded, _ := json.Marshal(text) // a text: it cannot fail
	member := slices.Concat([]byte(`,"systemInstruction":{"role":"user","parts":[{"text":`), encoded, []byte(`}]}`))
	c.instructions.Add(text, member)
	return member
}

// own returns r.Contents encoded in r's form.
func (r *Request) own() ([]byte, error) {
	if len(r.Contents) == 0 {
		return []byte("[]"), nil
	}
	own, err := json.Marshal(r.Contents)
	if err != nil {
		return nil, err
	}
	return r.repair.rewrite(own)
}

// appendContents appends a JSON array of contents to body, which holds one without its
// end.
func (r *Request) appendContents(body []byte, list json.RawMessage) ([]byte, error) {
	list, err := r.withFiles(list)
	if err != nil {
		return nil, err
	}
	list = bytes.TrimSpace(list)
	if len(list) < 2 || list[0] != '[' {
		return nil, fmt.Errorf("contents that are no list: %.20q", list)
	}
	if list = bytes.TrimSpace(list[1 : len(list)-1]); len(list) == 0 {
		return body, nil
	}
	if body[len(body)-1] != '[' {
		body = append(body, ',')
	}
	return append(body, list...), nil
}

// withFiles returns contents with the contents of r's files in the place of their
// addresses.
func (r *Request) withFiles(list json.RawMessage) (json.RawMessage, error) {
	if len(r.Files) == 0 || !bytes.Contains(list, []byte(`"fileData"`)) {
		return list, nil
	}
	contents, err := DecodeContents(list)
	if err != nil {
		return nil, err
	}
	for _, content := range contents {
		for _, part := range content.Parts {
			reference, _ := part["fileData"].(map[string]any)
			uri, _ := reference["fileUri"].(string)
			if file := r.Files[uri]; file != nil {
				delete(part, "fileData")
				part["inlineData"] = map[string]any{"mimeType": file.MIMEType, "data": file.Data}
			}
		}
	}
	return json.Marshal(contents)
}

// Tools are what a model may call, as requests declare it.
type Tools struct {
	JSON  json.RawMessage // of a list of genai.Tool; nil for none
	mixed bool            // functions and Gemini's own
}

// mixedTools asks the Developer API for functions beside Gemini's own tools. It then
// shows the calls of these, and expects them in the next request as it sent them
// (https://ai.google.dev/gemini-api/docs/tool-combination).
var mixedTools = json.RawMessage(`{"includeServerSideToolInvocations":true}`)

// Declare returns the declarations of tools, for [Request.Tools].
func Declare(tools []tool.Tool) Tools {
	if len(tools) == 0 {
		return Tools{}
	}
	var declarations []*genai.FunctionDeclaration
	var all []*genai.Tool
	for _, t := range tools {
		if own := t.GeminiTool(); own != nil {
			all = append(all, own)
			continue
		}
		declarations = append(declarations, &genai.FunctionDeclaration{
			Name: t.Name(), Description: t.Description(), ParametersJsonSchema: t.Schema(),
		})
	}
	if len(declarations) > 0 {
		all = append(all, &genai.Tool{FunctionDeclarations: declarations})
	}
	return DeclareTools(all)
}

// DeclareTools is [Declare] for tools in the API's own form.
func DeclareTools(all []*genai.Tool) Tools {
	if len(all) == 0 {
		return Tools{}
	}
	functions, own := false, false
	for _, t := range all {
		if t != nil && len(t.FunctionDeclarations) > 0 {
			functions = true
		} else {
			own = true
		}
	}
	raw, err := json.Marshal(all)
	if err != nil {
		panic(fmt.Sprintf("model: the tools' schemas: %v", err)) // they are made of Go types
	}
	return Tools{raw, functions && own}
}
