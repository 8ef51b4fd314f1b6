package session_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/gatehouse/session"
)

// What a run has shown comes back from its turn, which stores each text, argument and result
// once.
func TestATurnShowsWhatItsRunHasShown(t *testing.T) {
	t.Parallel()
	const contents = `[{"role":"user","parts":[{"text":"Which rate?"}]},
		{"role":"model","parts":[{"text":"hm","thought":true},{"text":"I look."},{"functionCall":{"name":"rate","args":{"id":9007199254740993}}},{"functionCall":{"name":"quiet"}}]},
		{"role":"user","parts":[{"functionResponse":{"name":"rate","response":{"rate":1.25}}},{"functionResponse":{"name":"quiet","response":{"secret":true}}}]},
		{"role":"model","parts":[{"text":"It is 1.25."}]}]`
	shown := []session.Part{
		{Kind: session.KindToolCall, ID: "0", Name: "search", Own: true, Args: map[string]any{"query": "before"}},
		{Kind: session.KindReasoning, Text: "hm"},
		{Kind: session.KindText, Text: "I look."},
		{Kind: session.KindToolCall, ID: "1", Name: "rate", Args: map[string]any{"id": json.Number("9007199254740993")}},
		{Kind: session.KindToolCall, ID: "2", Name: "quiet"},
		{Kind: session.KindToolResult, ID: "2", Name: "quiet", OK: true},
		{Kind: session.KindToolResult, ID: "1", Name: "rate", OK: true, Shown: true, Result: map[string]any{"rate": json.Number("1.25")}},
		{Kind: session.KindToolCall, ID: "3", Name: "search", Own: true, Args: map[string]any{"query": "rates"}},
		{Kind: session.KindSource, URI: "https://example.com"},
		{Kind: session.KindText, Text: "\n\nIt is 1.25."},
		{Kind: session.KindFile, Type: "image/png", Name: "chart"},
	}
	stored := make([]session.Part, len(shown))
	for i, p := range shown {
		if p.Kind == session.KindFile {
			p.Data = []byte("kept elsewhere or nowhere")
		}
		if stored[i] = p.Stored(); !p.Own && (stored[i].Args != nil || stored[i].Result != nil) || p.Kind == session.KindText && stored[i].Text != "" || stored[i].Data != nil {
			t.Errorf("stored twice: %+v", stored[i])
		}
	}
	turn := session.Turn{Contents: json.RawMessage(contents), Parts: stored}
	if diff := cmp.Diff(shown, turn.Shown()); diff != "" {
		t.Errorf("(-run +turn):\n%s", diff)
	}

	t.Run("an answer that was too large to be stored whole", func(t *testing.T) {
		turn := session.Turn{
			Contents: json.RawMessage(`[{"role":"user","parts":[{"text":"?"}]},{"role":"model","parts":[{"text":"short"}]}]`),
			Parts:    []session.Part{{Kind: session.KindText, Size: 3}, {Kind: session.KindText, Size: 100}, {Kind: session.KindText, Size: 1}},
		}
		want := []session.Part{{Kind: session.KindText, Text: "sho"}, {Kind: session.KindText, Text: "rt"}, {Kind: session.KindText}}
		if diff := cmp.Diff(want, turn.Shown()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})

	t.Run("a result without its call", func(t *testing.T) {
		turn := session.Turn{Contents: json.RawMessage(contents), Parts: []session.Part{{Kind: session.KindToolResult, ID: "1", Name: "rate", Shown: true}}}
		if diff := cmp.Diff(turn.Parts, turn.Shown()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})

	t.Run("a turn of an earlier release has no parts", func(t *testing.T) {
		turn := session.Turn{Contents: json.RawMessage(contents), ToolCalls: []session.ToolCall{{Name: "rate", OK: true, DurationMS: 3}, {Name: "quiet"}, {Name: "third"}}}
		want := []session.Part{
			{Kind: session.KindToolCall, ID: "call_1", Name: "rate", Args: map[string]any{"id": json.Number("9007199254740993")}},
			{Kind: session.KindToolResult, ID: "call_1", Name: "rate", OK: true, DurationMS: 3},
			{Kind: session.KindToolCall, ID: "call_2", Name: "quiet"},
			{Kind: session.KindToolResult, ID: "call_2", Name: "quiet"},
			{Kind: session.KindToolCall, ID: "call_3", Name: "third"},
			{Kind: session.KindToolResult, ID: "call_3", Name: "third"},
			{Kind: session.KindText, Text: "I look.\n\nIt is 1.25."},
		}
		if diff := cmp.Diff(want, turn.Shown()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// A turn whose contents cannot be decoded has shown what it stores beside them.
func TestATurnWithBrokenContents(t *testing.T) {
	t.Parallel()
	turn := session.Turn{Contents: json.RawMessage(`[{"parts":[{"functionCall":{"args":{"a":1}}}]},7]`), ToolCalls: []session.ToolCall{{Name: "t"}}}
	want := []session.Part{{Kind: session.KindToolCall, ID: "call_1", Name: "t"}, {Kind: session.KindToolResult, ID: "call_1", Name: "t"}}
	if diff := cmp.Diff(want, turn.Shown()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestUsageAdds(t *testing.T) {
	t.Parallel()
	counted := session.Usage{PromptTokens: 3, CachedTokens: 1, CompletionTokens: 4, TotalTokens: 7, SearchQueries: 1, Source: session.Counted, EstimatedCostUSD: new(0.5)}
	estimated := session.Usage{PromptTokens: 10, ThoughtTokens: 2, TotalTokens: 12, Source: session.Estimated, EstimatedCostUSD: new(0.25)}
	unpriced := session.Usage{TotalTokens: 1, Source: session.Counted}
	for _, test := range []struct {
		name       string
		a, b, want session.Usage
	}{
		{"none and one", session.Usage{}, counted, counted},
		{"an estimate makes the sum one", counted, estimated, session.Usage{
			PromptTokens: 13, CachedTokens: 1, ThoughtTokens: 2, CompletionTokens: 4, TotalTokens: 19, SearchQueries: 1, Source: session.Estimated, EstimatedCostUSD: new(0.75),
		}},
		{"without a price the sum has none", estimated, unpriced, session.Usage{PromptTokens: 10, ThoughtTokens: 2, TotalTokens: 13, Source: session.Estimated}},
		{"and it stays so", unpriced, counted, session.Usage{PromptTokens: 3, CachedTokens: 1, CompletionTokens: 4, TotalTokens: 8, SearchQueries: 1, Source: session.Counted}},
	} {
		before := *counted.EstimatedCostUSD
		if diff := cmp.Diff(test.want, test.a.Add(test.b)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
		if *counted.EstimatedCostUSD != before {
			t.Errorf("%s: an addend has changed", test.name)
		}
	}
}

func TestParagraphs(t *testing.T) {
	t.Parallel()
	for before, want := range map[string]string{"": "", "One.": "\n\n", "One.\n": "\n", "One.\n\n": ""} {
		if got := session.Paragraph(before); got != want {
			t.Errorf("after %q: %q, want %q", before, got, want)
		}
	}
}
