// Package deploy deploys a commit of a repository to a Google Cloud project: it
// creates what the build needs, has Cloud Build build the commit, applies the Terraform
// root of the working tree with the image's digest, and calls the service.
//
// Each step checks what exists before it acts, so running a failed deployment again
// continues it. Git, gcloud, Terraform and the steps of delivery/ do the work, as
// commands that a dry run prints.
//
// A deployment can end anywhere: a closed laptop, a lost network, a role that is missing.
// So no step keeps a note of how far it came. Each asks Google Cloud, git or the state what
// is there, and what is there decides: the image of the commit by its tag, the services by
// what Cloud Run lists, the rest by Terraform's state. The one thing that a killed run
// leaves in the way is the lock of the state, which a person breaks with -unlock, because
// only a person can know that the other run is dead.
//
// Terraform makes what it can describe. Three things it cannot: the bucket that holds its
// own state, an image before there is a registry, and traffic, which its resources ignore
// so that a rollout can move it in shares. Hence the order: bootstrap, a targeted apply of
// the registry and the build account, the build, the apply of the rest with the image's
// digest, and the rollout.
package deploy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Exit statuses of a deployment besides 0 and 1, as in sysexits.h.
const (
	CodeUsage       = 64 // invalid arguments
	CodeRefused     = 65 // a refused setting: an image of another project, a prefix that is too long
	CodeNoProject   = 69 // no such project, or no billing
	CodeNotStarting = 70 // the image does not start
	CodeNotYet      = 75 // roles have not propagated, or the state is locked: run it again
	CodeNoLogin     = 77 // gcloud or Terraform has no login, or is not installed
)

