package terraform_test

import (
	"os/exec"
	"path"
	"strings"
	"testing"
)

// What a change of the infrastructure is applied by is part of it: the trigger runs
// on a change of everything that its programs are built from.
func TestTheInfrastructureTriggerSeesAllThatItRuns(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f",
		`{{if not .Standard}}{{range .GoFiles}}{{$.Dir}}/{{.}}{{"\n"}}{{end}}{{range .EmbedFiles}}{{$.Dir}}/{{.}}{{"\n"}}{{end}}{{end}}`,
		"../cmd/gate", "../cmd/smoke", "../delivery/watch", "../delivery/drift").Output()
	if err != nil {
		t.Fatal(err)
	}
	root, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		t.Fatal(err)
	}
	files := []string{"go.mod", "go.sum", "delivery/apply.yaml", "delivery/apply", "delivery/serving", "delivery/lib.sh",
		"environments/main.tf", "environments/moved.tf", "environments/my-project.tfvars", "terraform/from-settings/main.tf"}
	for file := range strings.Lines(string(out)) {
		if name, ours := strings.CutPrefix(strings.TrimSpace(file), strings.TrimSpace(string(root))+"/"); ours {
			files = append(files, name)
		}
	}
	var patterns []any
	for _, c := range plans(t)["delivery"] {
		if c.Address == "google_cloudbuild_trigger.infrastructure[0]" {
			patterns = list(c.Change.After["included_files"])
		}
	}
	for _, file := range files {
		included := false
		for _, p := range patterns {
			pattern := text(p)
			matched, err := path.Match(pattern, file)
			if err != nil {
				t.Fatal(err)
			}
			below, deep := strings.CutSuffix(pattern, "**")
			included = included || matched || deep && strings.HasPrefix(file, below)
		}
		if !included {
			t.Errorf("a change of %s does not run the trigger", file)
		}
	}
}
