package offline

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"sync"

	"google.golang.org/genai"
)

// What Gemini's own tools bring back, so that what shows it can be seen without Gemini:
// a search finds a page of example.com, which states that it is made up, code adds what
// the question adds, and a page is read whose address is in the question.

// sums are what is run as code, and links the addresses in a question.
var (
	sums  = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\d{1,9} ?[-+*] ?\d{1,9}`) })
	links = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`https?://[^\s"<>]+`) })
)

// own returns the answer of a question that one of Gemini's own tools is for; nil for
// none, and where functions have answered it.
func (in *request) own() *genai.GenerateContentResponse {
	last := in.Contents[len(in.Contents)-1]
	question := ""
	for i := 0; last != nil && i < len(last.Parts); i++ {
		if p := last.Parts[i]; p != nil && p.FunctionResponse != nil {
			return nil
		} else if p != nil && !p.Thought {
			question += p.Text + " "
		}
	}
	if in.GenerationConfig.ResponseJsonSchema != nil || in.GenerationConfig.ResponseSchema != nil {
		return nil
	}
	has := func(set func(*genai.Tool) bool) bool {
		for _, t := range in.Tools {
			if t != nil && set(t) {
				return true
			}
		}
		return false
	}
	switch sum, link := sums().FindString(question), links().FindString(question); {
	case sum != "" && has(func(t *genai.Tool) bool { return t.CodeExecution != nil }):
		return in.ranCode(sum)
	case link != "" && has(func(t *genai.Tool) bool { return t.URLContext != nil }):
		whole := in.response("The offline stand-in reads no pages, so it cannot say what is at "+link+"."+note, nil)
		whole.Candidates[0].URLContextMetadata = &genai.URLContextMetadata{URLMetadata: []*genai.URLMetadata{{RetrievedURL: link, URLRetrievalStatus: genai.URLRetrievalStatusSuccess}}}
		return whole
	case strings.TrimSpace(question) != "" && has(func(t *genai.Tool) bool { return t.GoogleSearch != nil || t.Retrieval != nil }):
		return in.searched(excerpt(question, 100))
	}
	return nil
}

// ranCode answers with code that computes sum.
func (in *request) ranCode(sum string) *genai.GenerateContentResponse {
	whole := in.response("The code printed the result."+note, nil)
	content := whole.Candidates[0].Content
	content.Parts = append([]*genai.Part{
		{ExecutableCode: &genai.ExecutableCode{Language: genai.LanguagePython, Code: "print(" + sum + ")"}},
		{CodeExecutionResult: &genai.CodeExecutionResult{Outcome: genai.OutcomeOK, Output: compute(sum)}},
	}, content.Parts...)
	return whole
}

// compute returns what sum comes to.
func compute(sum string) string {
	var a, b int64
	at := strings.IndexAny(sum, "+-*")
	_, _ = fmt.Sscan(sum[:at], &a)
	_, _ = fmt.Sscan(sum[at+1:], &b)
	switch sum[at : at+1] {
	case "+":
		a += b
	case "-":
		a -= b
	case "*":
		a *= b
	}
	return fmt.Sprintln(a)
}

// searched answers with a page that is made up.
func (in *request) searched(query string) *genai.GenerateContentResponse {
	const said = "The offline stand-in searches nothing; this is where a source would be."
	whole := in.response(said+note, nil)
	page := &genai.GroundingChunkWeb{Title: "Example Domain", URI: "https://example.com/?q=" + url.QueryEscape(query)}
	whole.Candidates[0].GroundingMetadata = &genai.GroundingMetadata{
		WebSearchQueries: []string{query},
		SearchEntryPoint: &genai.SearchEntryPoint{RenderedContent: `<a href="` + page.URI + `">Offline search</a>`},
		GroundingChunks:  []*genai.GroundingChunk{{Web: page}},
		GroundingSupports: []*genai.GroundingSupport{{
			GroundingChunkIndices: []int32{0}, Segment: &genai.Segment{EndIndex: int32(len(said)), Text: said},
		}},
	}
	return whole
}