// An Error is the cause of a failed deployment, with its exit status.
type Error struct {
	Code int
	Err  error
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

func errorf(code int, format string, args ...any) error {
	return &Error{Code: code, Err: fmt.Errorf(format, args...)}
}

// Options configure a deployment. The zero value of a field is its default; Project, Dir,
// Scripts, In, Out and Env have none. Env is the whole environment of the commands, PATH
// included: nothing is taken from this process.
type Options struct {
	Project  string
	Region   string   // overrides the settings' region
	Commit   string   // a git revision; default: HEAD
	Image    string   // by digest, instead of a build
	Root     string   // directory of the Terraform root; default: environments
	Settings string   // settings file, relative to Root; default: PROJECT.tfvars
	Unlock   string   // a killed run's lock to remove
	Approve  bool     // apply without asking
	NoSmoke  bool     // for a service that does not accept gcloud's tokens
	Watch    int      // seconds for each share of the traffic; default: 60
	Args     []string // additional arguments of terraform plan
	DryRun   bool

	Dir     string // of the repository
	Scripts string // delivery/ of this module
	Tools   string // where programs are built; default: Dir/.delivery/bin

	In    io.Reader
	Out   io.Writer
	Env   []string
	Sleep func(context.Context, time.Duration) error // default: wait for the duration
}

// A deployment is one run. Its steps fill the fields in the order in which they run, and
// later ones rely on them.
type deployment struct {
	Options
	*commands

	account  string // gcloud's active account
	commit   string
	region   string  // of this deployment
	prefix   string  // of its resource names
	names    names   // as planned by Terraform
	services []place // in the plan's order
	image    string  // by digest
}

// A place is a Cloud Run service and its region. function is the module's key.
type place struct{ function, name, region string }

// nameOf returns the name of a function's service, "" before it is planned.
func (d *deployment) nameOf(function string) string {
	for _, p := range d.services {
		if p.function == function {
			return p.name
		}
	}
	return ""
}

// names are resource names that depend on the root's settings.
type names struct{ repository, builder string }

// projectID is the form of a project's ID
// (https://cloud.google.com/resource-manager/docs/creating-managing-projects). It also
// keeps the ID from being read as a flag by gcloud.
var projectID = regexp.MustCompile(`^[a-z][a-z0-9-]{4,28}[a-z0-9]$`)

// Run deploys. The error is an *Error if the exit status is not 1. When ctx ends the
// running command is interrupted once and gets a minute to finish; Terraform uses it to
// store its state and release the lock.
func Run(ctx context.Context, o Options) error {
	if !projectID.MatchString(o.Project) {
		return errorf(CodeUsage, "%q is not a project's ID: 6 to 30 lower-case letters, digits and hyphens", o.Project)
	}
	if o.Commit == "" {
		o.Commit = "HEAD"
	}
	if o.Watch == 0 {
		o.Watch = 60
	}
	if o.Sleep == nil {
		o.Sleep = sleep
	}
	d := &deployment{Options: o, commands: &commands{dir: o.Dir, out: o.Out, in: o.In, env: o.Env, dryRun: o.DryRun, sleep: o.Sleep}}
	if err := d.settings(); err != nil {
		return err
	}
	begin := time.Now()
	for i, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"Check the project", d.check},
		{"Create what Terraform needs", d.bootstrap},
		{"Open Terraform's state", d.open},
		{"Create the registry and the build account", d.prepare},
		{"Build the commit", d.build},
		{"Apply the infrastructure", d.apply},
		{"Roll out the image", d.deliver},
		{"Call the service", d.smoke},
	} {
		fmt.Fprintf(d.out, "\n%d/8 %s\n", i+1, step.name)
		if err := step.do(ctx); err != nil {
			// The command's own error is of its interruption and would only mislead.
			if ctx.Err() != nil {
				return fmt.Errorf("interrupted in step %d, %q. Run the same command again to continue", i+1, step.name)
			}
			return fmt.Errorf("step %d, %q: %w", i+1, step.name, err)
		}
	}
	fmt.Fprintf(d.out, "\n8 steps, %d commands, %s\n", d.count, time.Since(begin).Round(10*time.Millisecond))
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// settings completes the options from the repository. It reads no more of the settings than
// the steps before the first plan need.
func (d *deployment) settings() error {
	if d.Image != "" && !byDigest.MatchString(d.Image) {
		return errorf(CodeRefused, "-image must be an image by its digest, REGION-docker.pkg.dev/PROJECT/REPOSITORY/NAME@sha256:…; got %s", d.Image)
	}
	d.image = d.Image // the first plan refuses one of another project
	if d.Root == "" {
		d.Root = "environments"
	}
	root := filepath.Join(d.Dir, d.Root)
	if files, err := filepath.Glob(filepath.Join(root, "*.tf")); err != nil || len(files) == 0 {
		return errorf(CodeUsage, "%s holds no Terraform root. Make one: go run example.com/gatehouse/cmd/gate init", d.Root)
	}
	file := d.settingsFile()
	if !filepath.IsAbs(file) {
		file = filepath.Join(d.Dir, file)
	}
	raw, err := os.ReadFile(file)
	if err != nil && d.Settings != "" {
		return errorf(CodeUsage, "the settings: %w", err)
	}
	d.region, d.prefix = "us-central1", "gatehouse"
	if match := regionSet.FindSubmatch(raw); match != nil {
		d.region = string(match[1])
	}
	if d.Region != "" {
		d.region = d.Region
	}
	if match := prefixSet.FindSubmatch(raw); match != nil {
		d.prefix = string(match[1])
	}
	if d.Tools == "" {
		d.Tools = filepath.Join(d.Dir, ".delivery", "bin")
	}
	return nil
}

// Two settings are needed before Terraform can read the file: the location of the
// state's bucket, and the state's path in it. Their defaults are those of
// variables.tf.
var (
	regionSet = regexp.MustCompile(`(?m)^region\s*=\s*"([^"]+)"`)
	prefixSet = regexp.MustCompile(`(?m)^prefix\s*=\s*"([^"]+)"`)
)

// stale reports whether a program is missing or older than Go source of the repository. A
// module that imports this one takes another version of it by its go.mod. The function of the
// same name in delivery/lib.sh has the same rule.
func stale(program, repository string) bool {
	built, err := os.Stat(program)
	if err != nil {
		return true
	}
	newer := false
	_ = filepath.WalkDir(repository, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil // what cannot be read is not built from
		}
		name := entry.Name()
		switch {
		case entry.IsDir() && strings.HasPrefix(name, ".") && path != repository:
			return fs.SkipDir
		case entry.IsDir() || filepath.Ext(name) != ".go" && name != "go.mod" && name != "go.sum":
			return nil
		}
		if info, err := entry.Info(); err == nil && info.ModTime().After(built.ModTime()) {
			newer = true
			return fs.SkipAll
		}
		return nil
	})
	return newer
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

