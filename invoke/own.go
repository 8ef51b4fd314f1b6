package invoke

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"google.golang.org/genai"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/model"
	"example.com/gatehouse/session"
	"example.com/gatehouse/tool"
)

// What a model does beside its text, and Gemini runs by itself: it thinks, searches,
// reads pages, runs code. Clients see it as reasoning, as calls of tools with their
// ends, and as sources.

// These parts come in the model's stream and may lack the id that joins a call and its end.
// An id is then made here, and an end without one belongs to the call that is open. None of
// them is run or answered by the service, so they take no round of [Config.MaxToolRounds] and
// never wait for a person.

// maxOwnPart bounds code, its output and a tool's arguments as clients see them, in
// bytes. What is stored for the model is whole.
const maxOwnPart = 16 << 10

// maxThoughts bounds the summaries of thoughts that a turn shows and stores, in bytes: the
// answer needs the room.
const maxThoughts = 64 << 10

// hasOwnParts reports whether the model may do anything beside its text. Without any, parts
// are not looked at one by one while the model writes.
func hasOwnParts(a agent.Agent) bool {
	return a.Model != nil && a.Model.ThinkingConfig != nil && a.Model.ThinkingConfig.IncludeThoughts ||
		slices.ContainsFunc(a.Tools, func(t tool.Tool) bool { return t.GeminiTool() != nil })
}

// showPart shows a part of the model's answer that is not its text.
func (g *generation) showPart(p *genai.Part) {
	switch {
	case p.Thought:
		text := prefix(p.Text, maxThoughts-g.thought)
		g.thought += len(p.Text)
		g.run.out.appendText(session.KindReasoning, text)
	case p.ExecutableCode != nil:
		code := p.ExecutableCode
		g.beginOwn(code.ID, tool.CodeExecution, map[string]any{"language": strings.ToLower(string(code.Language)), "code": shortened(code.Code)})
	case p.CodeExecutionResult != nil:
		result := p.CodeExecutionResult
		end := session.Part{OK: result.Outcome == genai.OutcomeOK, Result: map[string]any{"output": shortened(result.Output)}, Shown: true}
		if !end.OK {
			end.Error, end.Result = shortened(result.Output), nil
		}
		g.endOwn(result.ID, tool.CodeExecution, end)
	case p.ToolCall != nil:
		args := p.ToolCall.Args
		// Arguments that are cut would be no JSON any more, so they are left out whole.
		if raw, err := json.Marshal(args); err != nil || len(raw) > maxOwnPart {
			args = nil
		}
		g.beginOwn(p.ToolCall.ID, ownName(p.ToolCall.ToolType), args)
	case p.ToolResponse != nil:
		g.endOwn(p.ToolResponse.ID, ownName(p.ToolResponse.ToolType), session.Part{OK: true})
	}
}

// beginOwn shows that Gemini runs one of its tools. id is the model's, "" for none.
func (g *generation) beginOwn(id, name string, args map[string]any) {
	if id == "" {
		g.own++
		id = fmt.Sprintf("own_%d", g.own)
	}
	g.ownOpen = id
	g.run.out.add(session.Part{Kind: session.KindToolCall, ID: id, Name: name, Args: args, Own: true})
}

// endOwn shows that the tool has ended, which the model reports last. It counts as a tool call
// of the answer from then on: one that never ends is shown, and is not in tool_calls.
func (g *generation) endOwn(id, name string, end session.Part) {
	if id == "" {
		id = g.ownOpen
	}
	if id == "" {
		return // it never began
	}
	g.ownOpen = ""
	end.Kind, end.ID, end.Name, end.Own = session.KindToolResult, id, name, true
	g.run.out.add(end)
	g.calls = append(g.calls, toolCall(end))
}

// ownName is the name of a tool of Gemini's, as tool.Gemini has it.
func ownName(kind genai.ToolType) string {
	switch kind {
	case genai.ToolTypeGoogleSearchWeb, genai.ToolTypeGoogleSearchImage:
		return tool.GoogleSearch
	case genai.ToolTypeURLContext:
		return tool.URLContext
	}
	return strings.ToLower(shortened(string(kind)))
}

// showSources shows where the text of a step comes from, which begins after before
// bytes of the answer. Without placed, the text is not as the model wrote it: where a
// source belongs is then not known.
func (g *generation) showSources(answer *model.Answer, before int, placed bool) {
	if answer.Grounding == nil {
		return
	}
	// Positions are in code points of the whole answer; the model call has them in its text.
	offset := utf8.RuneCountInString(g.text.String()[:before])
	for _, source := range answer.Grounding.Sources {
		var positions []session.Position
		if placed {
			positions = slices.Clone(source.Positions)
		}
		for i := range positions {
			positions[i].Start += offset
			positions[i].End += offset
		}
		g.run.out.add(session.Part{Kind: session.KindSource, Title: source.Title, URI: source.URI, Positions: positions})
	}
	// Google's terms want them shown, and HTML that is cut is broken: they are kept whole or
	// not at all.
	if more := answer.Grounding.Suggestions; len(g.suggestions)+len(more) <= maxSuggestions {
		g.suggestions += more // of each search
	}
}

// adoptSources shows where the answer of sub, an agent that was a tool, comes from: what
// g states of it rests on the same. Where in the text is not known. The terms hold for its
// suggestions, too, whoever asked.
func (g *generation) adoptSources(sub *generation) {
	parts, _ := sub.run.out.shown()
	for _, source := range sourcesOf(parts) {
		g.run.out.add(session.Part{Kind: session.KindSource, Title: source.Title, URI: source.URI})
	}
	if len(g.suggestions)+len(sub.suggestions) <= maxSuggestions {
		g.suggestions += sub.suggestions
	}
}

// maxSuggestions bounds the suggestions of a turn, in bytes.
const maxSuggestions = 64 << 10

// shortened returns text of at most maxOwnPart bytes. Code may print any bytes, and JSON, the
// record and the stored turn take UTF-8 only.
func shortened(text string) string {
	if len(text) <= maxOwnPart {
		return strings.ToValidUTF8(text, "\uFFFD")
	}
	return strings.ToValidUTF8(prefix(text, maxOwnPart), "\uFFFD") + "…"
}
