package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// programs are the main packages below this folder.
var programs = []string{"limit", "gatehouse", "parts", "standin"}

// foreign are programs in separate modules, each in the folder of its name.
var foreign = []string{genkitProgram, "adk-go"}

const genkitProgram = "genkit"

// A build holds the programs, built as they are deployed.
type build struct{ dir string }

// compile builds the programs into dir. Each server is a separate program, so
// that it starts, and weighs in memory, as nothing but itself.
func compile(ctx context.Context, dir string, flags []string, targets []target) (build, error) {
	args := append([]string{"build", "-o", dir + string(filepath.Separator), "-ldflags=-s -w"}, flags...)
	for _, program := range programs {
		args = append(args, "example.com/gatehouse/bench/"+program)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = filepath.Join(root(), "bench")
	if out, err := cmd.CombinedOutput(); err != nil {
		return build{}, fmt.Errorf("go build: %w\n%s", err, out)
	}
	for _, program := range foreign {
		if !slices.ContainsFunc(targets, func(t target) bool { return t.program == program }) {
			continue
		}
		cmd := exec.CommandContext(ctx, "go", append([]string{"build", "-C", program, "-o", filepath.Join(dir, program), "-ldflags=-s -w"}, flags...)...)
		cmd.Dir = filepath.Join(root(), "bench")
		if out, err := cmd.CombinedOutput(); err != nil {
			return build{}, fmt.Errorf("building %s: %w\n%s", program, err, out)
		}
	}
	return build{dir}, nil
}

// root returns the checkout's folder, which this module's go.mod names.
func root() string {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "example.com/gatehouse").Output()
	if err != nil {
		return ".."
	}
	return strings.TrimSpace(string(out))
}

func (b build) path(program string) string { return filepath.Join(b.dir, program) }

// sizes are those of the binaries, in bytes.
func (b build) sizes() (map[string]int64, error) {
	sizes := make(map[string]int64)
	for _, program := range slices.Concat(foreign, programs) {
		info, err := os.Stat(b.path(program))
		if slices.Contains(foreign, program) && errors.Is(err, fs.ErrNotExist) {
			continue // it was not asked for
		}
		if err != nil {
			return nil, err
		}
		sizes[program] = info.Size()
	}
	return sizes, nil
}
