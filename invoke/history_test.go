package invoke

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"example.com/gatehouse/internal/model"
	"example.com/gatehouse/session"
)

// stored returns a turn with contents, and its prompt as a model counted it.
func stored(t *testing.T, number int, contents string, counted session.Prompt) session.Record {
	t.Helper()
	if !json.Valid([]byte(contents)) {
		t.Fatalf("no contents: %.200s", contents)
	}
	r, err := session.Turn{ID: "id", Prompt: counted, Contents: json.RawMessage(contents), Warnings: []string{strings.Repeat("w", 5000)}}.Record(number)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// plain returns a turn with a question, and an answer of size bytes.
func plain(t *testing.T, number, size int) session.Record {
	return stored(t, number, fmt.Sprintf(`[{"role":"user","parts":[{"text":"q%d"}]},{"role":"model","parts":[{"text":"%s"}]}]`, number, strings.Repeat("x", size)), session.Prompt{})
}

// tooled returns a turn with tool outputs of these sizes.
func tooled(t *testing.T, number int, sizes ...int) session.Record {
	var calls, responses []string
	for i, size := range sizes {
		calls = append(calls, fmt.Sprintf(`{"functionCall":{"name":"read","args":{"n":%d,"id":9007199254740993}},"thoughtSignature":"c2ln"}`, i))
		responses = append(responses, fmt.Sprintf(`{"functionResponse":{"name":"read","response":{"output":"begin %d \"é\" %s"}}}`, i, strings.Repeat("é\\n", size/4)))
	}
	return stored(t, number, fmt.Sprintf(`[{"role":"user","parts":[{"text":"q%d"}]},{"role":"model","parts":[{"text":"Let me look."},%s]},{"role":"user","parts":[%s]},{"role":"model","parts":[{"text":"hm","thought":true},{"text":"The answer %d."}]}]`,
		number, strings.Join(calls, ","), strings.Join(responses, ","), number), session.Prompt{})
}

// spanned returns records as this release stores them.
func spanned(t *testing.T, records []session.Record) []session.Record {
	t.Helper()
	spanned := make([]session.Record, len(records))
	for i, r := range records {
		turn, err := r.Turn()
		if err != nil {
			t.Fatal(err)
		}
		turn.Span = session.Span{Bytes: len(turn.Contents), Prompt: promptBytes(turn.Contents)}
		if spanned[i], err = turn.Record(r.Number); err != nil {
			t.Fatal(err)
		}
		if _, ok := spanned[i].Exact(); !ok {
			t.Fatalf("the span of turn %d is not found", r.Number)
		}
	}
	return spanned
}

func TestHistory(t *testing.T) {
	t.Parallel()
	file := func(number, size int) session.Record {
		return stored(t, number, fmt.Sprintf(`[{"role":"user","parts":[{"text":"q%d"},{"inlineData":{"mimeType":"image/png","data":"%s"}}]},{"role":"model","parts":[{"text":"A cat."}]}]`, number, strings.Repeat("A", size)), session.Prompt{})
	}
	cases := []struct {
		name   string
		turns  int // number of the session's turns
		recent []session.Record
		tokens int
		want   []string // questions that are sent
		cut    bool
		holds  []string
	}{
		{"no history", 4, []session.Record{plain(t, 4, 10)}, 0, nil, true, nil},
		{"room for less than the last turn", 4, []session.Record{plain(t, 3, 10), plain(t, 4, 4000)}, 500, []string{"q4"}, true, []string{strings.Repeat("x", 4000)}},
		{"room for the last turn", 3, []session.Record{plain(t, 1, 10_000), plain(t, 2, 4000), plain(t, 3, 4000)}, 1500, []string{"q3"}, true, nil},
		{"room for two", 3, []session.Record{plain(t, 1, 10_000), plain(t, 2, 4000), plain(t, 3, 4000)}, 3000, []string{"q2", "q3"}, true, nil},
		{"room for all", 3, []session.Record{plain(t, 1, 10_000), plain(t, 2, 4000), plain(t, 3, 4000)}, 5000, []string{"q1", "q2", "q3"}, false, nil},
		{"room for all that is at hand, one is archived", 4, []session.Record{plain(t, 2, 10_000), plain(t, 3, 4000), plain(t, 4, 4000)}, 5000, []string{"q2", "q3", "q4"}, true, nil},
		{"a text that does not fit, and older ones that do", 4, []session.Record{plain(t, 1, 100), plain(t, 2, 100), plain(t, 3, 9000), plain(t, 4, 100)}, 500, []string{"q1", "q2", "q4"}, true, nil},
		{"three outputs of 60 kB", 2, []session.Record{plain(t, 1, 100), tooled(t, 2, 60_000, 60_000, 60_000)}, 32_000, []string{"q1", "q2"}, true,
			[]string{`"beginning":"{\"output\":\"begin 0 \\\"é\\\"`, `had 60`, `The answer 2.`, `9007199254740993`, `"thoughtSignature":"c2ln"`}},
		{"a small output beside large ones stays whole", 2, []session.Record{plain(t, 1, 100), tooled(t, 2, 60_000, 40, 90_000)}, 10_000, []string{"q1", "q2"}, true,
			[]string{`{"output":"begin 1 \"é\" ` + strings.Repeat(`é\n`, 10) + `"}`}},
		{"no room for outputs at all", 2, []session.Record{plain(t, 1, 100), tooled(t, 2, 60_000, 60_000)}, 100, []string{"q1", "q2"}, true, []string{"Let me look.\\n\\nThe answer 2."}},
		{"no room even for the answer", 2, []session.Record{plain(t, 1, 100), tooled(t, 2, 60_000, 60_000)}, 17, []string{"q2"}, true, []string{"The answer 2."}},
		{"an older turn's outputs", 3, []session.Record{plain(t, 1, 100), tooled(t, 2, 90_000), plain(t, 3, 400)}, 2000, []string{"q1", "q2", "q3"}, true, []string{`"note":"Shortened: this output had `}},
		{"an image of 96 kB", 2, []session.Record{plain(t, 1, 100), file(2, 131_000)}, 32_000, []string{"q1", "q2"}, true, []string{"[A file of the type image/png was here, 1310", "A cat."}},
		{"an image that fits", 2, []session.Record{plain(t, 1, 100), file(2, 1000)}, 32_000, []string{"q1", "q2"}, false, []string{`"inlineData"`}},
	}
	for _, c := range slices.Clone(cases) {
		c.name += ", each with its span"
		c.recent = spanned(t, c.recent)
		cases = append(cases, c)
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := &session.Session{Meta: session.Meta{Turns: c.turns}, Recent: c.recent}
			past, err := history(s, c.tokens, nil)
			if err != nil {
				t.Fatal(err)
			}
			turns, cut := past.turns, past.cut
			bytes := 0
			for _, turn := range turns {
				bytes += promptBytes(turn)
			}
			if bytes != past.bytes {
				t.Errorf("%d bytes of a prompt, counted as %d", bytes, past.bytes)
			}
			var got []string
			all := ""
			for i, turn := range turns {
				contents, err := model.DecodeContents(turn)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, fmt.Sprint(contents[0].Parts[0]["text"]))
				all += string(turn)
				calls, responses := strings.Count(string(turn), `"functionCall"`), strings.Count(string(turn), `"functionResponse"`)
				if calls != responses {
					t.Errorf("turn %d: %d calls and %d responses", i, calls, responses)
				}
				if i < len(turns)-1 && contents[len(contents)-1].Role != "model" {
					t.Errorf("turn %d ends with the user", i)
				}
			}
			if !slices.Equal(got, c.want) || cut != c.cut {
				t.Errorf("%q go, cut %v; want %q, %v", got, cut, c.want, c.cut)
			}
			for _, text := range c.holds {
				if !strings.Contains(all, text) {
					t.Errorf("it does not hold %.100s", text)
				}
			}
			if most := c.tokens*4 + 5000; len(all) > most {
				t.Errorf("%d bytes for %d tokens", len(all), c.tokens)
			}
		})
	}
}

