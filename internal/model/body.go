package model

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"google.golang.org/genai"

	"example.com/gatehouse/tool"
)

// The SDK encodes what it is given, decodes that into maps, and encodes those
// again, at each call: for the tools' schemas and the history of a conversation
// that was a quarter of a turn's CPU. So it is given the settings alone, and what
// is large the transport puts into its request ready-made, in the form that both
// of Google's APIs take.

// ready is all of r but its settings: the beginning of a JSON object in two parts,
// what r asks and what c's requests have in common, up to the comma before a
// further member.
func (c *Client) ready(r *Request) ([2][]byte, error) {
	own, err := r.contents()
	return [2][]byte{own, c.common(r)}, err
}

// A common is what the requests of an agent have in common.
type common struct {
	instruction string
	tools       json.RawMessage
	members     []byte
}

// common is the members of r's JSON object that are its agent's. They are those of
// the request before, as a rule.
func (c *Client) common(r *Request) []byte {
	if last := c.last.Load(); last != nil && last.instruction == r.Instruction && bytes.Equal(last.tools, r.Tools) {
		return last.members
	}
	var members []byte
	if r.Instruction != "" {
		text, _ := json.Marshal(r.Instruction) // of a string: it cannot fail
		members = append(members, `,"systemInstruction":{"parts":[{"text":`...)
		members = append(members, text...)
		members = append(members, `}],"role":"user"}`...)
	}
	if r.Tools != nil {
		members = append(members, `,"tools":`...)
		members = append(members, r.Tools...)
	}
	members = append(members, ',')
	c.last.Store(&common{r.Instruction, r.Tools, members})
	return members
}

// complete gives r the body that begins with h.ready and goes on as r's own does,
// a JSON object with members.
func (h *hints) complete(r *http.Request) (*http.Request, error) {
	settings, err := io.ReadAll(r.Body)
	if err := errors.Join(err, r.Body.Close()); err != nil {
		return nil, err
	}
	settings, ok := bytes.CutPrefix(settings, []byte{'{'})
	if !ok || bytes.HasPrefix(settings, []byte{'}'}) {
		return nil, errors.New("the SDK's request holds no settings")
	}
	whole, own, common := *r, h.ready[0], h.ready[1]
	whole.ContentLength = int64(len(own) + len(common) + len(settings))
	whole.GetBody = func() (io.ReadCloser, error) {
		// Without io.WriterTo, for which it would make a buffer that it does not use.
		parts := struct{ io.Reader }{io.MultiReader(bytes.NewReader(own), bytes.NewReader(common), bytes.NewReader(settings))}
		return io.NopCloser(parts), nil
	}
	whole.Body, _ = whole.GetBody()
	return &whole, nil
}

// contents is {"contents": and the JSON array of r's contents, the history's spliced
// in as it is stored.
func (r *Request) contents() ([]byte, error) {
	own, err := json.Marshal(r.Contents)
	if err != nil {
		return nil, err
	}
	const begin = `{"contents":[`
	size := len(begin) + len(own) + len(r.History) + 1
	for _, turn := range r.History {
		size += len(turn)
	}
	all := append(make([]byte, 0, size), begin...)
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
		if len(all) > len(begin) {
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

// Declare tells the model of tools, for [Request.Tools]; nil without any.
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
