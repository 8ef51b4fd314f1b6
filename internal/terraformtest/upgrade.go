package terraformtest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// Upgrade returns what environments/ changes in a state that terraform/ of an
// earlier commit, as a root of its own, has made for each deployment: its name, and
// what it sets besides project_id. skip and failure are as for Plan.
func Upgrade(t testing.TB, root, commit string, deployments map[string]string) (plans map[string][]Change, skip, failure string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "earlier"), 0o755); err != nil {
		return nil, "", err.Error()
	}
	archive := exec.Command("git", "archive", "--format=tar", commit, "terraform", "docs/run-book.md")
	archive.Dir = root
	tar, err := archive.Output()
	if err != nil {
		return nil, "", fmt.Sprintf("git archive of %s: %v", commit, err)
	}
	extract := exec.Command("tar", "-x", "-C", filepath.Join(dir, "earlier"))
	extract.Stdin = bytes.NewReader(tar)
	if out, err := extract.CombinedOutput(); err != nil {
		return nil, "", fmt.Sprintf("tar: %v\n%s", err, out)
	}
	for _, name := range []string{"terraform", "terraform/from-settings", "environments"} {
		if err := copyModule(root, dir, name); err != nil {
			return nil, "", err.Error()
		}
	}
	files := map[string]string{}
	for name, variables := range deployments {
		files[name] = fmt.Sprintf(`
			mock_provider "google" {
			  mock_data "google_project" {
			    defaults = { number = "123456789" }
			  }
			  mock_resource "google_firebaserules_ruleset" {
			    defaults = { project = "my-project" }
			  }
			}
			run "earlier" {
			  command   = apply
			  state_key = "state"
			  module {
			    source = "../earlier/terraform"
			  }
			  variables {
			    project_id = "my-project"
			    %s
			  }
			}
			run %q {
			  command   = plan
			  state_key = "state"
			  variables {
			    project_id = "my-project"
			    settings   = "%[2]s.tfvars"
			  }
			}`, variables, name)
		if err := os.WriteFile(filepath.Join(dir, "environments", name+".tfvars"), []byte(variables), 0o644); err != nil {
			return nil, "", err.Error()
		}
	}
	messages, skip, failure := runTests(t, root, filepath.Join(dir, "environments"), files)
	if skip+failure != "" {
		return nil, skip, failure
	}
	plans = map[string][]Change{}
	for _, m := range messages {
		if m.Diagnostic.Severity == "error" {
			return nil, "", m.Diagnostic.Summary + ": " + m.Diagnostic.Detail
		}
		if m.Run != "earlier" && len(m.Plan.Changes) > 0 {
			plans[m.Run] = slices.DeleteFunc(m.Plan.Changes, func(c Change) bool { return c.Mode != "managed" })
		}
	}
	if len(plans) != len(deployments) {
		return nil, "", fmt.Sprintf("%d plans of %d", len(plans), len(deployments))
	}
	return plans, "", ""
}
