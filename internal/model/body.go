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
func (r *Request) body() (genai.ExtrasRequestProvider, error) {
	contents, err := r.contents()
	return func(body map[string]any) map[string]any {
		body["contents"] = contents
		if r.Tools != nil {
			body["tools"] = r.Tools
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

// Declare returns the declarations of tools, for [Request.Tools]; nil without any.
func Declare(tools []tool.Tool) json.RawMessage {
	if len(tools) == 0 {
		return nil
	}
	var declarations []*genai.FunctionDeclaration
	for _, t := range tools {
		declarations = append(declarations, &genai.FunctionDeclaration{
			Name: t.Name(), Description: t.Description(), ParametersJsonSchema: t.Schema(),
		})
	}
	raw, err := json.Marshal([]*genai.Tool{{FunctionDeclarations: declarations}})
	if err != nil {
		panic(fmt.Sprintf("model: the tools' schemas: %v", err)) // they were made by package tool
	}
	return raw
}
