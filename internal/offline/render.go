package offline

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Bounds of what is written of a result, whose size others decide.
const (
	maxMarkdownBytes = 12 << 10
	maxScalarBytes   = 1000
	maxInlineBytes   = 300
	maxCellBytes     = 240
	maxEntries       = 60 // of a list
	maxDepth         = 4
	maxColumns       = 6
)

// markdown writes blocks, with an empty line between them, until it is full.
type markdown struct {
	b    strings.Builder
	full bool
}

func (m *markdown) String() string { return m.b.String() }

// block writes one block: all of it, or as many of its lines as there is room
// for.
func (m *markdown) block(text string) {
	if m.full || text == "" {
		return
	}
	if m.b.Len() > 0 {
		m.b.WriteString("\n\n")
	}
	room := maxMarkdownBytes - m.b.Len()
	if len(text) <= room {
		m.b.WriteString(text)
		return
	}
	m.full = true
	text = clip(text, max(0, room))
	text = text[:strings.LastIndexByte(text, '\n')+1]
	m.b.WriteString(text)
	if strings.Count(text, fence)%2 == 1 {
		m.b.WriteString(fence + "\n")
	}
	m.b.WriteString("\n… (shortened)")
}

const fence = "```"

// value writes any JSON value. The only field of an object needs no label.
func (m *markdown) value(v any, depth int) {
	if m.full {
		return
	}
	if depth > maxDepth {
		m.block(inline(v, 2))
		return
	}
	switch v := v.(type) {
	case map[string]any:
		if len(v) == 1 {
			for key, only := range v {
				if list, ok := itemsOf(only, key); ok {
					m.items(list, depth)
					return
				}
			}
		}
		if len(v) == 0 {
			m.block("The result is empty.")
		}
		m.fields(v, depth)
	case []any:
		if list, ok := itemsOf(v, ""); ok {
			m.items(list, depth)
		} else if len(v) == 0 {
			m.block("The list is empty.")
		} else {
			m.block(bullets(v))
		}
	case nil:
		m.block("The result is empty.")
	default:
		m.block(scalar("", v))
	}
}

// items writes a heading for each, and below the first level only a bullet for
// those that are short.
func (m *markdown) items(items []item, depth int) {
	if depth > 0 && !slices.ContainsFunc(items, func(it item) bool { return !isShort(it) }) {
		lines := make([]string, 0, len(items))
		for _, it := range items[:min(len(items), maxEntries)] {
			lines = append(lines, it.bullet())
		}
		m.block(strings.Join(append(lines, more(len(items))...), "\n"))
		return
	}
	for i, it := range items[:min(len(items), maxEntries)] {
		if m.full {
			return
		}
		if it.title == "" {
			it.title = fmt.Sprintf("Item %d", i+1)
		}
		m.heading(it.title, depth)
		m.fields(it.fields, depth+1)
	}
	m.block(strings.Join(more(len(items)), ""))
}

func (m *markdown) heading(text string, depth int) {
	m.block(strings.Repeat("#", min(3+depth, 6)) + " " + text)
}

// fields writes an object: what explains it, then its values as bullets, then
// what it contains.
func (m *markdown) fields(object map[string]any, depth int) {
	keys := sortedKeys(object)
	var lines []string
	var nested []string
	for _, key := range keys {
		s, isText := object[key].(string)
		switch {
		case isNested(object[key]):
			nested = append(nested, key)
		case isText && proseFields[key] && depth > 0:
			m.block(scalar("", s))
		case isText && strings.Contains(strings.TrimSpace(s), "\n"):
			nested = append(nested, key)
		default:
			lines = append(lines, "- **"+label(key)+":** "+scalar(key, object[key]))
		}
	}
	m.block(strings.Join(lines, "\n"))
	for _, key := range nested {
		if len(object) > 1 {
			m.block("**" + label(key) + ":**")
		}
		m.nested(key, object[key], depth)
	}
}

