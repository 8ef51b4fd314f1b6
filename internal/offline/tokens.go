package offline

import (
	"strings"
	"unicode/utf8"
)

// bytesPerToken is the usual rule of thumb for English text.
const bytesPerToken = 4

// mediaBytes stands for a part that is not text: Gemini counts 258 tokens for
// a small image.
const mediaBytes = 258 * bytesPerToken

// tokens estimates the tokens of so many bytes, at least 1.
func tokens(bytes int) int {
	return max(1, (bytes+bytesPerToken-1)/bytesPerToken)
}

// promptTokens estimates everything a model would have to read.
func promptTokens(in *request) int {
	n := 0
	for _, c := range in.Contents {
		n += c.size()
	}
	if in.SystemInstruction != nil {
		n += in.SystemInstruction.size()
	}
	for _, t := range in.Tools {
		n += len(t)
	}
	return tokens(n)
}

func (c content) size() int {
	n := 0
	for _, p := range c.Parts {
		if p.Text != nil {
			n += len(*p.Text)
		}
		if p.FunctionCall != nil {
			n += len(p.FunctionCall.Name) + len(p.FunctionCall.Args)
		}
		if p.FunctionResponse != nil {
			n += len(p.FunctionResponse.Name) + len(p.FunctionResponse.Response)
		}
		if len(p.InlineData) > 0 || len(p.FileData) > 0 {
			n += mediaBytes
		}
	}
	return n
}

// within counts the answer's tokens and keeps them to limit, which is unset
// when it is 0. Text is cut; a call stays whole, because half a call is of no
// use to anybody, but is not counted beyond the limit, on which callers rely.
func (a answer) within(limit int) answer {
	a.finish = "STOP"
	size := len(a.text)
	for _, c := range a.calls {
		size += len(c.name) + len(encode(c.args))
	}
	a.tokens = tokens(size)
	if limit <= 0 || a.tokens <= limit {
		return a
	}
	a.tokens = limit
	if len(a.calls) == 0 {
		a.finish = "MAX_TOKENS"
		a.text = cut(a.text, limit*bytesPerToken)
		a.tokens = tokens(len(a.text))
	}
	return a
}

// cut shortens text to at most so many bytes, at the end of a word, or within
// the first word when that alone is longer.
func cut(text string, bytes int) string {
	if len(text) <= bytes {
		return text
	}
	head := clip(text, bytes)
	if isSpace(text[len(head)]) {
		return strings.TrimRight(head, " \t\r\n")
	}
	if i := strings.LastIndexAny(head, " \t\r\n"); i > 0 {
		if short := strings.TrimRight(head[:i], " \t\r\n"); short != "" {
			return short
		}
	}
	return head
}

// clip shortens text to at most so many bytes without splitting a character.
func clip(text string, bytes int) string {
	if len(text) <= bytes {
		return text
	}
	for bytes > 0 && !utf8.RuneStart(text[bytes]) {
		bytes--
	}
	return text[:bytes]
}

// excerpt is a short, single-line form of what somebody wrote, fit to be quoted.
func excerpt(text string, bytes int) string {
	text = strings.Join(strings.Fields(clip(text, 8*bytes)), " ")
	if len(text) <= bytes {
		return text
	}
	return cut(text, bytes) + "…"
}
