package mcptool

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"example.com/gatehouse/internal/exactjson"
	"example.com/gatehouse/tool"
)

const (
	// maxFunctionName is how long a function's name may be for Gemini.
	maxFunctionName = 64
	// maxDescription bounds the description of a tool, in bytes.
	maxDescription = 4096
)

// declare makes tools of a server's list. What cannot be made fit is left out, and of two with
// the same name the second: a call names the tool, so that only one of them can be called.
func (l *link) declare(ctx context.Context, listed []*mcp.Tool) []tool.Tool {
	tools, left, twice := []tool.Tool{}, []string{}, []string{}
	taken, listedNames, size := map[string]bool{}, map[string]bool{}, 0
	var options []tool.Option
	if l.set.timeout > 0 {
		options = append(options, tool.Timeout(l.set.timeout))
	}
	for _, t := range listed {
		if listedNames[t.Name] {
			twice = append(twice, clean(t.Name, maxFunctionName))
			continue
		}
		listedNames[t.Name] = true
		name, schema, ok := l.set.name+"_"+fitName(t.Name), fit(t.InputSchema), t.Name != ""
		if name = cutName(name, t.Name); taken[name] {
			name = cutName(name+strings.Repeat("_", maxFunctionName), t.Name)
		}
		description := clean(t.Description, maxDescription)
		if description == "" {
			description = clean(t.Title, maxDescription)
		}
		declared := len(name) + len(description) + len(schema)
		if !ok || schema == nil || taken[name] || size+declared > maxDeclared {
			left = append(left, clean(t.Name, maxFunctionName))
			continue
		}
		taken[name] = true
		size += declared
		tools = append(tools, tool.Raw(name, description, schema, func(ctx context.Context, args json.RawMessage) (any, error) {
			return l.run(ctx, t.Name, args)
		}, options...))
	}
	if len(left) > 0 {
		slog.WarnContext(ctx, "Tools of an MCP server left out: their schemas cannot be declared, or are too large together.",
			"server", l.set.name, "count", len(left), "first", left[:min(len(left), 10)], "limit_bytes", maxDeclared)
	}
	if len(twice) > 0 {
		slog.WarnContext(ctx, "An MCP server lists tools twice; the first of each name is taken.",
			"server", l.set.name, "count", len(twice), "first", twice[:min(len(twice), 10)])
	}
	return tools
}

// run calls a tool and returns its output for the model.
func (l *link) run(ctx context.Context, name string, args json.RawMessage) (any, error) {
	// The caller may be another one than the list was made for, or not be there any more.
	current, err := l.set.link(ctx)
	if err != nil {
		return nil, fmt.Errorf("the server %s %w", l.set.name, err)
	}
	result, err := current.call(ctx, name, args)
	switch answer := wireError(err); {
	case answer != nil:
		return nil, fmt.Errorf("the server %s refused the call: %s", l.set.name, clean(answer.Message, maxDescription))
	case err != nil:
		return nil, fmt.Errorf("the server %s %w", l.set.name, explain(err))
	case result.NeedsInput():
		return nil, fmt.Errorf("the server %s %w", l.set.name, errInput)
	case result.IsError:
		return nil, errors.New(clean(textOf(result.Content), maxDescription))
	}
	return output(result), nil
}

// output returns a result as a tool's output: the structured content, or a JSON object
// that is written as text, or the text.
func output(result *mcp.CallToolResult) any {
	text := textOf(result.Content)
	written := decode(text)
	if result.StructuredContent != nil {
		// The SDK has made numbers of it that hold no long integers; most servers send it as
		// text too, digit by digit.
		if written != nil && reflect.DeepEqual(floats(written), result.StructuredContent) {
			return written
		}
		return result.StructuredContent
	}
	if object, ok := written.(map[string]any); ok {
		return object
	}
	return text
}

// decode returns text as JSON with its numbers as written; nil if it is none.
func decode(text string) any {
	var value any
	if exactjson.Unmarshal([]byte(text), &value) != nil {
		return nil
	}
	return value
}

// floats returns decoded JSON with its numbers as float64.
func floats(value any) any {
	encoded, err := json.Marshal(value)
	if err != nil {
		return nil
	}
	var plain any
	if json.Unmarshal(encoded, &plain) != nil {
		return nil
	}
	return plain
}

// textOf returns contents as text, with a note in the place of what is none.
func textOf(contents []mcp.Content) string {
	var parts []string
	for _, content := range contents {
		switch c := content.(type) {
		case *mcp.TextContent:
			parts = append(parts, c.Text)
		case *mcp.ImageContent:
			parts = append(parts, fmt.Sprintf("[image %s, %d bytes, not shown]", clean(c.MIMEType, 64), len(c.Data)))
		case *mcp.AudioContent:
			parts = append(parts, fmt.Sprintf("[audio %s, %d bytes, not shown]", clean(c.MIMEType, 64), len(c.Data)))
		case *mcp.ResourceLink:
			parts = append(parts, fmt.Sprintf("[%s: %s]", clean(c.Name, 128), clean(c.URI, 1024)))
		case *mcp.EmbeddedResource:
			switch {
			case c.Resource == nil:
			case c.Resource.Text != "":
				parts = append(parts, c.Resource.Text)
			default:
				parts = append(parts, fmt.Sprintf("[%s, %d bytes, not shown]", clean(c.Resource.URI, 1024), len(c.Resource.Blob)))
			}
		}
	}
	return strings.Join(parts, "\n")
}

// fitName replaces what Gemini takes in no function's name.
func fitName(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '_', r == '.', r == '-':
			return r
		}
		return '_'
	}, name)
}

// cutName shortens a name that is too long. Its end becomes a hash of the original, so
// that two that begin alike stay two.
func cutName(name, original string) string {
	if len(name) <= maxFunctionName {
		return name
	}
	hash := sha256.Sum256([]byte(original))
	end := "_" + hex.EncodeToString(hash[:4])
	return strings.TrimRight(name[:maxFunctionName-len(end)], "_") + end
}

// clean returns text as valid UTF-8 without control characters, with at most the given
// number of bytes.
func clean(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' || r == utf8.RuneError {
			return -1
		}
		return r
	}, text[:min(len(text), 2*most)])
	return strings.TrimSpace(strings.ToValidUTF8(text[:min(len(text), most)], "")) // without half a character
}
