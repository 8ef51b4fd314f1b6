package delivery

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// The pages, relative to docs/.
var documents = []string{"deploy.md", "cost.md", "security.md", "run-book.md", "../terraform/README.md", "../README.md"}

func read(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// Programs and packages; the tests in docs/ check links.
func TestDocumentsNameWhatIsThere(t *testing.T) {
	for _, name := range documents {
		text := read(t, filepath.Join("../docs", name))
		for _, program := range regexp.MustCompile(`(?m)(?:^|[ =])((?:scripts|delivery)/[a-z]+)(?: |$)`).FindAllStringSubmatch(text, -1) {
			if info, err := os.Stat("../" + program[1]); err != nil || info.Mode().Perm()&0o111 == 0 {
				t.Errorf("%s: %s cannot be run: %v", name, program[1], err)
			}
		}
		for _, pkg := range regexp.MustCompile(`go (?:run|test) \./([a-z/]+)`).FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat("../" + pkg[1]); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// TestTheBackendsProgramCompiles builds the Go program in docs/deploy.md with the
// module's dependencies.
func TestTheBackendsProgramCompiles(t *testing.T) {
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(read(t, "../docs/deploy.md"), -1)
	if len(blocks) != 1 {
		t.Fatalf("%d programs", len(blocks))
	}
	file := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(file, []byte(blocks[0][1]), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	for _, args := range [][]string{{"build", "-o", os.DevNull, file}, {"vet", file}} {
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir = ".."
		if output, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("go %s: %v\n%s", args[0], err, output)
		}
	}
	cmd := exec.CommandContext(ctx, "gofmt", "-l", file)
	if output, err := cmd.CombinedOutput(); err != nil || len(output) > 0 {
		t.Errorf("not gofmt-ed: %s %v", output, err)
	}
}

// TestTheDocumentedMarginsAreTheJudges compares the figures with the code.
func TestTheDocumentedMarginsAreTheJudges(t *testing.T) {
	code, text := read(t, "watch/judge.go"), read(t, "../docs/deploy.md")
	for in, said := range map[string]string{
		"minRequests = 50 ":  "Fewer than 50 requests",
		"minFailed   = 3 ":   "at least 3 requests",
		"moreFailed  = 0.02": "2 points more",
		"moreRefused = 0.20": "20 points more",
		"slower      = 1.5 ": "1.5 times",
		"slowerBy    = 500 ": "half a second",
	} {
		if !strings.Contains(code, in) || !strings.Contains(text, said) {
			t.Errorf("the code has %q: %v; the page says %q: %v", in, strings.Contains(code, in), said, strings.Contains(text, said))
		}
	}
}
