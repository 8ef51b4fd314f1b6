package main

import (
	"cmp"
	"debug/elf"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// sizes returns the bytes of the symbols that are in the program's file, by whose they are.
func sizes(program string) (map[string]uint64, error) {
	file, err := elf.Open(program)
	if err != nil {
		return nil, fmt.Errorf("reading the program, which must be Linux's: %w", err)
	}
	defer func() { _ = file.Close() }()
	symbols, err := file.Symbols()
	if err != nil {
		return nil, fmt.Errorf("reading the symbols: %w", err)
	}
	sizes := map[string]uint64{}
	for _, s := range symbols {
		// What only exists at run time lies in sections without bits in the file.
		if i := int(s.Section); i > 0 && i < len(file.Sections) && file.Sections[i].Type != elf.SHT_NOBITS {
			sizes[partOf(s.Name)] += s.Size
		}
	}
	return sizes, nil
}

// writeParts writes sizes, the largest first.
func writeParts(program string, out io.Writer) error {
	sizes, err := sizes(program)
	if err != nil {
		return err
	}
	for _, name := range slices.SortedFunc(maps.Keys(sizes), func(a, b string) int {
		return cmp.Or(cmp.Compare(sizes[b], sizes[a]), cmp.Compare(a, b))
	}) {
		fmt.Fprintf(out, "%9.1f KiB  %s\n", float64(sizes[name])/1024, name)
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
