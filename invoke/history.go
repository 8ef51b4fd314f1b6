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

// Which history is sent, if it exceeds HISTORY_TOKENS. The last turn is always sent,
// in full if it fits. If it does not, its large parts are shortened first: tool
// outputs and files, each replaced by its beginning and a note, while every call keeps
// its response. If that is not enough, the turn is reduced to question and answer.
// Older turns follow in the same way, newest first, and one that does not fit even as
// question and answer is left out; turns older than that are still sent if they fit.

const (
	// usualBytes is the assumed number of prompt bytes per token if no model has
	// counted: four, as in English and most scripts with several bytes per character.
	usualBytes = 4.0
	// A model's count is used if it implies between leastBytes and mostBytes per
	// token. Digits have about 1.5, white space may have a dozen.
	leastBytes, mostBytes = 0.5, 16.0
	// countedTurns is how many recent turns are searched for a model's count.
	countedTurns = 3
	// leastTurn is the smallest useful room for a turn, in bytes.
	leastTurn = 64
	// leastPart is the size below which a large part is not shortened, in bytes.
	leastPart = 256
)

// A chosenTurn is a turn that history has chosen.
type chosenTurn struct {
	record session.Record
	whole  bool // not shortened
}

// earlierTurns are those that are sent with a question.
type earlierTurns struct {
	turns []json.RawMessage // contents, oldest first
	exact bool              // no turn lacks what [model.Restore] would put back
	bytes int               // that all turns add to a prompt
	files pastFiles
	cut   bool // something was left out
}

// history returns the contents of earlier turns to send with the next question, limited to
// about the given number of tokens. If note is set, it is called for each turn that is chosen,
// the newest first.
func history(s *session.Session, tokens int, note func(chosenTurn)) (earlierTurns, error) {
	ratio := bytesOfToken(s)
	left := int(min(float64(tokens)*ratio, math.MaxInt32))
	p := earlierTurns{exact: true}
	if len(s.Recent) > 0 {
		p.turns = make([]json.RawMessage, 0, min(len(s.Recent), left/leastTurn+1))
	}
	i := len(s.Recent) - 1
	for ; i >= 0 && left >= leastTurn; i-- {
		newest := i == len(s.Recent)-1
		contents, size, filed, err := p.read(s.Recent[i])
		if err != nil {
			return earlierTurns{}, err
		}
		if filed {
			of, err := s.Recent[i].Files()
			if err != nil {
				return earlierTurns{}, err
			}
			// Files weigh their tokens, not their bytes.
			if weight := int(float64(tokensOf(of)) * ratio); size+weight <= left {
				left -= weight
				p.files = p.files.add(len(p.turns), of)
			} else { // large parts go first
				p.cut = true
				if contents, err = withoutFiles(contents, of); err != nil {
					return earlierTurns{}, fmt.Errorf("turn %d: %w", s.Recent[i].Number, err)
				}
				size = promptBytes(contents)
			}
		}
		whole := size <= left
		if !whole {
			p.cut = true
			// Half of the room is left for older turns.
			if contents, err = shorten(contents, left/2); err != nil {
				return earlierTurns{}, fmt.Errorf("turn %d: %w", s.Recent[i].Number, err)
			}
			if size = promptBytes(contents); size > left && !newest {
				continue
			}
		}
		left -= size
		p.bytes += size
		p.turns = append(p.turns, contents)
		if note != nil {
			note(chosenTurn{s.Recent[i], whole})
		}
	}
	slices.Reverse(p.turns)
	p.files.reverse(len(p.turns))
	p.cut = p.cut || i >= 0 || len(s.Recent) < s.Turns
	return p, nil
}

// read returns the contents of a turn, their prompt bytes, and whether they have files.
func (p *earlierTurns) read(r session.Record) (contents json.RawMessage, size int, files bool, err error) {
	if exact, ok := r.Exact(); ok {
		return exact.Contents, exact.Prompt, exact.Files, nil
	}
	p.exact = false
	contents, err = r.Contents()
	return contents, promptBytes(contents), hasFiles(contents), err
}

// bytesOfToken returns the number of prompt bytes per token, by the model's last
// count. The newest count is the best: languages and tools of a session change slowly.
func bytesOfToken(s *session.Session) float64 {
	for i := len(s.Recent) - 1; i >= max(0, len(s.Recent)-countedTurns); i-- {
		if p, ok := s.Recent[i].Prompt(); ok && p.Tokens > 0 {
			if ratio, ok := plausibleRatio(p); ok {
				return ratio
			}
		}
	}
	return usualBytes
}

// plausibleRatio returns the bytes per token of p, and whether that is plausible.
func plausibleRatio(p session.Prompt) (float64, bool) {
	ratio := float64(p.Bytes) / float64(p.Tokens)
	return ratio, leastBytes <= ratio && ratio <= mostBytes
}

