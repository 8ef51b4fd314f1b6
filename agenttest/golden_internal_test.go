package agenttest

import (
	"bytes"
	"os"
	"testing"
)

// FuzzGolden checks that a conversation is refused, or has turns, the comments at its
// beginning, and replies that are scripted or refused.
func FuzzGolden(f *testing.F) {
	raw, err := os.ReadFile("testdata/rates.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	for _, seed := range []string{
		"# head\n\n- user: q\n  model: [{calls: [{name: t, args: {n: 12345678901234567890}}]}, {say: a, think: t, search: s, sources: [{title: x, uri: y}], finish: STOP}]\n  answer: a\n",
		"- user: q\n  model: [{fail: 503}]\n  error: e\n", "- user: q\n---\n- user: r\n", "[]", "", "- user: q\n  unknown: 1\n", "- &a {user: q, tools: [{name: t, output: *a}]}\n", "- user: q\n  model: [{}]\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		turns, head, err := readGolden(raw)
		if err != nil {
			return
		}
		if !bytes.HasPrefix(raw, []byte(head)) || len(turns) == 0 {
			t.Errorf("the head %q of %q, %d turns", head, raw, len(turns))
		}
		for _, turn := range turns {
			for _, reply := range turn.Model {
				_, _ = reply.reply()
			}
		}
	})
}
