// Command bench measures what the service costs, compared with the least that does the
// job: a bare handler with one shared client of the model ("the limit").
//
//	cd bench
//	go run .            some minutes
//	go run . -quick     seconds
//	go run . -keep      keeps what is measured in results/
//	go run . -install   only installs the peers in Python, which later runs find
//	go run . -docs      puts the tables of what is kept into docs/performance.md
//
// Every server is a separate process, and so is the stand-in for the model;
// this process calls them. Each server takes turns with the limit, and what is
// compared is what was measured in one pair of turns, because times differ from
// machine to machine and from second to second, and ratios much less. The tables go to
// standard output, and with -out everything goes to a JSON file.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"example.com/gatehouse/bench/internal/program"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	switch {
	case err != nil:
	case o.Install:
		err = install(ctx, os.Stderr)
	case o.Docs:
		err = rewrite(ctx)
	default:
		err = report(ctx, o, os.Stdout, os.Stderr)
	}
	if ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	if err != nil {
		stop()
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// report measures, and writes the tables to out and the file that o names.
func report(ctx context.Context, o Options, out, progress io.Writer) error {
	results, err := measure(ctx, o, progress)
	if err != nil {
		return err
	}
	if o.Out != "" {
		raw, err := json.MarshalIndent(results, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(o.Out, append(raw, '\n'), 0o644); err != nil {
			return err
		}
	}
	if o.Keep && len(o.Configs) > 0 {
		if err := results.keep(filepath.Join(program.Root(), kept)); err != nil {
			return err
		}
	}
	return results.markdown(out)
}

// runTimeout bounds one run.
const runTimeout = 2 * time.Minute

// measure makes all runs that o asks for.
func measure(ctx context.Context, o Options, progress io.Writer) (*Results, error) {
	if err := raiseFiles(uint64(3*slices.Max(append(o.Streams, o.AtOnce...)) + 100)); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	results := &Results{Machine: machine(), Options: o, Units: make(map[string]string)}
	for _, m := range metrics {
		results.Units[m.name] = m.unit
	}
	_, _ = fmt.Fprintln(progress, "building")
	all, targets := scenarios(o), o.targets()
	built, err := compile(ctx, dir, o.BuildFlags, slices.Concat(targets, o.peers()))
	if err != nil {
		return nil, err
	}
	if results.Binaries, err = built.sizes(); err != nil {
		return nil, err
	}
	model, err := start(ctx, command{binary: built.path(standin.program), args: []string{
		"-latency", o.Latency.String(), "-first", o.First.String(), "-gap", o.Gap.String(),
	}, obeys: true})
	if err != nil {
		return nil, err
	}
	defer model.stop()
	if _, err := model.first(ctx, standin, false); err != nil {
		return nil, err
	}

	services, err := startStandins(targets)
	if err != nil {
		return nil, err
	}
	defer services.close()
	if len(o.Peers) > 0 {
		if results.Peers, err = comparePeers(ctx, o, o.peers(), built, model, services, progress); err != nil {
			return nil, fmt.Errorf("peers: %w", err)
		}
		if o.Keep {
			if err := write(filepath.Join(program.Root(), keptPeers), results.Peers); err != nil {
				return nil, err
			}
		}
	}
	one := func(s scenario, t target, profile string) (Figures, error) {
		ctx, cancel := context.WithTimeout(ctx, runTimeout)
		defer cancel()
		o := o
		if profile != "" {
			o.Duration *= 4 // a profile has 100 samples of a second
		}
		r := &run{Options: o, target: t, binary: built.path(t.program), model: model.address, profile: profile, told: services.environment}
		f, err := s.run(ctx, r)
		if errors.Is(err, errPortTaken) {
			f, err = s.run(ctx, r)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", s.name, t.name, err)
		}
		return f, nil
	}
	for round := 1; round <= o.Rounds; round++ {
		for _, s := range all {
			if len(targets) == 1 {
				break // nothing to compare the limit with
			}
			_, _ = fmt.Fprintf(progress, "round %d of %d: %s\n", round, o.Rounds, s.name)
			for _, t := range targets[1:] {
				if t.startOnly && !s.starts {
					continue
				}
				for pair := range o.pairs(t) {
					both := []Run{{Scenario: s.name, Target: limit.name, Beside: t.name, Round: round}, {Scenario: s.name, Target: t.name, Round: round}}
					if (round+pair)%2 == 0 { // who comes second finds a warmer machine
						slices.Reverse(both)
					}
					for _, run := range both {
						server := t
						if run.Beside != "" {
							server = limit
						}
						if run.Figures, err = one(s, server, ""); err != nil {
							return nil, err
						}
						results.Runs = append(results.Runs, run)
					}
				}
			}
		}
	}
	results.compare(all, targets)
	if i := slices.IndexFunc(targets, func(t target) bool { return t.emulator && !t.slow }); i >= 0 {
		_, _ = fmt.Fprintln(progress, "documents of a turn")
		t := targets[i]
		r := &run{Options: o, target: t, binary: built.path(t.program), model: model.address}
		if results.Documents, err = documents(ctx, r, services); err != nil {
			return nil, fmt.Errorf("documents of a turn: %w", err)
		}
		_, _ = fmt.Fprintln(progress, "several processes")
		if results.Instances, err = instances(ctx, r, services); err != nil {
			return nil, err
		}
	}
	if o.CPUProfile == "" {
		return results, nil
	}
	return results, profiles(all, targets, o.CPUProfile, one)
}

// profiles makes each run that can be profiled once more, for its CPU profile.
func profiles(all []scenario, targets []target, dir string, one func(scenario, target, string) (Figures, error)) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, s := range all {
		if s.profile == "" {
			continue
		}
		for _, t := range targets {
			if t.startOnly {
				continue
			}
			name := strings.NewReplacer(",", "", ":", "", "+", "", " ", "-").Replace(t.name)
			if _, err := one(s, t, filepath.Join(dir, name+"-"+s.profile+".pprof")); err != nil {
				return err
			}
		}
	}
	return nil
}
