package mcptool

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"example.com/gatehouse/internal/geminischema"
	"example.com/gatehouse/tool"
)

// FuzzFit checks that a schema of another server's becomes one that Gemini takes, bounded, or
// none.
func FuzzFit(f *testing.F) {
	for _, seed := range []string{
		`{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}`, `{"$ref":"#"}`, `{"type":["object","null"],"allOf":[{"$ref":"#/allOf/0"}]}`,
		`{"properties":{"a":{"enum":[1,"x",null]},"b":{"const":1e400},"c":{"items":[{}]}},"additionalProperties":{"type":"string"}}`, `{"anyOf":[{"type":"object"},{"type":"string"}]}`,
		`{"type":"object","properties":{"a":{"type":"integer","minimum":"x","maximum":9e99}},"required":["b"]}`, `true`, `[]`, `{"type":"object","properties":{"":{},"a\u0000":{}}}`,
		`{"type":"object","properties":{"a":{"oneOf":[{"$ref":"#/properties/a"},{"type":"array"}]}},"$defs":{"~":{}}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var schema any
		if json.Unmarshal(raw, &schema) != nil {
			return
		}
		fitted := fit(schema)
		if fitted == nil {
			return
		}
		var s jsonschema.Schema
		if err := json.Unmarshal(fitted, &s); err != nil || s.Type != "object" {
			t.Fatalf("%s became %s: %v", raw, fitted, err)
		}
		if err := geminischema.CheckArguments(&s); err != nil {
			t.Errorf("%s became %s, which is refused: %v", raw, fitted, err)
		}
		if _, err := s.Resolve(nil); err != nil {
			t.Errorf("%s became %s, which nothing can be checked by: %v", raw, fitted, err)
		}
		if len(fitted) > maxDeclared && len(raw) < maxDeclared/4 {
			t.Errorf("%d bytes became %d", len(raw), len(fitted))
		}
	})
}

// FuzzDeclare checks that a server's list becomes tools with names of their own that Gemini
// takes, whatever its tools are called.
func FuzzDeclare(f *testing.F) {
	f.Add("search", "search", "Searches.", "Search")
	f.Add("a b", "a_b", strings.Repeat("é", 5000), "")
	f.Add(strings.Repeat("x", 100), strings.Repeat("x", 101), "\x00\xff", "\u202e")
	f.Add("", "../../etc", "", "x\n")
	f.Add("é", "ü", "d", "t")
	f.Fuzz(func(t *testing.T, first, second, description, title string) {
		l := &link{set: &Set{name: "srv"}}
		schema := map[string]any{"type": "object"}
		tools := l.declare(t.Context(), []*mcp.Tool{
			{Name: first, Description: description, Title: title, InputSchema: schema}, {Name: second, Title: title, InputSchema: schema}, {Name: second, InputSchema: schema},
		})
		names := map[string]bool{}
		for _, tl := range tools {
			name := tl.Name()
			if names[name] || len(name) > maxFunctionName || !strings.HasPrefix(name, "srv_") || fitName(name) != name {
				t.Errorf("the name %q", name)
			}
			names[name] = true
			if d := tl.Description(); len(d) > maxDescription || !utf8.ValidString(d) || strings.ContainsRune(d, 0) {
				t.Errorf("the description %q", d)
			}
		}
		if first != "" && second != "" && first != second && len(tools) < 2 {
			t.Errorf("%q and %q became %d tools", first, second, len(tools))
		}
	})
}

// FuzzResult checks that what a server answers becomes an output that a tool may have.
func FuzzResult(f *testing.F) {
	for _, seed := range []string{
		`{"content":[{"type":"text","text":"{\"n\":12345678901234567890}"}],"structuredContent":{"n":12345678901234567890}}`,
		`{"content":[{"type":"image","mimeType":"image/png","data":"eA=="},{"type":"audio","mimeType":"\u0000","data":""},{"type":"resource_link","uri":"u","name":"n"},{"type":"resource","resource":{"uri":"u","blob":"eA=="}}]}`,
		`{"content":[{"type":"resource","resource":{"uri":"u","text":"t"}}],"isError":true}`, `{"content":[{"type":"text","text":"[1]"}],"structuredContent":[1]}`, `{"content":[{"type":"text","text":"null"}]}`, `{}`,
		`{"content":[{"type":"text","text":"{} {}"}],"structuredContent":null}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var result mcp.CallToolResult
		if json.Unmarshal(raw, &result) != nil {
			return
		}
		out := output(&result)
		encoded, err := json.Marshal(out)
		if err != nil {
			t.Fatalf("%s became %v: %v", raw, out, err)
		}
		if len(encoded) > tool.MaxOutputBytes {
			return
		}
		if text := textOf(result.Content); result.StructuredContent == nil && decode(text) == nil && out != any(text) {
			t.Errorf("%q became %v", text, out)
		}
	})
}
