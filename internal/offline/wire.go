package offline

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
	"google.golang.org/genai"
)

// A request is the part of the API's that is read
// (https://ai.google.dev/api/generate-content).
type request struct {
	Contents          []*genai.Content
	SystemInstruction *genai.Content
	Tools             []*genai.Tool
	ToolConfig        genai.ToolConfig
	GenerationConfig  genai.GenerationConfig
}

const (
	bytesPerToken = 4                   // the usual rule of thumb for English text
	mediaBytes    = 258 * bytesPerToken // for a part that is not text: Gemini counts 258 tokens for a small image
)

// tokens estimates the tokens of so many bytes, at least 1.
func tokens(bytes int) int32 { return int32(max(1, (bytes+bytesPerToken-1)/bytesPerToken)) }

// response puts either text or calls on the wire. Text is cut to the request's
// MaxOutputTokens; a call stays whole, because half a call is of no use to
// anybody, but is not counted beyond the limit, on which callers rely.
func (in *request) response(text string, calls []*genai.FunctionCall) *genai.GenerateContentResponse {
	limit, finish := in.GenerationConfig.MaxOutputTokens, genai.FinishReasonStop
	if limit > 0 && len(calls) == 0 && tokens(len(text)) > limit {
		finish, text = genai.FinishReasonMaxTokens, cut(text, int(limit)*bytesPerToken)
	}
	var parts []*genai.Part
	for _, call := range calls {
		parts = append(parts, &genai.Part{FunctionCall: call})
	}
	if len(calls) == 0 {
		parts = []*genai.Part{{Text: text}}
	}
	content := &genai.Content{Role: genai.RoleModel, Parts: parts}
	count, prompt := tokens(sizeOf(content)), tokens(len(encode(in.Tools))+sizeOf(in.SystemInstruction)+sizeOf(in.Contents...))
	if limit > 0 {
		count = min(count, limit)
	}
	return &genai.GenerateContentResponse{
		Candidates:    []*genai.Candidate{{Content: content, FinishReason: finish}},
		UsageMetadata: &genai.GenerateContentResponseUsageMetadata{PromptTokenCount: prompt, CandidatesTokenCount: count, TotalTokenCount: prompt + count},
		ModelVersion:  Model, ResponseID: rand.Text(),
	}
}

// events returns a response as server-sent events, the only form of a stream
// that the SDK asks for: each part in its turn, text word by word, the finish and what
// the answer rests on in the last.
func events(whole *genai.GenerateContentResponse) []byte {
	var b bytes.Buffer
	last := *whole.Candidates[0]
	parts := last.Content.Parts
	send := func(p *genai.Part, end bool) {
		candidate := &genai.Candidate{}
		if end {
			*candidate = last
		}
		candidate.Content = &genai.Content{Role: last.Content.Role, Parts: []*genai.Part{p}}
		whole.Candidates = []*genai.Candidate{candidate}
		_, _ = fmt.Fprintf(&b, "data: %s\n\n", encode(whole))
	}
	for i, p := range parts {
		end := i == len(parts)-1
		if p.Text == "" {
			send(p, end)
			continue
		}
		text := p.Text
		for piece := range strings.SplitAfterSeq(text, " ") {
			text = text[len(piece):]
			if piece == "" { // behind a space that ends the text
				continue
			}
			send(&genai.Part{Text: piece}, end && text == "")
		}
	}
	return b.Bytes()
}

// sizeOf returns about the bytes of text that contents have for a model.
func sizeOf(contents ...*genai.Content) (size int) {
	for _, content := range contents {
		for i := 0; content != nil && i < len(content.Parts); i++ {
			switch p := content.Parts[i]; {
			case p == nil || p.FunctionCall != nil || p.FunctionResponse != nil:
				size += len(encode(p))
			case p.InlineData != nil || p.FileData != nil:
				size += mediaBytes
			default:
				size += len(p.Text)
			}
		}
	}
	return size
}

