package offline

import (
	"strings"
	"unicode"
)

// acronyms are words that are written in capitals.
var acronyms = set(`ai api apis aws ci cd cpu cors dns eu gb gcp gke gpu html http https iam iap id ids io ip json jwt kb llm mb oidc os pdf ram rpc sdk
sla slo sql sse ssl sso tcp tls ttl ui uri url us usd utc uuid vm vpc xml yaml`)

// humanize turns a name in snake_case, kebab-case or camelCase into words in
// lower case, acronyms aside.
func humanize(name string) string {
	var b strings.Builder
	previous := ' '
	for _, r := range name {
		if unicode.IsUpper(r) && unicode.IsLower(previous) {
			b.WriteByte(' ')
		}
		if r == '_' || r == '-' || r == '.' {
			r = ' '
		}
		b.WriteRune(r)
		previous = r
	}
	words := strings.Fields(b.String())
	for i, w := range words {
		if lower := strings.ToLower(w); acronyms[lower] {
			words[i] = strings.ToUpper(lower)
		} else {
			words[i] = lower
		}
	}
	return strings.Join(words, " ")
}

// label is a name as a caption: "When to choose".
func label(name string) string { return capital(humanize(name)) }

// title is a name as a heading: "Cloud Run".
func title(name string) string {
	words := strings.Fields(humanize(name))
	for i, w := range words {
		words[i] = capital(w)
	}
	return strings.Join(words, " ")
}

func capital(s string) string {
	for i, r := range s {
		return s[:i] + string(unicode.ToUpper(r)) + s[i+len(string(r)):]
	}
	return s
}

// isIdentifier says whether s is made for programs: lower-case words joined by
// underscores or hyphens, or a single one.
func isIdentifier(s string) bool {
	for _, r := range s {
		if !unicode.IsLower(r) && !unicode.IsDigit(r) && r != '_' && r != '-' {
			return false
		}
	}
	return s != ""
}

// topic is what a function is about: its name without the verb it begins with.
func topic(name string) string {
	t := humanize(name)
	if verb, rest, ok := strings.Cut(t, " "); ok && verbs[verb] {
		return rest
	}
	return t
}

// hasVerb says whether the function's name begins with one of the verbs that
// only say that something is looked up.
func hasVerb(name string) bool { return topic(name) != humanize(name) }

// singular takes the plural ending off an English noun.
func singular(noun string) string {
	if s, ok := strings.CutSuffix(noun, "ies"); ok {
		return s + "y"
	}
	return strings.TrimSuffix(noun, "s")
}

func isPlural(noun string) bool {
	return strings.HasSuffix(noun, "s") && !strings.HasSuffix(noun, "ss") && !strings.HasSuffix(noun, "us") && !strings.HasSuffix(noun, "is")
}
