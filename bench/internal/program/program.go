// Package program builds the programs that are measured, as the deployed one is built.
package program

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
)

// Flags are the buildpack's, and those that delivery/build has it take.
func Flags() []string { return []string{"-trimpath", "-tags=grpcnotrace"} }

// Root returns the checkout's folder, which the benchmark's go.mod names.
func Root() string {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "example.com/gatehouse").Output()
	if err != nil {
		return ".."
	}
	return strings.TrimSpace(string(out))
}

// Build runs go build in a folder below the benchmark's, "" for its own: by the go.mod there
// the imports are found.
func Build(ctx context.Context, folder string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", append([]string{"build"}, args...)...)
	cmd.Dir = filepath.Join(Root(), "bench", folder)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// FreePort returns a port that nothing listened at a moment ago: the functions framework
// cannot be told to choose one.
func FreePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil
}