// encode returns JSON on one line, for people to read.
func encode(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // what was decoded, and what is made here, can be encoded
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// cut shortens text to so many bytes, at a word's end if it can.
func cut(text string, size int) string {
	if len(text) > size {
		text = strings.ToValidUTF8(text[:size], "")
		if i := strings.LastIndexAny(text, " \n"); i > 0 {
			text = text[:i]
		}
	}
	return text
}

// excerpt returns text on one line, and at most so many bytes of it.
func excerpt(text string, size int) string {
	text = strings.Join(strings.Fields(text), " ")
	if short := cut(text, size); short != text {
		return short + "…"
	}
	return text
}

// A function is one that the request declares.
type function struct {
	name, description string
	label, text       []word     // of the name; of the description and the properties' names
	properties        []property // required ones first
}

type property struct {
	name     string
	label    []word
	required bool
	list     bool     // the value is a list; kind and enum are its elements'
	kind     string   // a JSON Schema type, in lower case
	enum     []string // the only values
	phrases  [][]word // in words
	fallback []any    // the default, if any
}

// owns reports whether a word is in the property's name.
func (p property) owns(key string) bool { return holds(p.label, key) }

// functions returns those that may be called.
func (in *request) functions() (out []function) {
	config := cmp.Or(in.ToolConfig.FunctionCallingConfig, new(genai.FunctionCallingConfig))
	for _, tool := range in.Tools {
		for i := 0; tool != nil && i < len(tool.FunctionDeclarations) && config.Mode != genai.FunctionCallingConfigModeNone; i++ {
			if d := tool.FunctionDeclarations[i]; d != nil && (len(config.AllowedFunctionNames) == 0 || slices.Contains(config.AllowedFunctionNames, d.Name)) {
				f := function{name: d.Name, description: d.Description, label: wordsOf(label(d.Name)), text: wordsOf(d.Description)}
				f.properties = propertiesOf(cmp.Or(schemaOf(d.ParametersJsonSchema, d.Parameters), new(jsonschema.Schema)))
				for _, p := range f.properties {
					f.text = append(f.text, p.label...)
				}
				out = append(out, f)
			}
		}
	}
	return out
}

// schemaOf reads JSON Schema or, where there is none, Gemini's own Schema; nil
// where there is neither, or it cannot be read.
func schemaOf(schema any, own *genai.Schema) (s *jsonschema.Schema) {
	if own != nil {
		schema = own
	}
	if schema == nil || json.Unmarshal(encode(schema), &s) != nil {
		return nil
	}
	return s
}

func propertiesOf(s *jsonschema.Schema) (out []property) {
	names := slices.Concat(s.Required, slices.Sorted(maps.Keys(s.Properties)))
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			continue
		}
		field, kind := resolve(s.Properties[name], s)
		p := property{name: name, label: wordsOf(label(name)), required: i < len(s.Required), list: kind == "array", kind: kind}
		if field.Default != nil {
			p.fallback = []any{field.Default}
		}
		if p.list {
			field, p.kind = resolve(field.Items, s)
		}
		for i := 0; i < len(field.Enum) && p.kind == "string"; i++ {
			p.enum = append(p.enum, fmt.Sprint(field.Enum[i]))
			p.phrases = append(p.phrases, wordsOf(label(p.enum[i])))
		}
		out = append(out, p)
	}
	return out
}

// resolve follows a reference into root, takes the first alternative that is not
// null, which is how optional values are declared, and returns it with its type.
func resolve(s, root *jsonschema.Schema) (*jsonschema.Schema, string) {
	if s == nil {
		return new(jsonschema.Schema), ""
	}
	if to := root.Defs[strings.TrimPrefix(s.Ref, "#/$defs/")]; to != nil {
		s = to
	}
	all := slices.Concat(s.AnyOf, s.OneOf)
	if i := slices.IndexFunc(all, func(a *jsonschema.Schema) bool { return a != nil && !strings.EqualFold(a.Type, "null") }); i >= 0 {
		s = all[i]
	}
	for _, kind := range append(slices.Clone(s.Types), s.Type) {
		if kind = strings.ToLower(kind); kind != "" && kind != "null" {
			return s, kind
		}
	}
	if s.Properties != nil {
		return s, "object"
	}
	return s, "string"
}

// example returns a small value that a response schema allows, of so many parts.
func example(s, root *jsonschema.Schema, parts *int) any {
	s, kind := resolve(s, root)
	object, array := map[string]any{}, []any{}
	for name, field := range s.Properties {
		if *parts--; *parts > 0 && (len(s.Required) == 0 || slices.Contains(s.Required, name)) {
			object[name] = example(field, root, parts)
		}
	}
	for s.MinItems != nil && len(array) < *s.MinItems && *parts > 0 {
		*parts--
		array = append(array, example(s.Items, root, parts))
	}
	switch {
	case len(s.Enum) > 0:
		return s.Enum[0]
	case s.Minimum != nil:
		return *s.Minimum
	}
	return map[string]any{"object": object, "array": array, "boolean": false, "integer": 0, "number": 0, "string": Model}[kind]
}
