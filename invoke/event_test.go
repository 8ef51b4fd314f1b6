package invoke

import (
	"bytes"
	"math"
	"net/http/httptest"
	"strings"
	"testing"
)

// An event whose data is no JSON is an error, which ends the stream as one.
func TestAnEventThatIsNoJSON(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	if err := appendData(&b, math.NaN()); err == nil {
		t.Errorf("%q is sent", b.String())
	}
}

// FuzzParseEventID checks that Last-Event-ID is refused, or is the only id of a position in the run.
func FuzzParseEventID(f *testing.F) {
	const run = "0123456789abcdef.abcdefghijklmnop"
	for _, seed := range []string{EventID(run, Position{}), EventID(run, Position{1, 2, 3}), "abcdefgh.0.0.1073741824", "abcdefgh.0.0.1073741825", "abcdefgh.-1.0.0", "abcdefgh.+1.0.0", "abcdefgh.01.0.0", "abcdefgh.0.0", "other567.0.0.0", "", "...", "abcdefgh.0.0.0.0", strings.Repeat("9", 100)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, id string) {
		p, ok := ParseEventID(run, id)
		if !ok {
			if p != (Position{}) {
				t.Errorf("%q is refused as %+v", id, p)
			}
			return
		}
		if min(p.Attempt, p.Part, p.Offset) < 0 || max(p.Attempt, p.Part, p.Offset) > maxPosition {
			t.Errorf("%q is %+v", id, p)
		}
		again := EventID(run, p)
		if same, ok := ParseEventID(run, again); !ok || same != p || len(again) > 64 || strings.ContainsAny(again, "\r\n") {
			t.Errorf("%q became %q", id, again)
		}
		if _, ok := ParseEventID("0123456789abcdef.ABCDEFGHIJKLMNOP", id); ok {
			t.Errorf("%q is of two runs", id)
		}
	})
}

// FuzzPrefersAsync checks that a preference is found wherever it stands in the header, and nothing
// else is taken for it.
func FuzzPrefersAsync(f *testing.F) {
	for _, seed := range []string{"respond-async", "wait=10, Respond-Async ; x=1", "respond-async-not", "x;respond-async", `"respond-async"`, "", ",,", "respond-async=1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		r := httptest.NewRequest("POST", "/invoke", nil)
		r.Header["Prefer"] = []string{value}
		alone := prefersAsync(r)
		if alone && !strings.Contains(strings.ToLower(value), "respond-async") {
			t.Errorf("%q is taken for respond-async", value)
		}
		r.Header["Prefer"] = []string{"wait=5", value}
		if prefersAsync(r) != alone {
			t.Errorf("%q in a second header", value)
		}
		r.Header["Prefer"] = []string{value + ", respond-async"}
		if !prefersAsync(r) {
			t.Errorf("respond-async behind %q", value)
		}
	})
}
