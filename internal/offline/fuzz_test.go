package offline_test

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// Any text of a user, twice in a session, has a valid answer.
func FuzzAnyTextGetsAValidAnswer(f *testing.F) {
	for _, seed := range []string{
		"", "hello", "What are my options?", "Compare Cloud Run and GKE", "my name is Ada", "What is my name?", "I'm Ada and my X is Y, and my Z is",
		"what did I ask before?", "weather in Paris, London and Rome?", "roll 3 dice with -6 sides 1e9", "the first one", "remember that the the is is",
		"İstanbul ẞ \u0130 my name is İ", "“quoted' \"text", "order #12345 a@b.c https://x.y/z 2026-01-01", "\xff\xfe", "`|*#\n\n- x", "🙂🙃", "a.b.c.d;e?f!g",
	} {
		f.Add(seed)
	}
	tools := slices.Concat(weather, orders, rates, plans)
	f.Fuzz(func(t *testing.T, said string) {
		c := newChat(t, tools...)
		for range 2 {
			_, text := c.ask(t, said)
			if !utf8.ValidString(text) || strings.Count(text, note) != 1 && !strings.Contains(said, note) || len(text) > 14<<10 {
				t.Fatalf("%q: %q", said, text)
			}
		}
	})
}
