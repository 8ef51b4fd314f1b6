// Package docs tests what the documentation says of the project's files.
package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestLinks follows every link to a file in the README and on these pages.
func TestLinks(t *testing.T) {
	pages, err := filepath.Glob("*.md")
	if err != nil || len(pages) < 5 {
		t.Fatalf("pages %q: %v", pages, err)
	}
	link := regexp.MustCompile(`\]\(([^)\s#]+)[^)]*\)|(?:src|srcset|href)="([^"#]+)"`)
	for _, page := range append(pages, "../README.md", "../terraform/README.md") {
		links := link.FindAllStringSubmatch(read(t, page), -1)
		if len(links) == 0 && page != "architecture.md" {
			t.Errorf("%s links to nothing", page)
		}
		for _, match := range links {
			target := match[1] + match[2]
			if strings.Contains(target, "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), target)); err != nil {
				t.Errorf("%s: %v", page, err)
			}
		}
	}
}

// TestArchitecture compares the diagram with what the packages import.
func TestArchitecture(t *testing.T) {
	const module = "example.com/gatehouse"
	text := read(t, "architecture.md")
	list := exec.CommandContext(t.Context(), "go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...")
	list.Dir = ".."
	output, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	imports := map[string][]string{}
	for line := range strings.Lines(string(output)) {
		words := strings.Fields(line)
		imports[words[0]] = words[1:]
	}
	// A node is named by its label's first word, or by its own name.
	paths := map[string]string{"function": module}
	for _, node := range regexp.MustCompile(`(\w+)\["([\w/]+)`).FindAllStringSubmatch(text, -1) {
		if node[1] != "function" {
			paths[node[1]] = module + "/" + node[2]
		}
	}
	path := func(node string) string {
		if p, ok := paths[node]; ok {
			return p
		}
		return module + "/" + node
	}
	arrows := regexp.MustCompile(`(?m)^  (\w+)(?:\["[^"]*"\])? --> (\w+)`).FindAllStringSubmatch(text, -1)
	if len(arrows) < 10 {
		t.Fatalf("the diagram has %d arrows", len(arrows))
	}
	for _, arrow := range arrows {
		from, to := path(arrow[1]), path(arrow[2])
		if !slices.Contains(imports[from], to) {
			t.Errorf("%s does not import %s", from, to)
		}
	}
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)`").FindAllStringSubmatch(text, -1) {
		if _, ok := imports[module+"/"+row[1]]; !ok {
			t.Errorf("there is no package %s", row[1])
		}
	}
}
