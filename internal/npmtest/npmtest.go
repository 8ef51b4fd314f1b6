// Package npmtest has packages of npm for tests.
package npmtest

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"
)

// installTimeout bounds npm, which takes seconds for a package with its dependencies.
const installTimeout = 5 * time.Minute

// Install installs packages, each as name@version, without running their scripts, and
// returns the directory. Without npm or its registry the test fails in CI; elsewhere it
// is skipped, with a message that names what is not tested.
func Install(t testing.TB, what string, packages ...string) string {
	t.Helper()
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), installTimeout)
	defer cancel()
	arguments := append([]string{"install", "--prefix", dir, "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"}, packages...)
	if out, err := exec.CommandContext(ctx, "npm", arguments...).CombinedOutput(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("npm install %v: %v\n%s", packages, err, out)
		}
		t.Skipf("NOT TESTED: %s; npm install %v: %v\n%s", what, packages, err, out)
	}
	return dir
}
