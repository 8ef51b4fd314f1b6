// Package openaiwire has the values that requests of OpenAI's APIs are made of
// (https://platform.openai.com/docs/api-reference), in the forms in which their clients
// send them.
package openaiwire

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"example.com/gatehouse/internal/api"
)

// An Object is a value of either API, which OpenAI's documentation describes.
type Object map[string]any

// A Content is what a message holds: texts and files.
type Content []Object

// UnmarshalJSON implements [json.Unmarshaler]: a text is a content of one part.
func (c *Content) UnmarshalJSON(raw []byte) error {
	if raw[0] == '"' {
		raw = slices.Concat([]byte(`[{"type":"text","text":`), raw, []byte("}]"))
	}
	if raw[0] != '[' && raw[0] != 'n' {
		return api.Invalid("content", "must be a text or a list of parts")
	}
	return json.Unmarshal(raw, (*[]Object)(c))
}

// Schema implements [huma.SchemaProvider].
func (Content) Schema(huma.Registry) *huma.Schema {
	return api.TextOr("A text, or a list of parts: texts, and in the last message files, inline or by a gs:// address.",
		&huma.Schema{Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}})
}

// Value returns the value at a path in o.
func (o Object) Value(path string) (value any) {
	value = map[string]any(o)
	for name := range strings.SplitSeq(path, ".") {
		members, _ := value.(map[string]any)
		value = members[name]
	}
	return value
}

// At returns the first text at some paths in o, "" for none.
func (o Object) At(paths ...string) string {
	for _, path := range paths {
		if text, _ := o.Value(path).(string); text != "" {
			return text
		}
	}
	return ""
}

// File returns the name and what is in a URL's place of a file, and false for a text.
func (o Object) File() (name, url string, ok bool) {
	switch o.At("type") {
	case "image_url", "input_image", "file", "input_file":
		return o.At("filename", "file.filename"), o.At("image_url.url", "image_url", "file_data", "file.file_data", "file_url"), true
	case "input_audio":
		return "", "data:audio/" + o.At("input_audio.format") + ";base64," + o.At("input_audio.data"), true
	}
	return "", "", false
}

// Join returns the text of c, with notes in the place of files unless those go with it.
// field is its path in the body.
func (c Content) Join(field string, withFiles bool) (string, error) {
	var texts []string
	for i, p := range c {
		_, _, isFile := p.File()
		switch kind := p.At("type"); {
		case slices.Contains([]string{"text", "input_text", "output_text", "refusal"}, kind):
			texts = append(texts, p.At("text", "refusal"))
		case !isFile:
			return "", api.Invalid(field+"."+strconv.Itoa(i), "must be a text or a file")
		case !withFiles:
			texts = append(texts, "[A file was here.]")
		}
	}
	return strings.Join(texts, "\n"), nil
}
