package e2e_test

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/gatehouse/internal/geminitest"
)

// The user's whole module: what it imports is public.
var importer = map[string]string{
	"function.go": `package advisor

import "example.com/gatehouse/gate"

func init() { gate.Register(New) }
`,
	"agent.go": `package advisor

import (
	"context"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/tool"
)

func New(_ context.Context, env agent.Env) (agent.Agent, error) {
	return agent.Agent{
		Name:        "importer",
		Description: "Says who is calling.",
		Examples:    []string{"Which caller is asking?"},
		Instruction: "Say who is calling.",
		Tools: []tool.Tool{
			tool.New("who_am_i", "Returns which caller is asking.", func(ctx context.Context, _ struct{}) (tool.Caller, error) {
				return tool.From(ctx).Caller, nil
			}),
		},
	}, nil
}
`,
	"cmd/local/main.go": `package main

import (
	"example.com/gatehouse/gate/local"

	advisor "MODULE"
)

func main() { local.Main(advisor.New) }
`,
}

// importerModule writes the user's module with files in the place of the importer's
// own, and returns where it is.
func importerModule(t *testing.T, module string, files map[string]string) string {
	t.Helper()
	root, err := filepath.Abs(moduleRoot)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "MODULE", module)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range importer {
		write(name, text)
	}
	for name, text := range files {
		write(name, text)
	}
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	// Its requirements are the gate's, so that nothing has to be looked up.
	_, requirements, _ := strings.Cut(string(mod), "\n")
	write("go.mod", "module MODULE\n"+requirements+"\nrequire example.com/gatehouse v0.0.0\n\nreplace example.com/gatehouse => "+root+"\n")
	sum, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	write("go.sum", string(sum))
	write("functions.local/app/main.go", strings.Replace(buildpackMain, "example.com/gatehouse", module, 1))
	return dir
}

// compile builds a package of the module in dir.
func compile(t *testing.T, dir, pkg string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "program")
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-mod=mod", "-o", program, pkg)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off")
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return program
}

func TestAnImporterIsShort(t *testing.T) {
	t.Parallel()
	lines := 0
	for _, text := range importer {
		lines += strings.Count(text, "\n")
	}
	if lines >= 60 {
		t.Errorf("the user's module has %d lines", lines)
	}
}

func TestAnImporterDeploys(t *testing.T) {
	t.Parallel()
	for _, module := range []string{"example.org/me/advisor", "example.org/me/advisor/v2"} {
		t.Run(module, func(t *testing.T) {
			t.Parallel()
			program := compile(t, importerModule(t, module, nil), "./functions.local/app")
			gemini := geminitest.Start(t)
			gemini.Enqueue(geminitest.Calls(geminitest.FunctionCall{Name: "who_am_i"}), geminitest.Text("You are ann."))
			s := startProgram(t, program, "invoke", "K_SERVICE=invoke", "ENVIRONMENT=test", "AUTH=iam", "IAM_ENFORCED=true", "SESSION_STORE=memory",
				"GEMINI_API_KEY="+apiKey, "GOOGLE_GEMINI_BASE_URL="+gemini.URL)
			got := s.invoke(t, map[string]any{"query": "Who am I?"}, "Authorization", bearer(t, "ann", nil))
			requests := gemini.Requests()
			if got.Response != "You are ann." || len(requests) != 2 || !strings.Contains(string(requests[1].Raw), `"Subject":"ann"`) {
				t.Errorf("%+v, %d calls of the model", got, len(requests))
			}
		})
	}
}

func TestAnImporterRunsLocally(t *testing.T) {
	t.Parallel()
	program := compile(t, importerModule(t, "example.org/me/advisor", nil), "./cmd/local")
	p := spawn(t, program, "PORT=0")
	match, err := p.stdout.Await(bounded(t), readyAt)
	if err != nil {
		t.Fatal(err)
	}
	s := newService(t, p, match[1])
	if got := s.invoke(t, map[string]any{"query": "Which caller is asking?"}); len(got.ToolCalls) != 1 || got.ToolCalls[0].Name != "who_am_i" {
		t.Errorf("%+v", got)
	}
	if !strings.Contains(p.stdout.String(), `{"query":"Which caller is asking?"}`) {
		t.Error("what to try is not the agent's own example")
	}
	if code := p.end(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// What is wrong with a user's agent is one clear answer and one line of the log.
func TestAgentsThatCannotBeServed(t *testing.T) {
	t.Parallel()
	const head = "package advisor\n\nimport (\n\t\"context\"\n\t\"errors\"\n\n\t\"example.com/gatehouse/agent\"\n\t\"example.com/gatehouse/tool\"\n)\n\nvar _ = errors.New\nvar _ tool.Tool\n\n" +
		"func f(context.Context, struct{}) (string, error) { return \"\", nil }\n\nfunc New(ctx context.Context, env agent.Env) (agent.Agent, error) {\n\t"
	tests := []struct{ name, body, says, logged string }{
		{"New fails", `return agent.Agent{}, errors.New("the ledger is closed")`, "New returned an error", "the ledger is closed"},
		{"New panics", `panic("the ledger burns")`, "New panicked", "the ledger burns"},
		{"New hangs", `select {}`, "New has not returned", "New has not returned"},
		{"two tools of one name", `return agent.Agent{Name: "a", Tools: []tool.Tool{tool.New("f", "F.", f), tool.New("f", "F.", f)}}, nil`, `two tools named \"f\"`, `two tools named`},
		{"a tool name that Gemini refuses", `return agent.Agent{Name: "a", Tools: []tool.Tool{tool.New("look up", "F.", f)}}, nil`, "New panicked", "is not a valid name for a function"},
		{"no name", `return agent.Agent{}, nil`, "has no Name", "has no Name"},
		{"a secret that is missing", `env.Secret("RATES_KEY"); return agent.Agent{Name: "a"}, nil`, `"RATES_KEY"`, "RATES_KEY"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			program := compile(t, importerModule(t, "example.org/me/advisor", map[string]string{"agent.go": head + test.body + "\n}\n"}), "./functions.local/app")
			gemini := geminitest.Start(t)
			s := startProgram(t, program, "invoke", "K_SERVICE=invoke", "ENVIRONMENT=test", "AUTH=iam", "IAM_ENFORCED=true", "SESSION_STORE=memory",
				"GEMINI_API_KEY="+apiKey, "GOOGLE_GEMINI_BASE_URL="+gemini.URL)
			for range 2 {
				a := s.do(t, http.MethodGet, "/health/ready", nil)
				wantError(t, a, http.StatusServiceUnavailable, "not_ready")
				if !strings.Contains(string(a.Body), test.says) {
					t.Errorf("%s, want it to say %q", a.Body, test.says)
				}
			}
			// Beside the lines of the requests themselves.
			if n := strings.Count(s.stdout.String(), "The agent cannot be served.") + strings.Count(s.stdout.String(), "could not be set up"); n != 1 || !strings.Contains(s.stdout.String(), test.logged) {
				t.Errorf("%d lines, want one that says %q:\n%s", n, test.logged, s.stdout)
			}
		})
	}
}
