package deploy

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// The smoke test is built again when its source has changed.
func TestWhenAProgramIsStale(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		newer string // file that is newer than the program
		want  bool
	}{
		"nothing is newer":             {"", false},
		"a source":                     {"cmd/smoke/main.go", true},
		"the module's versions":        {"go.mod", true},
		"a document":                   {"README.md", false},
		"what a hidden folder has":     {".delivery/x.go", false},
		"the program is missing":       {"bin/smoke", true},
		"sources of the root's folder": {"function.go", true},
	} {
		dir := t.TempDir()
		program := filepath.Join(dir, "bin", "smoke")
		for i, file := range []string{"go.mod", "function.go", "cmd/smoke/main.go", "README.md", ".delivery/x.go", "bin/smoke"} {
			path := filepath.Join(dir, file)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if path == program && test.newer == "bin/smoke" {
				continue
			}
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			at := time.Date(2026, 1, 1, 0, 0, i, 0, time.UTC)
			if file == test.newer {
				at = at.Add(time.Hour)
			}
			if err := os.Chtimes(path, at, at); err != nil {
				t.Fatal(err)
			}
		}
		if got := stale(program, dir); got != test.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
