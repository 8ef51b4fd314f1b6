package docs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"example.com/gatehouse/internal/slowtest"
)

// A guide is docs/your-agent.md, as a reader follows it.
type guide struct{ text string }

func readGuide(t *testing.T) guide {
	t.Helper()
	text := read(t, "your-agent.md")
	if strings.Contains(text, "go mod edit -module") {
		t.Error("the page has the module renamed, which makes every later merge conflict")
	}
	return guide{text}
}

// section returns what stands under the heading.
func (g guide) section(t *testing.T, heading string) string {
	t.Helper()
	_, rest, found := strings.Cut(g.text, "\n## "+heading+"\n")
	if !found {
		t.Fatalf("the page has no section %q", heading)
	}
	section, _, _ := strings.Cut(rest, "\n## ")
	return section
}

// fenced returns the blocks of a language in text.
func fenced(language, text string) []string {
	var blocks []string
	for _, match := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(text, -1) {
		blocks = append(blocks, match[1])
	}
	return blocks
}

// files are those of the steps, which the page has in advisor/, in order: the agent, the
// instruction, the tool and its test.
func (g guide) files(t *testing.T) [][]string {
	t.Helper()
	files := regexp.MustCompile("(?s)\n## [^\n]*: `advisor/([a-z_]+\\.go)`\n[^#]*?```go\n(.*?)```").FindAllStringSubmatch(g.text, -1)
	if len(files) != 4 {
		t.Fatalf("the page has %d files of Go code, want the agent, the instruction, the tool and its test", len(files))
	}
	return files
}

// steps writes the files of the steps into dir, and makes the edit of step 4.
func (g guide) steps(t *testing.T, dir string) {
	t.Helper()
	for _, file := range g.files(t) {
		put(t, filepath.Join(dir, file[1]), file[2])
	}
	diffs := fenced("diff", g.text)
	if len(diffs) != 1 {
		t.Fatalf("the page has %d edits of advisor.go, want the tool's line", len(diffs))
	}
	if err := edit(filepath.Join(dir, "advisor.go"), diffs[0]); err != nil {
		t.Fatal(err)
	}
}

// fields returns a file with the agent's further fields, as the page's sections have them.
func (g guide) fields(t *testing.T) string {
	t.Helper()
	settings, tools, typed := fenced("go", g.section(t, "The model's settings")), fenced("go", g.section(t, "Gemini's own tools")), fenced("go", g.section(t, "A typed answer"))
	if len(settings) != 1 || len(tools) != 1 || len(typed) != 2 {
		t.Fatalf("%d, %d and %d blocks of Go code, want 1, 1 and 2", len(settings), len(tools), len(typed))
	}
	return "package advisor\n\nimport (\n\t\"google.golang.org/genai\"\n\n\t\"example.com/gatehouse/agent\"\n\t\"example.com/gatehouse/tool\"\n)\n\n" +
		typed[0] + "\nfunc withFields(env agent.Env) agent.Agent {\n\treturn agent.Agent{\n" + settings[0] + tools[0] + typed[1] + "\t}\n}\n"
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// goIn runs the go command in dir, with these additions to the environment.
func goIn(t *testing.T, dir string, env []string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir, cmd.Env = dir, slices.Concat(os.Environ(), []string{"GOWORK=off", withoutSample + "=true"}, env)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// Whoever clones: the sample is taken out as the page says, and what is left holds with
// another agent in its place.
func TestACloneBecomesAnotherAgent(t *testing.T) {
	if os.Getenv(withoutSample) != "" {
		t.Skip("this is the tree without the sample already")
	}
	slowtest.Skip(t, "a clone that becomes another agent")
	t.Parallel()
	page := readGuide(t)
	dir := t.TempDir()
	// What is built does not depend on where the copy lies, so that the next run finds it in
	// the build cache.
	trimmed := []string{"GOFLAGS=" + os.Getenv("GOFLAGS") + " -trimpath"}
	if err := copyTree("..", dir); err != nil {
		t.Fatal(err)
	}
	commands := fenced("sh", page.section(t, "Clone it"))
	if len(commands) != 1 {
		t.Fatalf("%d blocks of commands take the sample out, want 1", len(commands))
	}
	take := exec.CommandContext(t.Context(), "sh", "-ec", commands[0])
	take.Dir = dir
	if out, err := take.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", commands[0], err, out)
	}
	if _, err := os.Stat(filepath.Join(dir, "advisor")); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("the sample is still there: %v", err)
	}
	another := filepath.Join(dir, "advisor")
	page.steps(t, another)
	put(t, filepath.Join(another, "fields.go"), page.fields(t))
	goIn(t, dir, trimmed, "vet", "./advisor", ".", "./cmd/local")
	if out := goIn(t, dir, trimmed, "test", "-count=1", "-v", "./advisor"); !strings.Contains(out, "--- PASS: TestAModelCallsExchangeRate") {
		t.Fatalf("go test ran nothing:\n%s", out)
	}

	t.Run("the rest holds", func(t *testing.T) {
		// As after step 2: an agent without tools, which needs no variable.
		if err := os.RemoveAll(another); err != nil {
			t.Fatal(err)
		}
		for _, file := range page.files(t)[:2] {
			put(t, filepath.Join(another, file[1]), file[2])
		}
		goIn(t, dir, trimmed, "build", "./...")
		goIn(t, dir, trimmed, "vet", "./...")
		// A package that neither links the sample nor reads the tree is, file by file, what it
		// is with the sample: its tests are those of the tree.
		tests := append([]string{"test", "-p=1", "./delivery/...", "./docs", "./internal/version"}, linking(t, dir, trimmed, "example.com/gatehouse/advisor")...)
		goIn(t, dir, trimmed, tests...)
		goIn(t, dir, trimmed, "test", "-run=TestTheRootIsDeployed|TestAnImporterDeploys|TestOfflineAnswers", "./internal/e2e")
	})
}

