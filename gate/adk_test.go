package gate_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The module adk needs ADK for Go, which is large. Whoever does not import it must not
// download or link anything for it.
func TestNobodyElsePaysForADK(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"../go.mod", "../go.sum"} {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(raw), "google.golang.org/adk") || strings.Contains(string(raw), "gatehouse/adk") {
			t.Errorf("%s has ADK", file)
		}
	}
	list := exec.CommandContext(t.Context(), "go", "list", "-deps", "./...")
	list.Dir = ".."
	output, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	for pkg := range strings.Lines(string(output)) {
		if strings.Contains(pkg, "/adk") {
			t.Errorf("the module imports %s", strings.TrimSpace(pkg))
		}
	}
}
