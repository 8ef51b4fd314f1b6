package deploy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A change is one resource of a plan, in Terraform's JSON.
type change struct {
	Address string `json:"address"`
	Type    string `json:"type"`
	Name    string `json:"name"`
	Index   any    `json:"index"`
	Change  struct {
		Actions []string       `json:"actions"`
		Before  map[string]any `json:"before"`
		After   map[string]any `json:"after"`
	} `json:"change"`
}

// planned returns the resource after the plan.
func (c change) planned() map[string]any {
	if c.Change.After != nil {
		return c.Change.After
	}
	return c.Change.Before
}

func (c change) creates() bool { return slices.Equal(c.Change.Actions, []string{"create"}) }

// A terraformPlan is a plan in a file, and its contents.
type terraformPlan struct {
	file    string
	Changes []change `json:"resource_changes"`
	Outputs map[string]struct {
		Actions []string `json:"actions"`
	} `json:"output_changes"`
}

// empty reports whether the plan changes nothing. Outputs count: an apply that changes only
// them is needed, since smoke reads the URLs there.
func (p terraformPlan) empty() bool {
	for _, c := range p.Changes {
		if !slices.Equal(c.Change.Actions, []string{"no-op"}) && !slices.Equal(c.Change.Actions, []string{"read"}) {
			return false
		}
	}
	for _, o := range p.Outputs {
		if !slices.Equal(o.Actions, []string{"no-op"}) {
			return false
		}
	}
	return true
}

// alters reports whether the plan changes or removes something that exists.
func (p terraformPlan) alters() bool {
	return slices.ContainsFunc(p.Changes, func(c change) bool {
		return slices.ContainsFunc(c.Change.Actions, func(action string) bool {
			return action != "create" && action != "no-op" && action != "read"
		})
	})
}

// text returns a string of a resource's values; "" where it is none or not known before the
// apply.
func text(values map[string]any, name string) string {
	s, _ := values[name].(string)
	return s
}

// variables are the arguments that identify the deployment, for every command. Plan and
// import must get the same ones: import evaluates the root too.
func (d *deployment) variables() []string {
	args := []string{"-var", "project_id=" + d.Project}
	if d.Settings != "" {
		args = append(args, "-var", "settings="+d.Settings)
	}
	if d.Region != "" {
		args = append(args, "-var", "region="+d.Region)
	}
	if d.image != "" {
		args = append(args, "-var", "image="+d.image)
	}
	return append(args, d.Args...)
}

// terraform runs a Terraform command in the root.
func (d *deployment) terraform(ctx context.Context, args ...string) error {
	return d.run(ctx, "terraform", append([]string{"-chdir=" + d.Root}, args...)...)
}

// open initializes Terraform with the state, stores what an interrupted run left, and stops
// if another run holds the lock. The order matters. The lock is looked at before
// errored.tfstate is pushed, since another run may be writing the state; and pushed before
// the moves, which read it.
func (d *deployment) open(ctx context.Context) error {
	if err := d.untilSpread(ctx, func() error {
		return d.terraform(ctx, "init", "-input=false", "-reconfigure", "-backend-config", "bucket="+d.stateBucket(), "-backend-config", "prefix="+d.prefix)
	}); err != nil {
		return err
	}
	lockFile := filepath.Join(d.Root, ".terraform.lock.hcl")
	if _, err := d.git(ctx, "ls-files", "--error-unmatch", lockFile); err != nil && exists(filepath.Join(d.Dir, lockFile)) {
		fmt.Fprintf(d.out, "Terraform wrote %s, the checksums of the provider. Commit it, so that every later run takes the same one.\n", lockFile)
	}
	if d.Unlock != "" {
		fmt.Fprintf(d.out, "The lock %s is broken, as -unlock asks.\n", d.Unlock)
		if err := d.terraform(ctx, "force-unlock", "-force", d.Unlock); err != nil {
			return err
		}
	}
	if err := d.unlocked(ctx); err != nil {
		return err
	}
	errored := filepath.Join(d.Dir, d.Root, "errored.tfstate")
	if exists(errored) {
		fmt.Fprintf(d.out, "An earlier run could not store its state, and left it in %s/errored.tfstate; it is stored now.\n", d.Root)
		if err := d.terraform(ctx, "state", "push", "errored.tfstate"); err != nil {
			return fmt.Errorf("%w\nWhere the stored state is the newer one, remove %s/errored.tfstate and run the same command again", err, d.Root)
		}
		if !d.dryRun {
			if err := os.Remove(errored); err != nil {
				return err
			}
		}
	}
	return d.move(ctx)
}

