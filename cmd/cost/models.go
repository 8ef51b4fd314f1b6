package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"example.com/gatehouse/internal/models"
)

// writeModels prints the models with the prices of a day as a Markdown table.
func writeModels(out io.Writer, table *models.Table, day time.Time) error {
	t := tabwriter.NewWriter(out, 0, 0, 1, ' ', 0)
	fmt.Fprintf(t, "| model\t| input, cached, output\t| thinking\t| sampling\t| search\t| combines\t| ends\t| successor\t|\n|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|\n")
	// Models without an end first, newer versions before older ones.
	names := slices.SortedFunc(maps.Keys(table.Models), func(a, b string) int {
		return cmp.Or(table.Models[a].Ends.Begin().Compare(table.Models[b].Ends.Begin()), cmp.Compare(b, a))
	})
	for _, name := range names {
		m := table.Models[name]
		ends := "not announced"
		if !m.Ends.IsZero() {
			ends = m.Ends.String()
		}
		if !m.Closed.IsZero() {
			ends += ", closed to new projects on " + m.Closed.String()
		}
		fmt.Fprintf(t, "| `%s`\t| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t|\n", name, prices(m, day), thinking(m), m.Sampling, search(m), combines(m), ends, cmp.Or(m.Successor, "none"))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\nThe table of %s, with the prices of %s and later. Dollars for a million tokens, and for a thousand searches with Google.\n", table.Date, day.Format(time.DateOnly))
	return err
}

// prices returns the prices of a day and those announced for later.
func prices(m *models.Model, day time.Time) string {
	text := rate(m.Price(day))
	for _, p := range m.Prices {
		if p.From.Begin().After(day) {
			text += fmt.Sprintf("; from %s %s", p.From, rate(p))
		}
	}
	return text
}

func search(m *models.Model) string {
	if m.Search == nil {
		return "unknown"
	}
	return fmt.Sprintf("%.4g per %s", m.Search.USD, m.Search.Per)
}

// combines returns yes where the model takes Gemini's own tools and functions in one
// request.
func combines(m *models.Model) string {
	if m.Combines {
		return "yes"
	}
	return "no"
}

// rate returns a price in dollars for a million tokens, with that of long prompts.
func rate(p models.Price) string {
	text := fmt.Sprintf("%.4g, %.4g, %.4g", p.Input, p.Cached, p.Output)
	if p.Above != nil {
		text += fmt.Sprintf(" (above %d prompt tokens %.4g, %.4g, %.4g)", p.Above.PromptTokens, p.Above.Input, p.Above.Cached, p.Above.Output)
	}
	return text
}

func thinking(m *models.Model) string {
	var levels []string
	for _, level := range m.Levels() {
		text := string(level)
		if m.Thinking.Budgets != nil {
			text += fmt.Sprintf(" (%d)", m.Thinking.Budgets[level])
		}
		levels = append(levels, text)
	}
	return cmp.Or(strings.Join(levels, ", "), "none")
}
