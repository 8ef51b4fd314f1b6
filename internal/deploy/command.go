package deploy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// commands runs the programs of a deployment in the repository's directory. A dry run
// prints commands instead of running them. It is not safe for concurrent use: steps run one
// after the other, and so do their commands.
type commands struct {
	dir    string
	out    io.Writer
	in     io.Reader
	env    []string
	dryRun bool
	count  int // commands run or printed
	sleep  func(context.Context, time.Duration) error
}

// A commandError is the failure of a command, with its stderr.
type commandError struct {
	command string
	code    int // exit status
	stderr  string
	shown   bool // whether its output was shown while it ran
}

func (e *commandError) Error() string {
	text := strings.TrimSpace(e.stderr)
	if e.shown {
		return fmt.Sprintf("%s: exit status %d, for the reason above", e.command, e.code)
	}
	if text == "" {
		return fmt.Sprintf("%s: exit status %d", e.command, e.code)
	}
	return fmt.Sprintf("%s: %s", e.command, text)
}

// run runs a command that makes changes, and shows its output. The output is also kept,
// since untilSpread reads the error's text.
func (c *commands) run(ctx context.Context, name string, args ...string) error {
	c.count++
	if c.dryRun {
		c.print(name, args)
		return nil
	}
	_, err := c.start(ctx, c.out, name, args...)
	return err
}

// ask runs a read-only command and returns its stdout. A dry run returns invented
// instead.
func (c *commands) ask(ctx context.Context, invented, name string, args ...string) (string, error) {
	c.count++
	if c.dryRun {
		c.print(name, args)
		return invented, nil
	}
	out, err := c.start(ctx, io.Discard, name, args...)
	return strings.TrimSpace(out), err
}

// git returns the output of a git command as it is. A dry run runs it too, so it is for
// commands that only read this repository.
func (c *commands) git(ctx context.Context, args ...string) (string, error) {
	c.count++
	return c.start(ctx, io.Discard, "git", args...)
}

// find searches the PATH of the commands' environment; os/exec uses that of this
// process.
func (c *commands) find(name string) (string, error) {
	if strings.ContainsRune(name, filepath.Separator) {
		return name, nil
	}
	var path string
	for _, variable := range c.env {
		if value, ok := strings.CutPrefix(variable, "PATH="); ok {
			path = value
		}
	}
	for _, dir := range filepath.SplitList(path) {
		if program, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return program, nil
		}
	}
	return "", errorf(CodeNoLogin, "%s is not installed, or not on the PATH", name)
}

// start runs a command to its end and returns its stdout, also beside an error. A status
// other than 0 is a *commandError, which names the command up to its first flag: all of its
// arguments would hide the reason that follows.
func (c *commands) start(ctx context.Context, shown io.Writer, name string, args ...string) (string, error) {
	program, err := c.find(name)
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Env = c.dir, c.env
	// Terraform must get an interrupt only once: it then writes its state and releases
	// the lock, while a second one ends it at once. So commands do not share the
	// terminal's process group.
	interruptOnce(cmd)
	// What has not ended a minute after the interrupt is killed. Terraform may have a write
	// to Google Cloud in flight, and stores the state after it.
	cmd.WaitDelay = time.Minute
	var stdout, stderr strings.Builder
	cmd.Stdout = io.MultiWriter(&stdout, shown)
	cmd.Stderr = io.MultiWriter(&stderr, shown)
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		command := name
		for _, arg := range args {
			if strings.HasPrefix(arg, "-") && !strings.HasPrefix(arg, "-chdir=") {
				break
			}
			command += " " + arg
		}
		return stdout.String(), &commandError{command: command, code: exit.ExitCode(), stderr: stderr.String(), shown: shown != io.Discard}
	}
	return stdout.String(), err
}

// print prints a command in shell syntax.
func (c *commands) print(name string, args []string) {
	line := "+ " + name
	for _, arg := range args {
		line += " " + quote(arg)
	}
	fmt.Fprintln(c.out, line)
}

var plain = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`)

// quote returns arg as a shell reads it back: a dry run's lines can be pasted.
func quote(arg string) string {
	if plain.MatchString(arg) {
		return arg
	}
	return "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
}

// notYet matches the errors of Google's APIs until a new binding, account or API has
// propagated, which takes up to several minutes. Neither gcloud nor Terraform reports
// an error's code other than in its text.
var notYet = regexp.MustCompile(`PERMISSION_DENIED|[Ee]rror 403|HTTPError 403|status: 403|SERVICE_DISABLED|` +
	`[Pp]ermission .{0,200}denied|does not have (permission|.{0,200} access)|[Ss]ervice account .{0,200}does not exist|has not been used in project`)

// pauses are the waits between attempts at what may only have to propagate: seven
// attempts in about four minutes.
var pauses = []time.Duration{5 * time.Second, 10 * time.Second, 20 * time.Second, 40 * time.Second, time.Minute, 2 * time.Minute}

// untilSpread calls do, which needs roles that were granted just now, and retries
// while the error may be that they have not propagated.
func (c *commands) untilSpread(ctx context.Context, do func() error) error {
	for _, pause := range pauses {
		err := do()
		if !spreading(err) {
			return err
		}
		fmt.Fprintf(c.out, "A role, an account or an API is not known everywhere yet; the next attempt is in %s.\n", pause)
		if err := c.sleep(ctx, pause); err != nil {
			return err
		}
	}
	err := do()
	if spreading(err) {
		return &Error{Code: CodeNotYet, Err: fmt.Errorf("%w\nIt is refused still, %d attempts later: your account lacks the role, or it needs more time. Run the same command again then", err, len(pauses))}
	}
	return err
}

// spreading reports whether err may disappear once roles have propagated. It looks at
// stderr only: a command's output may quote such words for other reasons.
func spreading(err error) bool {
	failed, ok := errors.AsType[*commandError](err)
	return ok && notYet.MatchString(failed.stderr)
}
