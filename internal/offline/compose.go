package offline

import (
	"fmt"
	"slices"
	"strings"
)

const maxFailureBytes = 400

// compose answers question from what the functions gave back, and from nothing
// else.
func compose(question string, results []result) string {
	groups := byFunction(results)
	m := new(markdown)
	if len(groups) == 1 {
		m.group(question, groups[0], true)
		return m.String()
	}
	m.block("Here is what I found.")
	for _, group := range groups {
		m.block("## " + capital(topic(group[0].call.name)))
		m.group(question, group, false)
	}
	return m.String()
}

// composeItem tells again what an earlier result said of one item.
func composeItem(it item) string {
	m := new(markdown)
	m.block("Earlier in this session this was said of **" + it.title + "**:")
	m.fields(it.fields, 0)
	return m.String()
}

// byFunction keeps the order in which the functions were called.
func byFunction(results []result) [][]result {
	var out [][]result
	for _, r := range results {
		i := slices.IndexFunc(out, func(g []result) bool { return g[0].call.name == r.call.name })
		if i < 0 {
			out = append(out, nil)
			i = len(out) - 1
		}
		out[i] = append(out[i], r)
	}
	return out
}

// group tells the results of one function, side by side when the question
// compares. The failures come last.
func (m *markdown) group(question string, results []result, opened bool) {
	var good []result
	var failures []string
	for _, r := range results {
		payload, failure := outcome(r.response)
		if failure == "" {
			good = append(good, result{r.call, payload})
			continue
		}
		failures = append(failures, fmt.Sprintf("The tool “%s” failed%s: %s", topic(r.call.name), about(r, " for "), failure))
	}
	if len(good) > 0 {
		first := ""
		if opened {
			first = opening(question, good)
			m.block(first)
		}
		items, ok := merged(good)
		switch {
		case ok && len(items) > 1 && len(items) <= maxColumns && isComparison(question):
			m.sideBySide(items)
		case ok && len(items) == 1 && items[0].title != "" && strings.Contains(first, "**"+items[0].title+"**"):
			m.fields(items[0].fields, 1) // under the title that was just said
		case ok:
			m.items(items, 0)
		default:
			m.value(good[0].response, 0)
		}
	}
	for _, f := range failures {
		m.block(f)
	}
}

// merged makes one list of the results: of the items they list or, where they
// list none, of the results themselves under what they were asked for.
func merged(results []result) ([]item, bool) {
	var out []item
	for _, r := range results {
		list, ok := itemsOf(r.response, "")
		object, isObject := r.response.(map[string]any)
		switch {
		case ok:
			out = append(out, list...)
		case len(results) == 1:
			return nil, false
		case isObject:
			out = append(out, item{title: about(r, ""), fields: object})
		default:
			out = append(out, item{title: about(r, ""), fields: map[string]any{"result": r.response}})
		}
	}
	for i := range out {
		if out[i].title == "" {
			out[i].title = fmt.Sprintf("Item %d", i+1)
		}
	}
	return out, true
}

// outcome takes a response apart by the API's convention: the output is under
// "output" or the response itself, a failure under "error".
func outcome(response any) (payload any, failure string) {
	object, ok := response.(map[string]any)
	if !ok {
		return response, ""
	}
	output, hasOutput := object["output"]
	failed, hasError := object["error"]
	for key := range object {
		if key != "output" && key != "error" {
			return response, ""
		}
	}
	switch {
	case hasError && failed != nil && failed != "":
		if object, ok := failed.(map[string]any); ok && object["message"] != nil {
			failed = object["message"]
		}
		return nil, excerpt(inline(failed, 1), maxFailureBytes)
	case hasOutput:
		return output, ""
	}
	return nil, ""
}

var (
	comparing = lazy(`(?i)\b(vs\.?|versus|against|compare[ds]?|comparing|comparison|differences?|differs?|better|cheaper|faster|rather|or|pros and cons)\b`)
	howTo     = lazy(`(?i)\b(how (do|can|could|should|would|to|about)|can i|could i|should i|may i|what about|tell me (more )?about|more about)\b`)
)

func isComparison(question string) bool { return comparing().MatchString(question) }

// opening is a first sentence that suits the question and claims nothing.
func opening(question string, results []result) string {
	name := results[0].call.name
	subject := topic(name)
	var wanted []string
	for _, r := range results {
		if a := about(r, ""); a != "" && !slices.Contains(wanted, "**"+a+"**") {
			wanted = append(wanted, "**"+a+"**")
		}
	}
	what := listing(wanted)
	is, say := "is", "says"
	if isPlural(subject) {
		is, say = "are", "say"
	}
	switch {
	case !hasVerb(name) && what == "":
		return fmt.Sprintf("This is what “%s” returned:", subject)
	case !hasVerb(name):
		return fmt.Sprintf("This is what “%s” returned for %s:", subject, what)
	case len(results) > 1 && isComparison(question):
		return fmt.Sprintf("Here are %s side by side:", what)
	case what != "" && howTo().MatchString(question):
		return fmt.Sprintf("Here is what the %s %s about %s:", subject, say, what)
	case what != "":
		return fmt.Sprintf("Here %s the %s for %s:", is, subject, what)
	}
	return fmt.Sprintf("Here %s the %s:", is, subject)
}

// listing joins words as in a sentence.
func listing(words []string) string {
	if n := len(words); n > 1 {
		return strings.Join(words[:n-1], ", ") + " and " + words[n-1]
	}
	return strings.Join(words, "")
}

// about names what a function was asked for: the text arguments, an enum's
// value by the title that the result gives it.
func about(r result, before string) string {
	var out []string
	for _, key := range sortedKeys(r.call.args) {
		for _, value := range append(stringsIn(r.call.args[key]), text(r.call.args[key])...) {
			if isIdentifier(value) {
				value = titleIn(r.response, value)
			}
			out = append(out, excerpt(value, maxTitleBytes/2))
		}
	}
	if len(out) == 0 {
		return ""
	}
	return before + strings.Join(out, ", ")
}

func text(v any) []string {
	if s, ok := v.(string); ok && s != "" {
		return []string{s}
	}
	return nil
}

// titleIn is the title of the item that response lists under an identifier.
func titleIn(response any, id string) string {
	items, _ := itemsOf(response, "")
	for _, it := range items {
		if it.id == id {
			return it.title
		}
	}
	return title(id)
}
