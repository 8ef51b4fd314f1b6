package model

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/genai"

	"example.com/gatehouse/internal/exactjson"
)

// A repair is a form of a conversation in which a model may take it that refused
// it as it is stored. A model refuses calls that are not signed, signatures of
// another model's, calls without a name; what is refused once would be refused
// at every later turn of its session, which must not die of what it holds. So
// the next form is tried, which keeps less.
type repair int

const (
	// asStored: as models and tools returned it.
	asStored repair = iota
	// placeholders: without signatures, which hold how the model's own thoughts
	// went on; the first call of each step has the word that stands for one, and
	// calls without a name have one.
	placeholders
	// encodedPlaceholders: the same, the word in base64. Google's documents have it
	// plain (https://ai.google.dev/gemini-api/docs/thought-signatures), its SDKs
	// encode it, and either form has been reported as refused.
	encodedPlaceholders
	// asText: calls, responses and files are described in words.
	asText
)

// noSignature stands for a signature that is not there.
const noSignature = "skip_thought_signature_validator"

// unnamed is the name of a call that has none.
const unnamed = "unnamed"

// repairable reports whether r holds anything that a repair changes.
func (r *Request) repairable() bool {
	for _, turn := range r.History {
		if beyondText(turn) {
			return true
		}
	}
	own, err := json.Marshal(r.Contents)
	return err == nil && beyondText(own)
}

// beyondText reports whether contents hold more than text. Within a text the
// quotes would be escaped.
func beyondText(contents []byte) bool {
	for _, member := range []string{`"functionCall"`, `"functionResponse"`, `"thoughtSignature"`, `"thought"`, `"inlineData"`,
		`"fileData"`, `"executableCode"`, `"codeExecutionResult"`, `"toolCall"`, `"toolResponse"`} {
		if bytes.Contains(contents, []byte(member)) {
			return true
		}
	}
	return false
}

// A Content is one of a conversation's, its parts by the names of the API.
type Content struct {
	Parts []map[string]any `json:"parts,omitempty"`
	Role  string           `json:"role,omitempty"`
}

// DecodeContents reads contents without loss: numbers keep their digits.
func DecodeContents(list []byte) ([]Content, error) {
	var contents []Content
	if err := exactjson.Unmarshal(list, &contents); err != nil {
		return nil, fmt.Errorf("decoding contents: %w", err)
	}
	return contents, nil
}

// rewrite returns contents in f's form.
func (f repair) rewrite(list json.RawMessage) (json.RawMessage, error) {
	if f == asStored {
		return Restore(list)
	}
	contents, err := DecodeContents(list)
	if err != nil {
		return nil, err
	}
	kept := make([]Content, 0, len(contents))
	for _, c := range contents {
		c.Parts = f.parts(c.Parts)
		if len(c.Parts) > 0 {
			kept = append(kept, c)
		}
	}
	return json.Marshal(kept)
}

// parts are a content's parts in f's form; none for a content without text, calls or files.
func (f repair) parts(parts []map[string]any) []map[string]any {
	kept := make([]map[string]any, 0, len(parts))
	called := false
	for _, part := range parts {
		if f == asText {
			if text := describe(part); text != "" {
				kept = append(kept, map[string]any{"text": text})
			}
			continue
		}
		_, signed := part["thoughtSignature"]
		delete(part, "thoughtSignature")
		if call, ok := part["functionCall"].(map[string]any); ok {
			ensureName(call)
			if call["args"] == nil {
				call["args"] = map[string]any{}
			}
			if signed || !called {
				part["thoughtSignature"] = f.placeholder()
			}
			called = true
		}
		if response, ok := part["functionResponse"].(map[string]any); ok {
			ensureName(response)
		}
		if onlySigned(part) {
			continue // it was nothing but its signature
		}
		kept = append(kept, part)
	}
	return kept
}

func (f repair) placeholder() string {
	switch f {
	case placeholders:
		return noSignature
	case encodedPlaceholders:
		return base64.StdEncoding.EncodeToString([]byte(noSignature))
	}
	panic("no form with placeholders")
}

// ensureName names a call, or the response to one, that has no name.
func ensureName(call map[string]any) {
	if text, _ := call["name"].(string); text == "" {
		call["name"] = unnamed
	}
}

// describe returns a part in words, "" for one that holds nothing for a reader.
func describe(part map[string]any) string {
	if text, _ := part["text"].(string); text != "" {
		if part["thought"] == true {
			return ""
		}
		return text
	}
	for member, value := range part {
		object, ok := value.(map[string]any)
		if !ok {
			continue
		}
		switch member {
		case "functionCall", "toolCall":
			ensureName(object)
			return fmt.Sprintf("[called %v with %s]", object["name"], encoded(object["args"]))
		case "functionResponse", "toolResponse":
			ensureName(object)
			return fmt.Sprintf("[%v gave %s]", object["name"], encoded(object["response"]))
		case "inlineData", "fileData":
			return fmt.Sprintf("[a file of the type %v]", object["mimeType"])
		case "executableCode":
			return fmt.Sprintf("[ran %v]", object["code"])
		case "codeExecutionResult":
			return fmt.Sprintf("[which gave %v]", object["output"])
		}
	}
	return ""
}

// encoded is the JSON of what was decoded from it.
func encoded(value any) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if value == nil || e.Encode(value) != nil {
		return "{}"
	}
	return strings.TrimSpace(b.String())
}

// Encode returns the JSON of a content as the model wrote it, with what the SDK's types
// leave out when it is empty; see [Restore].
func Encode(content *genai.Content) ([]byte, error) {
	encoded, err := json.Marshal(content)
	if err != nil || !slices.ContainsFunc(content.Parts, shortened) {
		return encoded, err
	}
	list, err := Restore(slices.Concat([]byte("["), encoded, []byte("]")))
	if err != nil {
		return nil, err
	}
	return list[1 : len(list)-1], nil
}

// shortened reports whether the SDK's types leave something out of p.
func shortened(p *genai.Part) bool {
	return p != nil && (p.FunctionCall != nil && len(p.FunctionCall.Args) == 0 || len(p.ThoughtSignature) > 0 && p.Text == "")
}

// Restore puts back what the SDK's types leave out when it is empty: the text
// of a part that only carries a thought signature, and the arguments of a call
// without any. The model made them, and gets its own contents unchanged.
func Restore(list json.RawMessage) (json.RawMessage, error) {
	if !bytes.Contains(list, []byte(`"thoughtSignature"`)) && !bytes.Contains(list, []byte(`"functionCall"`)) {
		return list, nil
	}
	contents, err := DecodeContents(list)
	if err != nil {
		return nil, err
	}
	for _, content := range contents {
		for _, part := range content.Parts {
			if call, ok := part["functionCall"].(map[string]any); ok && call["args"] == nil {
				call["args"] = map[string]any{}
			}
			if _, signed := part["thoughtSignature"]; signed && onlySigned(part) {
				part["text"] = ""
			}
		}
	}
	return json.Marshal(contents)
}

func onlySigned(part map[string]any) bool {
	for key := range part {
		if key != "thoughtSignature" && key != "thought" {
			return false
		}
	}
	return true
}
