package mcp_test

import (
	"bytes"
	"context"
	"strings"
	"testing"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/tool"
)

func newPainter(context.Context, agent.Env) (agent.Agent, error) {
	draw := func(_ context.Context, in struct {
		Type  string `json:"type"`
		Bytes int    `json:"bytes"`
	}) (tool.File, error) {
		return tool.File{Name: "a book.bin", Type: in.Type, Data: bytes.Repeat([]byte("x"), in.Bytes)}, nil
	}
	return agent.Agent{Name: "painter", Instruction: "You draw.", Tools: []tool.Tool{tool.New("draw", "Draws.", draw)}}, nil
}

// fileIn returns the type and the size of the file in a result, and a text in its place.
func fileIn(result *sdk.CallToolResult) (form string, size int, note string) {
	for _, c := range result.Content {
		switch c := c.(type) {
		case *sdk.ImageContent:
			return "image " + c.MIMEType, len(c.Data), ""
		case *sdk.AudioContent:
			return "audio " + c.MIMEType, len(c.Data), ""
		case *sdk.EmbeddedResource:
			return "resource " + c.Resource.MIMEType + " " + c.Resource.URI, len(c.Resource.Blob), ""
		case *sdk.TextContent:
			if strings.Contains(c.Text, "too large to be kept") {
				note = c.Text
			}
		}
	}
	return "", 0, note
}

// A file that a tool makes is in the result, of a call of it and of a question. With a key it is
// kept for a retry, unless it is too large for the record.
func TestFilesOfTools(t *testing.T) {
	t.Parallel()
	s := startAgent(t, newPainter, "MCP_TOOLS=true", "RATE_LIMIT_PER_MINUTE=1000", "CALLER_RATE_LIMIT_PER_MINUTE=1000")
	plain, keyed := s.connect(t, "", bearer{}, nil), func(key string) *sdk.ClientSession { return s.connect(t, "", bearer{"Idempotency-Key", key}, nil) }
	const resource = "resource application/pdf file:///a%20book.bin"
	for name, c := range map[string]struct {
		session *sdk.ClientSession
		media   string
		bytes   int
		want    string
		kept    bool
	}{
		"a picture":                {plain, "image/png", 6, "image image/png", true},
		"a sound":                  {plain, "audio/wav", 6, "audio audio/wav", true},
		"a document":               {plain, "application/pdf", 6, resource, true},
		"a large one":              {plain, "application/pdf", 2 << 20, resource, true},
		"with a key":               {keyed("a"), "application/pdf", 6, resource, true},
		"a large one with a key":   {keyed("b"), "application/pdf", 2 << 20, resource, false},
		"a type that is not known": {plain, "text/\nplain", 6, "resource application/octet-stream file:///a%20book.bin", true},
	} {
		for i := range 2 {
			result, err := c.session.CallTool(t.Context(), &sdk.CallToolParams{Name: "draw", Arguments: map[string]any{"type": c.media, "bytes": c.bytes}})
			if err != nil || result.IsError {
				t.Fatalf("%s: %+v, %v", name, result, err)
			}
			form, size, note := fileIn(result)
			if kept := i == 0 || c.kept; kept && (form != c.want || size != c.bytes) || !kept && (form != "" || note == "") {
				t.Errorf("%s, call %d: %q with %d bytes, %q", name, i+1, form, size, note)
			}
		}
	}
	if result, err := plain.CallTool(t.Context(), &sdk.CallToolParams{Name: "draw", Arguments: map[string]any{"type": "image/png", "bytes": 8 << 20}}); err != nil || !result.IsError {
		t.Errorf("more than MAX_FILE_BYTES: %v", err)
	}
	s.Gemini.Enqueue(geminitest.Calls(geminitest.FunctionCall{Name: "draw", Args: map[string]any{"type": "image/png", "bytes": 6}}), geminitest.Text("Here."))
	result, err := plain.CallTool(t.Context(), &sdk.CallToolParams{Name: "ask", Arguments: map[string]any{"query": "Draw a book."}})
	if err != nil {
		t.Fatal(err)
	}
	if form, size, _ := fileIn(result); form != "image image/png" || size != 6 {
		t.Errorf("of a question: %q with %d bytes", form, size)
	}
}
