package docs

import (
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/gatehouse/internal/models"
)

// endsSoon is within which time of the table's own date no model may end that the
// project uses or shows.
const endsSoon = 90 * 24 * time.Hour

// named is the name of a model of Google's.
var named = regexp.MustCompile(`gemini-\d[a-z0-9.-]*[a-z0-9]`)

// generatedTable is the part of a page that is written from the table of models,
// which has those that end, too.
var generatedTable = regexp.MustCompile(`(?s)<!-- go run \./cmd/cost -models -->.*?<!-- end -->`)

// TestNoModelEndsSoon reads what shows or sets a model: defaults, documents,
// examples, environments. Each is in the table, and does not end soon by the
// table's own date, so that the test does not fail by the calendar.
func TestNoModelEndsSoon(t *testing.T) {
	t.Parallel()
	table := models.BuiltIn()
	files, found := 0, 0
	for _, root := range []string{"README.md", "CONTRIBUTING.md", "SECURITY.md", "docs", "examples", "environments", "terraform", "scripts", "cloudbuild.yaml", "delivery", "config", "advisor", "agent", "invoke", "health", "function.go", "internal/openapi", "internal/server", "internal/playground", "cmd"} {
		err := filepath.WalkDir(filepath.Join("..", root), func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if entry.IsDir() {
				if name := entry.Name(); name == "node_modules" || strings.HasPrefix(name, ".terraform") {
					return fs.SkipDir
				}
				return nil
			}
			if !slices.Contains([]string{".md", ".go", ".tf", ".tfvars", ".sh", ".py", ".yaml", ".json", ".html", ".js", ".ts", ".tsx", ""}, filepath.Ext(path)) || strings.HasSuffix(path, "_test.go") {
				return nil
			}
			files++
			text := generatedTable.ReplaceAllString(read(t, path), "")
			for _, name := range named.FindAllString(text, -1) {
				found++
				profile := table.Model(name)
				switch {
				case profile == nil:
					t.Errorf("%s names %s, which the table of models does not have", path, name)
				case len(table.Endings([]string{name}, table.Date.Begin(), endsSoon)) > 0:
					t.Errorf("%s names %s, which ends on %s; name %s", path, name, profile.Ends, profile.Successor)
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	if files < 50 || found < 15 {
		t.Errorf("only %d models in %d files", found, files)
	}
	for _, name := range []string{table.Default, table.Fallback} {
		for _, ending := range table.Endings([]string{name}, table.Date.Begin(), endsSoon) {
			t.Errorf("a default: %s", ending)
		}
	}
}

// TestTerraformsModels holds terraform/ to the table: its variables have no default
// beside the table's.
func TestTerraformsModels(t *testing.T) {
	t.Parallel()
	variables, table := read(t, "../terraform/variables.tf"), read(t, "../terraform/models.tf")
	for variable, want := range map[string]string{
		"model":           "coalesce(var.model, local.models.default)",
		"model_fallbacks": "[local.models.fallback]",
	} {
		_, block, _ := strings.Cut(variables, `variable "`+variable+`" {`)
		block, _, _ = strings.Cut(block, "\n}")
		if !regexp.MustCompile(`(?m)^  default +(?:= )null$`).MatchString(block) {
			t.Errorf("the variable %s has a default that is not the table's:\n%s", variable, block)
		}
		if !strings.Contains(table, want) {
			t.Errorf("terraform/models.tf does not have %s", want)
		}
	}
	if !strings.Contains(table, `file("${path.module}/../internal/models/models.json")`) {
		t.Error("terraform/models.tf does not read the table")
	}
}
