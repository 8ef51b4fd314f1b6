// Package chrometest finds a browser for tests.
package chrometest

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Find returns the path of Chromium, from CHROME or PATH. Without one the test is
// skipped, with what as the untested part in its message; in CI it fails.
func Find(t testing.TB, what string) string {
	t.Helper()
	names := []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"}
	if name := os.Getenv("CHROME"); name != "" {
		names = []string{name}
	}
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	problem := "none of " + strings.Join(names, ", ") + " is there: install the package chromium, or set CHROME to a browser's path"
	if os.Getenv("CI") != "" {
		t.Fatal(problem)
	}
	t.Skip("NOT TESTED: " + what + "; " + problem)
	return ""
}
