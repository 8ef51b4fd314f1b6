package offline

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"google.golang.org/genai"
)

// What a word of the question counts for a function. Only what reaches the
// threshold is called.
const (
	nameWeight        = 3.0 // names a value, or is in the function's name (then divided among those that have it there)
	descriptionWeight = 1.0 // is in the description or a property's name
	strangerWeight    = 0.5 // nothing explains it
	threshold         = 2.0 // long texts hold many words, so neither of the last two counts beyond it

	maxCalls = 4   // of one function, side by side
	maxWords = 128 // that are looked at of a text, which bounds the time
)

// A match is a function beside a question.
type match struct {
	function function
	words    []word           // of the question
	used     map[int]bool     // those that are arguments
	args     []map[string]any // of one call, or of each
	missing  []string         // labels of properties that are required, and not in the question
	named    float64          // the part of the score by values and names
	score    float64
}

// choose returns the calls of the function that shares most with the question and
// of others that it names, or the match of one that lacks a required argument.
func choose(words []word, functions []function) (calls []*genai.FunctionCall, missing *match) {
	var best *match
	var matches []*match
	for _, f := range functions {
		m := weigh(words, f, functions)
		matches = append(matches, m)
		if m.score >= threshold && (best == nil || m.score > best.score) {
			best = m
		}
	}
	if best == nil || len(best.missing) > 0 {
		return nil, best
	}
	for _, m := range matches {
		if m == best || m.named >= nameWeight && len(m.missing) == 0 {
			for _, args := range m.args {
				calls = append(calls, &genai.FunctionCall{Name: m.function.name, Args: args})
			}
		}
	}
	return calls, nil
}

func weigh(words []word, f function, all []function) *match {
	m := &match{function: f, words: words, used: map[int]bool{}, args: []map[string]any{{}}}
	m.fill()
	described, strangers := 0.0, 0.0
	counted := map[string]bool{}
	for i, w := range words {
		if m.used[i] || isPlain(w.key) || counted[w.key] {
			continue
		}
		counted[w.key] = true
		inName, inDescription := holds(f.label, w.key), holds(f.text, w.key)
		if inName {
			owners := slices.DeleteFunc(slices.Clone(all), func(o function) bool { return !holds(o.label, w.key) })
			m.named += nameWeight / float64(len(owners))
		}
		if inDescription {
			described += descriptionWeight
		} else if !inName {
			strangers += strangerWeight
		}
	}
	m.score = m.named + min(described, threshold) - min(strangers, threshold)
	return m
}

// fill finds the properties' values, the surest first, so that a looser rule
// never takes a word that a stricter one wants. Each word is used once.
func (f *match) fill() {
	for _, rule := range []func(property) []any{f.enum, f.quoted, f.number(true), f.number(false), f.text(true), f.text(false), f.rest} {
		for _, p := range f.function.properties {
			if f.args[0][p.name] == nil {
				f.set(p, rule(p))
			}
		}
	}
	for _, p := range f.function.properties {
		if p.required && f.args[0][p.name] == nil {
			f.missing = append(f.missing, "“"+label(p.name)+"”")
		}
	}
}

// set sets the property in each call; where there are several values
// and it takes one, each has a call.
func (f *match) set(p property, values []any) {
	if p.list && len(values) > 0 {
		values = []any{values}
	}
	for one := len(f.args) == 1; one && len(f.args) < min(len(values), maxCalls); {
		f.args = append(f.args, maps.Clone(f.args[0]))
	}
	for i := 0; i < len(f.args) && len(values) > 0; i++ {
		f.args[i][p.name] = values[min(i, len(values)-1)]
	}
}

// take marks words as used, and returns them as they are written.
func (f *match) take(from, to int) []any {
	var text []string
	for i := from; i < to; i++ {
		f.used[i], text = true, append(text, f.words[i].raw)
	}
	return []any{strings.Trim(strings.Join(text, " "), "\"“”`.,;:!?()")}
}

// enum finds the values that the question names, the longest at each place.
func (f *match) enum(p property) (found []any) {
	for i := 0; i < len(f.words); i++ {
		length, named := 0, ""
		for v, phrase := range p.phrases {
			n := 0
			for n < len(phrase) && i+n < len(f.words) && !f.used[i+n] && alike(phrase[n].key, f.words[i+n].key) {
				n++
			}
			if n == len(phrase) && n > length && !isPlain(f.words[i].key) {
				length, named = n, p.enum[v]
			}
		}
		if length > 0 {
			if f.take(i, i+length); !slices.Contains(found, any(named)) {
				f.named, found = f.named+nameWeight, append(found, named)
			}
			i += length - 1
		}
	}
	return found
}

// free reports whether any text may be the property's value.
func (p property) free() bool { return p.kind == "string" && len(p.enum) == 0 }

