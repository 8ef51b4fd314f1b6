package evaluate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
	"go.yaml.in/yaml/v3"
)

// Bounds of what is read.
const (
	maxCases     = 1000    // of one evaluation
	maxFileBytes = 1 << 20 // of a case file
	maxBefore    = 20      // earlier questions of a case
)

// A Case is a question and what is expected of the answer. A case file is a YAML list
// of cases.
type Case struct {
	Name string `yaml:"name"`
	// Before are earlier questions of the same session. Their answers are not scored.
	Before    []string `yaml:"before"`
	Query     string   `yaml:"query"`
	Expect    Expect   `yaml:"expect"`
	Reference string   `yaml:"reference"` // a good answer, for the judge and the dataset
	Judge     string   `yaml:"judge"`     // the criterion for the judge; "": it is not asked

	where    string // file:line, or the stored turn
	patterns []*regexp.Regexp
	schema   *jsonschema.Resolved
}

// Expect is what deterministic scorers check. A zero field is not checked.
type Expect struct {
	Tools       *[]ToolExpect `yaml:"tools"` // exactly these, in this order; an empty list: none
	Contains    []string      `yaml:"contains"`
	NotContains []string      `yaml:"not_contains"`
	Matches     []string      `yaml:"matches"` // regular expressions in RE2 syntax
	JSON        bool          `yaml:"json"`    // the answer is JSON
	Schema      jsonObject    `yaml:"schema"`  // the answer is JSON that fits this schema
	MaxCostUSD  float64       `yaml:"max_cost_usd"`
	MaxSeconds  float64       `yaml:"max_seconds"`
	Error       string        `yaml:"error"` // the code of an error, instead of an answer
}

// A ToolExpect is a tool call: a name, or a name with arguments that must be among the
// call's.
type ToolExpect struct {
	Name string
	Args jsonObject
}

// A jsonObject is an object as JSON has it: with names that are text, and without dates, so
// that 2026-11-27 without quotes is what a model writes as "2026-11-27".
type jsonObject map[string]any

// UnmarshalYAML implements [yaml.Unmarshaler].
func (o *jsonObject) UnmarshalYAML(node *yaml.Node) error {
	asJSON(node, map[*yaml.Node]bool{})
	return node.Decode((*map[string]any)(o))
}

// asJSON has the names and dates within node decoded as text. seen ends the walk where an alias
// names what it is in.
func asJSON(node *yaml.Node, seen map[*yaml.Node]bool) {
	if node == nil || seen[node] {
		return
	}
	seen[node] = true
	if node.Kind == yaml.ScalarNode && node.ShortTag() == "!!timestamp" {
		node.Tag = "!!str"
	}
	for i, child := range node.Content {
		if node.Kind == yaml.MappingNode && i%2 == 0 && child.Kind == yaml.ScalarNode && child.ShortTag() != "!!merge" {
			child.Tag = "!!str"
		}
		asJSON(child, seen)
	}
	asJSON(node.Alias, seen)
}

