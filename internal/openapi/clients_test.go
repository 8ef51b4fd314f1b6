package openapi_test

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/gatehouse/internal/pythontest"
	"example.com/gatehouse/internal/slowtest"
)

// The generators of clients, beside openapi-typescript, which .ci/openapi runs.
const (
	goGenerator = "github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2"
	generation  = 5 * time.Minute // bounds one, with downloads
)

// generated is a service with all doors, and the directory for a client that is
// generated from its document, openapi.json.
func generated(t *testing.T) (url, dir string) {
	t.Helper()
	h := local(t, map[string]string{"AUTH": "api_key,none", "API_KEYS": keys}, doors...)
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "openapi.json"), get(t, h, "/openapi.json").Body.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return s.URL, dir
}

// run runs a command in dir and returns what it prints. The command's error is err.
func run(t *testing.T, dir string, command ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), generation)
	defer cancel()
	c := exec.CommandContext(ctx, command[0], command[1:]...)
	c.Dir, c.Env = dir, append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off", "PYTHONPATH="+dir, "PYTHONDONTWRITEBYTECODE=1")
	out, err := c.CombinedOutput()
	return string(out), err
}

// A client of Go has one type for the errors of all of the gate's own operations.
func TestClientOfGo(t *testing.T) {
	t.Parallel()
	slowtest.Skip(t, "a client by oapi-codegen")
	url, dir := generated(t)
	if out, err := run(t, dir, "go", "run", goGenerator, "-generate", "types,client", "-package", "main", "-o", "client.go", "openapi.json"); err != nil {
		if os.Getenv("CI") != "" || strings.Contains(out, "error generating code") {
			t.Fatalf("oapi-codegen: %v\n%s", err, out)
		}
		t.Skipf("NOT TESTED: a client by oapi-codegen: %v\n%s", err, out)
	}
	client, err := os.ReadFile(filepath.Join(dir, "client.go"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(client), "type Failed = Error\n") {
		t.Error("the response of errors is not the type Error")
	}
	for line := range strings.SplitSeq(string(client), "\n") {
		if strings.Contains(line, "JSONDefault ") && strings.Contains(line, "*") && !strings.Contains(line, "*Failed") {
			t.Errorf("an error of another type: %s", line)
		}
	}
	if err := os.CopyFS(dir, os.DirFS("testdata/goclient")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "go.mod.txt"), filepath.Join(dir, "go.mod")); err != nil {
		t.Fatal(err)
	}
	if out, err := run(t, dir, "go", "run", ".", url); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// A client of Python is generated without a warning, which would be an operation, a
// response or a schema that is left out.
func TestClientOfPython(t *testing.T) {
	t.Parallel()
	slowtest.Skip(t, "a client by openapi-python-client")
	bin := pythontest.Environment(t, "testdata/pyclient/requirements.txt", "a client by openapi-python-client")
	url, dir := generated(t)
	config, err := filepath.Abs("testdata/pyclient/config.yml")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := run(t, dir, filepath.Join(bin, "openapi-python-client"), "generate", "--path", "openapi.json", "--meta", "none",
		"--output-path", "gatehouse_client", "--config", config, "--fail-on-warning"); err != nil {
		t.Fatalf("openapi-python-client: %v\n%s", err, out)
	}
	var document struct {
		Paths map[string]map[string]operation `json:"paths"`
	}
	raw, err := os.ReadFile(filepath.Join(dir, "openapi.json"))
	if err == nil {
		err = json.Unmarshal(raw, &document)
	}
	if err != nil {
		t.Fatal(err)
	}
	operations := 0
	for _, item := range document.Paths {
		operations += len(item)
	}
	modules, err := filepath.Glob(filepath.Join(dir, "gatehouse_client", "api", "*", "[a-z]*.py"))
	if err != nil || len(modules) != operations {
		t.Errorf("%d modules for %d operations: %v", len(modules), operations, err)
	}
	script, err := filepath.Abs("testdata/pyclient/client.py")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := run(t, dir, filepath.Join(bin, "python"), script, url); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