func (m *markdown) nested(key string, v any, depth int) {
	switch v := v.(type) {
	case string:
		if codeFields[key] {
			m.block(fence + "\n" + strings.ReplaceAll(clip(strings.TrimSpace(v), maxScalarBytes), fence, "'''") + "\n" + fence)
		} else {
			m.block(clip(strings.TrimSpace(v), maxScalarBytes))
		}
	case map[string]any:
		lines := make([]string, 0, len(v))
		for _, k := range sortedKeys(v) {
			lines = append(lines, "- **"+label(k)+":** "+inline(v[k], 2))
		}
		m.block(strings.Join(lines, "\n"))
	case []any:
		if list, ok := itemsOf(v, key); ok && depth < maxDepth {
			m.items(list, max(depth, 1))
		} else {
			m.block(bullets(v))
		}
	}
}

func bullets(list []any) string {
	lines := make([]string, 0, len(list))
	for _, v := range list[:min(len(list), maxEntries)] {
		lines = append(lines, "- "+inline(v, 2))
	}
	return strings.Join(append(lines, more(len(list))...), "\n")
}

func more(n int) []string {
	if n <= maxEntries {
		return nil
	}
	return []string{fmt.Sprintf("- and %d more", n-maxEntries)}
}

// proseFields explain the object they are in and need no label there;
// codeFields are to be typed as they are.
var (
	proseFields = set("description summary text overview explanation why reason rationale detail details how")
	codeFields  = set("command commands cmd code snippet example usage shell script")
)

func isNested(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		return len(v) > 0
	case []any:
		return len(v) > 0
	}
	return false
}

// isShort says whether the item fits in one bullet.
func isShort(it item) bool {
	if it.title == "" || len(it.fields) > 3 {
		return false
	}
	for _, v := range it.fields {
		if s, isText := v.(string); isNested(v) || isText && (len(s) > maxInlineBytes || strings.Contains(strings.TrimSpace(s), "\n")) {
			return false
		}
	}
	return true
}

func (it item) bullet() string {
	var prose, rest []string
	for _, key := range sortedKeys(it.fields) {
		if s := scalar(key, it.fields[key]); proseFields[key] {
			prose = append(prose, s)
		} else {
			rest = append(rest, label(key)+": "+s)
		}
	}
	line := "- **" + it.title + "**"
	all := strings.Join(append(prose, rest...), "; ")
	switch {
	case all == "":
		return line
	case strings.ContainsAny(it.title[len(it.title)-1:], ".!?:"):
		return line + " " + all // the title is a sentence
	}
	return line + ": " + all
}

// scalar writes a value that holds no others, on one line.
func scalar(key string, v any) string {
	switch v := v.(type) {
	case bool:
		if v {
			return "yes"
		}
		return "no"
	case json.Number:
		return v.String()
	case string:
		s := excerpt(v, maxScalarBytes)
		switch {
		case s == "":
			return "none"
		case codeFields[key] && !strings.Contains(s, "`"):
			return "`" + s + "`"
		}
		return s
	}
	return "none" // null, and lists and objects that are empty
}

// inline writes any value on one line, with so many levels of what it contains.
func inline(v any, levels int) string {
	if !isNested(v) {
		return scalar("", v)
	}
	if levels == 0 {
		return excerpt(string(encode(v)), maxInlineBytes)
	}
	var parts []string
	switch v := v.(type) {
	case []any:
		for _, e := range v[:min(len(v), maxEntries)] {
			parts = append(parts, inline(e, levels-1))
		}
	case map[string]any:
		for _, key := range sortedKeys(v) {
			parts = append(parts, humanize(key)+": "+inline(v[key], levels-1))
		}
	}
	return excerpt(strings.Join(parts, ", "), maxScalarBytes)
}

// ranks put what one wants to know first before the rest, and what weighs it up
// after it; names of one rank are in alphabetical order.
var ranks = map[string]int{
	"description": -3, "summary": -3, "overview": -3, "text": -3,
	"status": -2, "state": -2, "result": -2,
	"command": -1, "commands": -1,
	"when_to_choose": 1, "why": 1, "reason": 1,
}

func sortedKeys(object map[string]any) []string {
	return slices.SortedFunc(maps.Keys(object), func(a, b string) int {
		return cmp.Or(cmp.Compare(ranks[a], ranks[b]), cmp.Compare(a, b))
	})
}
