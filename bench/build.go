package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// programs are the main packages below this folder.
var programs = []string{"limit", "gatehouse", "standin"}

// A build holds the programs, built as they are deployed.
type build struct{ dir string }

// compile builds the programs into dir. Each server is a program of its own, so
// that it starts, and weighs in memory, as nothing but itself.
func compile(ctx context.Context, dir string, flags []string) (build, error) {
	args := append([]string{"build", "-o", dir + string(filepath.Separator), "-ldflags=-s -w"}, flags...)
	for _, program := range programs {
		args = append(args, "example.com/gatehouse/bench/"+program)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return build{}, fmt.Errorf("go build: %w\n%s", err, out)
	}
	return build{dir}, nil
}

func (b build) path(program string) string { return filepath.Join(b.dir, program) }

// sizes are those of the binaries, in bytes.
func (b build) sizes() (map[string]int64, error) {
	sizes := make(map[string]int64)
	for _, program := range programs {
		info, err := os.Stat(b.path(program))
		if err != nil {
			return nil, err
		}
		sizes[program] = info.Size()
	}
	return sizes, nil
}
