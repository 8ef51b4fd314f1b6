package advisor

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// The Go code of docs/your-agent.md is what people start from, so it is built
// and tested as part of this package, by an overlay that adds its files.
func TestDocumentedToolCompilesAndPassesItsTest(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/your-agent.md")
	if err != nil {
		t.Fatal(err)
	}
	// Each Go block follows a heading that ends with the file's name.
	blocks := regexp.MustCompile("(?s)## [^\n]*: `advisor/([a-z_]+\\.go)`\n[^#]*?```go\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	if len(blocks) != 3 {
		t.Fatalf("the page has %d files of Go code, want the instruction, the tool and its test", len(blocks))
	}
	dir, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	temp := t.TempDir()
	replace := map[string]string{}
	for _, block := range blocks {
		name, code := block[1], block[2]
		file := filepath.Join(temp, name)
		if err := os.WriteFile(file, []byte(code), 0o600); err != nil {
			t.Fatal(err)
		}
		replace[filepath.Join(dir, name)] = file
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	overlayFile := filepath.Join(temp, "overlay.json")
	if err := os.WriteFile(overlayFile, overlay, 0o600); err != nil {
		t.Fatal(err)
	}

	// go test has put its own go command first in PATH.
	goCommand, err := exec.LookPath("go")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("NOT TESTED: the code of docs/your-agent.md, for want of a go command in the PATH")
	}
	for _, args := range [][]string{
		{"vet", "-overlay=" + overlayFile, "."},
		{"test", "-overlay=" + overlayFile, "-run=^(TestExchangeRate|TestAModelCallsExchangeRate)$", "-count=1", "-v", "."},
	} {
		out, err := exec.CommandContext(t.Context(), goCommand, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("go %s: %v\n%s", args[0], err, out)
		}
		if args[0] == "test" && !regexp.MustCompile(`(?ms)^--- PASS: TestExchangeRate.*^--- PASS: TestAModelCallsExchangeRate`).Match(out) {
			t.Fatalf("go test ran nothing:\n%s", out)
		}
	}
}
