// Command mutate reports which faults of a package its tests do not find:
//
//	go run ./internal/mutate [flags] ./package [./other/package ...]
//
// It builds the package's test program once, by an overlay, with all mutants in
// it; an environment variable chooses the one that is active. So a mutant costs
// the run of the tests that reach it, and no compilation. The tests of the other
// packages count too. A mutant that every test passes has survived: it shows what
// no test holds, or it changes nothing that anybody could see. One of the second kind
// is not tried once explained.txt has the reason.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// test is one top-level test, or a subtest of one that takes long, with the mutants that
// it reaches. pattern is the argument of -run.
type test struct {
	program, dir, pattern string
	flags                 []string
	took                  time.Duration
	reaches               map[int]bool
}

// noFailFiles keeps package rapid from writing to testdata what a mutant has failed with.
const noFailFiles = "-rapid.nofailfile"

func main() {
	var o options
	flag.Uint64Var(&o.seed, "seed", 1, "the order in which mutants are tried")
	flag.DurationVar(&o.budget, "budget", 10*time.Minute, "end after this time")
	flag.TextVar(&o.at, "at", regexp.MustCompile(""), "only mutants whose file:line matches this `regexp`")
	flag.DurationVar(&o.longest, "longest", time.Minute, "leave out tests that take longer")
	flag.IntVar(&o.parallel, "p", 1, "mutants tried at once")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Stdout, o, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1)
	}
}

type options struct {
	seed     uint64
	budget   time.Duration
	at       regexp.Regexp
	longest  time.Duration
	parallel int
}

func run(ctx context.Context, out io.Writer, o options, packages []string) error {
	if len(packages) == 0 {
		return errors.New("name the package to mutate")
	}
	work, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	explained, err := explanations()
	if err != nil {
		return err
	}
	p, err := load(ctx, packages[0])
	if err != nil {
		return err
	}
	p.find()
	var tests []test
	for i, name := range packages {
		program := filepath.Join(work, fmt.Sprintf("%d.test", i))
		if err := p.build(ctx, work, program, name); err != nil {
			return err
		}
		more, err := cover(ctx, program, name, o.longest)
		if err != nil {
			return err
		}
		tests = append(tests, more...)
	}

	var chosen []mutant
	uncovered, unseen := 0, 0
	for _, m := range p.mutants {
		reached := slices.ContainsFunc(tests, func(t test) bool { return t.reaches[m.id] })
		switch {
		case m.broken || !o.at.MatchString(m.place()):
		case explained[p.entry(m)] != "":
			unseen++
		case !reached:
			uncovered++
			fmt.Fprintf(out, "not reached  %s\n", m)
		default:
			chosen = append(chosen, m)
		}
	}
	rand.New(rand.NewPCG(o.seed, 0)).Shuffle(len(chosen), func(i, j int) { chosen[i], chosen[j] = chosen[j], chosen[i] })
	fmt.Fprintf(out, "%d mutants are reached by %d tests, %d by none; %d are explained\n", len(chosen), len(tests), uncovered, unseen)

	end := time.Now().Add(o.budget)
	var mu sync.Mutex
	counts := map[string]int{}
	var group errgroup.Group
	group.SetLimit(max(1, o.parallel))
	for _, m := range chosen {
		group.Go(func() error {
			if time.Now().After(end) || ctx.Err() != nil {
				return nil
			}
			result := try(ctx, m.id, tests)
			mu.Lock()
			defer mu.Unlock()
			if ctx.Err() == nil {
				counts[result]++
				if result != killed {
					fmt.Fprintf(out, "%-12s %s\n", result, m)
				}
			}
			return nil
		})
	}
	_ = group.Wait()
	fmt.Fprintf(out, "seed %d: tried %d of %d: %d killed, %d timed out, %d survived; %d not reached\n",
		o.seed, counts[killed]+counts[timedOut]+counts[survived], len(chosen), counts[killed], counts[timedOut], counts[survived], uncovered)
	return ctx.Err()
}

// Results of trying a mutant.
const killed, timedOut, survived = "killed", "timed out", "survived"

