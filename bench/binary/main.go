// Command binary writes what the parts of the service's program weigh: the sizes
// of the symbols that are in the file, added up by whose they are.
//
//	cd bench && go run ./binary > results/binary-parts.txt
package main

import (
	"cmp"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	dir, err := os.MkdirTemp("", "binary")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	program := filepath.Join(dir, "gatehouse")
	if out, err := exec.Command("go", "build", "-trimpath", "-o", program, "./gatehouse").CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	file, err := elf.Open(program)
	if err != nil {
		return fmt.Errorf("reading the program, which must be Linux's: %w", err)
	}
	defer func() { _ = file.Close() }()
	symbols, err := file.Symbols()
	if err != nil {
		return fmt.Errorf("reading the symbols: %w", err)
	}
	sizes := map[string]uint64{}
	for _, s := range symbols {
		// What only exists at run time lies in sections without bits in the file.
		if i := int(s.Section); i > 0 && i < len(file.Sections) && file.Sections[i].Type != elf.SHT_NOBITS {
			sizes[partOf(s.Name)] += s.Size
		}
	}
	type part struct {
		name string
		size uint64
	}
	var parts []part
	for name, size := range sizes {
		parts = append(parts, part{name, size})
	}
	slices.SortFunc(parts, func(a, b part) int { return cmp.Or(cmp.Compare(b.size, a.size), cmp.Compare(a.name, b.name)) })
	for _, p := range parts {
		fmt.Printf("%9.1f KiB  %s\n", float64(p.size)/1024, p.name)
	}
	return nil
}

// parts are by the beginnings of their packages, the longer ones first.
var parts = []struct{ prefix, name string }{
	{"example.com/gatehouse", "Gatehouse"},
	{"google.golang.org/protobuf", "google.golang.org/protobuf"},
	{"google.golang.org/grpc", "google.golang.org/grpc"},
	{"google.golang.org/genproto", "google.golang.org/genproto"},
	{"google.golang.org/genai", "google.golang.org/genai"},
	{"cloud.google.com/go/firestore", "cloud.google.com/go/firestore"},
	{"cloud.google.com/go/monitoring", "cloud.google.com/go/monitoring"},
	{"cloud.google.com/go", "cloud.google.com/go, the rest"},
	{"go.opentelemetry.io", "OpenTelemetry"},
	{"github.com/prometheus", "Prometheus"},
	{"github.com/danielgtaylor/huma", "huma"},
	{"runtime.", "Go runtime"},
	{"runtime/", "Go runtime"},
	{"internal/runtime", "Go runtime"},
	{"crypto/", "net and crypto"},
	{"vendor/golang.org", "net and crypto"},
	{"net.", "net and crypto"},
	{"net/", "net and crypto"},
	{"type:", "type and other tables"},
	{"go:", "type and other tables"},
}

// partOf is whose symbol name is.
func partOf(name string) string {
	for _, p := range parts {
		if strings.HasPrefix(name, p.prefix) {
			return p.name
		}
	}
	// The standard library's packages have no dot before their first slash.
	first, _, slash := strings.Cut(name, "/")
	if slash && strings.Contains(first, ".") {
		return "everything else"
	}
	return "the rest of the standard library"
}