var (
	digest   = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	byDigest = regexp.MustCompile(`^[a-z0-9-]+-docker\.pkg\.dev/[^/@:]+/[^/@:]+/[^@:]+@sha256:[0-9a-f]{64}$`)
)

// check looks for problems that a person has to fix first.
func (d *deployment) check(ctx context.Context) error {
	if !d.dryRun {
		for _, program := range []string{"git", "gcloud", "terraform", "go"} {
			if _, err := d.find(program); err != nil {
				return err
			}
		}
	}
	// A dry run asks git too: it reads only this machine, and the commit names the image.
	commit, err := d.git(ctx, "rev-parse", "--verify", "--quiet", d.Commit+"^{commit}")
	if err != nil {
		return errorf(CodeUsage, "no such commit: %s", d.Commit)
	}
	d.commit = strings.TrimSpace(commit)
	if changed, err := d.git(ctx, "status", "--porcelain"); err != nil {
		return err
	} else if changed != "" {
		fmt.Fprintf(d.out, "The working tree has changes that are not committed; %.12s is built without them.\n", d.commit)
	}

	account, err := d.ask(ctx, "you@example.com", "gcloud", "auth", "list", "--filter", "status:ACTIVE", "--format", "value(account)")
	if err != nil || account == "" {
		return errorf(CodeNoLogin, "gcloud has no login. Run: gcloud auth login")
	}
	d.account = account
	// gcloud and Terraform's provider have separate logins. Without this check the second
	// would be missed only after the APIs were enabled.
	if _, err := d.ask(ctx, "", "gcloud", "auth", "application-default", "print-access-token", "--quiet"); err != nil {
		return errorf(CodeNoLogin, "Terraform has no login, or an old one. Run: gcloud auth application-default login")
	}
	state, err := d.ask(ctx, "ACTIVE", "gcloud", "projects", "describe", d.Project, "--format", "value(lifecycleState)")
	if err != nil {
		return errorf(CodeNoProject, "there is no project %s, or %s may not see it.\nTo make it: gcloud projects create %s\n%w", d.Project, account, d.Project, err)
	}
	if state != "ACTIVE" {
		return errorf(CodeNoProject, "the project %s is being deleted (%s). Restore it, or take another", d.Project, state)
	}
	// Missing access to the billing account is not an error: enabling an API later
	// reports the same in Google's words.
	billing, err := d.ask(ctx, "True", "gcloud", "billing", "projects", "describe", d.Project, "--format", "value(billingEnabled)")
	if err == nil && billing != "True" {
		return errorf(CodeNoProject, "the project %s has no billing account, so no API can be enabled. Run: gcloud billing projects link %s --billing-account ACCOUNT\nThe accounts: gcloud billing accounts list", d.Project, d.Project)
	}
	return nil
}

// The APIs that Terraform needs to start, and those whose service agents get roles.
var apis = []string{"cloudresourcemanager", "iam", "serviceusage", "storage", "secretmanager", "pubsub", "artifactregistry", "cloudbuild", "firestore", "run", "iap", "logging", "aiplatform"}

// Service agents of Google's services. A new project has none of them.
var agents = []string{"aiplatform", "artifactregistry", "firestore", "iap", "pubsub", "run", "secretmanager"}

