package deploy_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"example.com/gatehouse/internal/deploy"
	"example.com/gatehouse/internal/gcloudtest"
	"example.com/gatehouse/internal/slowtest"
)

const (
	project = "my-project"
	region  = "us-central1"
	lock    = "gs://my-project-tfstate/gatehouse/default.tflock"
)

// standIn builds the stand-in for gcloud and Terraform.
var standIn = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "gatehouse-deploy-")
	if err != nil {
		return "", err
	}
	program := filepath.Join(dir, "gcloud")
	cmd := exec.Command("go", "build", "-o", program, "example.com/gatehouse/internal/gcloudtest/gcloud")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return program, nil
})

// A world is a repository, the machine that deploys it, and the cloud.
type world struct {
	t      *testing.T
	dir    string // of the repository
	cloud  string // the stand-ins' state file
	path   string
	paused []time.Duration
	o      deploy.Options
}

func newWorld(t *testing.T) *world {
	t.Helper()
	program, err := standIn()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, dir: t.TempDir(), cloud: filepath.Join(t.TempDir(), "cloud.json")}
	bin := t.TempDir()
	for _, name := range []string{"gcloud", "terraform"} {
		if err := os.Symlink(program, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	w.path = bin + ":" + os.Getenv("PATH")
	for name, text := range map[string]string{
		"go.mod": "module example.org/agent\n\ngo 1.26.8\n", "function.go": "package agent\n", "function_test.go": "package agent\n",
		"environments/main.tf": "# the root\n", ".gitignore": "/.delivery/\n",
	} {
		w.write(name, text)
	}
	w.git("init", "-q")
	w.commit("first")
	// The smoke test and the watch have their own tests.
	w.write(".delivery/bin/smoke", "#!/bin/sh\nexit 0\n")
	w.write(".delivery/bin/watch", "#!/bin/sh\nexit 4\n")
	scripts, err := filepath.Abs("../../delivery")
	if err != nil {
		t.Fatal(err)
	}
	w.o = deploy.Options{Project: project, Dir: w.dir, Scripts: scripts, Approve: true, Watch: 1,
		Env: append(os.Environ(), "PATH="+w.path, gcloudtest.Variable+"="+w.cloud),
		Sleep: func(ctx context.Context, d time.Duration) error {
			w.paused = append(w.paused, d)
			return ctx.Err()
		}}
	if err := gcloudtest.New(project, region).Save(w.cloud); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) write(name, text string) {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if strings.HasPrefix(name, ".delivery/bin/") { // whatever source is written later, it is not built
		if later := time.Now().Add(time.Hour); os.Chtimes(path, later, later) != nil {
			w.t.Fatal("the time of the program cannot be set")
		}
	}
}

func (w *world) git(args ...string) string {
	w.t.Helper()
	cmd := exec.Command("git", append([]string{"-c", "user.name=x", "-c", "user.email=x@example.com"}, args...)...)
	cmd.Dir = w.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (w *world) commit(message string) {
	w.t.Helper()
	w.git("add", "-A")
	w.git("commit", "-qm", message)
}

func (w *world) change(f func(*gcloudtest.Cloud)) {
	w.t.Helper()
	c := w.now()
	f(c)
	if err := c.Save(w.cloud); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) now() *gcloudtest.Cloud {
	w.t.Helper()
	c, err := gcloudtest.Load(w.cloud)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// deploy runs a deployment and returns its exit status and output.
func (w *world) deploy() (int, string) {
	w.t.Helper()
	var out strings.Builder
	o := w.o
	o.Out, o.In = &out, strings.NewReader("")
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	err := deploy.Run(ctx, o)
	if err == nil {
		return 0, out.String()
	}
	fmt.Fprintf(&out, "\n%v\n", err)
	if failed, ok := errors.AsType[*deploy.Error](err); ok {
		return failed.Code, out.String()
	}
	return 1, out.String()
}

// image returns the digest reference of the current commit's image.
func (w *world) image() string {
	return "us-central1-docker.pkg.dev/my-project/gatehouse/gatehouse@sha256:" + (w.git("rev-parse", "HEAD") + strings.Repeat("0", 64))[:64]
}

// serves requires that both services run the commit's image with all traffic, and that
// the state is complete and has no tainted resource.
func (w *world) serves(said string) {
	w.t.Helper()
	c := w.now()
	for _, name := range []string{"invoke", "health"} {
		s := c.Services[name]
		if s == nil {
			w.t.Fatalf("there is no service %s:\n%s", name, said)
		}
		latest := s.Revisions[len(s.Revisions)-1]
		if s.Images[latest] != w.image() || s.Traffic[latest] != 100 {
			w.t.Errorf("%s: %s runs %s, traffic %v; want %s:\n%s", name, latest, s.Images[latest], s.Traffic, w.image(), said)
		}
	}
	if len(c.Resources) != 7 {
		w.t.Errorf("%d resources in the state, want 7:\n%s", len(c.Resources), said)
	}
	for _, r := range c.Resources {
		if r.Tainted {
			w.t.Errorf("%s is tainted:\n%s", r.Address, said)
		}
	}
	if strings.Contains(said, "/8 Call the service") && !strings.Contains(said, "curl -s https://invoke.example/invoke") {
		w.t.Errorf("it does not end with the first call:\n%s", said)
	}
}

func TestACommitReachesAnEmptyProject(t *testing.T) {
	w := newWorld(t)
	code, said := w.deploy()
	if code != 0 {
		t.Fatalf("exit %d:\n%s", code, said)
	}
	w.serves(said)
	if !strings.Contains(said, "Commit it, so that every later run takes the same one.") {
		t.Errorf("it does not name the lock file:\n%s", said)
	}
	// A second run builds, applies and moves nothing.
	w.change(func(c *gcloudtest.Cloud) { c.Calls = nil })
	code, said = w.deploy()
	if code != 0 {
		t.Fatalf("again: exit %d:\n%s", code, said)
	}
	w.serves(said)
	for _, call := range w.now().Calls {
		if line := strings.Join(call, " "); strings.HasPrefix(line, "builds submit") || strings.Contains(line, " apply ") || strings.HasPrefix(line, "run deploy") {
			t.Errorf("the second run calls %s", line)
		}
	}
	// The delivery rolls out another commit, at first without traffic.
	w.write("function.go", "package agent // changed\n")
	w.commit("second")
	code, said = w.deploy()
	if code != 0 {
		t.Fatalf("another commit: exit %d:\n%s", code, said)
	}
	w.serves(said)
	if history := w.now().Services["invoke"].History; len(history) != 3 || !strings.Contains(history[0], "=10,") {
		t.Errorf("the traffic moved by %q", history)
	}
}

// TestEachFailureIsHealedByTheSecondRun breaks each step once. The first run ends with
// an explanation and an exit status, the second with a working service.
func TestEachFailureIsHealedByTheSecondRun(t *testing.T) {
	slowtest.Skip(t, "a deployment that fails at each of its steps")
	const denied = "PERMISSION_DENIED: Permission 'x' denied on resource (or it may not exist)."
	fail := func(call string, times int, stderr string) func(*gcloudtest.Cloud) {
		return func(c *gcloudtest.Cloud) { c.Fail[call], c.Stderr[call] = times, stderr }
	}
	for _, c := range []struct {
		name   string
		breaks func(*gcloudtest.Cloud)
		code   int    // exit status of the first run
		says   string // in the first run's output
		repair func(*world)
		heals  string // in the second run's output
	}{
		{"1: no login of gcloud", func(c *gcloudtest.Cloud) { c.Account = "" }, deploy.CodeNoLogin, "gcloud auth login",
			func(w *world) { w.change(func(c *gcloudtest.Cloud) { c.Account = "you@example.com" }) }, ""},
		{"1: no login for Terraform", func(c *gcloudtest.Cloud) { c.Application = false }, deploy.CodeNoLogin, "gcloud auth application-default login",
			func(w *world) { w.change(func(c *gcloudtest.Cloud) { c.Application = true }) }, ""},
		{"1: no such project", fail("projects describe", 1, "not found"), deploy.CodeNoProject, "there is no project my-project, or you@example.com may not see it", nil, ""},
		{"1: a project that is being deleted", func(c *gcloudtest.Cloud) { c.State = "DELETE_REQUESTED" }, deploy.CodeNoProject, "is being deleted",
			func(w *world) { w.change(func(c *gcloudtest.Cloud) { c.State = "ACTIVE" }) }, ""},
		{"1: no billing", func(c *gcloudtest.Cloud) { c.Billing = false }, deploy.CodeNoProject, "gcloud billing projects link my-project",
			func(w *world) { w.change(func(c *gcloudtest.Cloud) { c.Billing = true }) }, ""},
		{"2: APIs may not be enabled", fail("services enable", 1, denied), 1, "Enabling APIs takes the role Owner", nil, ""},
		{"2: an API is not known everywhere yet", fail("beta services identity create", 3, "SERVICE_DISABLED: has not been used in project"), 0, "the next attempt is in 20s", nil, ""},
		{"2: the project's buckets cannot be seen", fail("storage buckets list", 1, "HTTPError 403: you@example.com does not have storage.buckets.list access."), 1, "takes the permission storage.buckets.list", nil, ""},
		{"2: the bucket cannot be made", fail("storage buckets create", 1, "HTTPError 409: The requested bucket name is not available."), 1, "if another project has my-project-tfstate", nil, ""},
		{"3: the state cannot be read yet", fail("terraform init", 2, "googleapi: Error 403: storage.objects.list access"), 0, "the next attempt is in 10s", nil, ""},
		{"3: Terraform does not start", fail("terraform init", 1, "could not download the provider"), 1, `step 3, "Open Terraform's state"`, nil, ""},
		{"3: another run has the lock", func(c *gcloudtest.Cloud) {
			c.Objects[lock] = `{"Operation": "OperationTypeApply", "Who": "ann@laptop", "Created": "2026-11-26T10:00:00Z"}`
		}, deploy.CodeNotYet, "ann@laptop has the state locked since 2026-11-26T10:00:00Z (OperationTypeApply)",
			func(w *world) { w.change(func(c *gcloudtest.Cloud) { delete(c.Objects, lock) }) }, ""},
		{"3: a dead run has the lock", func(c *gcloudtest.Cloud) { c.Objects[lock] = `{}` }, deploy.CodeNotYet, "-unlock 1732620000000001",
			func(w *world) { w.o.Unlock = "1732620000000001" }, "is broken, as -unlock asks"},
		{"4: a prefix that is too long", fail("terraform plan -target", 1, "Error: Invalid value for variable: prefix is longer than 15 characters"), deploy.CodeRefused,
			"Terraform refuses what environments/my-project.tfvars and the arguments set", nil, ""},
		{"4: settings that cannot be read", fail("terraform plan -target", 1, "Error: Error in function call: invalid tfvars syntax: 1,9-2,1: Invalid expression"), deploy.CodeRefused,
			"Terraform refuses what environments/my-project.tfvars and the arguments set", nil, ""},
		{"4: a plan that fails", fail("terraform plan -target", 1, "Error: Error 500: backend error"), 1, "Nothing was changed by this plan", nil, ""},
		{"4: the registry cannot be made yet", fail("create google_artifact_registry_repository.this", 2, "Error 403: Artifact Registry API has not been used in project"), 0, "the next attempt is in 10s", nil, ""},
		{"4: the registry cannot be made", fail("create google_artifact_registry_repository.this", 1, "Error 500"), 1, "step 4", nil, ""},
		{"4: the build account is not known yet", fail("create google_service_account.build", 1, "Error 400: Service account gatehouse-build does not exist."), 0, "the next attempt is in 5s", nil, ""},
		{"5: the build account may not build yet", fail("builds submit", 3, denied), 0, "the next attempt is in 20s", nil, ""},
		{"5: the build may not push yet", func(c *gcloudtest.Cloud) {
			c.Builds, c.BuildLog = []string{"FAILURE"}, "denied: Permission \"artifactregistry.repositories.uploadArtifacts\" denied"
		}, 0, "the next attempt is in 5s", nil, ""},
		{"5: the build fails", func(c *gcloudtest.Cloud) {
			c.Builds, c.BuildLog = []string{"FAILURE"}, "function.go:3: undefined: agnet\nBuilding"
		}, 1, "undefined: agnet", nil, ""},
		{"5: the role never comes", fail("builds submit", 7, denied), deploy.CodeNotYet, "It is refused still", nil, ""},
		{"6: roles have not spread", fail("create google_firestore_database.this", 3, "Error 403: The caller does not have permission"), 0, "the next attempt is in 20s", nil, ""},
		{"6: an apply that ends half-way", fail("create "+`google_cloud_run_v2_service.function["health"]`, 1, "Error 500: internal"), 1, "step 6", nil, ""},
		{"6: a resource after the services fails", fail("create google_monitoring_dashboard.this", 1, "Error 500: internal"), 1, "step 6", nil, "serves it already"},
		{"6: the database is left tainted", func(c *gcloudtest.Cloud) { c.Fail["taint google_firestore_database"] = 1 }, 1, "step 6", nil, "What it holds would be lost"},
		{"6: the image does not start", func(c *gcloudtest.Cloud) { c.BadImages = []string{"*"} }, deploy.CodeNotStarting,
			"failed to start and listen on the port", func(w *world) { w.change(func(c *gcloudtest.Cloud) { c.BadImages = nil }) }, "it is deleted and made again"},
		{"6: a service is there, and Terraform did not hear so", func(c *gcloudtest.Cloud) { c.Fail["late invoke"] = 1 }, 1, "step 6", nil, "has a revision that is ready (invoke-00001-abc). The mark is taken off"},
		{"6: a service is tainted and was never made", func(c *gcloudtest.Cloud) { c.Fail["taint invokegoogle_cloud_run_v2_service"] = 1 }, 1, "step 6", nil, "was never made"},
		{"6: an apply is killed before it stored the state", func(c *gcloudtest.Cloud) { c.Fail["lose invoke"] = 1 }, 1, "step 6", nil, "it is imported"},
		{"8: the smoke test fails", nil, 1, "failed its smoke test", func(w *world) { w.write(".delivery/bin/smoke", "#!/bin/sh\nexit 0\n") }, ""},
		{"8: who may call has not spread, or never will", nil, 1, "Name yourself in environments/my-project.tfvars", func(w *world) { w.write(".delivery/bin/smoke", "#!/bin/sh\nexit 0\n") }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if c.breaks != nil {
				w.change(c.breaks)
			}
			if strings.HasPrefix(c.name, "6: the image") {
				w.change(func(cloud *gcloudtest.Cloud) { cloud.BadImages = []string{w.image()[strings.Index(w.image(), "@"):]} })
			}
			switch {
			case strings.HasPrefix(c.name, "8: the smoke"):
				w.write(".delivery/bin/smoke", "#!/bin/sh\nexit 1\n")
			case strings.HasPrefix(c.name, "8: who"):
				w.write(".delivery/bin/smoke", "#!/bin/sh\nexit 3\n")
			}
			code, said := w.deploy()
			if code != c.code || !strings.Contains(said, c.says) {
				t.Fatalf("the first run: exit %d, want %d with %q:\n%s", code, c.code, c.says, said)
			}
			if code == 0 {
				w.serves(said)
			}
			if c.repair != nil {
				c.repair(w)
			}
			code, said = w.deploy()
			if code != 0 || !strings.Contains(said, c.heals) {
				t.Fatalf("the second run: exit %d, want 0 with %q:\n%s", code, c.heals, said)
			}
			w.serves(said)
		})
	}
}

// An apply that cannot store its state leaves it in a file.
func TestAStateThatWasNotStoredIsStored(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if code, said := w.deploy(); code != 0 {
		t.Fatalf("exit %d:\n%s", code, said)
	}
	w.change(func(c *gcloudtest.Cloud) {
		c.Resources = nil
	})
	w.write("environments/errored.tfstate", `[]`)
	w.git("add", "-A")
	code, said := w.deploy()
	if !strings.Contains(said, "it is stored now") {
		t.Errorf("exit %d:\n%s", code, said)
	}
	if _, err := os.Stat(filepath.Join(w.dir, "environments/errored.tfstate")); err == nil {
		t.Error("errored.tfstate is there still")
	}
}

// Terraform refuses a targeted plan while the state has moves pending, and a state of
// version 1 has all its resources at other addresses.
func TestAStateOfVersion1IsTakenOver(t *testing.T) {
	t.Parallel()
	moved, err := os.ReadFile("../../environments/moved.tf")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	w.write("environments/moved.tf", string(moved))
	w.commit("moved")
	if code, said := w.deploy(); code != 0 {
		t.Fatalf("exit %d:\n%s", code, said)
	}
	before := w.now()
	w.change(func(c *gcloudtest.Cloud) {
		for _, r := range c.Resources {
			r.Address = strings.TrimPrefix(r.Address, "module.gatehouse.module.gatehouse.")
		}
		// Version 1 had no resources for the build.
		c.Resources = slices.DeleteFunc(c.Resources, func(r *gcloudtest.Resource) bool { return r.Type == "terraform_data" })
	})
	code, said := w.deploy()
	if code != 0 || !strings.Contains(said, "The state is of an earlier version") || !strings.Contains(said, "6/8 Apply the infrastructure\nNothing to apply.") {
		t.Errorf("exit %d:\n%s", code, said)
	}
	byAddress := cmpopts.SortSlices(func(a, b *gcloudtest.Resource) bool { return a.Address < b.Address })
	if diff := cmp.Diff(before.Resources, w.now().Resources, byAddress); diff != "" {
		t.Errorf("the state (-before +after):\n%s", diff)
	}
	// A third run finds nothing to move.
	if code, said := w.deploy(); code != 0 || strings.Contains(said, "an earlier version") {
		t.Errorf("exit %d:\n%s", code, said)
	}
}

func TestAnImageThatDoesNotStartNeverReplacesOneThatServes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if code, said := w.deploy(); code != 0 {
		t.Fatalf("exit %d:\n%s", code, said)
	}
	good := w.image()
	w.write("function.go", "package agent // broken\n")
	w.commit("broken")
	w.change(func(c *gcloudtest.Cloud) { c.BadImages = []string{w.image()} })
	code, said := w.deploy()
	if code != deploy.CodeNotStarting || !strings.Contains(said, "the revisions before it have the traffic") || !strings.Contains(said, "gcloud logging read") {
		t.Errorf("exit %d:\n%s", code, said)
	}
	s := w.now().Services["invoke"]
	if s.Traffic["invoke-00001-abc"] != 100 || s.Images["invoke-00001-abc"] != good {
		t.Errorf("the traffic is %v", s.Traffic)
	}
	w.write("function.go", "package agent // repaired\n")
	w.commit("repaired")
	if code, said = w.deploy(); code != 0 {
		t.Fatalf("repaired: exit %d:\n%s", code, said)
	}
	w.serves(said)
}

func TestSettingsThatAreRefused(t *testing.T) {
	sum := "@sha256:" + strings.Repeat("0", 64)
	for _, c := range []struct {
		name string
		set  func(*world)
		code int
		says string
	}{
		{"a project's number", func(w *world) { w.o.Project = "123456789" }, deploy.CodeUsage, "is not a project's ID"},
		{"a command as a project", func(w *world) { w.o.Project = "x; rm -rf y" }, deploy.CodeUsage, "is not a project's ID"},
		{"no such commit", func(w *world) { w.o.Commit = "nothing" }, deploy.CodeUsage, "no such commit"},
		{"an image by its tag", func(w *world) { w.o.Image = "us-central1-docker.pkg.dev/my-project/gatehouse/gatehouse:latest" }, deploy.CodeRefused, "by its digest"},
		{"an image of another registry", func(w *world) { w.o.Image = "docker.io/a/b/c" + sum }, deploy.CodeRefused, "by its digest"},
		{"an image of another project", func(w *world) { w.o.Image = "us-central1-docker.pkg.dev/other/gatehouse/gatehouse" + sum }, deploy.CodeRefused, `step 4, "Create the registry and the build account": terraform -chdir=environments plan`},
		{"no root", func(w *world) { w.o.Root = "nowhere" }, deploy.CodeUsage, "cmd/gate init"},
		{"no settings", func(w *world) { w.o.Settings = "other.tfvars" }, deploy.CodeUsage, "other.tfvars"},
		{"a plan that is not approved", func(w *world) { w.o.Approve = false }, 1, "nothing was applied"},
		{"a service of somebody else's", func(w *world) {
			w.change(func(c *gcloudtest.Cloud) {
				c.Services["invoke"] = &gcloudtest.Service{Revisions: []string{"r"}, Traffic: map[string]int{"r": 100}, App: "shop"}
			})
		}, deploy.CodeRefused, "is not this agent's"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c.set(w)
			code, said := w.deploy()
			if code != c.code || !strings.Contains(said, c.says) {
				t.Errorf("exit %d, want %d with %q:\n%s", code, c.code, c.says, said)
			}
			if s := w.now().Services; s["health"] != nil {
				t.Error("it made a service")
			}
		})
	}
}

