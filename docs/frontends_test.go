package docs

import (
	"path/filepath"
	"strings"
	"testing"
)

// The code of the page is code that runs: that of the example and of tests with the real
// packages.
func TestFrontendsPage(t *testing.T) {
	var code strings.Builder
	for _, pattern := range []string{"../examples/web/src/*.ts*", "../examples/web/test/*.mjs", "../invoke/testdata/*.mjs"} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %v, %v", pattern, names, err)
		}
		for _, name := range names {
			code.WriteString(read(t, name))
		}
	}
	blocks := fenced("ts", read(t, "frontends.md"))
	if len(blocks) < 6 {
		t.Fatalf("%d blocks", len(blocks))
	}
	for _, block := range blocks {
		if block = strings.Trim(block, "\n"); !strings.Contains(code.String(), block) {
			t.Errorf("no code that runs has\n%s", block)
		}
	}
}
