package docs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Code on a page is code that is tested: each block stands, but for its indentation, in
// one of the files.
func TestSnippetsAreTested(t *testing.T) {
	t.Parallel()
	for _, page := range []struct {
		name     string
		sections []string
		files    []string
	}{
		{"your-agent.md", []string{"Instructions for each turn", "What tools remember", "Hooks", "Agents as tools"},
			[]string{"agent/example_hooks_test.go", "tool/example_state_test.go"}},
		{"your-agent.md", []string{"Tools that change the world"}, []string{"examples/orders/orders.go"}},
		{"security.md", []string{"My orders"}, []string{"examples/orders/orders.go"}},
	} {
		code := ""
		for _, name := range page.files {
			raw, err := os.ReadFile(filepath.Join("..", name))
			if err != nil {
				t.Fatal(err)
			}
			code += flat(string(raw)) + "\n"
		}
		for _, section := range page.sections {
			blocks := fenced("go", guide{read(t, page.name)}.section(t, section))
			if len(blocks) == 0 {
				t.Errorf("%s: the section %q has no code", page.name, section)
			}
			for _, block := range blocks {
				if !strings.Contains(code, flat(block)) {
					t.Errorf("%s: %q has code that is in none of %v:\n%s", page.name, section, page.files, block)
				}
			}
		}
	}
}

// flat returns code without indentation, alignment and blank lines.
func flat(code string) string {
	var lines []string
	for line := range strings.Lines(code) {
		if fields := strings.Fields(line); len(fields) > 0 {
			lines = append(lines, strings.Join(fields, " "))
		}
	}
	return strings.Join(lines, "\n")
}
