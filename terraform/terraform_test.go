// Package terraform_test holds terraform/ against the rest of the repository:
// the variables that the code reads, the documents and queries that it has in
// Firestore, the run-book, and this directory's own README.
//
// What is planned comes from Terraform itself, by its tests with a mocked
// provider, so it is the plan and not the text that is compared.
package terraform_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A change is a planned resource.
type change struct {
	Address string
	Mode    string
	Type    string
	Name    string
	Change  struct{ After map[string]any }
}

// The deployments that are planned, by name: what each sets beside project_id.
func deployments(t *testing.T) map[string]string {
	t.Helper()
	example := func(name string) string {
		text, err := os.ReadFile(filepath.Join("..", "environments", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	return map[string]string{
		"private":     "",
		"application": "web_access = \"application\"\nauth = [\"oidc\", \"api_key\"]\noidc_issuers = [{ issuer = \"https://issuer.example\", audience = \"a\" }]",
		"iap":         "web_access = \"iap\"\niap_members = [\"group:people@example.com\"]",
		"delivery":    "delivery = { repository = \"projects/p/locations/l/connections/c/repositories/r\" }",
		"small":       example("small.tfvars"),
		"serious":     "region = \"europe-west1\"\n" + example("serious.tfvars"),
		"everything set": `
			model_backend = "gemini"
			model_fallbacks = ["gemini-2.5-flash-lite"]
			operators = ["a"]
			otel = { OTEL_TRACES_EXPORTER = "none" }
			allowed_origins_from_secret = true`,
		"origins in plain": `allowed_origins = ["https://app.example.com"]`,
	}
}

var planned struct {
	sync.Once
	plans map[string][]change
	fail  string
	skip  string
}

// plans are what Terraform plans for each of the deployments.
func plans(t *testing.T) map[string][]change {
	t.Helper()
	planned.Do(func() { planned.plans, planned.skip, planned.fail = plan(t) })
	if planned.skip != "" && os.Getenv("CI") == "" {
		t.Skip("NOT TESTED: what terraform/ plans. " + planned.skip)
	}
	if planned.skip+planned.fail != "" {
		t.Fatal(planned.skip + planned.fail)
	}
	return planned.plans
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

func plan(t *testing.T) (plans map[string][]change, skip, fail string) {
	if _, err := exec.LookPath("terraform"); err != nil {
		return nil, "Install Terraform 1.11 or later.", ""
	}
	environ := os.Environ()
	// A variable that names no file does not count: Terraform would only warn.
	if _, err := os.Stat(os.Getenv("TF_CLI_CONFIG_FILE")); err != nil {
		if install := filepath.Join("..", "..", "shared", "terraform-schema", "install"); exists(install) {
			out, err := exec.Command(install).Output()
			if err != nil {
				return nil, "", "installing the provider's stand-in: " + err.Error()
			}
			environ = append(environ, "TF_CLI_CONFIG_FILE="+strings.TrimSpace(string(out)))
		}
	}
	dir := t.TempDir()
	module := filepath.Join(dir, "terraform")
	files, _ := filepath.Glob("*.tf")
	for _, name := range append(files, filepath.Join("..", "docs", "run-book.md")) {
		text, err := os.ReadFile(name)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(filepath.Join(module, name)), 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(module, name), text, 0o644)
		}
		if err != nil {
			return nil, "", err.Error()
		}
	}
	var test strings.Builder
	test.WriteString("mock_provider \"google\" {\n  override_during = plan\n}\n")
	names := map[string]string{}
	for name, variables := range deployments(t) {
		run := strings.NewReplacer(" ", "_", "'", "").Replace(name)
		names[run] = name
		fmt.Fprintf(&test, "run %q {\n  command = plan\n  variables {\n    project_id = \"my-project\"\n%s\n  }\n}\n", run, variables)
	}
	if err := os.Mkdir(filepath.Join(module, "tests"), 0o755); err != nil {
		return nil, "", err.Error()
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
	plans = map[string][]change{}
	for line := range bytes.Lines(out) {
		var message struct {
			Run  string `json:"@testrun"`
			Plan struct {
				Changes []change `json:"resource_changes"`
			} `json:"test_plan"`
		}
		if err := json.Unmarshal(line, &message); err != nil {
			return nil, "", err.Error()
		}
		if len(message.Plan.Changes) > 0 {
			plans[names[message.Run]] = slices.DeleteFunc(message.Plan.Changes, func(c change) bool { return c.Mode != "managed" })
		}
	}
	if len(plans) != len(names) {
		return nil, "", fmt.Sprintf("%d plans of %d", len(plans), len(names))
	}
	return plans, "", ""
}

// dig gets what is under path, through lists of one.
func dig(v any, path ...string) any {
	for _, name := range path {
		if list, ok := v.([]any); ok && len(list) == 1 {
			v = list[0]
		}
		m, _ := v.(map[string]any)
		v = m[name]
	}
	return v
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}
