package docs_test

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The steps of your-agent.md in a copy of the tree: the page's code goes into what
// the tree has, under the module's own name.
func TestThePageCanBeFollowed(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("your-agent.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(raw)
	if strings.Contains(page, "go mod edit -module") {
		t.Error("the page has the module renamed, which makes every later merge conflict")
	}
	dir := t.TempDir()
	if err := copyTree("..", dir); err != nil {
		t.Fatal(err)
	}
	files := regexp.MustCompile("(?s)## [^\n]*: `(advisor/[a-z_]+\\.go)`\n[^#]*?```go\n(.*?)```").FindAllStringSubmatch(page, -1)
	if len(files) != 3 {
		t.Fatalf("the page has %d files of Go code, want the instruction, the tool and its test", len(files))
	}
	for _, file := range files {
		if err := os.WriteFile(filepath.Join(dir, file[1]), []byte(file[2]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	diffs := regexp.MustCompile("(?s)```diff\n(.*?)```").FindAllStringSubmatch(page, -1)
	if len(diffs) != 1 {
		t.Fatalf("the page has %d edits of advisor.go, want the tool's line", len(diffs))
	}
	if err := edit(filepath.Join(dir, "advisor", "advisor.go"), diffs[0][1]); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"vet", "./advisor", ".", "./cmd/local"},
		{"test", "-count=1", "-v", "-run=ExchangeRate|WhatEveryToolAndArgument|SettingsAre", "./advisor"},
	} {
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Dir, cmd.Env = dir, trimmed()
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("go %s: %v\n%s", args[0], err, out)
		}
		if args[0] == "test" && !strings.Contains(string(out), "--- PASS: TestAModelCallsExchangeRate") {
			t.Fatalf("go test ran nothing:\n%s", out)
		}
	}
}

// trimmed is the environment in which what is built does not depend on where the
// copy lies, so that the next run finds it in the build cache.
func trimmed() []string { return append(os.Environ(), "GOFLAGS="+os.Getenv("GOFLAGS")+" -trimpath") }

// edit makes the one place that has the lines before diff have those after it.
func edit(file, diff string) error {
	var before, after strings.Builder
	for line := range strings.Lines(diff) {
		if line[0] != '+' {
			before.WriteString(line[1:])
		}
		if line[0] != '-' {
			after.WriteString(line[1:])
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if n := strings.Count(string(text), before.String()); n != 1 {
		return fmt.Errorf("%s has %d places like this, want 1:\n%s", file, n, before.String())
	}
	return os.WriteFile(file, []byte(strings.Replace(string(text), before.String(), after.String(), 1)), 0o644)
}

// copyTree copies what a clone holds.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		switch {
		case entry.IsDir() && (entry.Name() == ".git" || entry.Name() == "node_modules" || entry.Name() == "build"):
			return filepath.SkipDir
		case entry.IsDir():
			return os.MkdirAll(filepath.Join(to, name), 0o755)
		case !entry.Type().IsRegular():
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, name), text, 0o644)
	})
}
