package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/gatehouse/internal/deploy"
	"example.com/gatehouse/internal/gcloudtest"
	"example.com/gatehouse/internal/slowtest"
	"example.com/gatehouse/internal/terraformtest"
)

// gate runs the command in a directory.
func gate(t *testing.T, dir string, env []string, args ...string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	program := filepath.Join(t.TempDir(), "gate")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, modulePath+"/cmd/gate")
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func run1(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// importer returns a repository whose module imports this one.
func importer(t *testing.T) string {
	t.Helper()
	here, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write(t, dir, "go.mod", "module example.org/agent\n\ngo 1.26.8\n\nrequire "+modulePath+" v0.0.0\n\nreplace "+modulePath+" => "+here+"\n")
	write(t, dir, "function.go", "package agent\n")
	write(t, dir, ".gitignore", "/.delivery/\n.terraform/\n")
	run1(t, dir, "git", "init", "-q")
	return dir
}

func commit(t *testing.T, dir string) {
	t.Helper()
	run1(t, dir, "git", "add", "-A")
	run1(t, dir, "git", "-c", "user.name=x", "-c", "user.email=x@example.com", "commit", "-qm", "x")
}

func TestAModuleThatOnlyImportsIsDeployed(t *testing.T) {
	slowtest.Skip(t, "the deployment of a module that only imports")
	dir := importer(t)
	code, said := gate(t, dir, nil, "init")
	if code != 0 {
		t.Fatalf("init exits %d:\n%s", code, said)
	}
	for _, name := range []string{"cloudbuild.yaml", "delivery/apply.yaml", "delivery/weekly.yaml"} {
		if diff := cmp.Diff(read(t, "../../"+name), read(t, filepath.Join(dir, name))); diff != "" {
			t.Errorf("%s is another one (-ours +written):\n%s", name, diff)
		}
	}
	// A second init does not overwrite the owner's changes.
	write(t, dir, "cloudbuild.yaml", "# mine\n")
	if code, said = gate(t, dir, nil, "init"); code != 0 || !strings.Contains(said, "left    cloudbuild.yaml") || read(t, filepath.Join(dir, "cloudbuild.yaml")) != "# mine\n" {
		t.Errorf("init again exits %d:\n%s", code, said)
	}
	commit(t, dir)

	code, said = gate(t, dir, nil, "deploy", "-dry-run", "my-project")
	if code != 0 || !strings.Contains(said, "8 steps, ") || !strings.Contains(said, "gcloud builds submit") {
		t.Fatalf("the dry run exits %d:\n%s", code, said)
	}

	// Against stand-ins of gcloud, Cloud Build and Terraform.
	bin, cloud := t.TempDir(), filepath.Join(t.TempDir(), "cloud.json")
	run1(t, ".", "go", "build", "-o", filepath.Join(bin, "gcloud"), modulePath+"/internal/gcloudtest/gcloud")
	if err := os.Symlink(filepath.Join(bin, "gcloud"), filepath.Join(bin, "terraform")); err != nil {
		t.Fatal(err)
	}
	if err := gcloudtest.New("my-project", "us-central1").Save(cloud); err != nil {
		t.Fatal(err)
	}
	write(t, dir, ".delivery/bin/smoke", "#!/bin/sh\nexit 0\n")
	code, said = gate(t, dir, []string{"PATH=" + bin + ":" + os.Getenv("PATH"), gcloudtest.Variable + "=" + cloud}, "deploy", "-auto-approve", "my-project")
	if code != 0 || !strings.Contains(said, "The first call:") {
		t.Fatalf("deploy exits %d:\n%s", code, said)
	}
	c, err := gcloudtest.Load(cloud)
	if err != nil || c.Services["invoke"] == nil || c.Services["health"] == nil {
		t.Errorf("the services are %v, %v", c.Services, err)
	}
}

// The scripts and programs of the pipeline's steps are present for images without Go.
func TestThePipelinesSteps(t *testing.T) {
	slowtest.Skip(t, "the programs of the pipeline's steps, for which all is compiled without cgo")
	dir := importer(t)
	if code, said := gate(t, dir, nil, "steps", ".delivery/steps"); code != 0 {
		t.Fatalf("steps exits %d:\n%s", code, said)
	}
	for _, name := range []string{"steps/build", "steps/plan", "steps/deploy", "steps/smoke", "steps/promote", "steps/apply", "steps/lib.sh", "bin/smoke", "bin/watch", "bin/drift"} {
		info, err := os.Stat(filepath.Join(dir, ".delivery", name))
		if err != nil || info.Mode().Perm()&0o111 == 0 {
			t.Errorf("%s cannot be run: %v", name, err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "bash", ".delivery/steps/build", "--dry-run")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "REPOSITORY_DIR="+dir, "PROJECT=my-project", "COMMIT_SHA=c0ffee0123456789")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "GOOGLE_GO_VERSION=1.26.8") {
		t.Errorf("the build's dry run: %v\n%s", err, out)
	}
}

// Terraform accepts the root that init writes, which is the clone's with another source.
func TestTheRootIsValid(t *testing.T) {
	dir := importer(t)
	if code, said := gate(t, dir, nil, "init"); code != 0 {
		t.Fatalf("init exits %d:\n%s", code, said)
	}
	root := read(t, filepath.Join(dir, "environments/main.tf"))
	source := regexp.MustCompile(`source = ".*/terraform/from-settings"`)
	if ours := read(t, "../../environments/main.tf"); source.FindString(root) == source.FindString(ours) || source.ReplaceAllString(root, "") != source.ReplaceAllString(ours, "") {
		t.Errorf("the root is:\n%s", root)
	}
	skip := t.Skip
	if os.Getenv("CI") != "" {
		skip = t.Fatal
	}
	if _, err := exec.LookPath("terraform"); err != nil {
		skip("NOT TESTED: whether Terraform takes the root. Install Terraform 1.11 or later.")
	}
	environ, err := terraformtest.Environ("../..")
	if err != nil {
		t.Fatal(err)
	}
	terraform := func(args ...string) (out []byte, err error) {
		cmd := exec.CommandContext(t.Context(), "terraform", args...)
		cmd.Dir, cmd.Env = filepath.Join(dir, "environments"), environ
		return cmd.CombinedOutput()
	}
	if out, err := terraform("init", "-backend=false", "-input=false", "-no-color"); err != nil {
		skip(fmt.Sprintf("NOT TESTED: whether Terraform takes the root. It cannot get the google provider: %v\n%s", err, out))
	}
	for _, args := range [][]string{{"fmt", "-check", "-diff", "."}, {"validate", "-no-color"}} {
		if out, err := terraform(args...); err != nil {
			t.Fatalf("terraform %v: %v\n%s", args, err, out)
		}
	}
}

func TestWhereTheModuleComesFrom(t *testing.T) {
	for _, c := range []struct {
		name string
		m    goModule
		want string
	}{
		{"a version", goModule{Version: "v1.2.3"}, "git::https://example.com/gatehouse.git//terraform/from-settings?ref=v1.2.3"},
		{"a commit", goModule{Version: "v1.2.4-0.20261126101112-0123456789ab"}, "git::https://example.com/gatehouse.git//terraform/from-settings?ref=0123456789ab"},
		{"a commit before any version", goModule{Version: "v0.0.0-20261126101112-0123456789ab"}, "git::https://example.com/gatehouse.git//terraform/from-settings?ref=0123456789ab"},
		{"a directory", goModule{Dir: "/src/gatehouse", Version: "v0.0.0", Replace: &replacement{Path: "/src/gatehouse"}}, "../../gatehouse/terraform/from-settings"},
		{"another version", goModule{Version: "v1.2.3", Replace: &replacement{"example.com/gatehouse", "v1.2.4"}}, "git::https://example.com/gatehouse.git//terraform/from-settings?ref=v1.2.4"},
		{"a fork", goModule{Version: "v0.2.0", Replace: &replacement{"github.com/you/gatehouse", "v0.2.1"}}, "git::https://github.com/you/gatehouse.git//terraform/from-settings?ref=v0.2.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, err := c.m.source("/src/agent/environments"); err != nil || got != c.want {
				t.Errorf("%s, %v, want %s", got, err, c.want)
			}
		})
	}
}

func TestWrongUse(t *testing.T) {
	nothing := t.TempDir()
	write(t, nothing, "go.mod", "module example.org/other\n\ngo 1.26.8\n")
	for _, c := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"nothing", nil, deploy.CodeUsage, "usage:"},
		{"an unknown command", []string{"destroy"}, deploy.CodeUsage, "usage:"},
		{"an unknown option", []string{"deploy", "--force", "my-project"}, deploy.CodeUsage, "force"},
		{"no project", []string{"deploy"}, deploy.CodeUsage, "usage:"},
		{"a project's number", []string{"deploy", "123456789"}, deploy.CodeUsage, "is not a project's ID"},
		{"init in the clone", []string{"init"}, deploy.CodeUsage, "run scripts/deploy PROJECT"},
		{"init in a module that does not import", []string{"init", "-dir", nothing}, deploy.CodeUsage, "no module here requires example.com/gatehouse"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if code, said := gate(t, ".", nil, c.args...); code != c.code || !strings.Contains(said, c.says) {
				t.Errorf("exit %d, want %d with %q:\n%s", code, c.code, c.says, said)
			}
		})
	}
}
