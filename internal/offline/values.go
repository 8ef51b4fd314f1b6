package offline

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A scanner finds the values of a function's properties in a question. Each
// word is used once.
type scanner struct {
	text  string
	words []word
	used  map[int]bool
}

var (
	numberIn = lazy(`(?:^|[^\p{L}\p{N}.,])(-?\d+(?:\.\d+)?)`)
	quotedIn = lazy(`"([^"]{1,200})"|“([^”]{1,200})”|«([^»]{1,200})»|` + "`([^`]{1,200})`" + `|(?:^|\s)'([^']{1,200})'`)
	emailIn  = lazy(`[\w.+-]+@[\w-]+(?:\.[\w-]+)+`)
	urlIn    = lazy(`https?://[^\s<>"]+[^\s<>".,;:!?)]`)
	dateIn   = lazy(`\b\d{4}-\d{2}-\d{2}\b`)
	codeIn   = lazy(`#?([\p{L}\p{N}_]+(?:-[\p{L}\p{N}_]+)*)`)
)

// maxValues bounds the numbers or quotations looked at in a question.
const maxValues = 50

// take marks the words between two bytes as used, unless one of them is.
func (s scanner) take(start, end int) bool {
	var inside []int
	for i, w := range s.words {
		if w.start < end && w.end > start {
			if s.used[i] {
				return false
			}
			inside = append(inside, i)
		}
	}
	for _, i := range inside {
		s.used[i] = true
	}
	return true
}

func isNumber(p property) bool { return p.kind == "integer" || p.kind == "number" }

func isList(p property, kinds ...string) bool {
	return p.kind == "array" && slices.Contains(kinds, p.items)
}

// numberBeside takes the number next to the property's own word: "20 sides".
func (s scanner) numberBeside(p property) (any, bool) {
	if !isNumber(p) {
		return nil, false
	}
	own := stems(humanize(p.name))
	for _, at := range numberIn().FindAllStringSubmatchIndex(s.text, maxValues) {
		for i, w := range s.words {
			near := w.end <= at[2] && at[2]-w.end <= len(" = ") || w.start >= at[3] && w.start-at[3] <= len(" ")
			if near && own[w.stem] {
				if n, ok := s.numberAt(at, p.kind); ok {
					s.used[i] = true
					return n, true
				}
			}
		}
	}
	return nil, false
}

func (s scanner) number(p property) (any, bool) {
	var list []any
	for _, at := range numberIn().FindAllStringSubmatchIndex(s.text, maxValues) {
		switch {
		case isNumber(p):
			if n, ok := s.numberAt(at, p.kind); ok {
				return n, true
			}
		case isList(p, "integer", "number"):
			if n, ok := s.numberAt(at, p.items); ok {
				list = append(list, n)
			}
		}
	}
	return list, len(list) > 0
}

func (s scanner) numberAt(at []int, kind string) (json.Number, bool) {
	text := s.text[at[2]:at[3]]
	digits := strings.TrimPrefix(text, "-")
	whole, _, isFraction := strings.Cut(digits, ".")
	if isFraction && kind == "integer" || len(digits) > 15 || len(whole) > 1 && whole[0] == '0' || !s.take(at[2], at[3]) {
		return "", false
	}
	return json.Number(text), true
}

// boolean takes a property that is named as wished, or as not wished when one
// of the two words before it says so.
func (s scanner) boolean(p property) (any, bool) {
	if p.kind != "boolean" {
		return nil, false
	}
	own := stems(humanize(p.name))
	for i, w := range s.words {
		if !own[w.stem] || s.used[i] {
			continue
		}
		s.used[i] = true
		for _, before := range s.words[max(0, i-2):i] {
			if noWords[before.text] {
				return false, true
			}
		}
		return true, true
	}
	if p.required {
		for _, w := range s.words {
			if yesWords[w.text] || noWords[w.text] {
				return yesWords[w.text], true
			}
		}
	}
	return nil, false
}

var (
	yesWords = set("yes true on enable enabled sure")
	noWords  = set("no not without false off disable disabled don doesn never skip exclude excluding")
)

// pattern takes what has the form that the property's name asks for.
func (s scanner) pattern(p property) (any, bool) {
	if p.kind != "string" {
		return nil, false
	}
	name := set(strings.ToLower(humanize(p.name)))
	for _, form := range []struct {
		names map[string]bool
		re    func() *regexp.Regexp
	}{{emailNames, emailIn}, {urlNames, urlIn}, {dateNames, dateIn}} {
		if at := form.re().FindStringIndex(s.text); at != nil && overlaps(name, form.names) && s.take(at[0], at[1]) {
			return s.text[at[0]:at[1]], true
		}
	}
	if overlaps(name, codeNames) {
		for _, at := range codeIn().FindAllStringSubmatchIndex(s.text, maxValues) {
			code := s.text[at[2]:at[3]]
			if strings.ContainsAny(code, "0123456789") && s.take(at[2], at[3]) {
				return code, true
			}
		}
	}
	return nil, false
}

