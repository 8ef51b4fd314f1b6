// Package terraformtest has Terraform plan terraform/ with a mocked provider,
// for tests of what is planned.
package terraformtest

import (
	"bytes"
	"encoding/json"
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
	Change  struct{ After map[string]any }
}

// Plan returns the managed resources that Terraform plans for each deployment:
// its name, and the variables it sets besides project_id. root is the
// repository's. skip names what this machine lacks, failure what went wrong.
func Plan(t testing.TB, root string, deployments map[string]string) (plans map[string][]Change, skip, failure string) {
	t.Helper()
	if _, err := exec.LookPath("terraform"); err != nil {
		return nil, "Install Terraform 1.11 or later.", ""
	}
	environ := os.Environ()
	// A variable that names no file does not count: Terraform would only warn.
	if _, err := os.Stat(os.Getenv("TF_CLI_CONFIG_FILE")); err != nil {
		install := filepath.Join(root, "..", "shared", "terraform-schema", "install")
		if _, err := os.Stat(install); err == nil {
			out, err := exec.Command(install).Output()
			if err != nil {
				return nil, "", "installing the provider's stand-in: " + err.Error()
			}
			environ = append(environ, "TF_CLI_CONFIG_FILE="+strings.TrimSpace(string(out)))
		}
	}
	module := filepath.Join(t.TempDir(), "terraform")
	if err := copyModule(root, module); err != nil {
		return nil, "", err.Error()
	}
	var test strings.Builder
	test.WriteString("mock_provider \"google\" {\n  override_during = plan\n}\n")
	names := map[string]string{}
	for name, variables := range deployments {
		run := strings.NewReplacer(" ", "_", "'", "").Replace(name)
		names[run] = name
		fmt.Fprintf(&test, "run %q {\n  command = plan\n  variables {\n    project_id = \"my-project\"\n%s\n  }\n}\n", run, variables)
	}
	if err := os.WriteFile(filepath.Join(module, "tests", "plans.tftest.hcl"), []byte(test.String()), 0o644); err != nil {
		return nil, "", err.Error()
	}
	terraform := func(args ...string) ([]byte, string) {
		cmd := exec.Command("terraform", args...)
		cmd.Dir, cmd.Env = module, environ
		var errs bytes.Buffer
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			return out, fmt.Sprintf("terraform %s: %v\n%s%s", args[0], err, errs.Bytes(), out[:min(len(out), 4000)])
		}
		return out, ""
	}
	if _, problem := terraform("init", "-backend=false", "-input=false", "-no-color"); problem != "" {
		return nil, "Terraform cannot get the google provider: " + problem, ""
	}
	out, problem := terraform("test", "-json", "-verbose")
	if problem != "" {
		return nil, "", problem
	}
	plans = map[string][]Change{}
	for line := range bytes.Lines(out) {
		var message struct {
			Run  string `json:"@testrun"`
			Plan struct {
				Changes []Change `json:"resource_changes"`
			} `json:"test_plan"`
		}
		if err := json.Unmarshal(line, &message); err != nil {
			return nil, "", err.Error()
		}
		if len(message.Plan.Changes) > 0 {
			plans[names[message.Run]] = slices.DeleteFunc(message.Plan.Changes, func(c Change) bool { return c.Mode != "managed" })
		}
	}
	if len(plans) != len(names) {
		return nil, "", fmt.Sprintf("%d plans of %d", len(plans), len(names))
	}
	return plans, "", ""
}

// copyModule copies what a plan reads, without the module's own tests.
func copyModule(root, module string) error {
	files, err := filepath.Glob(filepath.Join(root, "terraform", "*.tf"))
	if err != nil {
		return err
	}
	to := map[string]string{filepath.Join(root, "docs", "run-book.md"): filepath.Join(module, "..", "docs", "run-book.md")}
	for _, name := range files {
		to[name] = filepath.Join(module, filepath.Base(name))
	}
	for _, dir := range []string{filepath.Join(module, "tests"), filepath.Join(module, "..", "docs")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	for from, to := range to {
		text, err := os.ReadFile(from)
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
