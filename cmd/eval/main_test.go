package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The command, and the local program's subcommand, by their exit status.
func TestExitStatus(t *testing.T) {
	bin, dir := t.TempDir(), t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin+string(filepath.Separator), ".", "../local")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, text := range map[string]string{
		"passes.yaml": "- {name: a, query: Hello}\n",
		"fails.yaml":  "- {name: a, query: Hello, expect: {contains: [nothing like it]}}\n",
		"wrong.yaml":  "- name: a\n  question: Hello\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, args string
		code       int
		says       string
	}{
		{"all cases pass", "passes.yaml", 0, "| cases passed | 1 of 1"},
		{"a case fails", "fails.yaml", 1, "eval: fewer cases pass than the threshold asks for: 0 of 1"},
		{"a wrong file", "wrong.yaml", 1, "eval: wrong.yaml:2: field question not found"},
		{"an unknown flag", "-what", 2, "usage: eval"},
		{"no cases", "", 1, "eval: no case files"},
	} {
		for program, before := range map[string][]string{"eval": nil, "local": {"eval"}} {
			t.Run(c.name+", by "+program, func(t *testing.T) {
				cmd := exec.CommandContext(t.Context(), filepath.Join(bin, program), append(before, strings.Fields(c.args)...)...)
				cmd.Dir = dir
				cmd.Env = append(os.Environ(), "GEMINI_API_KEY=", "GOOGLE_API_KEY=", "GOOGLE_GENAI_USE_VERTEXAI=")
				out, err := cmd.CombinedOutput()
				if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok || ok && !exit.Exited() {
					t.Fatal(err)
				}
				if code := cmd.ProcessState.ExitCode(); code != c.code || !strings.Contains(string(out), c.says) {
					t.Errorf("exit %d, want %d with %q:\n%s", code, c.code, c.says, out)
				}
			})
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "build", "evaluation", "report.md")); err != nil {
		t.Error(err)
	}
}
