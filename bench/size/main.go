// Command size holds what the deployed program weighs against bench/size.txt, and names what
// has grown: lines of Go that are linked, by package of this project and by module of others;
// bytes of the program, by part; bytes that packages allocate before main, which a person
// waits for at a cold start.
//
//	cd bench
//	go run ./size            compares
//	go run ./size -update    takes today's weights as the baseline
//	go run ./size -parts     what the parts of the program weigh
//	go run ./size -doors     what programs with none, each and all of the doors weigh
//
// All of these are the same on every machine with the same version of Go, unlike the time of
// a start, which -doors adds.
package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"example.com/gatehouse/bench/internal/program"
)

func main() {
	update := flag.Bool("update", false, "write "+baseline)
	parts := flag.Bool("parts", false, "only show what the parts of the program weigh")
	withDoors := flag.Bool("doors", false, "only show what programs with none, each and all of the doors weigh")
	flag.Parse()
	if err := run(*update, *parts, *withDoors, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// baseline is the file of weights, below the benchmark's folder.
const baseline = "size.txt"

func run(update, onlyParts, onlyDoors bool, out io.Writer) error {
	dir, err := os.MkdirTemp("", "size")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if onlyDoors {
		return writeDoors(dir, 21, out)
	}
	built := filepath.Join(dir, "gatehouse")
	if err := program.Build(context.Background(), "", append(program.Flags(), "-o", built, "./gatehouse")...); err != nil {
		return err
	}
	if onlyParts {
		return writeParts(built, out)
	}
	now, err := weigh(built)
	if err != nil {
		return err
	}
	file := filepath.Join(program.Root(), "bench", baseline)
	if update {
		return os.WriteFile(file, now.text(), 0o644)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, err := read(raw)
	if err != nil {
		return err
	}
	grown, err := compare(before, now, out)
	if err == nil && grown {
		err = errors.New("the program has grown beyond bench/size.txt; if that is meant: cd bench && go run ./size -update")
	}
	return err
}

// The kinds of weights.
const (
	ours   = "lines"  // of this project's Go that are linked
	theirs = "module" // lines of Go that are linked of other modules
	binary = "binary" // KiB of the program
	start  = "start"  // bytes allocated by a package's init
)

// kinds have how much each may grow in all before the check fails, in percent, and from which
// growth on something is named.
var kinds = []struct {
	name, unit string
	most       float64
	named      int64
}{
	{ours, "lines of this project linked", 5, 20},
	{theirs, "lines of other modules linked", 3, 100},
	{binary, "KiB of the program", 3, 10},
	{start, "bytes allocated before main", 10, 512},
}

// A weight is what has one: its kind and name.
type weight struct{ kind, name string }

type weights map[weight]int64

// weigh returns the weights of the program.
func weigh(program string) (weights, error) {
	w := weights{}
	if err := w.addLines(); err != nil {
		return nil, err
	}
	parts, err := sizes(program)
	if err != nil {
		return nil, err
	}
	for name, size := range parts {
		w[weight{binary, name}] = int64(size) / 1024
	}
	return w, w.addStart(program)
}

// addLines adds the lines of what the deployed package links, without the standard library.
func (w weights) addLines() error {
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Dir,GoFiles,CgoFiles,Module,Standard", "example.com/gatehouse")
	raw, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("go list: %w", err)
	}
	for d := json.NewDecoder(bytes.NewReader(raw)); d.More(); {
		var p struct {
			ImportPath, Dir   string
			GoFiles, CgoFiles []string
			Module            struct{ Path string }
			Standard          bool
		}
		if err := d.Decode(&p); err != nil {
			return err
		}
		if p.Standard {
			continue
		}
		key := weight{theirs, p.Module.Path}
		if key.name == "example.com/gatehouse" {
			key = weight{ours, p.ImportPath}
		}
		for _, file := range slices.Concat(p.GoFiles, p.CgoFiles) {
			content, err := os.ReadFile(filepath.Join(p.Dir, file))
			if err != nil {
				return err
			}
			w[key] += int64(bytes.Count(content, []byte("\n")))
		}
	}
	return nil
}

// addStart adds what packages allocate before main, as the runtime's GODEBUG=inittrace=1
// writes it: "init PACKAGE @1.2 ms, 0.3 ms clock, 456 bytes, 7 allocs".
func (w weights) addStart(program string) error {
	cmd := exec.Command(program) // it ends with its empty standard input
	cmd.Env = []string{"GODEBUG=inittrace=1", "BENCH_CONTROL=1", "PORT=0"}
	var trace bytes.Buffer
	cmd.Stderr = &trace
	_ = cmd.Run() // what its main does is not of interest
	for s := bufio.NewScanner(&trace); s.Scan(); {
		words := strings.Fields(s.Text())
		if len(words) < 10 || words[0] != "init" || words[8] != "bytes," {
			continue
		}
		n, err := strconv.ParseInt(words[7], 10, 64)
		if err != nil {
			return fmt.Errorf("what init allocates: %q", s.Text())
		}
		if n > 0 {
			w[weight{start, words[1]}] += n
		}
	}
	return nil
}

// text returns w as it is stored, a line each.
func (w weights) text() []byte {
	var b bytes.Buffer
	for _, k := range slices.SortedFunc(maps.Keys(w), func(a, b weight) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(w[b], w[a]), cmp.Compare(a.name, b.name))
	}) {
		fmt.Fprintf(&b, "%s\t%d\t%s\n", k.kind, w[k], k.name)
	}
	return b.Bytes()
}

// read returns what text has written.
func read(raw []byte) (weights, error) {
	w := weights{}
	for line := range strings.Lines(string(raw)) {
		kind, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		number, name, ok := strings.Cut(rest, "\t")
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil || !ok {
			return nil, fmt.Errorf("%s: %q", baseline, line)
		}
		w[weight{kind, name}] = n
	}
	return w, nil
}

// compare writes how now differs from before, and reports whether any kind has grown by more
// than it may.
func compare(before, now weights, out io.Writer) (grown bool, err error) {
	for _, k := range kinds {
		was, is := before.sum(k.name), now.sum(k.name)
		if was == 0 || is == 0 {
			return false, fmt.Errorf("no %s to compare", k.unit)
		}
		growth := 100 * float64(is-was) / float64(was)
		fmt.Fprintf(out, "%s: %d, %+.1f %% of %d\n", k.unit, is, growth, was)
		if growth <= k.most {
			continue
		}
		grown = true
		var names []string
		for key, n := range now {
			if key.kind == k.name && n-before[key] >= k.named {
				names = append(names, key.name)
			}
		}
		slices.SortFunc(names, func(a, b string) int {
			return cmp.Compare(now[weight{k.name, b}]-before[weight{k.name, b}], now[weight{k.name, a}]-before[weight{k.name, a}])
		})
		for _, name := range names {
			key := weight{k.name, name}
			from := strconv.FormatInt(before[key], 10)
			if before[key] == 0 {
				from = "nothing"
			}
			fmt.Fprintf(out, "\t%s: %+d, from %s\n", name, now[key]-before[key], from)
		}
	}
	return grown, nil
}

func (w weights) sum(kind string) (sum int64) {
	for k, n := range w {
		if k.kind == kind {
			sum += n
		}
	}
	return sum
}
