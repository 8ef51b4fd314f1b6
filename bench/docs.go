package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"example.com/gatehouse/bench/internal/program"
)

// The page that shows what was measured, and the files that its tables come
// from, below the project's root.
const (
	page      = "docs/performance.md"
	kept      = "bench/results/results.json"
	keptPeers = "bench/results/peers.json"
	images    = "docs/img"
)

// read returns what a file below the root holds: [Results] or [Peers].
func read[T any](root, file string) (*T, error) {
	raw, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		return nil, err
	}
	kept := new(T)
	if err := json.Unmarshal(raw, kept); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return kept, nil
}

// write writes what [read] returns.
func write(file string, value any) error {
	raw, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(raw, '\n'), 0o644)
}

// document puts the tables into the page's text, each between the comments
// <!-- bench NAME --> and <!-- end -->.
func document(root, text string) (string, error) {
	r, err := read[Results](root, kept)
	if err != nil {
		return "", err
	}
	blocks := r.tables()
	p, err := read[Peers](root, keptPeers)
	if err != nil {
		return "", err
	}
	maps.Copy(blocks, p.tables())
	for _, name := range []string{"profile", "binary parts"} {
		raw, err := os.ReadFile(filepath.Join(root, "bench", "results", strings.ReplaceAll(name, " ", "-")+".txt"))
		if err != nil {
			return "", err
		}
		blocks[name] = "```\n" + string(raw) + "```\n"
	}
	const begin, end = "<!-- bench ", "<!-- end -->"
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(text, begin)
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		name, rest, ok := strings.Cut(rest, " -->\n")
		_, after, closed := strings.Cut(rest, end)
		block, known := blocks[name]
		if !ok || !closed || !known {
			return "", fmt.Errorf("%s: no table %q, or no end of it", page, name)
		}
		b.WriteString(begin + name + " -->\n" + block + end)
		text = after
	}
}

// rewrite brings the page up to date, what ./scale makes of the same results, too.
func rewrite(ctx context.Context) error {
	file := filepath.Join(program.Root(), page)
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	updated, err := document(program.Root(), string(text))
	if err != nil {
		return err
	}
	r, err := read[Results](program.Root(), kept)
	if err != nil {
		return err
	}
	p := instancesPlot(r.Instances)
	err = errors.Join(os.WriteFile(file, []byte(updated), 0o644), os.WriteFile(filepath.Join(program.Root(), images, p.File), []byte(p.SVG()), 0o644))
	if err != nil {
		return err
	}
	scale := exec.CommandContext(ctx, "go", "run", "./scale", "-docs", file)
	scale.Dir = filepath.Join(program.Root(), "bench")
	if out, err := scale.CombinedOutput(); err != nil {
		return fmt.Errorf("go run ./scale: %w\n%s", err, out)
	}
	return nil
}

// tables are r's, by scenario and kind.
func (r *Results) tables() map[string]string {
	m := r.Machine
	tables := map[string]string{
		"machine": fmt.Sprintf("%s on %s, %d cores, Linux %s, %s; load average before: %.1f; %d rounds of %v a run.\n",
			m.Date.Format("2006-01-02 15:04 UTC"), m.CPU, m.Cores, m.Kernel, m.Go, m.LoadBefore, r.Options.Rounds, r.Options.Duration),
		"documents": documentsTable(r.Documents),
		"instances": instancesTable(r.Instances),
		"binaries":  r.binaries(),
		"budgets":   r.budgets(),
	}
	var scenarios []string
	for _, c := range r.Comparison {
		if !slices.Contains(scenarios, c.Scenario) {
			scenarios = append(scenarios, c.Scenario)
		}
	}
	for _, s := range scenarios {
		tables[s] = r.wide(s)
	}
	return tables
}

// wide is a scenario's table, a line a server, a column a figure: its own, and in
// brackets how it compares with the limit's.
func (r *Results) wide(scenario string) string {
	var figures, targets []string
	cells := map[string]string{}
	for _, c := range r.Comparison {
		if c.Scenario != scenario {
			continue
		}
		if !slices.Contains(figures, c.Figure) {
			figures = append(figures, c.Figure)
		}
		if !slices.Contains(targets, c.Target) {
			targets = append(targets, c.Target)
		}
		m := metricOf(c.Figure)
		cell := fmt.Sprintf("%.*f", m.decimals, c.Ours)
		switch {
		case len(c.ByRound) == 0:
		case m.compare == difference:
			cell += fmt.Sprintf(" (%+.1f)", c.Median)
		case m.compare == ratio:
			cell += fmt.Sprintf(" (%.2f)", c.Median)
		}
		cells[c.Target+"\x00"+c.Figure] = cell
		cells["limit\x00"+c.Figure] = fmt.Sprintf("%.*f", m.decimals, c.Limit)
	}
	var b strings.Builder
	b.WriteString("| |")
	for _, f := range figures {
		name := f
		if unit := metricOf(f).unit; unit != "" {
			name += ", " + unit
		}
		b.WriteString(" " + name + " |")
	}
	b.WriteString("\n|---|" + strings.Repeat("--:|", len(figures)) + "\n")
	for _, t := range append([]string{"limit"}, targets...) {
		b.WriteString("| " + t + " |")
		for _, f := range figures {
			b.WriteString(" " + cells[t+"\x00"+f] + " |")
		}
		b.WriteString("\n")
	}
	return b.String()
}

func metricOf(figure string) metric {
	return metrics[slices.IndexFunc(metrics, func(m metric) bool { return m.name == figure })]
}

// budgets is the table of all that has one.
func (r *Results) budgets() string {
	var b strings.Builder
	b.WriteString("| | figure | compared with the limit | by pair | budget | |\n|---|---|--:|---|--:|---|\n")
	for _, c := range r.Comparison {
		if c.Met == nil {
			continue
		}
		var rounds []string
		for _, x := range c.ByRound {
			rounds = append(rounds, fmt.Sprintf("%.2f", x))
		}
		fmt.Fprintf(&b, "| %s | %s | %.2f | %s | %s | %s |\n", c.Scenario, c.Figure, c.Median, strings.Join(rounds, " "), c.Budget, verdict(*c.Met))
	}
	for _, t := range r.Documents {
		fmt.Fprintf(&b, "| %s | documents | | | %s | %s |\n", t.Turn, t.Budget, verdict(t.Met))
	}
	return b.String()
}
