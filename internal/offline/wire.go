package offline

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
	"google.golang.org/genai"

	"example.com/gatehouse/internal/truncate"
)

// A request is the part of the API's that the service sends and this package reads
// (https://ai.google.dev/api/generate-content).
type request struct {
	Contents          []*genai.Content
	SystemInstruction *genai.Content
	Tools             []struct {
		FunctionDeclarations []struct {
			Name, Description    string
			ParametersJsonSchema jsonschema.Schema
		}
		CodeExecution, URLContext, GoogleSearch, Retrieval any // Gemini's own
	}
	GenerationConfig struct {
		MaxOutputTokens    int32
		ResponseJsonSchema *jsonschema.Schema
	}
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
		finish, text = genai.FinishReasonMaxTokens, strings.ToValidUTF8(text[:int(limit)*bytesPerToken], "")
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
	var pieces []*genai.Part
	for _, p := range whole.Candidates[0].Content.Parts {
		if p.Text == "" {
			pieces = append(pieces, p)
			continue
		}
		for piece := range strings.SplitAfterSeq(p.Text, " ") {
			if piece != "" { // what follows a space that ends the text
				pieces = append(pieces, &genai.Part{Text: piece})
			}
		}
	}
	for i, piece := range pieces {
		candidate := &genai.Candidate{}
		if i == len(pieces)-1 {
			*candidate = last
		}
		candidate.Content = &genai.Content{Role: last.Content.Role, Parts: []*genai.Part{piece}}
		whole.Candidates = []*genai.Candidate{candidate}
		_, _ = fmt.Fprintf(&b, "data: %s\n\n", encode(whole))
	}
	return b.Bytes()
}

// sizeOf returns about the bytes of text that contents have for a model.
func sizeOf(contents ...*genai.Content) (size int) {
	for _, content := range contents {
		for i := 0; content != nil && i < len(content.Parts); i++ {
			switch p := content.Parts[i]; {
			case p != nil && (p.InlineData != nil || p.FileData != nil):
				size += mediaBytes
			case p != nil && p.Text != "":
				size += len(p.Text)
			default:
				size += len(encode(p))
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

// excerpt returns text on one line, and at most so many bytes of it.
func excerpt(text string, size int) string {
	return truncate.Text(strings.Join(strings.Fields(text), " "), size)
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
	kind     string   // a JSON Schema type
	enum     []string // the only values
	phrases  [][]word // in words
}

// owns reports whether a word is in the property's name.
func (p property) owns(key string) bool { return holds(p.label, key) }

func (in *request) functions() (out []function) {
	for _, tool := range in.Tools {
		for _, d := range tool.FunctionDeclarations {
			f := function{name: d.Name, description: d.Description, label: wordsOf(label(d.Name)), text: wordsOf(d.Description)}
			f.properties = propertiesOf(&d.ParametersJsonSchema)
			for _, p := range f.properties {
				f.text = append(f.text, p.label...)
			}
			out = append(out, f)
		}
	}
	return out
}

func propertiesOf(s *jsonschema.Schema) (out []property) {
	names := slices.Concat(s.Required, slices.Sorted(maps.Keys(s.Properties)))
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			continue
		}
		field, kind := resolve(s.Properties[name], s)
		p := property{name: name, label: wordsOf(label(name)), required: i < len(s.Required), list: kind == "array", kind: kind}
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
	if i := slices.IndexFunc(all, func(a *jsonschema.Schema) bool { return a != nil && a.Type != "null" }); i >= 0 {
		s = all[i]
	}
	for _, kind := range append(slices.Clone(s.Types), s.Type) {
		if kind != "" && kind != "null" {
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