// promptOf returns the size of r's prompt, for which a model counted tokens, with the
// generation's contents. It weighs the same bytes as history does, so that the ratio of one
// turn holds for the next.
func (g *generation) promptOf(r *model.Request, tokens int64) session.Prompt {
	size := len(r.Instruction) + len(r.Tools.JSON) + len(r.Schema) + promptBytes(g.encoded)
	if r.Exact {
		size += g.earlier.bytes
	} else {
		for _, turn := range r.History {
			size += promptBytes(turn)
		}
	}
	return session.Prompt{Bytes: int64(size), Tokens: tokens}
}

// measure keeps the size that the model has counted of the prompt r of call, which is g itself
// or a generation for one call. After retries the count is of several prompts.
func (g *generation) measure(call *generation, r *model.Request, answer *model.Answer) {
	if answer.Usage.Source != session.Counted || answer.Attempts != 1 {
		return
	}
	g.files.count(answer.FileTokens)
	g.prompt = call.promptOf(r, max(0, answer.Usage.PromptTokens-int64(g.files.tokens())))
	if ratio, ok := plausibleRatio(g.prompt); ok {
		g.bytesOfToken = ratio
	}
}

// promptBytes returns the number of prompt bytes in contents: their JSON without the
// structure around each text. Quotes inside a text are escaped, so they do not match.
func promptBytes(contents []byte) int {
	const around = len(`{"parts":[{"text":""}],"role":"user"},`)
	return max(0, len(contents)-around*bytes.Count(contents, []byte(`"role":"`)))
}

// shorten returns contents shortened to about size bytes, but never less than the
// question and the answer. Every call keeps a response, because the API refuses a prompt with
// a call that has none.
func shorten(contents json.RawMessage, size int) (json.RawMessage, error) {
	list, err := model.DecodeContents(contents)
	if err != nil {
		return nil, err
	}
	var large []largePart
	for _, content := range list {
		for _, p := range content.Parts {
			if found, ok := largePartOf(p); ok {
				large = append(large, found)
			}
		}
	}
	rest := promptBytes(contents)
	for _, p := range large {
		rest -= p.size
	}
	if rest+leastPart*len(large) > size {
		return questionAndAnswer(list)
	}
	bound := cutSize(large, size-rest)
	for _, p := range large {
		if p.size > bound {
			p.cut(bound)
		}
	}
	return json.Marshal(list)
}

// A largePart is a large part of a turn that can be shortened.
type largePart struct {
	size int // of its JSON, in bytes
	cut  func(to int)
}

// largePartOf returns what can be shortened in a part.
func largePartOf(p map[string]any) (largePart, bool) {
	if response, ok := p["functionResponse"].(map[string]any); ok {
		text := encode(response["response"])
		return largePart{len(text), func(to int) {
			n, _ := escaped(text, to-128) // leaves room for the note
			response["response"] = map[string]any{
				"note":      fmt.Sprintf("Shortened: this output had %d bytes, of which only the beginning is kept.", len(text)),
				"beginning": prefix(text, n),
			}
		}}, true
	}
	for _, member := range []string{"inlineData", "codeExecutionResult"} {
		object, ok := p[member].(map[string]any)
		if !ok {
			continue
		}
		size := len(encode(object))
		return largePart{size, func(int) {
			delete(p, member)
			note := fmt.Sprintf("[The output of code was here, %d bytes.]", size)
			if member == "inlineData" {
				note = fmt.Sprintf("[A file of the type %v was here, %d bytes.]", object["mimeType"], size)
			}
			p["text"] = note
		}}, true
	}
	return largePart{}, false
}

// cutSize returns the size to cut parts to so that they total at most size bytes: the
// largest are cut first. Small parts stay whole: what one of them does not use of its share is
// shared by the larger ones.
func cutSize(parts []largePart, size int) int {
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

// questionAndAnswer returns a turn's contents without tools, files and thoughts.
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

// prefix returns the start of text in at most size bytes, without splitting a
// character.
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

// escaped returns the length of the start of text that takes at most size bytes as a
// JSON string, and what that leaves of size.
func escaped(text string, size int) (n, left int) {
	for i := range len(text) {
		takes := 1
		switch c := text[i]; {
		case c == '"', c == '\\', c == '\n', c == '\t', c == '\r':
			takes = 2
		case c < ' ', c == '<', c == '>', c == '&':
			takes = len(`\u0000`)
		case c == 0xe2 && (strings.HasPrefix(text[i:], "\u2028") || strings.HasPrefix(text[i:], "\u2029")):
			takes = len(`\u0000`) - 2 // the other two bytes follow
		}
		if takes > size {
			return i, size
		}
		size -= takes
	}
	return len(text), size
}

// encode returns value as JSON, "" for nil or on error.
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
