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
// none, and where functions have answered it or a typed answer is asked for.
func (in *request) own() *genai.GenerateContentResponse {
	question, results := read(in.Contents[len(in.Contents)-1])
	if len(results) > 0 || in.GenerationConfig.ResponseJsonSchema != nil {
		return nil
	}
	var code, page, search bool
	for _, t := range in.Tools {
		code, page, search = code || t.CodeExecution != nil, page || t.URLContext != nil, search || t.GoogleSearch != nil || t.Retrieval != nil
	}
	switch sum, link := sums().FindString(question), links().FindString(question); {
	case sum != "" && code:
		whole := in.response("The code printed the result."+note, nil)
		content := whole.Candidates[0].Content
		content.Parts = append([]*genai.Part{
			{ExecutableCode: &genai.ExecutableCode{Language: genai.LanguagePython, Code: "print(" + sum + ")"}},
			{CodeExecutionResult: &genai.CodeExecutionResult{Outcome: genai.OutcomeOK, Output: compute(sum)}},
		}, content.Parts...)
		return whole
	case link != "" && page:
		whole := in.response("The offline stand-in reads no pages, so it cannot know what is at "+link+"."+note, nil)
		whole.Candidates[0].URLContextMetadata = &genai.URLContextMetadata{URLMetadata: []*genai.URLMetadata{{RetrievedURL: link, URLRetrievalStatus: genai.URLRetrievalStatusSuccess}}}
		return whole
	case strings.TrimSpace(question) != "" && search:
		const found = "The offline stand-in searches nothing; this is where a source would be."
		whole, query := in.response(found+note, nil), excerpt(question, 100)
		page := &genai.GroundingChunkWeb{Title: "Example Domain", URI: "https://example.com/?q=" + url.QueryEscape(query)}
		whole.Candidates[0].GroundingMetadata = &genai.GroundingMetadata{
			WebSearchQueries:  []string{query},
			SearchEntryPoint:  &genai.SearchEntryPoint{RenderedContent: `<a href="` + page.URI + `">Offline search</a>`},
			GroundingChunks:   []*genai.GroundingChunk{{Web: page}},
			GroundingSupports: []*genai.GroundingSupport{{GroundingChunkIndices: []int32{0}, Segment: &genai.Segment{EndIndex: int32(len(found)), Text: found}}},
		}
		return whole
	}
	return nil
}

// compute returns what sum comes to.
func compute(sum string) string {
	var a, b int64
	var operator string
	_, _ = fmt.Sscanf(strings.ReplaceAll(sum, " ", ""), "%d%1s%d", &a, &operator, &b)
	return fmt.Sprintln(map[string]int64{"+": a + b, "-": a - b, "*": a * b}[operator])
}
