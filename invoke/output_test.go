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
