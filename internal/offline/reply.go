package offline

import "fmt"

// reply decides what to say. What is certain comes first: results that are
// there, then what can only be meant one way, then a function that fits. What
// is left is declined.
func reply(c conversation) answer {
	if len(c.results) > 0 {
		return say(salute(c.question) + compose(c.question, c.results))
	}
	if text, ok := smallTalk(c); ok {
		return say(text)
	}
	whole := c.question
	c.question = withoutStatements(whole)
	recalled, certain := recall(c, whole)
	if certain {
		return say(recalled)
	}
	question := c.question
	item, refers := earlierItem(c)
	if refers {
		question += " " + item.id
	}
	picked := choose(question, c.functions, lastCall(c))
	switch {
	case len(picked.calls) > 0:
		return answer{calls: picked.calls}
	case refers:
		return say(composeItem(item))
	case recalled != "":
		return say(recalled)
	case picked.missing != nil:
		return say(askFor(*picked.missing))
	}
	if text, ok := acknowledge(whole); ok {
		return say(text)
	}
	return say(decline(c.functions))
}

// note ends every text, so that nobody takes it for Gemini's.
const note = "\n\n*This answer comes from the offline stand-in, not from Gemini.*"

func say(text string) answer { return answer{text: text + note} }

// salute greets by name a user who says it beside asking something.
func salute(question string) string {
	if told, ok := told([]string{question}).about("name"); ok {
		return fmt.Sprintf("Nice to meet you, %s. ", told.value)
	}
	return ""
}

func lastCall(c conversation) *call {
	if n := len(c.previous); n > 0 {
		results := c.previous[n-1]
		return &results[len(results)-1].call
	}
	return nil
}
