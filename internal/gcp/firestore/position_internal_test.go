package firestore

import (
	"errors"
	"strings"
	"testing"
	"time"

	"example.com/gatehouse/session"
)

// FuzzDecodePosition checks that a cursor of a client's is refused, or is the only one of a place
// in the list that Firestore takes.
func FuzzDecodePosition(f *testing.F) {
	name := session.Key{Owner: "o", ID: "0123456789abcdef"}.Hash()
	for _, seed := range []string{
		position{time.Now(), name}.encode(), "0." + name, "+1." + name, "01." + name, "-1." + name, "zzzzzzzzzzzz." + name, "1.__" + strings.Repeat("A", 39) + "__", "1." + name + "=", "1." + name[:7] + "\n" + name[7:], "1", ".", "",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, cursor string) {
		p, err := decodePosition(cursor)
		if err != nil {
			if !errors.Is(err, session.ErrCursor) || p != (position{}) {
				t.Errorf("%+v, %v", p, err)
			}
			return
		}
		if p.encode() != cursor {
			t.Errorf("%q is that of %+v, whose cursor is %q", cursor, p, p.encode())
		}
		if y := p.at.UTC().Year(); y < 1970 || y > 9999 || strings.ContainsAny(p.name, "/.") || len(p.name) != len(name) {
			t.Errorf("%q is %+v", cursor, p)
		}
	})
}
