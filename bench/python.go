package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"example.com/gatehouse/bench/internal/program"
)

// A python is a server in Python: a folder below this one, and the file in it that pins
// what it needs.
type python struct{ folder, requirements string }

// installed is the file of a virtual environment that has the versions of all that is in
// it, written when it is whole.
const installed = "installed.txt"

// install returns the virtual environment of p and the packages in it. It makes one in the
// user's cache when the requirements are new, which takes a minute and the package index,
// and only then.
func (p python) install(ctx context.Context) (venv string, packages []string, err error) {
	requirements := filepath.Join(program.Root(), "bench", p.folder, p.requirements)
	if venv, err = p.venv(); err != nil {
		return "", nil, err
	}
	list, err := os.ReadFile(filepath.Join(venv, installed))
	if err == nil {
		return venv, strings.Fields(string(list)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", nil, err
	}
	if err := os.RemoveAll(venv); err != nil { // half of one
		return "", nil, err
	}
	for _, step := range [][]string{
		{"python3", "-m", "venv", venv},
		{filepath.Join(venv, "bin", "pip"), "install", "--quiet", "--disable-pip-version-check", "-r", requirements},
		{filepath.Join(venv, "bin", "pip"), "freeze", "--disable-pip-version-check"},
	} {
		if list, err = exec.CommandContext(ctx, step[0], step[1:]...).Output(); err != nil {
			if exit, ok := errors.AsType[*exec.ExitError](err); ok {
				err = fmt.Errorf("%w: %.1000s", err, exit.Stderr)
			}
			return "", nil, fmt.Errorf("%s: %w", strings.Join(step[:2], " "), err)
		}
	}
	return venv, strings.Fields(string(list)), os.WriteFile(filepath.Join(venv, installed), list, 0o644)
}

// venv is the folder of p's virtual environment, which its requirements name.
func (p python) venv() (string, error) {
	raw, err := os.ReadFile(filepath.Join(program.Root(), "bench", p.folder, p.requirements))
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	return filepath.Join(cache, "gatehouse-bench", fmt.Sprintf("%s-%.6x", p.folder, sha256.Sum256(raw))), err
}

// command starts the named program of the virtual environment in a copy of p's folder, which
// it may write to.
func (p python) command(venv, dir, name string) (command, error) {
	work := filepath.Join(dir, filepath.Base(venv))
	if err := os.CopyFS(work, os.DirFS(filepath.Join(program.Root(), "bench", p.folder))); err != nil && !errors.Is(err, fs.ErrExist) {
		return command{}, err
	}
	bin := filepath.Join(venv, "bin")
	return command{
		binary: filepath.Join(bin, name), dir: work,
		env: map[string]string{"PATH": bin + ":/usr/local/bin:/usr/bin:/bin", "HOME": work},
	}, nil
}

// install installs what the peers in Python need.
func install(ctx context.Context, progress io.Writer) error {
	var failed error
	for _, t := range peers {
		if t.python == nil {
			continue
		}
		venv, _, err := t.python.install(ctx)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", t.name, err))
			continue
		}
		_, _ = fmt.Fprintf(progress, "%s: %s\n", t.name, venv)
	}
	return failed
}
