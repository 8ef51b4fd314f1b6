package invoke

import (
	"reflect"
	"slices"
	"testing"

	"example.com/gatehouse/session"
)

// The store in memory hands the same slices to each holder of a record.
func TestWhatARunAppendsIsItsOwn(t *testing.T) {
	t.Parallel()
	parts := make([]session.Part, 1, 2)
	resets := make([]session.Reset, 1, 2)
	var first, second output
	first.restore(parts, resets)
	second.restore(parts, resets)
	begins := first.mark()
	first.appendText(session.KindText, "one")
	second.appendText(session.KindText, "two")
	if shown, _ := first.shown(); shown[1].Text != "one" {
		t.Errorf("the first shows %q", shown[1].Text)
	}
	first.reset(begins, 1)
	second.reset(begins, 2)
	if _, resets := first.shown(); resets[1].Step != 1 {
		t.Errorf("the first has gone back to step %d", resets[1].Step)
	}
}

// A turn that is too large is not stored, so its size is known as it grows. The text of an
// answer is in the turn's contents, and counted there.
func TestTheSizeOfWhatIsShown(t *testing.T) {
	t.Parallel()
	var out output
	out.appendText(session.KindText, "Hello.")
	text := out.size()
	out.appendText(session.KindText, "More.")
	if out.size() != text {
		t.Errorf("a text has grown by %d bytes", out.size()-text)
	}
	begins := out.mark()
	out.appendText(session.KindReasoning, "Why?")
	reasoning := out.size()
	out.appendText(session.KindReasoning, "Because.")
	if out.size() != reasoning+len("Because.") {
		t.Errorf("reasoning has grown by %d bytes", out.size()-reasoning)
	}
	part := session.Part{Kind: session.KindToolCall, ID: "id", Name: "name", Args: map[string]any{"a": "b"}}
	before := out.size()
	out.add(part)
	stored := out.size() - before
	part.Own = true
	out.add(part)
	if own := out.size() - before - stored; own != stored+len(`{"a":"b"}`) || stored < len("idname") {
		t.Errorf("a call takes %d bytes, and %d with arguments of its own", stored, own)
	}
	if out.reset(begins, 2); out.size() != text {
		t.Errorf("a reset leaves %d bytes, want %d", out.size(), text)
	}
}

// A source is named once, with all the places of the answer that rest on it. The parts stay as
// they are stored.
func TestSourcesAreNamedOnce(t *testing.T) {
	t.Parallel()
	at := func(begin int) []session.Position { return []session.Position{{Start: begin, End: begin + 1}} }
	parts := []session.Part{
		{Kind: session.KindSource, URI: "https://a.example", Title: "A", Positions: at(1)},
		{Kind: session.KindText, Text: "text"},
		{Kind: session.KindSource, URI: "https://b.example", Title: "B", Positions: at(2)},
		{Kind: session.KindSource, URI: "https://a.example", Title: "A", Positions: at(3)},
	}
	want := []Source{
		{Title: "A", URI: "https://a.example", Positions: slices.Concat(at(1), at(3))},
		{Title: "B", URI: "https://b.example", Positions: at(2)},
	}
	if got := sourcesOf(parts); !reflect.DeepEqual(got, want) || len(parts[0].Positions) != 1 {
		t.Errorf("%+v", got)
	}
}
