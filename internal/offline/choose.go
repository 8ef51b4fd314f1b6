package offline

import (
	"slices"
	"strings"
)

// What a word of the question is worth to a function. The figures are judged
// against threshold: a word of the name or a value is enough by itself, but not
// beside a word that nothing explains.
const (
	literalWeight     = 4.0 // a value of an enum, as it is written
	synonymWeight     = 3.0 // a value of an enum, in other words
	nameWeight        = 3.0 // shared among the functions with the word in their names
	weakWeight        = 1.0
	propertyWeight    = 1.5
	descriptionWeight = 1.0
	followUpWeight    = 3.0 // "What about …?" after a call that takes it
	strangerPenalty   = 1.5 // a word that nothing explains

	maxDescription = 2.0 // descriptions are long: anything finds a few words there
	maxPenalty     = 0.7 // of the worth, so that a long question may still be one
	maxStrangers   = 25  // beyond it a text is about something else
	threshold      = 2.0
)

// A match is a function beside a question.
type match struct {
	function function
	filled   filled
	score    float64
	words    map[int]bool // of the question, that speak for the function
	named    bool         // a word of its name is among them
}

// A choice is what the functions can do about a question.
type choice struct {
	calls   []call
	missing *match // the best match, when it lacks a required argument
}

// choose picks the function that fits the question best, and any other that
// fits what the first one leaves unexplained. last is the call made before, or
// nil.
func choose(question string, functions []function, last *call) choice {
	words := wordsOf(question)
	owners := map[string]int{}
	for _, f := range functions {
		for s := range nameStems(f) {
			owners[s]++
		}
	}
	taken := map[int]bool{}
	best := bestMatch(question, words, functions, owners, last, taken)
	if best == nil {
		return choice{}
	}
	if len(best.filled.missing) > 0 {
		return choice{missing: best}
	}
	out := choice{calls: best.filled.calls(best.function.name)}
	for len(functions) > 1 {
		functions = slices.DeleteFunc(slices.Clone(functions), func(f function) bool { return f.name == best.function.name })
		for i := range best.words {
			taken[i] = true
		}
		best = bestMatch(question, words, functions, owners, nil, taken)
		if best == nil || len(best.filled.missing) > 0 {
			break
		}
		out.calls = append(out.calls, best.filled.calls(best.function.name)...)
	}
	return out
}

func bestMatch(question string, words []word, functions []function, owners map[string]int, last *call, taken map[int]bool) *match {
	var best *match
	for _, f := range functions {
		m := weigh(question, words, f, owners, last, taken)
		if len(m.filled.missing) > 0 && !m.named {
			continue // too little to ask the user for more
		}
		if m.score >= threshold && (best == nil || m.score > best.score) {
			best = &m
		}
	}
	return best
}

// weigh scores f on the words that are not taken. Words that are taken are
// explained already, so the strangers among them were counted then.
func weigh(question string, words []word, f function, owners map[string]int, last *call, taken map[int]bool) match {
	m := match{function: f, words: map[int]bool{}}
	if len(taken) > 0 || !isFollowUp(question) || last == nil || last.name != f.name {
		last = nil
	}
	m.filled = fill(question, words, f.properties, last)

	names, described, properties := nameStems(f), stems(f.description), map[string]bool{}
	for _, p := range f.properties {
		for s := range stems(humanize(p.name)) {
			properties[s] = true
		}
	}
	var worth, certain, description float64
	strangers, strong, counted := 0, false, map[string]bool{}
	for _, v := range m.filled.values {
		if !overlaps(v.words, taken) {
			worth += v.weight
			certain += v.weight
			strong = true
		}
		for i := range v.words {
			m.words[i] = true
		}
	}
	for i, w := range words {
		if taken[i] || m.words[i] {
			continue
		}
		value := 0.0
		for _, c := range concepts[w.text] {
			if names[stem(c.name)] {
				value = max(value, c.weight)
			} else if described[stem(c.name)] {
				value = max(value, c.weight/2)
			}
		}
		switch {
		case names[w.stem] && weakWords[w.text]:
			value += weakWeight
		case names[w.stem]:
			value += nameWeight / float64(max(1, owners[w.stem]))
			strong = strong || value >= threshold
			m.named = m.named || value >= threshold
		case stopWords[w.text]:
		case properties[w.stem]:
			value = max(value, propertyWeight)
		case described[w.stem] && !neutralWords[w.text] && description < maxDescription:
			value = max(value, descriptionWeight)
			if !counted[w.stem] {
				description += descriptionWeight
			}
		}
		switch {
		case value > 0:
			m.words[i] = true
			if !counted[w.stem] {
				worth += value
				if value >= threshold && owners[w.stem] <= 1 && !stopWords[w.text] {
					certain += value
				}
			}
			counted[w.stem] = true
		case m.filled.used[i] || described[w.stem] || owners[w.stem] > 0 || len(concepts[w.text]) > 0:
		case !isFiller(w.text):
			strangers++
		}
	}
	if last != nil && len(m.filled.used) > 0 && len(m.filled.missing) == 0 {
		worth += followUpWeight
		strong = true
	}
	if len(m.filled.used) > 0 && len(m.filled.missing) == 0 && description > 0 && strangers == 0 {
		worth += weakWeight
		strong = true
	}
	if !strong && !isQuestion(question) {
		return m
	}
	if len(taken) > 0 {
		// A second function has to be asked for in so many words.
		m.score = certain
		return m
	}
	m.score = worth - strangerPenalty*float64(strangers)
	if strangers <= maxStrangers {
		m.score = max(m.score, worth*(1-maxPenalty))
	}
	return m
}

// isFiller says whether a word leaves open what a question is about.
func isFiller(w string) bool {
	return stopWords[w] || neutralWords[w] || weakWords[w] || notPhrases[w]
}

func overlaps[K comparable](a, b map[K]bool) bool {
	for i := range a {
		if b[i] {
			return true
		}
	}
	return false
}

// nameStems are the stems of a function's name, without the verb it begins with.
func nameStems(f function) map[string]bool {
	out := map[string]bool{}
	for i, w := range wordsOf(humanize(f.name)) {
		if i > 0 || !verbs[w.text] {
			out[w.stem] = true
		}
	}
	return out
}

var (
	followUp = lazy(`(?i)^\W*(and|what about|how about|what if|also|then|or|ok(ay)?,? (and|what about))\b`)
	asking   = lazy(`(?i)^\W*((please|so|and|but|ok|okay|well|now|hi|hello|hey|then|also)[\s,!.]+)*(what|which|who|whom|whose|when|where|why|how|is|are|was|were|do|does|did|can|could|should|would|will|shall|may|might|am|have|has|tell|give|show|list|explain|describe|compare|help|any)\b`)
)

// isFollowUp says whether text goes on from what came before it.
func isFollowUp(text string) bool { return followUp().MatchString(text) }

func isQuestion(text string) bool {
	return strings.HasSuffix(strings.TrimSpace(text), "?") || asking().MatchString(text)
}