// A registry holds the images that serve. Step 4 creates it without a question, and does not
// replace it without one.
func TestARegistryIsNotReplacedWithoutApproval(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if code, said := w.deploy(); code != 0 {
		t.Fatalf("exit %d:\n%s", code, said)
	}
	w.change(func(c *gcloudtest.Cloud) {
		for _, r := range c.Resources {
			r.Tainted = r.Tainted || r.Type == "google_artifact_registry_repository"
		}
	})
	w.o.Approve = false
	code, said := w.deploy()
	if code != 1 || !strings.Contains(said, `step 4, "Create the registry and the build account": the plan was not approved; nothing was applied`) {
		t.Errorf("exit %d:\n%s", code, said)
	}
	for _, r := range w.now().Resources {
		if r.Type == "google_artifact_registry_repository" && !r.Tainted {
			t.Error("it was replaced")
		}
	}
}

func TestADryRunCallsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.o.DryRun = true
	code, said := w.deploy()
	if code != 0 {
		t.Fatalf("exit %d:\n%s", code, said)
	}
	if calls := w.now().Calls; len(calls) > 0 {
		t.Errorf("it calls %q", calls)
	}
	if status := w.git("status", "--porcelain"); status != "" {
		t.Errorf("it leaves %s", status)
	}
	order := []string{"1/8", "+ gcloud projects describe my-project", "+ gcloud billing projects describe", "+ gcloud services enable", "gs://my-project-tfstate", "+ terraform -chdir=environments init",
		"-target=module.gatehouse.module.gatehouse.terraform_data.build", "+ git archive", "+ gcloud builds submit", "+ terraform -chdir=environments plan", "+ terraform -chdir=environments apply",
		"'gcloud' 'run' 'deploy' 'invoke'", "'--to-revisions' 'invoke-new=10,invoke-old=90'", "8/8", "/smoke -invoke", "curl -s", "8 steps, "}
	at := 0
	for _, want := range order {
		i := strings.Index(said[at:], want)
		if i < 0 {
			t.Fatalf("not in this order: %s\n%s", want, said)
		}
		at += i
	}
	t.Log(said[strings.LastIndex(said, "8 steps"):])
}