// UnmarshalYAML implements [yaml.Unmarshaler].
//
// A node is decoded by hand because the decoder's KnownFields does not reach into a custom
// unmarshaler: a misspelled member would be an expectation that is never checked.
func (t *ToolExpect) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind == yaml.ScalarNode {
		t.Name = node.Value
		return nil
	}
	wrong := fmt.Errorf("line %d: a tool is a name, or an object of name and args", node.Line)
	if node.Kind != yaml.MappingNode {
		return wrong
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		var err error
		switch node.Content[i].Value {
		case "name":
			err = node.Content[i+1].Decode(&t.Name)
		case "args":
			err = node.Content[i+1].Decode(&t.Args)
		default:
			return wrong
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ReadCases reads case files. An error names the file and the line.
func ReadCases(files []string) ([]Case, error) {
	var all []Case
	names := map[string]string{}
	for _, file := range files {
		raw, err := readFile(file)
		if err != nil {
			return nil, err
		}
		cases, err := parseCases(file, raw)
		if err != nil {
			return nil, err
		}
		for _, c := range cases {
			if first, ok := names[c.Name]; ok {
				return nil, fmt.Errorf("%s: the name %q is that of %s", c.where, c.Name, first)
			}
			names[c.Name] = c.where
		}
		if all = append(all, cases...); len(all) > maxCases {
			return nil, fmt.Errorf("%s: more than %d cases", file, maxCases)
		}
	}
	return all, nil
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	raw, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err == nil && len(raw) > maxFileBytes {
		err = fmt.Errorf("%s: more than %d bytes", name, maxFileBytes)
	}
	return raw, err
}

// yamlLine matches a place in an error of package yaml.
var yamlLine = regexp.MustCompile(`(?:yaml: )?line (\d+): `)

// parseCases returns the cases of a file, each checked.
//
// Errors are of the form file:line: text, which editors and CI turn into a link. Package yaml
// has the line in its text only.
func parseCases(file string, raw []byte) ([]Case, error) {
	at := func(err error) error {
		text := strings.TrimPrefix(err.Error(), "yaml: unmarshal errors:\n  ")
		if place := yamlLine.FindStringSubmatchIndex(text); place != nil {
			first, _, _ := strings.Cut(text[place[1]:], "\n")
			return fmt.Errorf("%s:%s: %s", file, text[place[2]:place[3]], first)
		}
		return fmt.Errorf("%s:1: %s", file, text)
	}
	var cases []Case
	d := yaml.NewDecoder(bytes.NewReader(raw))
	// A misspelled expectation must not pass every answer.
	d.KnownFields(true)
	switch err := d.Decode(&cases); {
	case errors.Is(err, io.EOF) || err == nil && len(cases) == 0:
		return nil, fmt.Errorf("%s:1: no cases", file)
	case err != nil:
		return nil, at(err)
	}
	if err := d.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: more than one document", file)
	}
	var document yaml.Node // again, for the lines
	if err := yaml.Unmarshal(raw, &document); err != nil {
		return nil, at(err)
	}
	for i := range cases {
		cases[i].where = fmt.Sprintf("%s:%d", file, document.Content[0].Content[i].Line)
		if err := cases[i].prepare(); err != nil {
			return nil, fmt.Errorf("%s: %w", cases[i].where, err)
		}
	}
	return cases, nil
}

// prepare checks the case and compiles what it holds.
func (c *Case) prepare() error {
	switch e := c.Expect; {
	case strings.TrimSpace(c.Name) == "":
		return errors.New("a case needs a name")
	case strings.TrimSpace(c.Query) == "":
		return errors.New("a case needs a query")
	case len(c.Before) > maxBefore:
		return fmt.Errorf("more than %d earlier questions", maxBefore)
	case !(e.MaxCostUSD >= 0) || !(e.MaxSeconds >= 0): // NaN is neither
		return errors.New("max_cost_usd and max_seconds must not be below 0")
	// An answer that is expected to fail has nothing that these could look at; they would pass
	// unchecked.
	case e.Error != "" && (len(e.Contains)+len(e.NotContains)+len(e.Matches) > 0 || e.JSON || e.Schema != nil || e.Tools != nil || c.Judge != ""):
		return errors.New("an expected error has neither text nor tools")
	}
	if c.Expect.Tools != nil {
		for _, t := range *c.Expect.Tools {
			if t.Name == "" {
				return errors.New("a tool needs a name")
			}
		}
	}
	for _, pattern := range c.Expect.Matches {
		compiled, err := regexp.Compile(pattern)
		if err != nil {
			return fmt.Errorf("matches: %w", err)
		}
		c.patterns = append(c.patterns, compiled)
	}
	if c.Expect.Schema == nil {
		return nil
	}
	// The schema goes through JSON: YAML and JSON Schema share the values, not the decoder.
	raw, err := json.Marshal(c.Expect.Schema)
	if err != nil {
		return fmt.Errorf("schema: %w", err)
	}
	var schema jsonschema.Schema
	if err := json.Unmarshal(raw, &schema); err != nil {
		return fmt.Errorf("schema: %w", err)
	}
	if c.schema, err = schema.Resolve(nil); err != nil {
		return fmt.Errorf("schema: %w", err)
	}
	return nil
}