// linking returns the packages in dir whose tests link a package.
func linking(t *testing.T, dir string, env []string, linked string) []string {
	t.Helper()
	var packages []string
	for line := range strings.Lines(goIn(t, dir, env, "list", "-test", "-f", "{{.ImportPath}} {{join .Deps \" \"}} ", "./...")) {
		name, deps, _ := strings.Cut(line, " ")
		if name, isTest := strings.CutSuffix(name, ".test"); isTest && strings.Contains(" "+deps, " "+linked+" ") {
			packages = append(packages, name)
		}
	}
	if !slices.Contains(packages, "example.com/gatehouse") {
		t.Fatalf("the root's tests do not link the agent; those that do: %q", packages)
	}
	return packages
}

// withoutSample is set where the tests run in a tree that has had its sample taken out.
const withoutSample = "GATEHOUSE_WITHOUT_SAMPLE"

// Whoever imports: a module of one's own, made as the page says.
func TestAModuleImportsTheGate(t *testing.T) {
	t.Parallel()
	page := readGuide(t)
	section, dir := page.section(t, "Import it"), t.TempDir()
	code, commands := fenced("go", section), fenced("sh", section)
	if len(code) != 2 || len(commands) != 1 {
		t.Fatalf("%d files of Go code and %d blocks of commands, want function.go and cmd/local/main.go, and one", len(code), len(commands))
	}
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	// Where the reader's fork is, this tree is; its requirements, which go mod tidy
	// finds in the network, are this module's.
	put(t, filepath.Join(dir, "go.sum"), read(t, "../go.sum"))
	const fork = "github.com/you/gatehouse@v0.2.0"
	if !strings.Contains(commands[0], fork) {
		t.Fatalf("the page does not replace the module by %s", fork)
	}
	script := exec.CommandContext(t.Context(), "sh", "-ec", strings.Replace(commands[0], fork, root, 1))
	script.Dir = dir
	if out, err := script.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	_, requirements, _ := strings.Cut(read(t, "../go.mod"), "\nrequire (")
	put(t, filepath.Join(dir, "go.mod"), read(t, filepath.Join(dir, "go.mod"))+"\nrequire ("+requirements)
	put(t, filepath.Join(dir, "function.go"), code[0])
	put(t, filepath.Join(dir, "cmd", "local", "main.go"), code[1])
	page.steps(t, dir)
	goIn(t, dir, nil, "build", "-mod=mod", "./...")
	if out := goIn(t, dir, nil, "test", "-mod=mod", "-count=1", "-v", "./..."); !strings.Contains(out, "--- PASS: TestAModelCallsExchangeRate") {
		t.Fatalf("go test ran nothing:\n%s", out)
	}
}

// edit makes the one place that has the lines before diff have those after it.
func edit(file, diff string) error {
	var before, after strings.Builder
	for line := range strings.Lines(diff) {
		if line[0] != '+' {
			before.WriteString(line[1:])
		}
		if line[0] != '-' {
			after.WriteString(line[1:])
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if n := strings.Count(string(text), before.String()); n != 1 {
		return fmt.Errorf("%s has %d places like this, want 1:\n%s", file, n, before.String())
	}
	return os.WriteFile(file, []byte(strings.Replace(string(text), before.String(), after.String(), 1)), 0o644)
}

// copyTree copies what a clone holds.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		switch {
		case entry.IsDir() && (entry.Name() == ".git" || entry.Name() == "node_modules" || entry.Name() == "build"):
			return filepath.SkipDir
		case entry.IsDir():
			return os.MkdirAll(filepath.Join(to, name), 0o755)
		case !entry.Type().IsRegular():
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, name), text, info.Mode().Perm()) // scripts stay executable
	})
}

// The test that runs conversations in files is the sample's own.
func TestConversationsAreRunAsInTheSample(t *testing.T) {
	if os.Getenv(withoutSample) != "" {
		t.Skip("this is the tree without the sample")
	}
	t.Parallel()
	blocks := fenced("go", readGuide(t).section(t, "Conversations in files"))
	if len(blocks) != 1 || blocks[0] != read(t, "../advisor/golden_test.go") {
		t.Error("the page's golden_test.go is another than advisor/golden_test.go")
	}
}
