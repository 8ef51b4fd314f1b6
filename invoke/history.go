package invoke

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"example.com/gatehouse/internal/model"
	"example.com/gatehouse/session"
)

// The history is cut where it hurts least. The last turn always goes with the
// next question, whole if it fits. What does not fit gets shorter by its large
// parts first, which are what tools gave and files: each with a note of what was
// there, a call and its response still a pair. Where that is not enough, a turn
// is its question and its answer; an older one is left out where these do not
// fit either. What is older still goes on as long as it fits.

const (
	// usualBytes is how many bytes of a prompt a token has where no model has
	// counted: four, in English and in most scripts of several bytes a character.
	usualBytes = 4.0
	// A model's count is believed while a token has between leastBytes and
	// mostBytes. Digits have one and a half, white space may have a dozen.
	leastBytes, mostBytes = 0.5, 16.0
	// countedTurns is how many turns are looked at for a model's count.
	countedTurns = 3
	// leastTurn is what a turn takes at least, in bytes: less room is no room.
	leastTurn = 64
	// leastPart is what a large part is not made shorter than, in bytes.
	leastPart = 256
)

// history gives the contents of earlier turns that go with the next question, in
// order, for about as many tokens, and whether anything was left out.
func history(s *session.Session, tokens int) (turns []json.RawMessage, cut bool, err error) {
	left := int(min(float64(tokens)*bytesOfToken(s), math.MaxInt32))
	i := len(s.Recent) - 1
	for ; i >= 0 && left >= leastTurn; i-- {
		newest := i == len(s.Recent)-1
		contents, err := s.Recent[i].Contents()
		if err != nil {
			return nil, false, err
		}
		size := weigh(contents)
		if size > left {
			cut = true
			// Half of the room is for what is older still.
			if contents, err = shorten(contents, left/2); err != nil {
				return nil, false, fmt.Errorf("turn %d: %w", s.Recent[i].Number, err)
			}
			if size = weigh(contents); size > left && !newest {
				continue
			}
		}
		left -= size
		turns = append(turns, contents)
	}
	slices.Reverse(turns)
	return turns, cut || i >= 0 || len(s.Recent) < s.Turns, nil
}

// bytesOfToken is how many bytes of a prompt of s a token has, as a model last
// counted.
func bytesOfToken(s *session.Session) float64 {
	for i := len(s.Recent) - 1; i >= max(0, len(s.Recent)-countedTurns); i-- {
		if p, ok := s.Recent[i].Prompt(); ok && p.Tokens > 0 {
			if ratio, ok := believed(p); ok {
				return ratio
			}
		}
	}
	return usualBytes
}

// believed is how many bytes a token of p has, if the count is to be believed.
func believed(p session.Prompt) (float64, bool) {
	ratio := float64(p.Bytes) / float64(p.Tokens)
	return ratio, leastBytes <= ratio && ratio <= mostBytes
}

// promptOf is the size of what r asks, of which a model counted so many tokens.
func promptOf(r model.Request, contents []byte, tokens int64) session.Prompt {
	size := len(r.Instruction) + len(r.Tools) + weigh(contents)
	for _, turn := range r.History {
		size += weigh(turn)
	}
	return session.Prompt{Bytes: int64(size), Tokens: tokens}
}

// weigh is how many bytes of a prompt contents are: their JSON without what it
// has around each of them. A member's name in a text has its quotes escaped.
func weigh(contents []byte) int {
	const around = len(`{"parts":[{"text":""}],"role":"user"},`)
	return max(0, len(contents)-around*bytes.Count(contents, []byte(`"role":"`)))
}

// shorten makes a turn's contents about as short as size, and no shorter than
// its question and its answer.
func shorten(contents json.RawMessage, size int) (json.RawMessage, error) {
	list, err := model.DecodeContents(contents)
	if err != nil {
		return nil, err
	}
	var large []bulk
	for _, content := range list {
		for _, p := range content.Parts {
			if found, ok := bulkOf(p); ok {
				large = append(large, found)
			}
		}
	}
	rest := weigh(contents)
	for _, p := range large {
		rest -= p.size
	}
	if rest+leastPart*len(large) > size {
		return questionAndAnswer(list)
	}
	bound := level(large, size-rest)
	for _, p := range large {
		if p.size > bound {
			p.cut(bound)
		}
	}
	return json.Marshal(list)
}

// A bulk is a large part of a turn, which can be made shorter.
type bulk struct {
	size int // of its JSON
	cut  func(to int)
}

// bulkOf finds what can be shortened in a part.
func bulkOf(p map[string]any) (bulk, bool) {
	if response, ok := p["functionResponse"].(map[string]any); ok {
		text := encode(response["response"])
		return bulk{len(text), func(to int) {
			response["response"] = map[string]any{
				"note":      fmt.Sprintf("Shortened: this output had %d bytes, of which only the beginning is kept.", len(text)),
				"beginning": prefix(text, escaped(text, to-128)), // the note is about as long
			}
		}}, true
	}
	for _, member := range []string{"inlineData", "codeExecutionResult"} {
		object, ok := p[member].(map[string]any)
		if !ok {
			continue
		}
		size := len(encode(object))
		return bulk{size, func(int) {
			delete(p, member)
			note := fmt.Sprintf("[The output of code was here, %d bytes.]", size)
			if member == "inlineData" {
				note = fmt.Sprintf("[A file of the type %v was here, %d bytes.]", object["mimeType"], size)
			}
			p["text"] = note
		}}, true
	}
	return bulk{}, false
}

// level is the size to cut parts to, so that together they have at most size:
// the larger ones first.
func level(parts []bulk, size int) int {
	sizes := make([]int, len(parts))
	for i, p := range parts {
		sizes[i] = p.size
	}
	slices.Sort(sizes)
	for i, s := range sizes {
		if share := size / (len(sizes) - i); s > share {
			return share
		}
		size -= s
	}
	return math.MaxInt
}

// questionAndAnswer is what remains of a turn without its tools, files and thoughts.
func questionAndAnswer(list []model.Content) (json.RawMessage, error) {
	question, answer := "", ""
	for i, content := range list {
		var said strings.Builder
		for _, p := range content.Parts {
			if text, _ := p["text"].(string); p["thought"] != true {
				said.WriteString(text)
			}
		}
		switch {
		case i == 0:
			question = said.String()
		case content.Role == "model" && said.Len() > 0:
			answer += session.Paragraph(answer) + said.String()
		}
	}
	kept := []model.Content{{Role: "user", Parts: []map[string]any{{"text": question}}}}
	if answer != "" {
		kept = append(kept, model.Content{Role: "model", Parts: []map[string]any{{"text": answer}}})
	}
	return json.Marshal(kept)
}

// prefix is the beginning of text in at most size bytes, whole characters only.
func prefix(text string, size int) string {
	if len(text) <= size {
		return text
	}
	size = max(size, 0)
	for size > 0 && !utf8.RuneStart(text[size]) {
		size--
	}
	return text[:size]
}

// escaped is how much of text has at most size bytes as a string of JSON's.
func escaped(text string, size int) int {
	for i := range len(text) {
		switch c := text[i]; {
		case c == '"', c == '\\', c == '\n', c == '\t', c == '\r':
			size -= 2
		case c < ' ', c == '<', c == '>', c == '&':
			size -= len(`\u0000`)
		default:
			size--
		}
		if size < 0 {
			return i
		}
	}
	return len(text)
}

// encode is value's JSON, "" for none.
func encode(value any) string {
	if value == nil {
		return ""
	}
	raw, err := json.Marshal(value)
	if err != nil {
		return ""
	}
	return string(raw)
}
