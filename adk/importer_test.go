package adk_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"example.com/gatehouse/internal/slowtest"
)

// The page's module, as somebody makes it who follows docs/adk.md: its commands and its
// code, with this tree where the page has a fork.
func TestThePagesModule(t *testing.T) {
	slowtest.Skip(t, "the module of docs/adk.md")
	raw, err := os.ReadFile("../docs/adk.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := func(language string) []string {
		var all []string
		for _, match := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(string(raw), -1) {
			all = append(all, match[1])
		}
		return all
	}
	commands, code := blocks("sh"), blocks("go")
	if len(commands) != 1 || len(code) != 1 {
		t.Fatalf("%d blocks of commands and %d of code, want one each", len(commands), len(code))
	}
	dir, root := t.TempDir(), ""
	if root, err = filepath.Abs(".."); err != nil {
		t.Fatal(err)
	}
	here := strings.NewReplacer("github.com/you/gatehouse/adk@v0.2.0", root+"/adk", "github.com/you/gatehouse@v0.2.0", root).Replace(commands[0])
	run := func(name string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = dir
		if output, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s %q: %v\n%s", name, args, err, output)
		}
	}
	put := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run("sh", "-ec", here)
	put("function.go", code[0])
	put("cmd/local/main.go", `package main

import (
	"example.com/gatehouse/gate/local"

	stand "github.com/you/stand"
)

func main() { local.Main(stand.New) }
`)
	// What the network would say of sums, this module's file says.
	sums, err := os.ReadFile("go.sum")
	if err != nil {
		t.Fatal(err)
	}
	put("go.sum", string(sums))
	run("go", "mod", "tidy")
	run("go", "vet", "./...")
	put("stand_test.go", `package stand

import (
	"testing"

	"example.com/gatehouse/agenttest"
)

func TestStand(t *testing.T) {
	s := agenttest.Start(t, New)
	s.Model(agenttest.Call("get_price", map[string]any{"fruit": "apple"}), agenttest.Say("1.25 dollars."))
	if got := s.Ask("What is an apple?"); got.Text != "1.25 dollars." || got.Tools[0].Output["dollars"] != 1.25 {
		t.Errorf("%+v", got)
	}
}
`)
	run("go", "mod", "tidy")
	run("go", "test", "./...")
}