// named takes what follows the property's own name: "city: Paris", and "from
// USD to EUR" where that is what the properties are called.
func (s scanner) named(p property) (any, bool) {
	if p.kind != "string" {
		return nil, false
	}
	name := wordsOf(humanize(p.name))
	for i := range s.words {
		if s.used[i] || prefix(name, s.words[i:]) != len(name) {
			continue
		}
		next := i + len(name)
		linked := len(name) == 1 && prepositions[name[0].text]
		if next < len(s.words) {
			linked = linked || strings.ContainsAny(s.text[s.words[next-1].end:s.words[next].start], ":=")
		}
		for next < len(s.words) && linkWords[s.words[next].text] {
			linked = true
			next++
		}
		if next >= len(s.words) || s.used[next] {
			continue
		}
		if end := s.phraseEnd(next, 4); end > next && (linked || s.isProper(next)) {
			return s.phrase(next, end), true
		}
	}
	return nil, false
}

// free takes a quotation or a name after a preposition; for a required
// property also a phrase in lower case there, and a name elsewhere.
func (s scanner) free(p property) (any, bool) {
	formed := overlaps(set(strings.ToLower(humanize(p.name))), formNames)
	if formed || p.kind != "string" && !isList(p, "string", "") {
		return nil, false
	}
	var list []any
	for _, at := range quotedIn().FindAllStringSubmatchIndex(s.text, maxValues) {
		for g := 2; g < len(at); g += 2 {
			if at[g] >= 0 && s.take(at[g], at[g+1]) {
				if p.kind == "string" {
					return s.text[at[g]:at[g+1]], true
				}
				list = append(list, s.text[at[g]:at[g+1]])
			}
		}
	}
	if p.kind == "array" {
		return list, len(list) > 0
	}
	own := stems(humanize(p.name))
	if v, ok := s.afterPreposition(own, 4, true); ok || !p.required {
		return v, ok
	}
	if queryNames[strings.ToLower(p.name)] {
		if v, ok := s.afterPreposition(own, 12, false); ok {
			return v, true
		}
		return excerpt(s.text, 200), s.text != "" && isQuestion(s.text)
	}
	if v, ok := s.afterPreposition(own, 4, false); ok {
		return v, true
	}
	// The first word has its capital letter from its place, so it comes last.
	for n := range s.words {
		if i := (n + 1) % len(s.words); s.isProper(i) && !s.used[i] && (i > 0 || !isQuestion(s.text)) {
			return s.phrase(i, s.phraseEnd(i, 4)), true
		}
	}
	return nil, false
}

var (
	emailNames = set("email mail")
	urlNames   = set("url uri link")
	dateNames  = set("date day")
	formNames  = set("email mail url uri link date")
	codeNames  = set("id number code key sku reference ticket symbol")

	prepositions = set("in for at of about on from to near named called with")
	linkWords    = set("is named called as")
	articles     = set("the a an my our your")
	queryNames   = set("query q question search text topic message prompt term terms keyword keywords phrase input")
	conjunctions = set("and or vs versus against than")
	notPhrases   = set("me it this that these those them us you him her there here today tomorrow tonight yesterday now once all everything moment minute morning afternoon evening night please")
)

// afterPreposition takes the first phrase of up to so many words after a
// preposition, with a capital letter when proper. The property's own words are
// no value of it: "in my city".
func (s scanner) afterPreposition(own map[string]bool, most int, proper bool) (any, bool) {
	for i := 1; i < len(s.words); i++ {
		if !prepositions[s.words[i-1].text] {
			continue
		}
		start := i
		for start < len(s.words) && articles[s.words[start].text] {
			start++
		}
		if start >= len(s.words) || s.used[start] || own[s.words[start].stem] || proper && !s.isProper(start) {
			continue
		}
		end := s.phraseEnd(start, most)
		if end == start {
			continue
		}
		first := s.phrase(start, end)
		if others := s.others(end); proper && len(others) > 0 {
			return append([]string{first}, others...), true
		}
		return first, true
	}
	return nil, false
}

// others are the names that follow one: "in Paris and in London".
func (s scanner) others(end int) []string {
	var out []string
	for len(out) < maxCalls-1 {
		next := end
		for next < len(s.words) && (conjunctions[s.words[next].text] || next > end && prepositions[s.words[next].text]) {
			next++
		}
		listed := next > end || next < len(s.words) && strings.TrimSpace(s.text[s.words[end-1].end:s.words[next].start]) == ","
		if next >= len(s.words) || !listed || s.used[next] || !s.isProper(next) {
			break
		}
		end = s.phraseEnd(next, 4)
		out = append(out, s.phrase(next, end))
	}
	return out
}

// isProper says whether a word looks like a name: it has a capital letter and
// is none of the words that begin sentences.
func (s scanner) isProper(i int) bool {
	r, _ := utf8.DecodeRuneInString(s.text[s.words[i].start:])
	return unicode.IsUpper(r) && !stopWords[s.words[i].text]
}

// phraseEnd is the index after the phrase that begins with word start: it ends
// with the clause, before a used word, and before the next preposition or the
// like, of which "de" and "of" in names are none.
func (s scanner) phraseEnd(start, most int) int {
	end := start
	for end < len(s.words) && end-start < most && !s.used[end] {
		w := s.words[end]
		if notPhrases[w.text] {
			break
		}
		if end > start {
			if strings.ContainsAny(s.text[s.words[end-1].end:w.start], ".,;:!?\n()\"“”") {
				break
			}
			if most <= 4 && stopWords[w.text] && (w.text != "of" || end+1 >= len(s.words) || !s.isProper(end+1)) {
				break
			}
		} else if stopWords[w.text] {
			break
		}
		end++
	}
	return end
}

func (s scanner) phrase(start, end int) string {
	for i := start; i < end; i++ {
		s.used[i] = true
	}
	return s.text[s.words[start].start:s.words[end-1].end]
}