// HISTORY_TOKENS counts as the model does, and the text, not its stored form.
func TestHistoryTokensAreTheModels(t *testing.T) {
	t.Parallel()
	session100 := func(counted session.Prompt) *session.Session {
		s := &session.Session{Meta: session.Meta{Turns: 400}}
		for i := range 400 { // each with 447 bytes of text
			s.Recent = append(s.Recent, stored(t, i+1, fmt.Sprintf(`[{"role":"user","parts":[{"text":"%s"}]},{"role":"model","parts":[{"text":"%s"}]}]`, strings.Repeat("q", 47), strings.Repeat("a", 400)), counted))
		}
		return s
	}
	for _, c := range []struct {
		name    string
		counted session.Prompt
		least   int
		most    int
	}{
		{"nothing counted: four bytes a token", session.Prompt{}, 275, 290},
		{"four bytes a token", session.Prompt{Bytes: 40_000, Tokens: 10_000}, 275, 290},
		{"two bytes a token", session.Prompt{Bytes: 40_000, Tokens: 20_000}, 138, 145},
		{"five bytes a token", session.Prompt{Bytes: 50_000, Tokens: 10_000}, 345, 360},
		{"a count that nobody can believe", session.Prompt{Bytes: 40_000, Tokens: 10}, 275, 290},
		{"another", session.Prompt{Bytes: 40, Tokens: 10_000}, 275, 290},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			past, err := history(session100(c.counted), 32_000, nil)
			if err != nil {
				t.Fatal(err)
			}
			if n := len(past.turns); !past.cut || n < c.least || n > c.most {
				t.Errorf("%d turns, cut %v; want %d to %d", n, past.cut, c.least, c.most)
			}
		})
	}
}

func BenchmarkHistory(b *testing.B) {
	t := &testing.T{}
	for name, s := range map[string]*session.Session{
		"100 plain turns":       {Meta: session.Meta{Turns: 100}},
		"outputs cut in a turn": {Meta: session.Meta{Turns: 1}, Recent: []session.Record{tooled(t, 1, 60_000, 60_000, 60_000)}},
	} {
		if len(s.Recent) == 0 {
			for i := range 100 {
				s.Recent = append(s.Recent, plain(t, i+1, 400))
			}
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := history(s, 32_000, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
