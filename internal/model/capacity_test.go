package model

import (
	"encoding/json"
	"strings"
	"testing"

	"google.golang.org/genai"
)

// A body is made in one piece of memory: in one that grows, a whole history would be copied.
func TestABodyIsMadeInOnePiece(t *testing.T) {
	t.Parallel()
	c, err := New(t.Context(), Config{APIKey: "key"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	contents := []*genai.Content{genai.NewContentFromText(strings.Repeat("x", 10_000), genai.RoleUser)}
	stored, err := json.Marshal(contents)
	if err != nil {
		t.Fatal(err)
	}
	tools := DeclareTools([]*genai.Tool{{GoogleSearch: &genai.GoogleSearch{}}})
	for name, r := range map[string]*Request{
		"a question":          {Contents: contents},
		"with tools":          {Contents: contents, Tools: tools},
		"with a history":      {Contents: contents, History: []json.RawMessage{stored, stored, stored}},
		"with an instruction": {Contents: contents, Instruction: strings.Repeat("x", 100_000), Tools: tools},
	} {
		body, err := c.body(r, []byte(`{"generationConfig":{},"contents":[`))
		if err != nil || !json.Valid(body) || cap(body) > len(body)+100 {
			t.Errorf("%s: %d bytes in %d, %v", name, len(body), cap(body), err)
		}
	}
}
