package offline

import (
	"regexp"
	"strings"
	"sync"
	"unicode"
)

// A word of a text, with its place there.
type word struct {
	text       string // in lower case
	stem       string // what its forms have in common
	start, end int    // bytes
}

// wordsOf splits text at everything that is no letter or digit, so that
// cloud_run, Cloud-Run and "cloud run" are alike.
func wordsOf(text string) []word {
	var out []word
	start := -1
	add := func(end int) {
		if start >= 0 {
			w := strings.ToLower(text[start:end])
			out = append(out, word{w, stem(w), start, end})
			start = -1
		}
	}
	for i, r := range text {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r) {
			add(i)
		} else if start < 0 {
			start = i
		}
	}
	add(len(text))
	return out
}

// lazy compiles an expression when it is first used: this package is part of
// the deployed program too, where nothing should wait for it at the start.
func lazy(expression string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })
}

// stems is the set of the stems of text's words that carry meaning.
func stems(text string) map[string]bool {
	out := map[string]bool{}
	for _, w := range wordsOf(text) {
		if !stopWords[w.text] {
			out[w.stem] = true
		}
	}
	return out
}

// endings are tried in this order; the first that leaves a stem is taken off.
var endings = []struct{ old, new string }{
	{"ability", "abl"}, {"ibility", "ibl"}, {"ization", ""}, {"isation", ""},
	{"ably", "abl"}, {"ibly", "ibl"}, {"ment", ""}, {"ation", ""}, {"ity", ""}, {"ing", ""}, {"ed", ""}, {"ly", ""},
}

// stem takes common English endings off. It only has to send the forms of one
// word to the same place, not to a word that exists.
func stem(w string) string {
	if s, ok := spellings[w]; ok {
		w = s
	}
	switch {
	case len(w) <= 3 || strings.HasSuffix(w, "ss") || strings.HasSuffix(w, "us") || strings.HasSuffix(w, "is"):
	case strings.HasSuffix(w, "ies"):
		w = w[:len(w)-3] + "y"
	case strings.HasSuffix(w, "sses") || strings.HasSuffix(w, "xes") || strings.HasSuffix(w, "ches") || strings.HasSuffix(w, "shes"):
		w = w[:len(w)-2]
	case strings.HasSuffix(w, "s"):
		w = w[:len(w)-1]
	}
	for _, e := range endings {
		if rest, ok := strings.CutSuffix(w, e.old); ok && len(rest) >= max(3, 6-len(e.old)) {
			w = rest + e.new
			if n := len(w); (e.old == "ing" || e.old == "ed") && w[n-1] == w[n-2] && !strings.ContainsAny(w[n-1:], "lsz") {
				w = w[:n-1]
			}
			break
		}
	}
	if len(w) > 4 && strings.HasSuffix(w, "e") || len(w) > 5 && strings.HasSuffix(w, "y") {
		w = w[:len(w)-1]
	}
	return w
}

// spellings are British forms and the American ones they count as.
var spellings = map[string]string{
	"favourite": "favorite", "favourites": "favorite", "colour": "color", "colours": "color",
	"neighbour": "neighbor", "centre": "center", "hobbies": "hobby",
}

func set(words string) map[string]bool {
	out := map[string]bool{}
	for _, w := range strings.Fields(words) {
		out[w] = true
	}
	return out
}

// stopWords say nothing about what a text is about.
var stopWords = set(`
a an the this that these those there here it its itself he she they them their theirs his her him we us our ours
i me my mine myself you your yours yourself who whom whose what which when where why how
am is are was were be been being do does did done has have had having can could may might must shall should will would
s m re ve ll d t don doesn didn isn aren wasn weren won wouldn couldn shouldn hasn haven cannot let lets
and or but if then than so as of in on at to for from by with without into onto over under about out off up down again
not no nor only own same too very just also still yet already ever even much many more most some any all each every both few other others another
tell give show explain describe list say said know want need like get got getting make makes making take takes keep go goes going come comes
see look find try trying use uses used using help handle please kindly thanks thank hi hello hey ok okay yes yeah
compare compared comparison versus vs against between difference differences differ better worse
happen happens happened happening really actually currently right now today soon good great well long add ask pros cons bit lot lots kind sort of`)

// neutralWords are so common in questions to a service about itself that they
// speak neither for a function nor against it.
var neutralWords = set(`
agent agents service services app apps application applications project projects server servers api apis code system systems
bot chatbot assistant production prod google gcp cloud user users people customer customers thing things something anything question questions example examples
first second third last next one ones two item items new current start setup set configure configuration team company work works my
everything possible doing running run available`)
