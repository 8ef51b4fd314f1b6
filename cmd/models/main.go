// Command models compares the table of models with today's date:
//
//	go run ./cmd/models           prints warnings
//	go run ./cmd/models -strict   exits with 1 if there are any
//
// It warns if the table is old, if a model in use has ended or ends soon, and if its
// price changes soon. The models in use are MODEL and MODEL_FALLBACKS if set, else the
// table's defaults.
package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"example.com/gatehouse/internal/models"
)

const (
	// old is the age from which the table should be compared with its sources again.
	old = 60 * 24 * time.Hour
	// soon is how long before a model's end it warns: time for a release.
	soon = 90 * 24 * time.Hour
)

func main() {
	warned, err := run(os.Args[1:], os.LookupEnv, time.Now(), os.Stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "models:", err)
		os.Exit(2)
	case warned:
		os.Exit(1)
	}
}

// run prints the warnings and reports whether any of them fails the command.
func run(args []string, lookup func(string) (string, bool), now time.Time, out io.Writer) (failed bool, err error) {
	flags := flag.NewFlagSet("models", flag.ContinueOnError)
	strict := flags.Bool("strict", false, "exit with 1 where there are warnings")
	path := flags.String("table", "", "the file with the table (default: the program's own)")
	if err := flags.Parse(args); err != nil {
		return false, flag.ErrHelp // the flag package has printed it
	}
	if flags.NArg() > 0 {
		return false, fmt.Errorf("unexpected %q", flags.Args())
	}
	table := models.BuiltIn()
	if *path != "" {
		raw, err := os.ReadFile(*path)
		if err != nil {
			return false, err
		}
		if table, err = models.Parse(raw); err != nil {
			return false, fmt.Errorf("%s: %w", *path, err)
		}
	}
	found := warnings(table, used(table, lookup), now)
	for _, warning := range found {
		fmt.Fprintf(out, "WARNING: %s\n", warning)
	}
	if len(found) == 0 {
		fmt.Fprintf(out, "The table of models of %s needs no work.\n", table.Date)
	}
	return *strict && len(found) > 0, nil
}

// used returns the models of the environment, or the table's defaults, as a deployment
// reads them.
func used(table *models.Table, lookup func(string) (string, bool)) []string {
	model, _ := lookup("MODEL")
	fallbacks, _ := lookup("MODEL_FALLBACKS")
	var names []string
	for name := range strings.SplitSeq(cmp.Or(model, table.Default)+","+cmp.Or(fallbacks, table.Fallback), ",") {
		name = strings.TrimSpace(name)
		if name != "" && name != "none" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

func warnings(table *models.Table, names []string, now time.Time) []string {
	var all []string
	if age := now.Sub(table.Date.Begin()); age > old {
		all = append(all, fmt.Sprintf("The table is %d days old: compare it with %s.", int(age.Hours()/24), strings.Join(table.Sources, ", ")))
	}
	for _, ending := range table.Endings(names, now, soon) {
		all = append(all, ending.String())
	}
	for _, name := range names {
		m := table.Model(name)
		if m == nil {
			all = append(all, fmt.Sprintf("The table has no entry for %s: its costs are unknown.", name))
			continue
		}
		for _, p := range m.Prices {
			if from := p.From.Begin(); from.After(now) && from.Before(now.Add(soon)) {
				all = append(all, fmt.Sprintf("The price of %s changes on %s to %g, %g and %g dollars for a million tokens of input, cached input and output.",
					name, p.From, p.Input, p.Cached, p.Output))
			}
		}
		if !m.Closed.IsZero() && !m.Closed.Begin().After(now) {
			all = append(all, fmt.Sprintf("The model %s is closed to projects that have not used it; its successor is %s.", name, cmp.Or(m.Successor, "not known")))
		}
	}
	return all
}
