// Package terraformtest has Terraform plan terraform/ with a mocked provider,
// for tests of what is planned.
package terraformtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A Change is a planned resource.
type Change struct {
	Address string
	Mode    string
	Type    string
	Name    string
	Change  struct {
		Actions       []string
		Before, After map[string]any
	}
}

// mockedForPlans knows what an API alone makes up and something else is planned by:
// what is unknown in a plan is not in its JSON.
const mockedForPlans = `mock_provider "google" {
  override_during = plan
  mock_resource "google_monitoring_uptime_check_config" {
    defaults = { uptime_check_id = "gatehouse-invoke" }
  }
}
`

// Plan returns the managed resources that Terraform plans for each deployment:
// its name, and the variables it sets besides project_id. root is the
// repository's. skip names what this machine lacks, failure what went wrong.
func Plan(t testing.TB, root string, deployments map[string]string) (plans map[string][]Change, skip, failure string) {
	t.Helper()
	var test strings.Builder
	test.WriteString(mockedForPlans)
	names := map[string]string{}
	for name, variables := range deployments {
		run := strings.NewReplacer(" ", "_", "'", "").Replace(name)
		names[run] = name
		test.WriteString(planRun(run, variables))
	}
	messages, skip, failure := runModule(t, root, map[string]string{"plans": test.String()})
	if skip+failure != "" {
		return nil, skip, failure
	}
	plans = map[string][]Change{}
	for _, m := range messages {
		if m.Diagnostic.Severity == "error" {
			return nil, "", m.Diagnostic.Summary + ": " + m.Diagnostic.Detail
		}
		if len(m.Plan.Changes) > 0 {
			plans[names[m.Run]] = slices.DeleteFunc(m.Plan.Changes, func(c Change) bool { return c.Mode != "managed" })
		}
	}
	if len(plans) != len(names) {
		return nil, "", fmt.Sprintf("%d plans of %d", len(plans), len(names))
	}
	return plans, "", ""
}

// Refusals returns the errors that end the plan of each deployment: its name, and
// what it sets besides project_id. skip and failure are as for Plan.
func Refusals(t testing.TB, root string, deployments map[string]string) (refusals map[string][]string, skip, failure string) {
	t.Helper()
	files := map[string]string{}
	for name, variables := range deployments {
		// Each in a file: a run that fails ends its file.
		files[name] = "mock_provider \"google\" {}\n" + planRun(name, variables)
	}
	messages, skip, failure := runModule(t, root, files)
	if skip+failure != "" {
		return nil, skip, failure
	}
	refusals = map[string][]string{}
	for _, m := range messages {
		if m.Diagnostic.Severity == "error" {
			refusals[m.Run] = append(refusals[m.Run], m.Diagnostic.Detail)
		}
	}
	return refusals, "", ""
}

// planRun is a run that plans a deployment; variables may name another project.
func planRun(name, variables string) string {
	if !strings.HasPrefix(strings.TrimSpace(variables), "project_id") {
		variables = "project_id = \"my-project\"\n" + variables
	}
	return fmt.Sprintf("run %q {\n  command = plan\n  variables {\n%s\n  }\n}\n", name, variables)
}

// message is a line of what terraform test -json prints.
type message struct {
	Run        string `json:"@testrun"`
	Diagnostic struct{ Severity, Summary, Detail string }
	Plan       struct {
		Changes []Change `json:"resource_changes"`
	} `json:"test_plan"`
}

// runModule runs test files, by their names, on a copy of terraform/.
func runModule(t testing.TB, root string, files map[string]string) (messages []message, skip, failure string) {
	t.Helper()
	dir := t.TempDir()
	if err := copyModule(root, dir, "terraform"); err != nil {
		return nil, "", err.Error()
	}
	return runTests(t, root, filepath.Join(dir, "terraform"), files)
}

// runTests runs test files, by their names, in the directory module. That some of
// them fail is no failure of runTests.
func runTests(t testing.TB, root, module string, files map[string]string) (messages []message, skip, failure string) {
	t.Helper()
	if _, err := exec.LookPath("terraform"); err != nil {
		return nil, "Install Terraform 1.11 or later.", ""
	}
	environ, err := Environ(root)
	if err != nil {
		return nil, "", err.Error()
	}
	if err := os.MkdirAll(filepath.Join(module, "tests"), 0o755); err != nil {
		return nil, "", err.Error()
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(module, "tests", name+".tftest.hcl"), []byte(content), 0o644); err != nil {
			return nil, "", err.Error()
		}
	}
	terraform := func(args ...string) (out, errs []byte, err error) {
		cmd := exec.Command("terraform", args...)
		cmd.Dir, cmd.Env = module, environ
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err = cmd.Output()
		return out, stderr.Bytes(), err
	}
	if out, errs, err := terraform("init", "-backend=false", "-input=false", "-no-color"); err != nil {
		return nil, fmt.Sprintf("Terraform cannot get the google provider: %v\n%s%s", err, errs, out), ""
	}
	out, errs, err := terraform("test", "-json", "-verbose")
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return nil, "", err.Error()
	}
	for line := range bytes.Lines(out) {
		var m message
		if err := json.Unmarshal(line, &m); err != nil {
			return nil, "", fmt.Sprintf("terraform test: %v\n%s%s", err, errs, line)
		}
		if m.Run == "" && m.Diagnostic.Severity == "error" {
			return nil, "", fmt.Sprintf("terraform test: %s: %s", m.Diagnostic.Summary, m.Diagnostic.Detail)
		}
		messages = append(messages, m)
	}
	return messages, "", ""
}

// Environ is the environment for terraform: the process's own, with the stand-in for the
// provider's registry that lies beside the repository at root, where it is needed and there.
func Environ(root string) ([]string, error) {
	environ := os.Environ()
	// A variable that names no file does not count: Terraform would only warn.
	if _, err := os.Stat(os.Getenv("TF_CLI_CONFIG_FILE")); err == nil {
		return environ, nil
	}
	install := filepath.Join(root, "..", "shared", "terraform-schema", "install")
	if _, err := os.Stat(install); err != nil {
		return environ, nil
	}
	out, err := exec.Command(install).Output()
	if err != nil {
		return nil, fmt.Errorf("installing the provider's stand-in: %w", err)
	}
	return append(environ, "TF_CLI_CONFIG_FILE="+strings.TrimSpace(string(out))), nil
}

// copyModule copies a module of the repository, without its own tests, and what a
// plan of it reads.
func copyModule(root, dir, module string) error {
	names, err := filepath.Glob(filepath.Join(root, module, "*.tf"))
	if err != nil {
		return err
	}
	for i, name := range names {
		names[i] = filepath.Join(module, filepath.Base(name))
	}
	for _, name := range append(names, "docs/run-book.md", "internal/models/models.json") {
		to := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(to, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Dig returns what is under path, through lists of one; nil: nothing.
func Dig(v any, path ...string) any {
	for _, name := range path {
		if list, ok := v.([]any); ok && len(list) == 1 {
			v = list[0]
		}
		m, _ := v.(map[string]any)
		v = m[name]
	}
	return v
}
