package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"example.com/gatehouse/internal/deploy"
)

const modulePath = "example.com/gatehouse"

// A goModule is this module as the surrounding repository uses it: the clone itself,
// or the version in its go.mod.
type goModule struct {
	Dir     string
	Version string
	Main    bool
	Replace *replacement
}

// A replacement is what go.mod has in place of a module: a directory, or a version of the
// module or of a fork.
type replacement struct{ Path, Version string }

// findModule returns this module as seen from dir.
func findModule(ctx context.Context, dir string) (goModule, error) {
	// A vendor directory has neither scripts nor Terraform files.
	cmd := exec.CommandContext(ctx, "go", "list", "-mod=readonly", "-m", "-json", modulePath)
	cmd.Dir = dir
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return goModule{}, &deploy.Error{Code: deploy.CodeUsage, Err: fmt.Errorf("no module here requires %s: %s", modulePath, strings.TrimSpace(stderr.String()))}
	}
	var m goModule
	if err := json.Unmarshal(out, &m); err != nil {
		return m, err
	}
	if m.Dir == "" {
		return m, fmt.Errorf("%s %s is not downloaded. Run: go mod download %s", modulePath, m.Version, modulePath)
	}
	m.Dir, err = filepath.EvalSymlinks(m.Dir)
	return m, err
}

// pseudo matches a pseudo-version, which ends with twelve digits of a commit.
var pseudo = regexp.MustCompile(`[.-]\d{14}-([0-9a-f]{12})(\+incompatible)?$`)

// source returns the Terraform source of the module for the directory root: the version in
// go.mod, or the fork or the directory that replaces it.
func (m goModule) source(root string) (string, error) {
	repository, version := modulePath, m.Version
	if m.Replace != nil {
		repository, version = m.Replace.Path, m.Replace.Version
	}
	if version == "" {
		path, err := filepath.Rel(root, filepath.Join(m.Dir, "terraform", "from-settings"))
		if err == nil && !strings.HasPrefix(path, ".") {
			path = "./" + path
		}
		return filepath.ToSlash(path), err
	}
	if match := pseudo.FindStringSubmatch(version); match != nil {
		version = match[1]
	}
	return "git::https://" + repository + ".git//terraform/from-settings?ref=" + version, nil
}

// localSource is the module's source in the clone's own root.
const localSource = `"../terraform/from-settings"`

// settings is the first file of settings.
const settings = `# What the deployment in a project sets, in the file named by the project's ID.
# Everything has a default; the variables: terraform/README.md of Gatehouse.
invokers        = ["user:you@example.com"]
health_invokers = ["user:you@example.com"]
`

// initialize writes the files that deploy a module that imports Gatehouse. It does not
// overwrite existing files.
func initialize(ctx context.Context, dir string, out io.Writer) error {
	m, err := findModule(ctx, dir)
	if err != nil {
		return err
	}
	if m.Main {
		return &deploy.Error{Code: deploy.CodeUsage, Err: errors.New("this is Gatehouse itself, which holds all of it: run scripts/deploy PROJECT")}
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return err
	}
	source, err := m.source(filepath.Join(dir, "environments"))
	if err != nil {
		return err
	}
	root, err := os.ReadFile(filepath.Join(m.Dir, "environments", "main.tf"))
	if err != nil {
		return err
	}
	if strings.Count(string(root), localSource) != 1 {
		return fmt.Errorf("environments/main.tf of %s does not name its module's source %s", modulePath, localSource)
	}
	if err := writeNew(out, dir, "environments/main.tf", strings.Replace(string(root), localSource, strconv.Quote(source), 1)); err != nil {
		return err
	}
	if err := writeNew(out, dir, "environments/PROJECT.tfvars", settings); err != nil {
		return err
	}
	for _, name := range []string{"cloudbuild.yaml", "delivery/apply.yaml", "delivery/weekly.yaml"} {
		text, err := os.ReadFile(filepath.Join(m.Dir, name))
		if err != nil {
			return err
		}
		if err := writeNew(out, dir, name, string(text)); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "\nRename environments/PROJECT.tfvars after your project, add .delivery/, .terraform/ and build/ to .gitignore, commit, and run:\n  go run %s/cmd/gate deploy PROJECT\n", modulePath)
	return nil
}

func writeNew(out io.Writer, dir, name, text string) error {
	path := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		fmt.Fprintf(out, "left    %s, which is there\n", name)
		return nil
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "wrote   %s\n", name)
	_, err = file.WriteString(text)
	return errors.Join(err, file.Close())
}

// programs are this module's programs that the delivery's steps run in images without
// Go.
var programs = []string{"cmd/smoke", "delivery/watch", "delivery/drift"}

// writeSteps writes the delivery's scripts into a directory and builds their programs
// into bin next to it.
func writeSteps(ctx context.Context, m goModule, dir, to string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(filepath.Join(m.Dir, "delivery"))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.IsDir() || filepath.Ext(entry.Name()) == ".go" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(m.Dir, "delivery", entry.Name()))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, entry.Name()), text, 0o755); err != nil {
			return err
		}
	}
	args := []string{"build", "-o", filepath.Join(filepath.Dir(filepath.Clean(to)), "bin") + string(filepath.Separator)}
	for _, program := range programs {
		args = append(args, modulePath+"/"+program)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, os.Stderr, os.Stderr
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // static, because some steps run in Alpine
	return cmd.Run()
}