// movedBlock matches a moved block of the root, as in moved.tf: one argument per line.
var movedBlock = regexp.MustCompile(`(?m)^moved \{\n +from += (\S+)\n +to += (\S+)\n\}`)

// move does what the root's moved blocks do in a plan: Terraform refuses a targeted
// plan while moves of other resources are pending.
func (d *deployment) move(ctx context.Context) error {
	files, err := filepath.Glob(filepath.Join(d.Dir, d.Root, "*.tf"))
	if err != nil {
		return err
	}
	var blocks [][]string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		blocks = append(blocks, movedBlock.FindAllStringSubmatch(string(text), -1)...)
	}
	if len(blocks) == 0 {
		return nil
	}
	state, err := d.state(ctx)
	if err != nil {
		return err
	}
	announced := false
	for _, block := range blocks {
		from, to := block[1], block[2]
		if !slices.ContainsFunc(state.resources(), func(r stateResource) bool {
			return r.Address == from || strings.HasPrefix(r.Address, from+"[")
		}) {
			continue
		}
		if !announced {
			fmt.Fprintln(d.out, "The state is of an earlier version; what is in it is moved to where it is now, one resource after the other.")
			announced = true
		}
		if err := d.terraform(ctx, "state", "mv", "-lock-timeout=5m", from, to); err != nil {
			return err
		}
	}
	return nil
}

// unlocked returns an error if the state is locked. The lock is an object next to the
// state, whose generation is the lock's ID. Terraform would wait its -lock-timeout for it.
// This finds it at once, and the message has the argument that continues.
func (d *deployment) unlocked(ctx context.Context) error {
	lock := "gs://" + d.stateBucket() + "/" + d.prefix + "/default.tflock"
	generation, err := d.ask(ctx, "", "gcloud", "storage", "objects", "describe", lock, "--format", "value(generation)")
	if err != nil || generation == "" {
		return nil
	}
	raw, err := d.ask(ctx, "{}", "gcloud", "storage", "cat", lock)
	if err != nil {
		return nil // it was released in between
	}
	info, err := decode[struct{ Operation, Who, Created string }](raw)
	if err != nil {
		return fmt.Errorf("the lock %s: %w", lock, err)
	}
	return errorf(CodeNotYet, "%s has the state locked since %s (%s).\nWait until that run has ended. If it is dead, run the same command again with: -unlock %s",
		info.Who, info.Created, info.Operation, generation)
}

// plan has Terraform plan into a file and returns the plan's contents.
func (d *deployment) plan(ctx context.Context, name string, args ...string) (terraformPlan, error) {
	var p terraformPlan
	if !d.dryRun {
		if err := os.MkdirAll(filepath.Join(d.Dir, ".delivery"), 0o755); err != nil {
			return p, err
		}
	}
	// Terraform takes paths relative to its root.
	var err error
	if p.file, err = filepath.Rel(filepath.Join(d.Dir, d.Root), filepath.Join(d.Dir, ".delivery", name+".tfplan")); err != nil {
		return p, err
	}
	err = d.terraform(ctx, append(append([]string{"plan", "-input=false", "-lock-timeout=5m", "-out", p.file}, d.variables()...), args...)...)
	if err != nil {
		return p, d.refused(err)
	}
	raw, err := d.ask(ctx, strings.ReplaceAll(inventedPlan, "REGION", d.region), "terraform", "-chdir="+d.Root, "show", "-json", p.file)
	if err != nil {
		return p, err
	}
	read, err := decode[terraformPlan](raw)
	read.file = p.file
	return read, err
}

