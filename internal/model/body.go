package model

import (
	"bytes"
	"encoding/json"
	"fmt"

	"google.golang.org/genai"

	"example.com/gatehouse/tool"
)

// The SDK decodes contents into its own types, in which numbers lose digits, empty
// members vanish, and which it encodes three times over. So it makes the request, and
// what is stored goes into the body by its own means, as it lies there, and so does
// what is the same in all of an agent's requests.

// body returns what puts r's contents, tools and instruction into the SDK's request.
func (r *Request) body(vertexAI bool) (genai.ExtrasRequestProvider, error) {
	contents, err := r.contents()
	return func(body map[string]any) map[string]any {
		body["contents"] = contents
		if r.Tools.JSON != nil {
			body["tools"] = r.Tools.JSON
			if r.Tools.mixed && !vertexAI { // whose API does not know the field
				body["toolConfig"] = mixedTools
			}
		}
		if r.Instruction != "" {
			body["systemInstruction"] = genai.NewContentFromText(r.Instruction, genai.RoleUser)
		}
		return body
	}, err
}

// contents is the JSON array of r's contents, the history's as it is stored.
func (r *Request) contents() (json.RawMessage, error) {
	own, err := json.Marshal(r.Contents)
	if err != nil {
		return nil, err
	}
	size := len(own) + len(r.History) + 2
	for _, turn := range r.History {
		size += len(turn)
	}
	all := append(make(json.RawMessage, 0, size), '[')
	add := func(list []byte) error {
		list, err := r.repair.rewrite(list)
		if err != nil {
			return err
		}
		if list, err = r.withFiles(list); err != nil {
			return err
		}
		list = bytes.TrimSpace(list)
		if len(list) < 2 || list[0] != '[' {
			return fmt.Errorf("contents that are no list: %.20q", list)
		}
		if list = bytes.TrimSpace(list[1 : len(list)-1]); len(list) == 0 {
			return nil
		}
		if len(all) > 1 {
			all = append(all, ',')
		}
		all = append(all, list...)
		return nil
	}
	for _, turn := range r.History {
		if err := add(turn); err != nil {
			return nil, fmt.Errorf("the history: %w", err)
		}
	}
	if len(r.Contents) > 0 {
		err = add(own)
	}
	return append(all, ']'), err
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