func (f *match) quoted(p property) []any {
	open := slices.IndexFunc(f.words, func(w word) bool { return strings.HasPrefix(w.raw, `"`) })
	for i := max(0, open); i < len(f.words) && open >= 0 && p.free() && !f.used[i]; i++ {
		if strings.Contains(f.words[i].raw[1:], `"`) {
			return f.take(open, i+1)
		}
	}
	return nil
}

// number takes numbers, beside the property's own word ("20 sides") or anywhere.
func (f *match) number(beside bool) func(property) []any {
	return func(p property) (found []any) {
		for i, w := range f.words {
			n, err := strconv.ParseFloat(w.text, 64)
			if err != nil || strings.Trim(w.text, "0123456789.-") != "" || f.used[i] || p.kind != "number" && (p.kind != "integer" || n != float64(int64(n))) {
				continue
			}
			if p.list || len(found) == 0 && (!beside || i > 0 && p.owns(f.words[i-1].key) || i+1 < len(f.words) && p.owns(f.words[i+1].key)) {
				f.used[i], found = true, append(found, n)
			}
		}
		return found
	}
}

// text takes what follows the property's own name ("from USD", "city: Paris"), or
// a name in capitals that does not begin a sentence.
func (f *match) text(named bool) func(property) []any {
	return func(p property) []any {
		for i := 1; i < len(f.words) && p.free(); i++ {
			before, w, end := f.words[i-1], f.words[i], properEnd(f.words, i)
			own := p.owns(before.key) && !isPlain(w.key) && (isPlain(before.key) || before.ends(":=") || strings.ContainsAny(w.text, "0123456789"))
			if !f.used[i] && (named && own || !named && end > i && !before.ends(".!?")) {
				return f.take(i, max(end, i+1))
			}
		}
		return nil
	}
}

// rest takes the words that are left, for a property that must have a value.
func (f *match) rest(p property) []any {
	var out []string
	for i, w := range f.words {
		if p.free() && p.required && !f.used[i] && !isPlain(w.key) && !holds(f.function.label, w.key) && !p.owns(w.key) && len(out) < 12 {
			f.used[i], out = true, append(out, w.text)
		}
	}
	return slices.Repeat([]any{strings.Join(out, " ")}, min(len(out), 1))
}

// A word of a text: as it is written, without the punctuation around it, and its
// letters and digits in lower case.
type word struct{ raw, text, key string }

// wordsOf splits text at spaces and underscores.
func wordsOf(text string) (out []word) {
	for raw := range strings.FieldsFuncSeq(text, func(r rune) bool { return unicode.IsSpace(r) || r == '_' }) {
		key := strings.ToLower(strings.Join(strings.FieldsFunc(raw, isMark), ""))
		if key != "" && len(out) < maxWords {
			out = append(out, word{raw, strings.TrimFunc(raw, func(r rune) bool { return isMark(r) && r != '-' }), key})
		}
	}
	return out
}

func isMark(r rune) bool { return !unicode.In(r, unicode.L, unicode.M, unicode.N) }

// ends reports whether one of the marks is right after the word.
func (w word) ends(marks string) bool { return strings.ContainsAny(w.raw[len(w.raw)-1:], marks) }

// label returns a name in snake_case or camelCase as words in lower case.
func label(name string) string {
	var out []rune
	lower := false
	for _, r := range name {
		if isMark(r) || lower && unicode.IsUpper(r) {
			out = append(out, ' ')
		}
		if lower = unicode.IsLower(r); !isMark(r) {
			out = append(out, unicode.ToLower(r))
		}
	}
	return strings.TrimSpace(string(out))
}

// alike reports whether two keys are forms of one word, as far as their
// beginnings show: scale and scalability, option and options.
func alike(a, b string) bool {
	same, short := 0, min(len(a), len(b))
	for same < short && a[same] == b[same] {
		same++
	}
	return strings.TrimSuffix(a, "s") == strings.TrimSuffix(b, "s") || same >= 4 && same*4 >= short*3
}

func holds(words []word, key string) bool {
	return slices.ContainsFunc(words, func(w word) bool { return alike(w.key, key) })
}

// properEnd returns the end of the run of capitalized words from words[from].
func properEnd(words []word, from int) int {
	end := from
	for end < len(words) && strings.IndexFunc(words[end].text, unicode.IsUpper) == 0 && !isPlain(words[end].key) && (end == from || !words[end-1].ends(".,;:!?")) {
		end++
	}
	return end
}

// isPlain reports whether a word leaves open what a text is about.
func isPlain(key string) bool { return strings.Contains(plainWords, " "+key+" ") }

const plainWords = " a an the this that these those there here it its i im me my mine you your yours we us our they them who whom whose what whats which when " +
	"where wheres why how hows am is are was were be been being do does did done has have had having can could may might must shall should will would not no and " +
	"or but if then than so as of in on at to for from by with without about into out up down again more most some any all each every other get gets give gives " +
	"list lists show tell find check checks look see say know want need like please thanks thank hi hello hey ok okay yes just also now today tomorrow use very "