// A commit always has the same archive, which does not contain uncommitted changes.
func TestACommitIsOneArchive(t *testing.T) {
	t.Parallel()
	var archives []string
	w := newWorld(t)
	for _, env := range []string{"TZ=UTC", "TZ=Asia/Tokyo"} {
		w.o.Env = append(slices.Clone(w.o.Env), env)
		w.change(func(c *gcloudtest.Cloud) { c.Tags = map[string]string{} })
		if code, said := w.deploy(); code != 0 {
			t.Fatalf("exit %d:\n%s", code, said)
		}
		raw, err := os.ReadFile(filepath.Join(w.dir, ".delivery", "source-"+w.git("rev-parse", "HEAD")[:12]+".tgz"))
		if err != nil {
			t.Fatal(err)
		}
		archives = append(archives, string(raw))
		w.write("function.go", "package agent // not committed\n")
	}
	if archives[0] != archives[1] {
		t.Error("two archives of one commit differ")
	}
}

// On the first interrupt Terraform writes its state and releases the lock; a second
// one ends it without either.
func TestAnInterruptReachesTerraformOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	began, got := filepath.Join(t.TempDir(), "began"), filepath.Join(t.TempDir(), "got")
	w.write("bin/terraform", fmt.Sprintf("#!/bin/sh\ntrap 'echo once >>%s; exit 1' INT\n: >%s\nwhile :; do sleep 0.05; done\n", got, began))
	w.o.Env = append(slices.Clone(w.o.Env), "PATH="+filepath.Join(w.dir, "bin")+":"+w.path)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() {
		for ctx.Err() == nil {
			if _, err := os.Stat(began); err == nil {
				cancel()
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	var out strings.Builder
	o := w.o
	o.Out = &out
	err := deploy.Run(ctx, o)
	if err == nil || !strings.Contains(err.Error(), `interrupted in step 3, "Open Terraform's state". Run the same command again`) {
		t.Errorf("%v\n%s", err, out.String())
	}
	if raw, err := os.ReadFile(got); err != nil || string(raw) != "once\n" {
		t.Errorf("Terraform got %q, %v", raw, err)
	}
	w.o.Env = w.o.Env[:len(w.o.Env)-1]
	if code, said := w.deploy(); code != 0 {
		t.Errorf("the second run: exit %d:\n%s", code, said)
	}
}

// The real gcloud parses every command of a deployment and of the delivery's steps: it
// knows the commands, options and values.
func TestGcloudTakesEachCommand(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("gcloud"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("NOT TESTED: whether gcloud takes the commands. Install the Google Cloud CLI.")
	}
	w := newWorld(t)
	w.o.DryRun = true
	code, said := w.deploy()
	if code != 0 {
		t.Fatalf("exit %d:\n%s", code, said)
	}
	seen := map[string]bool{}
	var commands []string
	for line := range strings.Lines(said) {
		words, ok := strings.CutPrefix(strings.TrimSpace(line), "+ ")
		words = strings.ReplaceAll(strings.ReplaceAll(words, "' '", " "), "'", "")
		if ok && strings.HasPrefix(words, "gcloud ") && !seen[words] {
			seen[words] = true
			commands = append(commands, words)
		}
	}
	// Commands that run only after a failure.
	commands = append(commands,
		"gcloud run services delete invoke --project my-project --region us-central1 --quiet",
		"gcloud run services update-traffic invoke --project my-project --region us-central1 --to-latest --quiet",
		"gcloud storage cat gs://my-project-tfstate/gatehouse/default.tflock",
		"gcloud logging read resource.type=build --project my-project --freshness 2h --limit 40 --order desc --format value(textPayload)")
	var list []map[string]string
	for _, command := range commands {
		list = append(list, map[string]string{"command_string": command})
	}
	raw, err := json.Marshal(list)
	file := filepath.Join(t.TempDir(), "commands.json")
	if err := errors.Join(err, os.WriteFile(file, raw, 0o600)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "gcloud", "meta", "lint-gcloud-commands", "--commands-file", file)
	cmd.Env = append(os.Environ(), "CLOUDSDK_CONFIG="+t.TempDir(), "CLOUDSDK_CORE_DISABLE_PROMPTS=1")
	out, err := cmd.Output()
	var results []struct {
		Command string `json:"command_string"`
		Success bool   `json:"success"`
		Message string `json:"error_message"`
	}
	if failed := json.Unmarshal(out, &results); failed != nil || len(results) != len(commands) {
		t.Fatalf("%d results for %d commands: %v, %v", len(results), len(commands), failed, err)
	}
	for _, r := range results {
		if !r.Success {
			t.Errorf("%s: %s", r.Command, r.Message)
		}
	}
}
