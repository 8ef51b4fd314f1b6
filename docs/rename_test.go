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

// The steps of your-agent.md in their order, in a copy of the tree: everything
// builds under the new name, nothing has the old one, and the page's code goes
// into what the steps before it made.
func TestThePageCanBeFollowed(t *testing.T) {
	t.Parallel()
	// In two parts, so that following the page leaves it as it is.
	const original = "example.com/" + "gatehouse"
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(mod), "module "+original+"\n") {
		t.Skip("NOT TESTED: your-agent.md, which this project has followed, as its name says")
	}
	page, err := os.ReadFile("your-agent.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)## 1\\. The name\n.*?```sh\n(.*?)```").FindSubmatch(page)
	if block == nil {
		t.Fatal("the page has no such step")
	}
	for _, tool := range []string{"bash", "perl"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("%s is missing", tool)
			}
			t.Skipf("NOT TESTED: renaming the module, for want of %s", tool)
		}
	}
	dir := t.TempDir()
	if err := copyTree("..", dir); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", string(block[1]))
	cmd.Dir = dir
	cmd.Env = trimmed()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	list := exec.CommandContext(t.Context(), "go", "list", "-deps", "./...")
	list.Dir = dir
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	if text := string(out); strings.Contains(text, "example.com/gatehouse") || !strings.Contains(text, "github.com/you/advisor/invoke\n") {
		t.Errorf("the packages after it:\n%s", text)
	}

	page, err = os.ReadFile(filepath.Join(dir, "docs", "your-agent.md"))
	if err != nil {
		t.Fatal(err)
	}
	files := regexp.MustCompile("(?s)## [^\n]*: `(advisor/[a-z_]+\\.go)`\n[^#]*?```go\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	if len(files) != 3 {
		t.Fatalf("the page has %d files of Go code, want the instruction, the tool and its test", len(files))
	}
	for _, file := range files {
		if err := os.WriteFile(filepath.Join(dir, file[1]), []byte(file[2]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	diffs := regexp.MustCompile("(?s)```diff\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	if len(diffs) != 2 {
		t.Fatalf("the page has %d edits of agent.go, want the import and the line", len(diffs))
	}
	for _, diff := range diffs {
		if err := edit(filepath.Join(dir, "advisor", "advisor.go"), diff[1]); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{
		{"vet", "./..."},
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
