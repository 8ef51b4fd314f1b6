// Package npmtest has packages of npm, and programs that use them, for tests.
package npmtest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/gatehouse/internal/slowtest"
)

const (
	// installTimeout bounds npm, which takes seconds for a package with its dependencies.
	installTimeout = 5 * time.Minute
	// runTimeout bounds a program, which takes seconds.
	runTimeout = time.Minute
)

// Install installs packages, each as name@version, without running their scripts, and
// returns the directory. It makes the test a slow one, which [slowtest.Skip] skips. Without
// npm or its registry the test fails in CI; elsewhere it is skipped, with a message that
// names what is not tested.
func Install(t testing.TB, what string, packages ...string) string {
	t.Helper()
	dir := t.TempDir()
	npm(t, dir, what, append([]string{"install"}, packages...)...)
	return dir
}

// InstallLocked is like [Install] for a copy of a directory with a package-lock.json.
func InstallLocked(t testing.TB, what, from string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	npm(t, dir, what, "ci")
	return dir
}

// InstallProgram is like [Install], with a copy of the JavaScript file at path, which may
// import the packages.
func InstallProgram(t testing.TB, what, path string, packages ...string) string {
	t.Helper()
	program, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dir := Install(t, what, packages...)
	if err := os.WriteFile(filepath.Join(dir, filepath.Base(path)), program, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Run runs node with args in dir. Unless the last line that it prints is "ok", t fails.
func Run(t testing.TB, dir string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), runTimeout)
	defer cancel()
	command := exec.CommandContext(ctx, "node", args...)
	command.Dir = dir
	if out, err := command.CombinedOutput(); err != nil || !strings.HasSuffix(strings.TrimSpace(string(out)), "ok") {
		t.Fatalf("%v\n%s", err, out)
	}
}

func npm(t testing.TB, dir, what string, args ...string) {
	t.Helper()
	slowtest.Skip(t, what)
	ctx, cancel := context.WithTimeout(t.Context(), installTimeout)
	defer cancel()
	args = append(args, "--prefix", dir, "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
	if os.Getenv("CI") == "" {
		args = append(args, "--fetch-retries=0") // a laptop without the registry skips at once, not after minutes
	}
	command := exec.CommandContext(ctx, "npm", args...)
	command.Dir = dir
	if out, err := command.CombinedOutput(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("npm %v: %v\n%s", args, err, out)
		}
		t.Skipf("NOT TESTED: %s; npm %v: %v\n%s", what, args, err, out)
	}
}
