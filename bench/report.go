package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// markdown writes the results as tables.
func (r *Results) markdown(w io.Writer) error {
	var b strings.Builder
	m := r.Machine
	fmt.Fprintf(&b, "Measured %s on %s (%d cores, %s/%s, Linux %s) with %s; load average before: %.2f.\n",
		m.Date.Format("2006-01-02 15:04 UTC"), m.CPU, m.Cores, m.OS, m.Arch, m.Kernel, m.Go, m.LoadBefore)
	fmt.Fprintf(&b, "%d rounds of %v a run; figures are medians, ratios are of the limit and the server right after each other.\n", r.Options.Rounds, r.Options.Duration)
	for i, c := range r.Comparison {
		if i == 0 || r.Comparison[i-1].Scenario != c.Scenario {
			fmt.Fprintf(&b, "\n### %s\n\n| | configuration | limit's | its own | compared by | median | by round | budget |\n|---|---|--:|--:|---|--:|---|---|\n", c.Scenario)
		}
		b.WriteString(c.row())
	}
	if len(r.Documents) > 0 {
		b.WriteString("\n### documents of a turn\n\n" + documentsTable(r.Documents))
		b.WriteString("\n### several processes\n\n" + instancesTable(r.Instances))
	}
	if r.Peers != nil {
		tables := r.Peers.tables()
		for _, name := range slices.Sorted(maps.Keys(tables)) {
			b.WriteString("\n### " + name + "\n\n" + tables[name])
		}
	}
	b.WriteString("\n### Binaries\n\n" + r.binaries())
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Results) binaries() string {
	var b strings.Builder
	b.WriteString("| | MiB |\n|---|--:|\n")
	for _, program := range slices.Sorted(maps.Keys(r.Binaries)) {
		fmt.Fprintf(&b, "| %s | %.1f |\n", program, mib(r.Binaries[program]))
	}
	return b.String()
}

// row is a line of a scenario's table.
func (c Comparison) row() string {
	m := metricOf(c.Figure)
	show := func(x float64) string { return strconv.FormatFloat(x, 'f', m.decimals, 64) }
	relative := func(x float64) string { return strconv.FormatFloat(x, 'f', 2, 64) }
	switch m.compare {
	case difference:
		relative = func(x float64) string { return fmt.Sprintf("%+.1f", x) }
	case itself:
		relative = show
	}
	rounds := make([]string, len(c.ByRound))
	for i, x := range c.ByRound {
		rounds[i] = relative(x)
	}
	name := c.Figure
	if m.unit != "" {
		name += ", " + m.unit
	}
	budget := c.Budget
	if c.Met != nil {
		budget += ", " + verdict(*c.Met)
	}
	middle := "–"
	if len(c.ByRound) > 0 {
		middle = relative(c.Median)
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s | %s | %s |\n",
		name, c.Target, show(c.Limit), show(c.Ours), c.By, middle, strings.Join(rounds, " "), budget)
}

// number formats x with as few digits as possible.
func number(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) }