// bootstrap creates what Terraform needs: APIs, service agents, and the state's
// bucket. It does not change what exists.
func (d *deployment) bootstrap(ctx context.Context) error {
	enable := []string{"services", "enable", "--project", d.Project}
	for _, api := range apis {
		enable = append(enable, api+".googleapis.com")
	}
	if err := d.run(ctx, "gcloud", enable...); err != nil {
		return fmt.Errorf("%w\nEnabling APIs takes the role Owner, or Editor with Project IAM Admin, in %s", err, d.Project)
	}
	// Bindings that name a service agent fail until it exists, and Google makes it only at
	// the service's first use.
	for _, agent := range agents {
		if err := d.untilSpread(ctx, func() error {
			return d.run(ctx, "gcloud", "beta", "services", "identity", "create", "--service", agent+".googleapis.com", "--project", d.Project, "--quiet")
		}); err != nil {
			return err
		}
	}
	bucket := d.stateBucket()
	// It uses list, because describe has one exit status for a bucket that is missing and one
	// that may not be seen.
	name, err := d.ask(ctx, "", "gcloud", "storage", "buckets", "list", "--project", d.Project, "--filter", "name="+bucket, "--format", "value(name)")
	if err != nil {
		return fmt.Errorf("%w\nWhether %s has the bucket %s cannot be seen: that takes the permission storage.buckets.list", err, d.Project, bucket)
	}
	if name == "" {
		if err := d.untilSpread(ctx, func() error {
			return d.run(ctx, "gcloud", "storage", "buckets", "create", "gs://"+bucket, "--project", d.Project, "--location", d.region,
				"--uniform-bucket-level-access", "--public-access-prevention")
		}); err != nil {
			return fmt.Errorf("%w\nA bucket's name is taken for the whole world: if another project has %s, take a project with another ID", err, bucket)
		}
	}
	// With versions, a state that was overwritten or deleted can be restored.
	return d.run(ctx, "gcloud", "storage", "buckets", "update", "gs://"+bucket, "--versioning")
}

func (d *deployment) stateBucket() string { return d.Project + "-tfstate" }

// module is the prefix of the addresses of the module's resources.
const module = "module.gatehouse.module.gatehouse."

// prepare applies only the image repository and the build account. The names of both are
// read from the plan, so that the prefix and the names it makes are computed in one place,
// the module. A plan lists them also when nothing changes. To create needs no approval; what
// exists may hold images, and is only changed with one.
func (d *deployment) prepare(ctx context.Context) error {
	approved := d.Approve
	err := d.untilSpread(ctx, func() error {
		p, err := d.plan(ctx, "prepare", "-target="+module+"terraform_data.build")
		if err != nil {
			return err
		}
		for _, c := range p.Changes {
			switch c.Type {
			case "google_artifact_registry_repository":
				d.names.repository = text(c.planned(), "repository_id")
			case "google_service_account":
				if c.Name == "build" {
					d.names.builder = text(c.planned(), "account_id")
				}
			}
		}
		if p.alters() {
			if err := d.approve(&approved); err != nil {
				return err
			}
		}
		return d.applyPlan(ctx, p)
	})
	if err != nil {
		return err
	}
	if d.names.repository == "" || d.names.builder == "" {
		return fmt.Errorf("%s plans no image repository or no build account: is it a root of this module?", d.Root)
	}
	return nil
}

func (d *deployment) builder() string {
	return d.names.builder + "@" + d.Project + ".iam.gserviceaccount.com"
}

// images returns the path of this deployment's images.
func (d *deployment) images() string {
	return d.region + "-docker.pkg.dev/" + d.Project + "/" + d.names.repository + "/gatehouse"
}

// build has Cloud Build build the commit, unless its image exists, and records the digest.
// A commit is built once: its tag in the registry shows that it was. What is deployed is
// the digest, so that a tag that moves later changes no revision.
func (d *deployment) build(ctx context.Context) error {
	if d.Image != "" {
		fmt.Fprintf(d.out, "%s is taken; nothing is built.\n", d.image)
		return nil
	}
	tag := d.images() + ":" + d.commit[:12]
	if d.image = d.built(ctx, tag); d.image != "" && !d.dryRun {
		fmt.Fprintf(d.out, "The commit is built already: %s\n", d.image)
		return nil
	}
	file := filepath.Join(".delivery", "source-"+d.commit[:12]+".tgz")
	if err := archive(ctx, d.commands, d.commit, d.Scripts, filepath.Join(d.Dir, file)); err != nil {
		return err
	}
	if err := d.untilSpread(ctx, func() error { return d.submit(ctx, file) }); err != nil {
		return err
	}
	if d.image = d.built(ctx, tag); d.image == "" {
		return fmt.Errorf("the build passed, and %s is not there", tag)
	}
	fmt.Fprintf(d.out, "Built %s\n", d.image)
	return nil
}