// try runs the tests that reach a mutant, the quickest first, until one fails.
func try(ctx context.Context, id int, tests []test) string {
	var reach []test
	for _, t := range tests {
		if t.reaches[id] {
			reach = append(reach, t)
		}
	}
	slices.SortStableFunc(reach, func(a, b test) int { return int(a.took - b.took) })
	// Many tests share a process: its start costs more than most of them.
	for len(reach) > 0 {
		first := reach[0]
		var names []string
		var took time.Duration
		reach = slices.DeleteFunc(reach, func(t test) bool {
			if t.program != first.program || (len(names) > 0 && took+t.took > 2*time.Second) {
				return false
			}
			names, took = append(names, t.pattern), took+t.took
			return true
		})
		bounded, cancel := context.WithTimeout(ctx, 5*took+10*time.Second)
		_, err := runTests(bounded, first.program, first.dir, fmt.Sprintf("%s=%d", activeVariable, id),
			append([]string{"-test.failfast", "-test.run", strings.Join(names, "|")}, first.flags...)...)
		late := bounded.Err() != nil
		cancel()
		switch {
		case late:
			return timedOut
		case err != nil:
			return killed
		}
	}
	return survived
}

// cover runs each test of a program by itself and reads which mutants it reached.
func cover(ctx context.Context, program, pkg string, longest time.Duration) ([]test, error) {
	dir, err := goList(ctx, "-f", "{{.Dir}}", pkg)
	if err != nil {
		return nil, err
	}
	dir = strings.TrimSpace(dir)
	flags := []string{noFailFiles}
	list, err := runTests(ctx, program, dir, "", "-test.list", "^(Test|Fuzz|Example)", noFailFiles)
	if err != nil { // the program is without rapid
		flags = nil
		list, err = runTests(ctx, program, dir, "", "-test.list", "^(Test|Fuzz|Example)")
	}
	if err != nil {
		return nil, fmt.Errorf("list tests: %w: %s", err, list)
	}
	var patterns []string
	for name := range strings.FieldsSeq(list) {
		patterns = append(patterns, "^"+name+"$")
	}
	reached := program + ".reached"
	var tests []test
	for len(patterns) > 0 {
		t := test{program, dir, patterns[0], flags, 0, map[int]bool{}}
		patterns = patterns[1:]
		_ = os.Remove(reached)
		start := time.Now()
		bounded, cancel := context.WithTimeout(ctx, longest)
		said, err := runTests(bounded, program, dir, reachedVariable+"="+reached, "-test.v", "-test.run", t.pattern)
		late := bounded.Err() != nil
		cancel()
		t.took = time.Since(start)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if late || err != nil { // a test that fails without a mutant would kill all of them
			fmt.Fprintf(os.Stderr, "left out: %s of %s (%v) after %v\n", t.pattern, pkg, err, t.took.Round(time.Millisecond))
			continue
		}
		raw, _ := os.ReadFile(reached) // none when it reached no mutant
		for id := range strings.FieldsSeq(string(raw)) {
			n, _ := strconv.Atoi(id)
			t.reaches[n] = true
		}
		subtests := subtest.FindAllStringSubmatch(said, -1)
		if t.took < splitAfter || len(subtests) < 2 || strings.Contains(t.pattern, "/") {
			tests = append(tests, t)
			continue
		}
		for _, sub := range subtests {
			patterns = append(patterns, t.pattern+"/^"+regexp.QuoteMeta(sub[1])+"$")
		}
	}
	return tests, nil
}

// subtest matches the end of a subtest in the output of -v.
var subtest = regexp.MustCompile(`(?m)^    --- PASS: [^/\s]+/(\S+) \(`)

// splitAfter is how long a test may take before its subtests are run one by one.
const splitAfter = time.Second

// runTests runs a test program in its package's directory. When ctx ends, the
// processes that it started end with it.
func runTests(ctx context.Context, program, dir, variable string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), variable)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	err := cmd.Run()
	return said.String(), err
}

func goList(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", append([]string{"list"}, args...)...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go list: %w: %s", err, said.String())
	}
	return string(out), nil
}
