// Package docs tests what the documentation says of the project's files.
package docs

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
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
	code := regexp.MustCompile("(?s)\n```.*?\n```|`[^`\n\\[]*\\[[^`\n]*\\]\\([^`\n]*`") // T[int](7) is no link
	for _, page := range append(pages, "../README.md", "../terraform/README.md") {
		links := link.FindAllStringSubmatch(code.ReplaceAllString(read(t, page), ""), -1)
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

var update = flag.Bool("update", false, "write the arrows of architecture.md")

// TestArchitecture holds the diagram to the code both ways: between the boxes that it
// shows there is an arrow for each import, and no other. A box is named by its id, or
// by the path in its label.
func TestArchitecture(t *testing.T) {
	const module = "example.com/gatehouse"
	text := read(t, "architecture.md")
	before, rest, found := strings.Cut(text, "flowchart TD\n")
	diagram, after, closed := strings.Cut(rest, "```")
	if !found || !closed {
		t.Fatal("the page has no diagram")
	}
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
	type box struct{ id, path string }
	var boxes []box
	var lines strings.Builder // of the boxes
	for line := range strings.Lines(diagram) {
		match := regexp.MustCompile(`^  (\w+)(?:\["([\w./]+)[^"]*"\])?$`).FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if match == nil {
			continue
		}
		lines.WriteString(line)
		path := module + "/" + cmp.Or(match[2], match[1])
		if match[1] == "function" { // the one package at the root
			path = module
		}
		if _, ok := imports[path]; !ok {
			t.Errorf("the box %s is of no package", match[1])
		}
		boxes = append(boxes, box{match[1], path})
	}
	if len(boxes) < 15 {
		t.Fatalf("the diagram has %d boxes", len(boxes))
	}
	for _, from := range boxes {
		var to []string
		for _, b := range boxes {
			if slices.Contains(imports[from.path], b.path) {
				to = append(to, b.id)
			}
		}
		if len(to) > 0 {
			fmt.Fprintf(&lines, "  %s --> %s\n", from.id, strings.Join(to, " & "))
		}
	}
	if diff := gocmp.Diff(lines.String(), diagram); diff != "" && *update {
		if err := os.WriteFile("architecture.md", []byte(before+"flowchart TD\n"+lines.String()+"```"+after), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if diff != "" {
		t.Errorf("the diagram is not as the code: go test ./docs -run Architecture -update (-want +got):\n%s", diff)
	}
	for _, row := range regexp.MustCompile("(?m)^\\| ((?:`[^`]+`(?:, )?)+)").FindAllStringSubmatch(text, -1) {
		for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[1], -1) {
			if _, ok := imports[module+"/"+name[1]]; !ok {
				t.Errorf("there is no package %s", name[1])
			}
		}
	}
}
