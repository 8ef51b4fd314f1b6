package model

import (
	"slices"

	"google.golang.org/genai"
)

// noSignature stands for the signature of a call that another model made: the
// models that demand one take it instead
// (https://ai.google.dev/gemini-api/docs/thought-signatures).
var noSignature = []byte("skip_thought_signature_validator")

// signed reports whether any part carries a thought signature.
func signed(contents []*genai.Content) bool {
	for _, content := range contents {
		for _, p := range content.Parts {
			if len(p.ThoughtSignature) > 0 {
				return true
			}
		}
	}
	return false
}

// minds reports whether r's model may have refused it for a signature of another
// model's. One that stands in may not say so, or know of signatures at all.
func (c *Client) minds(r Request, failure *Error) bool {
	standsIn := len(c.names) > 0 && r.Model != c.names[0]
	return failure.refused && (failure.signature || standsIn) && (signed(r.Contents) || signed(decoded(r.History)))
}

// unsigned gives contents as a model can take them that did not sign them.
// A signature tells a model how its own thoughts went on, so what comes of a
// request gets no better without; but one that is another model's may have it
// refused. The contents themselves are not changed.
func unsigned(contents []*genai.Content) []*genai.Content {
	contents = slices.Clone(contents)
	for i, content := range contents {
		copied := &genai.Content{Role: content.Role, Parts: make([]*genai.Part, 0, len(content.Parts))}
		for _, p := range content.Parts {
			if len(p.ThoughtSignature) > 0 {
				other := *p
				other.ThoughtSignature = nil
				if other.FunctionCall != nil {
					other.ThoughtSignature = noSignature
				}
				if p = &other; empty(p) {
					continue // it was nothing but its signature
				}
			}
			copied.Parts = append(copied.Parts, p)
		}
		contents[i] = copied
	}
	return slices.DeleteFunc(contents, func(c *genai.Content) bool { return len(c.Parts) == 0 })
}
