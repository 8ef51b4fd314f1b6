package model

import (
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"google.golang.org/genai"

	"example.com/gatehouse/session"
)

// Bounds of what is taken of a grounding: it is stored with the turn, and what it
// holds comes from pages that anybody can write.
const (
	maxSources     = 64
	maxPositions   = 32 // of a source
	maxTitle       = 200
	maxURI         = 2048
	maxSupports    = 512 // over all sources
	maxQueries     = 64
	maxSuggestions = 32 << 10
)

// A Grounding is what Gemini's own tools brought back for an answer. Nil is an empty
// one.
type Grounding struct {
	// Sources have positions in the answer's own text.
	Sources []session.Source
	// Suggestions is HTML with the searches that Google's terms want shown.
	Suggestions string

	queries   []string  // of Google Search
	retrieved int       // queries of Vertex AI Search
	supports  []support // whose positions are not settled
}

func (g *Grounding) searches() int64 {
	if g == nil {
		return 0
	}
	return int64(len(g.queries))
}

func (g *Grounding) retrievals() int64 {
	if g == nil {
		return 0
	}
	return int64(g.retrieved)
}

// ground takes in the sources that a candidate, or a chunk of one, names.
// The places are looked for in the text so far, for a stream names them last.
func (a *Answer) ground(candidate *genai.Candidate) {
	found, pages := candidate.GroundingMetadata, candidate.URLContextMetadata
	if found == nil && pages == nil {
		return
	}
	if a.Grounding == nil {
		a.Grounding = &Grounding{}
	}
	g := a.Grounding
	if pages != nil {
		for _, page := range pages.URLMetadata {
			if page != nil && page.URLRetrievalStatus == genai.URLRetrievalStatusSuccess {
				g.source("", page.RetrievedURL)
			}
		}
	}
	if found == nil {
		return
	}
	for _, query := range found.WebSearchQueries {
		if query != "" && len(g.queries) < maxQueries && !slices.Contains(g.queries, query) {
			g.queries = append(g.queries, query)
		}
	}
	g.retrieved = max(g.retrieved, min(len(found.RetrievalQueries), maxQueries))
	if entry := found.SearchEntryPoint; entry != nil && len(entry.RenderedContent) <= maxSuggestions && utf8.ValidString(entry.RenderedContent) {
		g.Suggestions = entry.RenderedContent
	}
	places := make([]int, 0, min(len(found.GroundingChunks), maxSources)) // of each chunk's source, -1 for none
	for _, chunk := range found.GroundingChunks[:min(len(found.GroundingChunks), 16*maxSources)] {
		place := -1
		switch {
		case chunk == nil:
		case chunk.Web != nil:
			place = g.source(chunk.Web.Title, chunk.Web.URI)
		case chunk.RetrievedContext != nil:
			g.retrieved = max(g.retrieved, 1)
			place = g.source(chunk.RetrievedContext.Title, chunk.RetrievedContext.URI)
		}
		places = append(places, place)
	}
	// The places are settled when the whole answer is there.
	for _, claim := range found.GroundingSupports[:min(len(found.GroundingSupports), maxSupports)] {
		if claim == nil || claim.Segment == nil {
			continue
		}
		for _, i := range claim.GroundingChunkIndices[:min(len(claim.GroundingChunkIndices), maxSources)] {
			if len(g.supports) < maxSupports && i >= 0 && int(i) < len(places) && places[i] >= 0 {
				g.supports = append(g.supports, support{places[i], *claim.Segment})
			}
		}
	}
}

// A support is the part of an answer that rests on a source.
type support struct {
	source  int // in Grounding.Sources
	segment genai.Segment
}

// settlePositions finds the parts of the answer's text that rest on sources.
func (a *Answer) settlePositions() {
	g := a.Grounding
	if g == nil || len(g.supports) == 0 || a.Content == nil {
		return
	}
	text := a.Text()
	for _, s := range g.supports {
		source := &g.Sources[s.source]
		position, ok := a.position(text, s.segment)
		if ok && len(source.Positions) < maxPositions && !slices.Contains(source.Positions, position) {
			source.Positions = append(source.Positions, position)
		}
	}
	g.supports = nil
}

// position returns the place of a segment in the answer's text, in code points, and
// false for one that is not there: models count now and then from another start, or
// beyond the end.
func (a *Answer) position(text string, s genai.Segment) (session.Position, bool) {
	start, end := int(s.StartIndex), int(s.EndIndex) // bytes of a part
	for i := 0; i < int(s.PartIndex) && i < len(a.Content.Parts); i++ {
		start += len(partText(a.Content.Parts[i]))
		end += len(partText(a.Content.Parts[i]))
	}
	within := 0 <= start && start < end && end <= len(text)
	if s.Text != "" && (!within || text[start:end] != s.Text) {
		if start = strings.Index(text, s.Text); start < 0 {
			return session.Position{}, false
		}
		end, within = start+len(s.Text), true
	}
	if !within || !utf8.RuneStart(text[start]) || end < len(text) && !utf8.RuneStart(text[end]) {
		return session.Position{}, false
	}
	from := utf8.RuneCountInString(text[:start])
	return session.Position{Start: from, End: from + utf8.RuneCountInString(text[start:end])}, true
}

// source adds a source, once, and returns its place among them; -1 for one that is not
// taken: pages show its address as a link.
func (g *Grounding) source(title, uri string) int {
	if !isLink(uri) {
		return -1
	}
	if i := slices.IndexFunc(g.Sources, func(s session.Source) bool { return s.URI == uri }); i >= 0 {
		return i
	}
	if len(g.Sources) == maxSources {
		return -1
	}
	g.Sources = append(g.Sources, session.Source{Title: cleanTitle(title), URI: uri})
	return len(g.Sources) - 1
}

// isLink reports whether uri can be shown as a link.
func isLink(uri string) bool {
	if uri == "" || len(uri) > maxURI || strings.ContainsFunc(uri, func(r rune) bool { return r == utf8.RuneError || unicode.IsControl(r) || unicode.IsSpace(r) }) {
		return false
	}
	u, err := url.Parse(uri)
	return err == nil && u.Host != "" && u.User == nil && (u.Scheme == "https" || u.Scheme == "http" || u.Scheme == "gs")
}

// cleanTitle returns a page's title on one line, without what is not text.
func cleanTitle(title string) string {
	title = strings.ToValidUTF8(title, "")
	title = strings.Join(strings.FieldsFunc(title, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }), " ")
	return strings.ToValidUTF8(title[:min(len(title), maxTitle)], "") // without half a character
}
