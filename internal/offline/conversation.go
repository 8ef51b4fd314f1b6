package offline

import (
	"slices"
	"strings"
)

// maxQuestionBytes bounds what is looked at of one message: more than the
// longest question the service takes (10 000 characters), and little enough to
// be read through in a moment.
const maxQuestionBytes = 48 << 10

// A conversation is what a request tells, sorted by what it is good for.
type conversation struct {
	question  string     // what the user wrote last
	earlier   []string   // what the user wrote before, oldest first
	results   []result   // of the calls made for the question
	previous  [][]result // of the calls made for each earlier question that had any
	functions []function
}

// A result is what a function gave back.
type result struct {
	call     call
	response any
}

func newConversation(in *request) conversation {
	var c conversation
	var texts []string
	var calls []functionCall // still without a response
	for _, turn := range in.Contents {
		var text []string
		for _, p := range turn.Parts {
			switch {
			case p.FunctionCall != nil:
				calls = append(calls, *p.FunctionCall)
			case p.FunctionResponse != nil:
				c.results = append(c.results, resultOf(p.FunctionResponse, &calls))
			case p.Text != nil && !p.Thought:
				text = append(text, *p.Text)
			}
		}
		if turn.Role != "" && turn.Role != "user" || hasResponse(turn) {
			continue
		}
		texts = append(texts, clip(strings.Join(text, "\n"), maxQuestionBytes))
		if len(c.results) > 0 {
			c.previous = append(c.previous, c.results)
		}
		c.results, calls = nil, nil
	}
	if n := len(texts); n > 0 {
		c.question, c.earlier = strings.TrimSpace(texts[n-1]), texts[:n-1]
	}
	c.functions = declared(in)
	return c
}

func hasResponse(c content) bool {
	return slices.ContainsFunc(c.Parts, func(p part) bool { return p.FunctionResponse != nil })
}

// resultOf finds the call a response belongs to by its id or, where the model
// gives none, by its name, in order.
func resultOf(r *functionResponse, calls *[]functionCall) result {
	out := result{call: call{name: r.Name}, response: decode(r.Response)}
	i := slices.IndexFunc(*calls, func(c functionCall) bool { return c.Name == r.Name && c.ID == r.ID })
	if i < 0 {
		i = slices.IndexFunc(*calls, func(c functionCall) bool { return c.Name == r.Name })
	}
	if i >= 0 {
		out.call.args, _ = decode((*calls)[i].Args).(map[string]any)
		*calls = slices.Delete(*calls, i, i+1)
	}
	return out
}
