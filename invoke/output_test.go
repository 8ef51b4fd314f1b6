package invoke

import (
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
