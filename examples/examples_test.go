// Package examples runs each example against the local service. The page in web/
// has its own tests, which .ci/web runs.
package examples

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

var ready = regexp.MustCompile(`Gatehouse is ready at (http://\S+)`)

// local builds the local program of the service's own tests and runs it, and returns its address.
func local(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "local")
	build := exec.Command("go", "build", "-o", binary, "./internal/testagent/program")
	build.Dir = ".." // the module of the service
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the local service: %v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	command := exec.CommandContext(ctx, binary)
	command.Env = append(os.Environ(), "PORT=0", "ENVIRONMENT=development")
	command.Stderr = os.Stderr
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if match := ready.FindStringSubmatch(lines.Text()); match != nil {
			read := make(chan struct{})
			go func() { // or the pipe fills
				defer close(read)
				for lines.Scan() {
				}
			}()
			t.Cleanup(func() {
				_ = command.Process.Signal(syscall.SIGTERM)
				<-read
				_ = command.Wait()
				cancel()
			})
			return match[1]
		}
	}
	cancel()
	t.Fatalf("the local service did not start: %v", command.Wait())
	return ""
}

func TestExamples(t *testing.T) {
	url := local(t)
	tests := []struct {
		name    string
		command []string
		want    []string
	}{
		{"a backend in Go", []string{"go", "run", "./go", "-url", url, "-user", "ada", "My name is Ada. Which fruit is in stock?"},
			[]string{"Ada", "apple", "turn 1"}},
		{"curl", []string{"./curl.sh", url}, []string{`"success":true`, "event: done", `"turn":2`, "Ada", `"turns":[`}},
		{"Python", []string{"python3", "python/ask.py", "--url", url, "Which fruit is in stock?"}, []string{"apple", "turn 1"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			out := run(t, test.command, 0)
			for _, want := range test.want {
				if !strings.Contains(out, want) {
					t.Errorf("%q is not in its output:\n%s", want, out)
				}
			}
		})
	}
	t.Run("errors are the service's own sentences", func(t *testing.T) {
		for _, command := range [][]string{
			{"go", "run", "./go", "-url", url, "-session", "0123456789abcdef", "hi"},
			{"python3", "python/ask.py", "--url", url, "--session", "0123456789abcdef", "hi"},
		} {
			if out := run(t, command, 1); !strings.Contains(out, "This conversation was deleted or has expired.") {
				t.Errorf("%s: %s", command[0], out)
			}
		}
	})
}

// run runs an example, which must end with code, and returns what it wrote.
func run(t *testing.T, command []string, code int) string {
	t.Helper()
	path, err := exec.LookPath(command[0])
	if err != nil {
		message := fmt.Sprintf("NOT TESTED: this example; install %s to run it", command[0])
		if os.Getenv("CI") != "" {
			t.Fatal(message)
		}
		t.Skip(message)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	process := exec.CommandContext(ctx, path, command[1:]...)
	out, err := process.CombinedOutput()
	if process.ProcessState == nil || process.ProcessState.ExitCode() != code {
		t.Fatalf("%q: %v\n%s", command, err, out)
	}
	return string(out)
}
