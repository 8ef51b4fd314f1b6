// Command gate puts an agent built with Gatehouse into production, from a clone of
// this repository or from a module that imports it:
//
//	go run example.com/gatehouse/cmd/gate init            # once, in a module that imports it
//	go run example.com/gatehouse/cmd/gate deploy PROJECT  # scripts/deploy in a clone
//
// deploy exits with 0 if the service answers, 1 if a step fails, and otherwise with a
// status of sysexits.h: 64 for arguments, 65 for a refused setting, 69 for a project
// that does not exist or has no billing, 70 for an image that does not start, 75 for a
// temporary failure, 77 without a login.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"example.com/gatehouse/internal/deploy"
)

const usage = `usage:
  gate init [-dir DIR]                     write the Terraform root, an environment and cloudbuild.yaml
  gate steps DIR                           write the delivery's scripts and programs, for cloudbuild.yaml
  gate deploy [option]... PROJECT [argument of terraform plan]...
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	switch {
	case err == nil:
		return
	case errors.Is(err, flag.ErrHelp):
		os.Exit(deploy.CodeUsage)
	}
	fmt.Fprintln(os.Stderr, "gate:", err)
	if failed, ok := errors.AsType[*deploy.Error](err); ok {
		os.Exit(failed.Code)
	}
	os.Exit(1)
}

func run(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) error {
	if len(args) == 0 {
		fmt.Fprint(errs, usage)
		return flag.ErrHelp
	}
	command, args := args[0], args[1:]
	flags := flag.NewFlagSet("gate "+command, flag.ContinueOnError)
	flags.SetOutput(errs)
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	switch command {
	case "init":
		flags.StringVar(&dir, "dir", dir, "the `directory` of the module's go.mod")
		if err := flags.Parse(args); err != nil {
			return flag.ErrHelp
		}
		return initialize(ctx, dir, out)
	case "steps":
		if err := flags.Parse(args); err != nil || flags.NArg() != 1 {
			fmt.Fprint(errs, usage)
			return flag.ErrHelp
		}
		m, err := findModule(ctx, dir)
		if err != nil {
			return err
		}
		return writeSteps(ctx, m, dir, flags.Arg(0))
	case "deploy":
		o := deploy.Options{In: in, Out: out, Env: os.Environ()}
		flags.BoolVar(&o.DryRun, "dry-run", false, "print the commands, and run none but git's that only read")
		flags.StringVar(&o.Region, "region", "", "the `region`, in place of the settings' own")
		flags.StringVar(&o.Commit, "commit", "HEAD", "the `commit` to build")
		flags.StringVar(&o.Image, "image", "", "an `image` of the project by its digest, in place of a build")
		flags.StringVar(&o.Root, "root", "environments", "the `directory` of the Terraform root")
		flags.StringVar(&o.Settings, "settings", "", "the `file` of what this deployment sets, as seen from the root; by default PROJECT.tfvars")
		flags.StringVar(&o.Unlock, "unlock", "", "break the `lock` of a run that is dead, as its message says")
		flags.BoolVar(&o.Approve, "auto-approve", false, "apply the plan without asking")
		flags.BoolVar(&o.NoSmoke, "no-smoke", false, "do not call the service: for one that takes no token of gcloud's, such as behind IAP")
		flags.IntVar(&o.Watch, "watch", 60, "`seconds` for which each share of the traffic is watched when an image is moved in")
		if err := flags.Parse(args); err != nil {
			return flag.ErrHelp
		}
		if flags.NArg() < 1 {
			fmt.Fprint(errs, usage)
			flags.PrintDefaults()
			return flag.ErrHelp
		}
		o.Project, o.Args = flags.Arg(0), flags.Args()[1:]
		m, err := findModule(ctx, dir)
		if err != nil {
			return err
		}
		if o.Dir, err = repository(ctx, dir); err != nil {
			return err
		}
		o.Scripts = filepath.Join(m.Dir, "delivery")
		return deploy.Run(ctx, o)
	}
	fmt.Fprint(errs, usage)
	return flag.ErrHelp
}

// repository returns the root of the git repository that contains dir.
func repository(ctx context.Context, dir string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", "rev-parse", "--show-toplevel")
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		return "", &deploy.Error{Code: deploy.CodeUsage, Err: fmt.Errorf("%s is in no git repository: what is deployed is a commit", dir)}
	}
	return strings.TrimSpace(string(out)), nil
}
