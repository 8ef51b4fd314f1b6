package offline

import (
	"maps"
	"slices"
	"strings"
)

// decisive are words in the names of fields that tell one option from another.
var decisive = set("when choose best why cost price pros cons pro con tradeoff trade limit limits use suits ideal scaling")

// sideBySide writes a section for each item and then a table of the fields that
// help to decide: those that the sections would tell one after the other.
func (m *markdown) sideBySide(items []item) {
	rows := contrasts(items)
	for _, it := range items {
		m.heading(it.title, 0)
		fields := maps.Clone(it.fields)
		for _, key := range rows {
			delete(fields, key)
		}
		m.fields(fields, 1)
	}
	if len(rows) == 0 {
		return
	}
	header, line := "| |", "|---|"
	for _, it := range items {
		header += " " + cell(it.title) + " |"
		line += "---|"
	}
	table := []string{header, line}
	for _, key := range rows {
		row := "| **" + cell(label(key)) + "** |"
		for _, it := range items {
			row += " " + cell(scalar(key, it.fields[key])) + " |"
		}
		table = append(table, row)
	}
	m.heading("Side by side", 0)
	m.block(strings.Join(table, "\n"))
}

// contrasts are the fields with a short value in every item: those with a
// decisive name or, where there are none, all.
func contrasts(items []item) []string {
	var common, chosen []string
	for _, key := range sortedKeys(items[0].fields) {
		if slices.ContainsFunc(items, func(it item) bool {
			v, ok := it.fields[key]
			return !ok || isNested(v) || len(scalar(key, v)) > maxCellBytes
		}) {
			continue
		}
		common = append(common, key)
		if overlaps(set(strings.ToLower(humanize(key))), decisive) {
			chosen = append(chosen, key)
		}
	}
	if len(chosen) > 0 {
		return chosen
	}
	return common
}

func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }
