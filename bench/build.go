package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"example.com/gatehouse/bench/internal/program"
)

// programs are the main packages below this folder.
var programs = []string{"limit", "gatehouse", "parts", "standin"}

// foreign are programs in separate modules, each in the folder of its name.
var foreign = []string{"genkit", "adk-go"}

// A build holds the programs, built as they are deployed.
type build struct{ dir string }

// compile builds the programs into dir. Each server is a separate program, so
// that it starts, and weighs in memory, as nothing but itself.
func compile(ctx context.Context, dir string, flags []string, targets []target) (build, error) {
	flags = slices.Concat([]string{"-ldflags=-s -w"}, flags, []string{"-o"})
	args := append(slices.Clip(flags), dir+string(filepath.Separator))
	for _, name := range programs {
		args = append(args, "example.com/gatehouse/bench/"+name)
	}
	if err := program.Build(ctx, "", args...); err != nil {
		return build{}, err
	}
	for _, name := range foreign {
		if !slices.ContainsFunc(targets, func(t target) bool { return t.program == name }) {
			continue
		}
		if err := program.Build(ctx, name, append(slices.Clip(flags), filepath.Join(dir, name))...); err != nil {
			return build{}, fmt.Errorf("building %s: %w", name, err)
		}
	}
	return build{dir}, nil
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