// inventedPlan is the plan of a dry run.
const inventedPlan = `{"resource_changes": [
	{"type": "google_artifact_registry_repository", "name": "this", "change": {"actions": ["create"], "after": {"repository_id": "gatehouse"}}},
	{"type": "google_service_account", "name": "build", "change": {"actions": ["create"], "after": {"account_id": "gatehouse-build"}}},
	{"type": "google_cloud_run_v2_service", "name": "function", "index": "invoke", "change": {"actions": ["create"], "after": {"name": "invoke", "location": "REGION"}}},
	{"type": "google_cloud_run_v2_service", "name": "function", "index": "health", "change": {"actions": ["create"], "after": {"name": "health", "location": "REGION"}}}]}`

// refusals matches Terraform's errors for values that the module's validations and
// preconditions reject.
var refusals = regexp.MustCompile(`Invalid value for variable|Invalid variable|precondition failed|[Ii]nappropriate value|Missing required|invalid tfvars syntax`)

// refused returns the error of a failed plan, which has changed nothing.
func (d *deployment) refused(err error) error {
	failed, ok := errors.AsType[*commandError](err)
	if !ok || spreading(err) {
		return err
	}
	if refusals.MatchString(failed.stderr) {
		return &Error{Code: CodeRefused, Err: fmt.Errorf("%w\nTerraform refuses what %s and the arguments set. Nothing was changed by this plan", err, d.settingsFile())}
	}
	return fmt.Errorf("%w\nNothing was changed by this plan", err)
}

// settingsFile returns the settings file, relative to the repository.
func (d *deployment) settingsFile() string {
	switch {
	case d.Settings == "":
		return filepath.Join(d.Root, d.Project+".tfvars")
	case filepath.IsAbs(d.Settings):
		return d.Settings
	}
	return filepath.Join(d.Root, d.Settings)
}

// applyPlan applies exactly what was shown and approved: the file, not a new plan.
// Terraform refuses the file where the state has changed since.
func (d *deployment) applyPlan(ctx context.Context, p terraformPlan) error {
	if p.empty() {
		fmt.Fprintln(d.out, "Nothing to apply.")
		return nil
	}
	return d.terraform(ctx, "apply", "-input=false", "-lock-timeout=5m", p.file)
}

// apply applies the infrastructure of the working tree. It first repairs what a failed apply
// left, also between attempts.
func (d *deployment) apply(ctx context.Context) error {
	approved := d.Approve
	return d.untilSpread(ctx, func() error {
		if err := d.repair(ctx); err != nil {
			return err
		}
		p, err := d.plan(ctx, "apply")
		if err != nil {
			return err
		}
		adopted, err := d.adopt(ctx, p)
		if err != nil {
			return err
		}
		if adopted {
			if p, err = d.plan(ctx, "apply"); err != nil {
				return err
			}
		}
		if !p.empty() {
			if err := d.approve(&approved); err != nil {
				return err
			}
		}
		if err := d.applyPlan(ctx, p); err != nil {
			if broken := d.notStarting(ctx, "the service has served nobody, and is made again by the next run"); broken != nil && !spreading(err) {
				return broken
			}
			return err
		}
		return nil
	})
}

// approve asks the person who runs this for approval of a plan, unless approved has it, and
// records it there: one answer is valid for all attempts of a step. Input that ends without
// an answer, as in a script, is a no.
func (d *deployment) approve(approved *bool) error {
	if *approved || d.dryRun {
		return nil
	}
	fmt.Fprint(d.out, "\nApply this plan? Only \"yes\" applies it: ")
	line, _ := bufio.NewReader(d.in).ReadString('\n')
	if strings.TrimSpace(line) != "yes" {
		return errors.New("the plan was not approved; nothing was applied")
	}
	*approved = true
	return nil
}
