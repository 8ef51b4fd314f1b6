package offline

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/genai"
)

// note ends every text, so that nobody takes it for Gemini's.
const note = "\n\n*This answer comes from the offline stand-in, not from Gemini.*"

// answer returns the reply or, where the request has a response schema, a value
// that it allows.
func (in *request) answer() *genai.GenerateContentResponse {
	text, calls := in.reply()
	if len(calls) == 0 {
		if whole := in.own(); whole != nil {
			return whole
		}
	}
	text += note
	if schema := in.GenerationConfig.ResponseJsonSchema; schema != nil {
		parts := maxParts
		text = string(encode(example(schema, schema, &parts)))
	}
	return in.response(text, calls)
}

// reply returns the answer, of what the functions returned or what can only be meant one way,
// or the functions to call; the rest is declined.
func (in *request) reply() (string, []*genai.FunctionCall) {
	var words, before []word // of the user's last message, and of the one before if no call answered it
	var results []*genai.FunctionResponse
	name, greeting := "", ""
	for _, content := range in.Contents {
		text, returned := read(content)
		results = append(results, returned...)
		if strings.TrimSpace(text) == "" || content.Role == genai.RoleModel {
			continue
		}
		if before = words; len(results) > 0 {
			before = nil
		}
		stated, rest := statedName(wordsOf(text))
		if words, results, greeting = rest, nil, ""; stated != "" {
			name, greeting = stated, fmt.Sprintf("Nice to meet you, %s. ", stated)
		}
	}
	functions := in.functions()
	keys := " "
	for _, w := range words {
		keys += w.key + " "
	}
	switch {
	case len(results) > 0:
		return greeting + report(results), nil
	case strings.Contains(keys, " my name ") || strings.Contains(keys, " who am i "):
		if name == "" {
			return "You have not told me your name in this session.", nil
		}
		return "Your name is **" + name + "**, as you told me in this session.", nil
	case len(words) > 0 && len(words) < 4 && strings.Contains(" hi hello hey good thanks thank ", " "+words[0].key+" "):
		return strings.TrimSuffix("Hello, "+name, ", ") + "! " + offer(functions), nil
	}
	calls, missing := choose(words, functions)
	if len(calls) == 0 && len(before) > 0 && len(words) < 8 {
		calls, _ = choose(slices.Concat(before, words), functions) // what was missing then may be here
	}
	switch {
	case len(calls) > 0:
		return "", calls
	case missing != nil:
		return fmt.Sprintf("%sThe tool `%s` fits, but the question does not say its %s. Which one do you mean?", greeting, missing.function.name, strings.Join(missing.missing, " and ")), nil
	case greeting != "":
		return greeting + offer(functions), nil
	}
	return "No tool fits that, and without a model I cannot answer it. " + offer(functions) + "\n\nWith `GEMINI_API_KEY` set, Gemini answers.", nil
}

// read returns a content's text, and what functions returned.
func read(content *genai.Content) (text string, results []*genai.FunctionResponse) {
	for i := 0; content != nil && i < len(content.Parts); i++ {
		if p := content.Parts[i]; p != nil && p.FunctionResponse != nil {
			results = append(results, p.FunctionResponse)
		} else if p != nil && !p.Thought {
			text += p.Text + " "
		}
	}
	return text, results
}

// statedName returns the name that a message states, and the message without it.
func statedName(words []word) (name string, rest []word) {
	for i := range words {
		for _, form := range []string{"my name is", "i am called", "call me", "i am", "im"} {
			from := i + len(strings.Fields(form))
			if from >= len(words) || !slices.EqualFunc(strings.Fields(form), words[i:from], func(p string, w word) bool { return p == w.key }) {
				continue
			}
			to := properEnd(words, from)
			if to == from && form == "my name is" && !isPlain(words[from].key) {
				to++ // in lower case
			}
			if to > from && (i == 0 || !strings.Contains(" dont not never ", " "+words[i-1].key+" ")) {
				return fmt.Sprint((&match{words: words, used: map[int]bool{}}).take(from, to)...), slices.Concat(words[:i], words[to:])
			}
		}
	}
	return "", words
}

// offer lists the functions, in their own words.
func offer(functions []function) string {
	if len(functions) == 0 {
		return "This agent has no tools, so I can only say what was said in this session."
	}
	out := "These are the tools:\n"
	for _, f := range functions[:min(len(functions), maxLines)] {
		sentence, _, _ := strings.Cut(f.description, ". ")
		out += "\n- **" + label(f.name) + "**: " + excerpt(sentence, maxLineBytes)
	}
	return out
}

// Bounds of what is shown of results, whose size others decide.
const (
	maxLines     = 24
	maxLineBytes = 300
	maxDepth     = 6
	maxParts     = 1000 // of a typed answer
)

// report shows what the functions returned.
func report(results []*genai.FunctionResponse) string {
	var lines []string
	for _, r := range results {
		// The API's convention: an error is under "error", a result under "output" or the whole object.
		if failed, ok := r.Response["error"]; ok && len(r.Response) == 1 {
			lines = append(lines, "`"+r.Name+"` failed: "+inline(failed), "")
			continue
		}
		lines = append(lines, "`"+r.Name+"` returned:", "")
		lines = append(append(lines, shown(r.Response, 0)...), "")
	}
	if more := len(lines) - maxLines; more > 1 {
		lines = append(lines[:maxLines], fmt.Sprintf("- and %d lines more", more))
	}
	return strings.TrimSpace(strings.Join(lines, "\n"))
}

// shown returns a value as lines of a Markdown list: the short values of an
// object on one line, what is nested below it.
func shown(v any, depth int) (lines []string) {
	indent := strings.Repeat("  ", min(depth/2, maxDepth))
	object, _ := v.(map[string]any)
	list, _ := v.([]any)
	if depth > 2*maxDepth || object == nil && list == nil {
		return []string{indent + "- " + inline(v)}
	}
	for _, e := range list[:min(len(list), maxLines)] {
		lines = append(lines, shown(e, depth)...)
	}
	head := ""
	first := func(key string) int { return strings.Index("summary status name title", key) } // what names or sums up an object
	for _, key := range slices.SortedFunc(maps.Keys(object), func(a, b string) int { return cmp.Or(first(b)-first(a), strings.Compare(a, b)) }) {
		text, caption, raw := inline(object[key]), "**"+label(key)+":** ", encode(object[key])
		switch nested := raw[0] == '{' || raw[0] == '['; {
		case nested && len(object) == 1:
			return shown(object[key], depth+1)
		case !nested && text != "":
			head += " · " + caption + text
		case nested && len(text) < maxLineBytes/3:
			lines = append(lines, indent+"  - "+caption+text)
		case nested:
			lines = append(append(lines, indent+"  - "+strings.TrimSpace(caption)), shown(object[key], depth+4)...)
		}
	}
	if head == "" && len(lines) > 0 {
		return lines
	}
	return append([]string{indent + "- " + cmp.Or(excerpt(strings.TrimPrefix(head, " · "), maxLineBytes), "nothing")}, lines...)
}

// inline returns a value on one line.
func inline(v any) string {
	if text, ok := v.(string); ok {
		return excerpt(text, maxLineBytes)
	}
	return excerpt(strings.NewReplacer(`"`, "", "{", "", "}", "", "[", "", "]", "", ",", ", ", ":", ": ").Replace(string(encode(v))), maxLineBytes)
}
