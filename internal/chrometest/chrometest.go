// Package chrometest finds the browser that tests drive.
package chrometest

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Find gives the path of Chromium: what CHROME names, or what the PATH has.
// Without any the test is skipped, saying that what was not tested; in CI that is
// a failure.
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