// built returns the image with a tag, by digest; "" if there is none. It takes an error for
// none: the registry of a new project is empty, and a registry that cannot be read fails
// the build that follows, with the reason.
func (d *deployment) built(ctx context.Context, tag string) string {
	sum, err := d.ask(ctx, "sha256:"+strings.Repeat("0", 64), "gcloud", "artifacts", "docker", "images", "describe", tag,
		"--project", d.Project, "--format", "value(image_summary.digest)")
	if err != nil || !digest.MatchString(sum) {
		return ""
	}
	return d.images() + "@" + sum
}

// buildPolls bounds the wait for a build: its timeout plus ten minutes in the queue.
const (
	buildPolls = 240
	buildPause = 10 * time.Second
)

// submit runs one build and waits for its end. It polls instead of letting gcloud stream
// the log: build.yaml sends the log to Cloud Logging only, and a connection that is lost
// must not lose the build. The error of a failed build has the last 40 lines of its log, in
// which untilSpread finds roles that have not propagated.
func (d *deployment) submit(ctx context.Context, source string) error {
	args := []string{"builds", "submit", source, "--config", filepath.Join(d.Scripts, "build.yaml"), "--project", d.Project, "--region", d.region,
		"--async", "--format", "value(id)",
		"--substitutions", strings.Join([]string{"_REGION=" + d.region, "_REPOSITORY=" + d.names.repository, "_SERVICE_ACCOUNT=" + d.builder(), "_COMMIT=" + d.commit}, ",")}
	id := "BUILD"
	if d.dryRun {
		if err := d.run(ctx, "gcloud", args...); err != nil {
			return err
		}
	} else {
		var err error
		if id, err = d.ask(ctx, "", "gcloud", args...); err != nil {
			return err
		}
		fmt.Fprintf(d.out, "Cloud Build runs it: https://console.cloud.google.com/cloud-build/builds;region=%s/%s?project=%s\n", d.region, id, d.Project)
	}
	for range buildPolls {
		status, err := d.ask(ctx, "SUCCESS", "gcloud", "builds", "describe", id, "--project", d.Project, "--region", d.region, "--format", "value(status)")
		if err != nil {
			return err
		}
		switch status {
		case "SUCCESS":
			return nil
		case "PENDING", "QUEUED", "WORKING":
		default:
			log, _ := d.ask(ctx, "", "gcloud", "logging", "read", `resource.type="build" resource.labels.build_id="`+id+`"`,
				"--project", d.Project, "--freshness", "2h", "--limit", "40", "--order", "desc", "--format", "value(textPayload)")
			return &commandError{command: "the build " + id + " ended with " + status, code: 1, stderr: reverse(log)}
		}
		if err := d.sleep(ctx, buildPause); err != nil {
			return err
		}
	}
	return fmt.Errorf("the build %s has not ended after %s", id, buildPolls*buildPause)
}

// reverse reverses the order of lines.
func reverse(text string) string {
	lines := strings.Split(text, "\n")
	slices.Reverse(lines)
	return strings.Join(lines, "\n")
}

// deliver rolls out the image to services that run another one, with the delivery's steps.
// These watch one region; a service in a second region gets the image without shared
// traffic, once the first region has it. A service that the apply has just made serves the
// image already and stays as it is.
func (d *deployment) deliver(ctx context.Context) error {
	var here, elsewhere []place
	for _, p := range d.services {
		status, err := d.service(ctx, p.name, p.region)
		if err != nil {
			return err
		}
		switch {
		case status.serves(d.image) && !d.dryRun:
			fmt.Fprintf(d.out, "%s in %s serves it already.\n", p.name, p.region)
		case p.region == d.region && !d.NoSmoke:
			here = append(here, p)
		default:
			elsewhere = append(elsewhere, p)
		}
	}
	if len(here) > 0 {
		state := filepath.Join(d.Dir, ".delivery")
		if !d.dryRun {
			if err := os.MkdirAll(state, 0o755); err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(state, "image"), []byte(d.image+"\n"), 0o600); err != nil {
				return err
			}
		} else {
			fmt.Fprintln(d.out, "Where the services are there with another image:")
		}
		for _, step := range []string{"deploy", "smoke", "promote"} {
			if err := d.script(ctx, step); err != nil {
				// A step's own error names a command; the revision's message names the cause.
				if broken := d.notStarting(ctx, "the revisions before it have the traffic"); broken != nil && step == "deploy" {
					return broken
				}
				return err
			}
		}
	}
	for _, p := range elsewhere {
		if err := d.run(ctx, "gcloud", "run", "deploy", p.name, "--project", d.Project, "--region", p.region, "--image", d.image, "--quiet"); err != nil {
			return err
		}
		if err := d.run(ctx, "gcloud", "run", "services", "update-traffic", p.name, "--project", d.Project, "--region", p.region, "--to-latest", "--quiet"); err != nil {
			return err
		}
	}
	return nil
}

