package offline

import (
	"maps"
	"slices"
	"strings"
)

// filled is what a question gives for a function's properties.
type filled struct {
	args    map[string]any
	several string       // a property with more than one value, each for a call of its own
	each    []string     // those values
	values  []mention    // the enum values that were found
	used    map[int]bool // the question's words that became arguments
	missing []property   // required, and not in the question
}

// A mention is an enum's value that the question names.
type mention struct {
	value  string
	weight float64
	words  map[int]bool
	first  int
}

// calls has one call for each of several values, so that they are looked up
// side by side.
func (f filled) calls(name string) []call {
	if f.several == "" {
		return []call{{name, f.args}}
	}
	out := make([]call, len(f.each))
	for i, value := range f.each {
		args := maps.Clone(f.args)
		args[f.several] = value
		out[i] = call{name, args}
	}
	return out
}

// maxCalls bounds the calls made side by side.
const maxCalls = 8

// fill finds the properties' values in the question: what is certain first, so
// that a looser rule never takes a word that a stricter one wants. A required
// property that the question leaves open is taken from last, when that is given.
func fill(question string, words []word, properties []property, last *call) filled {
	f := filled{args: map[string]any{}, used: map[int]bool{}}
	for _, p := range properties {
		if len(p.enum) > 0 && (p.kind == "string" || p.items == "string") {
			f.fillEnum(p, words)
		}
	}
	s := scanner{question, words, f.used}
	for _, rule := range []func(property) (any, bool){s.numberBeside, s.number, s.boolean, s.pattern, s.named, s.free} {
		for _, p := range properties {
			if _, ok := f.args[p.name]; ok || len(p.enum) > 0 {
				continue
			}
			v, ok := rule(p)
			if names, several := v.([]string); several && p.kind == "string" {
				if f.several == "" {
					f.several, f.each = p.name, names
				}
				v = names[0]
			}
			if ok {
				f.args[p.name] = v
			}
		}
	}
	for _, p := range properties {
		if _, ok := f.args[p.name]; ok || !p.required || p.name == f.several {
			continue
		}
		if last != nil && last.args[p.name] != nil {
			f.args[p.name] = last.args[p.name]
		} else {
			f.missing = append(f.missing, p)
		}
	}
	return f
}

func (f *filled) fillEnum(p property, words []word) {
	mentions := mentionsOf(p.enum, words, f.used)
	if len(mentions) == 0 {
		return
	}
	if len(mentions) > maxCalls {
		mentions = mentions[:maxCalls]
	}
	var values []string
	for _, m := range mentions {
		values = append(values, m.value)
		maps.Copy(f.used, m.words)
	}
	f.values = append(f.values, mentions...)
	switch {
	case p.kind == "array":
		f.args[p.name] = values
	case len(values) == 1:
		f.args[p.name] = values[0]
	case f.several == "":
		f.several, f.each = p.name, values
	default:
		f.args[p.name] = values[0]
	}
}

// mentionsOf finds the values that words name, in the order they are named. The
// longest phrase at a place counts, and a value's own words before another's
// synonyms.
func mentionsOf(values []string, words []word, used map[int]bool) []mention {
	phrasings := phrasingsOf(values)
	found := map[string]*mention{}
	for i := 0; i < len(words); {
		var best phrasing
		length := 0
		for _, p := range slices.Concat(phrasings[words[i].stem], phrasings[words[i].text+" joined"]) {
			n := prefix(p.words, words[i:])
			if n > 0 && p.weight == literalWeight && n == len(p.words) && joined(p.words) != joined(words[i:i+n]) {
				p.weight = synonymWeight // another form of it: "secure" for security
			}
			if n > length || n == length && p.weight > best.weight {
				best, length = p, n
			}
		}
		if length == 0 || used[i] {
			i++
			continue
		}
		m := found[best.value]
		if m == nil {
			m = &mention{value: best.value, words: map[int]bool{}, first: i}
			found[best.value] = m
		}
		m.weight = max(m.weight, best.weight)
		for range length {
			m.words[i] = true
			i++
		}
	}
	out := make([]mention, 0, len(found))
	for _, m := range found {
		out = append(out, *m)
	}
	slices.SortFunc(out, func(a, b mention) int { return a.first - b.first })
	return out
}

// A phrasing is a way to name a value.
type phrasing struct {
	value  string
	words  []word
	weight float64
}

// phrasingsOf gives the values' phrasings by the stem they begin with, and
// those of several words also by how they look when written together.
func phrasingsOf(values []string) map[string][]phrasing {
	out := map[string][]phrasing{}
	for _, value := range values {
		own := wordsOf(humanize(value))
		if len(own) == 0 {
			continue
		}
		p := phrasing{value, own, literalWeight}
		out[own[0].stem] = append(out[own[0].stem], p)
		if len(own) > 1 {
			key := joined(own) + " joined"
			out[key] = append(out[key], p)
		}
		for _, s := range synonyms() {
			if !includes(own, s.means) {
				continue
			}
			for _, words := range s.phrases {
				out[words[0].stem] = append(out[words[0].stem], phrasing{value, words, synonymWeight})
			}
		}
	}
	return out
}

func joined(words []word) string {
	var b strings.Builder
	for _, w := range words {
		b.WriteString(w.text)
	}
	return b.String()
}

// prefix is the number of words that phrase takes at their beginning, or 0: as
// many as it has, or one when they are written together, as in "CloudRun".
func prefix(phrase, words []word) int {
	if len(phrase) == 0 || len(words) == 0 {
		return 0
	}
	if len(phrase) > 1 && words[0].text == joined(phrase) {
		return 1
	}
	if len(words) < len(phrase) {
		return 0
	}
	for i, w := range phrase {
		if w.text != words[i].text && (w.stem != words[i].stem || stopWords[words[i].text]) {
			return 0
		}
	}
	if len(phrase) == 1 && stopWords[phrase[0].text] && len(phrase[0].text) == 1 {
		return 0 // a value "a" is not meant by every "a"
	}
	return len(phrase)
}

func includes(words, wanted []word) bool {
	return !slices.ContainsFunc(wanted, func(w word) bool {
		return !slices.ContainsFunc(words, func(o word) bool { return o.stem == w.stem })
	})
}
