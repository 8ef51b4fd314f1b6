package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"example.com/gatehouse/internal/models"
)

// TestConfiguration compares the tables of configuration.md with the variables
// in the tags of package config, both ways, and the defaults that the tags and the
// table of models have.
func TestConfiguration(t *testing.T) {
	defaults := map[string]string{}
	files, err := filepath.Glob("../config/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if field, ok := n.(*ast.Field); ok && field.Tag != nil {
				tag, _ := strconv.Unquote(field.Tag.Value)
				if name, value, _ := strings.Cut(reflect.StructTag(tag).Get("env"), ", default="); name != "" {
					defaults[name] = value
				}
			}
			return true
		})
	}
	defaults["MODEL"], defaults["MODEL_FALLBACKS"] = models.BuiltIn().Default, models.BuiltIn().Fallback
	if len(defaults) < 40 {
		t.Fatalf("only %d variables found in package config", len(defaults))
	}
	text := read(t, "configuration.md")
	said := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([A-Z_]+)` \\| ([^|]*) \\|").FindAllStringSubmatch(text, -1) {
		if _, twice := said[row[1]]; twice {
			t.Errorf("%s has two rows", row[1])
		}
		said[row[1]] = row[2]
	}
	for _, name := range slices.Sorted(maps.Keys(defaults)) {
		value, ok := said[name]
		switch want := defaults[name]; {
		case !ok && !strings.Contains(text, "`"+name+"`"):
			t.Errorf("%s is read by the code and has no row", name)
		case ok && want != "" && value != "`"+want+"`":
			t.Errorf("%s: the page says its default is %s, the code has %s", name, value, want)
		case ok && want == "" && strings.HasPrefix(value, "`") && !strings.Contains(value, " "):
			t.Errorf("%s: the page says its default is %s, the code has none", name, value)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(said)) {
		if _, ok := defaults[name]; !ok && !strings.HasPrefix(name, "OTEL_") { // those are OpenTelemetry's
			t.Errorf("%s has a row, and the code does not read it", name)
		}
	}
}