// script runs one of the delivery's steps with this deployment's settings. The steps are
// those of the pipeline, so a laptop and Cloud Build roll out alike. They pass results to
// each other in files of DELIVERY_STATE.
func (d *deployment) script(ctx context.Context, step string) error {
	c := *d.commands
	c.env = append(slices.Clone(d.env), "REPOSITORY_DIR="+d.Dir, "TERRAFORM_ROOT="+d.Root, "PROJECT="+d.Project, "REGION="+d.region, "REPOSITORY="+d.names.repository,
		"INVOKE_SERVICE="+d.nameOf("invoke"), "HEALTH_SERVICE="+d.nameOf("health"), "COMMIT_SHA="+d.commit,
		fmt.Sprintf("WATCH_SECONDS=%d", d.Watch), "DELIVERY_STATE="+filepath.Join(d.Dir, ".delivery"))
	args := []string{filepath.Join(d.Scripts, step)}
	if d.dryRun {
		// In a dry run, a step prints its commands.
		out, err := c.start(ctx, d.out, "bash", append(args, "--dry-run")...)
		d.count += strings.Count("\n"+out, "\n+ ")
		return err
	}
	err := c.run(ctx, "bash", args...)
	d.count = c.count
	return err
}

// smoke calls the service as a client does and prints the first call. Exit status 3 of the
// program means that Cloud Run refused the caller for one of the functions; it is retried
// for about 75 s, and other failures are final. See cmd/smoke.
func (d *deployment) smoke(ctx context.Context) error {
	if d.NoSmoke {
		fmt.Fprintln(d.out, "Left out, as -no-smoke asks.")
		return nil
	}
	urls := map[string]string{}
	for _, function := range []string{"invoke", "health"} {
		url, err := d.ask(ctx, "https://"+function+".example", "terraform", "-chdir="+d.Root, "output", "-raw", function+"_url")
		if err != nil {
			return err
		}
		urls[function] = url
	}
	program := filepath.Join(d.Tools, "smoke")
	if d.dryRun || stale(program, d.Dir) {
		if err := d.run(ctx, "go", "build", "-o", program, "example.com/gatehouse/cmd/smoke"); err != nil {
			return err
		}
	}
	// New invokers propagate like other bindings, and the smoke test gets 403 until
	// then.
	var err error
	for _, pause := range append([]time.Duration{0}, pauses[:4]...) {
		if pause > 0 {
			fmt.Fprintf(d.out, "The next attempt is in %s: who may call is not known everywhere yet.\n", pause)
			if err := d.sleep(ctx, pause); err != nil {
				return err
			}
		}
		if err = d.run(ctx, program, "-invoke", urls["invoke"], "-health", urls["health"]); err == nil {
			break
		}
		if failed, ok := errors.AsType[*commandError](err); !ok || failed.code != 3 {
			break
		}
	}
	call := fmt.Sprintf("curl -s %s/invoke -H \"Authorization: Bearer $(gcloud auth print-identity-token)\" \\\n"+
		"  -H 'Content-Type: application/json' -d '{\"query\": \"Hello! What can you do?\"}'", urls["invoke"])
	if failed, ok := errors.AsType[*commandError](err); ok && failed.code == 3 {
		return fmt.Errorf("the service is there, and Cloud Run lets you through to it no more than anybody else.\n"+
			"Name yourself in %s, and run the same command again:\n  invokers = [\"user:%s\"]\n  health_invokers = [\"user:%[2]s\"]", d.settingsFile(), d.account)
	}
	if err != nil {
		return fmt.Errorf("the service is deployed but failed its smoke test: %w", err)
	}
	fmt.Fprintf(d.out, "\nThe first call:\n\n%s\n", call)
	return nil
}

func decode[T any](raw string) (T, error) {
	var v T
	err := json.Unmarshal([]byte(raw), &v)
	return v, err
}
