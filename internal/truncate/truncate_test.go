package truncate_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"example.com/gatehouse/internal/truncate"
)

func TestText(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, s string
		n       int
		want    string
	}{
		{"shorter", "abc", 4, "abc"},
		{"as long", "abc", 3, "abc"},
		{"longer", "abcd", 3, "abc…"},
		{"inside a rune", "aé", 2, "a…"},
		{"inside a long rune", "😀😀", 7, "😀…"},
		{"nothing of it", "😀", 3, "…"},
		{"to nothing", "abc", 0, "…"},
		{"nothing", "", 0, ""},
		{"bytes that are no rune", "\x80\x80\x80", 2, "…"},
	}
	for _, tt := range tests {
		if got := truncate.Text(tt.s, tt.n); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestCutsAtRunes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s, n := rapid.String().Draw(t, "text"), rapid.IntRange(0, 40).Draw(t, "n")
		got := truncate.Text(s, n)
		head, cut := strings.CutSuffix(got, "…")
		switch {
		case len(s) <= n:
			if got != s {
				t.Fatalf("%q became %q", s, got)
			}
		case !cut || len(head) > n || !strings.HasPrefix(s, head) || !utf8.ValidString(got):
			t.Fatalf("%q cut to %d is %q", s, n, got)
		case len(head) < n-3:
			t.Fatalf("%q cut to %d is %q: more than a rune is missing", s, n, got)
		}
	})
}

func TestAcceptsBytesThatAreNotText(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s, n := string(rapid.SliceOf(rapid.Byte()).Draw(t, "text")), rapid.IntRange(0, 40).Draw(t, "n")
		if got := truncate.Text(s, n); len(got) > max(n+len("…"), len(s)) {
			t.Fatalf("%q cut to %d is %q", s, n, got)
		}
	})
}
