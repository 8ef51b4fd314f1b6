//go:build unix

package process

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A program that is killed before the guard knows of the emulator leaves none: its end of the
// pipe closes without a line.
func TestNothingBeginsForAProgramThatDied(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ input, want string }{
		"the guard knows the group": {"\n", "start --quiet\n"},
		"the program has died":      {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			began := filepath.Join(dir, "began")
			if err := os.WriteFile(filepath.Join(dir, "gcloud"), []byte("#!/bin/sh\necho \"$@\" >\""+began+"\"\n"), 0o700); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), "sh", "-c", begin, "sh", "start", "--quiet")
			cmd.Env = append(os.Environ(), "PATH="+dir+string(os.PathListSeparator)+os.Getenv("PATH"))
			cmd.Stdin = strings.NewReader(tt.input)
			if err := cmd.Run(); (err == nil) != (tt.want != "") {
				t.Errorf("the shell ended with %v", err)
			}
			if got, _ := os.ReadFile(began); string(got) != tt.want {
				t.Errorf("gcloud was called with %q, want %q", got, tt.want)
			}
		})
	}
}
