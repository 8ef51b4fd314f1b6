package terraform_test

import (
	"archive/zip"
	"crypto/sha256"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// standIns makes programs that note how they were called and do as body says,
// and gives the PATH with them and where they note it.
func standIns(t *testing.T, body map[string]string) (path, log string) {
	t.Helper()
	dir := t.TempDir()
	log = filepath.Join(dir, "calls")
	for name, does := range body {
		script := "#!/bin/sh\nprintf '%s' \"$0\" | sed 's|.*/||' >>" + log + "\nprintf ' %s' \"$@\" >>" + log + "\necho >>" + log + "\n" + does + "\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir + ":" + os.Getenv("PATH"), log
}

// checkout is a clone of a small repository that has our scripts.
func checkout(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"deploy", "bootstrap"} {
		text, err := os.ReadFile(filepath.Join("..", "scripts", name))
		if err != nil {
			t.Fatal(err)
		}
		write(t, dir, "scripts/"+name, string(text))
	}
	for _, name := range []string{"function.go", "invoke/invoke.go", "invoke/invoke_test.go", "terraform/main.tf", "docs/a.md", ".ci/run"} {
		write(t, dir, name, "package x // "+name)
	}
	write(t, dir, ".gitignore", "/build/\n")
	git(t, dir, "init", "-q")
	git(t, dir, "add", "-A")
	git(t, dir, "commit", "-qm", "first")
	return dir
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	name = filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

func git(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-c", "user.name=x", "-c", "user.email=x@example.com"}, args...)...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
}

// script runs one of dir's and gives its exit status and what it printed.
func script(t *testing.T, dir, path string, env []string, args ...string) (int, string) {
	t.Helper()
	cmd := exec.Command(filepath.Join(dir, "scripts", args[0]), args[1:]...)
	cmd.Env = append(append(os.Environ(), "PATH="+path), env...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

func calls(t *testing.T, log string) []string {
	t.Helper()
	text, err := os.ReadFile(log)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

func TestDeployPacksAndApplies(t *testing.T) {
	t.Parallel()
	dir := checkout(t)
	path, log := standIns(t, map[string]string{"gcloud": "", "terraform": ""})
	write(t, dir, "invoke/new.go", "package x // not committed")
	status, out := script(t, dir, path, nil, "deploy", "--region", "europe-west1", "my-project", "-var", "model=gemini-3")
	if status != 0 || !strings.Contains(out, "not committed") {
		t.Fatalf("%d: %s", status, out)
	}
	want := []string{
		"gcloud storage buckets describe gs://my-project-tfstate --project my-project",
		"terraform -chdir=terraform init -input=false -reconfigure -backend-config bucket=my-project-tfstate",
		"terraform -chdir=terraform apply -var project_id=my-project -var region=europe-west1 -var source_archive=../build/source.zip -var model=gemini-3",
	}
	if got := calls(t, log); !slices.Equal(got, want) {
		t.Errorf("called:\n%s", strings.Join(got, "\n"))
	}
	archive, err := zip.OpenReader(filepath.Join(dir, "build", "source.zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	var names []string
	for _, f := range archive.File {
		if !f.FileInfo().IsDir() {
			names = append(names, f.Name)
		}
	}
	if want := []string{".gitignore", "function.go", "invoke/invoke.go"}; !slices.Equal(names, want) {
		t.Errorf("packed %v, want %v", names, want)
	}
}

func TestDeployTakesTheDeploymentsOwnVariables(t *testing.T) {
	t.Parallel()
	dir := checkout(t)
	write(t, dir, "environments/my-project.tfvars", "")
	write(t, dir, "environments/other-project.tfvars", "")
	path, log := standIns(t, map[string]string{"gcloud": "", "terraform": ""})
	if status, out := script(t, dir, path, nil, "deploy", "my-project", "-var", "model=gemini-3"); status != 0 {
		t.Fatalf("%d: %s", status, out)
	}
	want := "apply -var-file ../environments/my-project.tfvars -var project_id=my-project -var region=us-central1 -var source_archive=../build/source.zip -var model=gemini-3"
	if got := strings.Join(calls(t, log), "\n"); !strings.HasSuffix(got, want) || strings.Contains(got, "other-project") {
		t.Errorf("called:\n%s\nwant at the end:\n%s", got, want)
	}
}

func TestACommitIsOneArchive(t *testing.T) {
	t.Parallel()
	dir := checkout(t)
	path, _ := standIns(t, map[string]string{"gcloud": "", "terraform": ""})
	var sums [][sha256.Size]byte
	for _, env := range [][]string{{"TZ=UTC", "LC_ALL=C"}, {"TZ=Asia/Tokyo", "LC_ALL=C.UTF-8", "HOME=/"}} {
		if status, out := script(t, dir, path, env, "deploy", "my-project"); status != 0 {
			t.Fatalf("%d: %s", status, out)
		}
		text, err := os.ReadFile(filepath.Join(dir, "build", "source.zip"))
		if err != nil {
			t.Fatal(err)
		}
		sums = append(sums, sha256.Sum256(text))
		write(t, dir, "function.go", "changed, not committed")
	}
	if sums[0] != sums[1] {
		t.Error("two archives of one commit differ")
	}
}

func TestDeployBootstrapsAnEmptyProject(t *testing.T) {
	t.Parallel()
	dir := checkout(t)
	path, log := standIns(t, map[string]string{"gcloud": `case "$*" in *describe*) exit 1 ;; esac`, "terraform": ""})
	if status, out := script(t, dir, path, nil, "deploy", "my-project"); status != 0 {
		t.Fatalf("%d: %s", status, out)
	}
	got := strings.Join(calls(t, log), "\n")
	for _, want := range []string{
		"gcloud services enable --project my-project", "services identity create --service secretmanager.googleapis.com --project my-project",
		"gcloud storage buckets create gs://my-project-tfstate --project my-project --location us-central1 --uniform-bucket-level-access --public-access-prevention",
		"gcloud storage buckets update gs://my-project-tfstate --versioning",
	} {
		if at := strings.Index(got, want); at < 0 || at > strings.Index(got, "terraform -chdir=terraform init") {
			t.Errorf("not before Terraform: %s in\n%s", want, got)
		}
	}
}

func TestBootstrapLeavesABucketThatIsThere(t *testing.T) {
	t.Parallel()
	dir := checkout(t)
	path, log := standIns(t, map[string]string{"gcloud": ""})
	if status, out := script(t, dir, path, nil, "bootstrap", "my-project"); status != 0 {
		t.Fatalf("%d: %s", status, out)
	}
	if got := strings.Join(calls(t, log), "\n"); strings.Contains(got, "buckets create") {
		t.Errorf("made the bucket again:\n%s", got)
	}
}

func TestADryRunCallsNothing(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"deploy", "bootstrap"} {
		dir := checkout(t)
		path, log := standIns(t, map[string]string{"gcloud": "exit 1", "terraform": "exit 1"})
		status, out := script(t, dir, path, nil, name, "--dry-run", "my-project")
		if status != 0 || !strings.Contains(out, "my-project-tfstate") {
			t.Errorf("%s: %d: %s", name, status, out)
		}
		if got := calls(t, log); got != nil {
			t.Errorf("%s called %v", name, got)
		}
		if _, err := os.Stat(filepath.Join(dir, "build")); err == nil {
			t.Errorf("%s packed", name)
		}
	}
}

func TestScriptsStopWhenAStepFails(t *testing.T) {
	t.Parallel()
	dir := checkout(t)
	path, log := standIns(t, map[string]string{"gcloud": "", "terraform": `case "$*" in *init*) exit 7 ;; esac`})
	if status, out := script(t, dir, path, nil, "deploy", "my-project"); status != 7 {
		t.Errorf("%d: %s", status, out)
	}
	if got := strings.Join(calls(t, log), "\n"); strings.Contains(got, "apply") {
		t.Errorf("applied after a failed init:\n%s", got)
	}
}

func TestScriptsRefuseWhatIsNoProject(t *testing.T) {
	t.Parallel()
	dir := checkout(t)
	path, log := standIns(t, map[string]string{"gcloud": "", "terraform": ""})
	for name, args := range map[string][]string{
		"nothing": {}, "a number": {"123456789"}, "capitals": {"My-Project"}, "a command": {"x; rm -rf y"}, "an unknown option": {"--force", "my-project"},
		"a region missing": {"--region"},
	} {
		for _, s := range []string{"deploy", "bootstrap"} {
			if status, out := script(t, dir, path, nil, append([]string{s}, args...)...); status != 64 || !strings.Contains(out, "usage:") {
				t.Errorf("%s: %s: %d: %s", s, name, status, out)
			}
		}
	}
	if got := calls(t, log); got != nil {
		t.Errorf("called %v", got)
	}
}
