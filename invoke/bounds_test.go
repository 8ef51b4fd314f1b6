package invoke

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"google.golang.org/genai"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/model"
	"example.com/gatehouse/session"
)

// A query has 1 to 10 000 characters, not counting white space around it, and no NUL.
func TestTheBoundsOfAQuery(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		query, want string // want "" for one that is refused
	}{
		"a character":            {"q", "q"},
		"white space around":     {" \n q\t\u0085", "q"},
		"white space":            {" \n\t ", ""},
		"none":                   {"", ""},
		"as long as may be":      {strings.Repeat("é", 10_000), strings.Repeat("é", 10_000)},
		"that, in white space":   {" " + strings.Repeat("é", 10_000) + " ", strings.Repeat("é", 10_000)},
		"a character more":       {strings.Repeat("é", 10_001), ""},
		"a NUL in it":            {"a\x00b", ""},
		"another control in it":  {"a\x01b", "a\x01b"},
		"bytes that are no text": {"a\xffb", "a\xffb"},
	} {
		req := Request{Query: tt.query}
		err := req.Validate("body.query")
		var e *api.Error
		switch {
		case tt.want != "" && (err != nil || req.Query != tt.want):
			t.Errorf("%s: %.20q, %v", name, req.Query, err)
		case tt.want == "" && (!errors.As(err, &e) || e.Code != api.ValidationFailed || e.Details[0].Field != "body.query"):
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatARequestEdits(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		req  Request
		want bool
	}{
		"nothing":                        {Request{}, false},
		"a turn that it names":           {Request{Replaces: new(1)}, true},
		"the answer":                     {Request{Options: Options{Regenerate: true}}, true},
		"a page that goes on":            {Request{Options: Options{Page: &Page{}}}, false},
		"a message of a page":            {Request{Options: Options{Page: &Page{MessageID: "m"}}}, true},
		"a run that leaves no turn":      {Request{Options: Options{Sessionless: true}}, false},
		"a call that leaves its effects": {Request{Options: Options{Sessionless: true, Call: &Call{}}}, false},
	} {
		if got := tt.req.edits(); got != tt.want {
			t.Errorf("%s: %t", name, got)
		}
	}
	for name, tt := range map[string]struct {
		o    Options
		want bool
	}{"a turn": {Options{}, true}, "no turn": {Options{Sessionless: true}, false}, "a call": {Options{Sessionless: true, Call: &Call{}}, true}} {
		if got := tt.o.keepsEffects(); got != tt.want {
			t.Errorf("%s keeps its effects: %t", name, got)
		}
	}
	c := Config{ModelName: "a", ModelsAllowed: []string{"b", "a", "c"}}
	if got := c.Models(); !slices.Equal(got, []string{"a", "b", "c"}) || len(c.ModelsAllowed) != 3 {
		t.Errorf("models %q", got)
	}
}

// A model's count is believed between half a byte and sixteen bytes a token, the newest of
// three turns first.
func TestWhichCountIsBelieved(t *testing.T) {
	t.Parallel()
	for prompt, want := range map[session.Prompt]bool{
		{Bytes: 1, Tokens: 2}: true, {Bytes: 16, Tokens: 1}: true, {Bytes: 17, Tokens: 1}: false, {Bytes: 49, Tokens: 100}: false, {Bytes: 0, Tokens: 1}: false,
	} {
		ratio, ok := plausibleRatio(prompt)
		if ok != want || ok && ratio != float64(prompt.Bytes)/float64(prompt.Tokens) {
			t.Errorf("%+v: %v, %t", prompt, ratio, ok)
		}
	}
	none, two, three, wild := session.Prompt{}, session.Prompt{Bytes: 2, Tokens: 1}, session.Prompt{Bytes: 3, Tokens: 1}, session.Prompt{Bytes: 99, Tokens: 1}
	for name, tt := range map[string]struct {
		prompts []session.Prompt // oldest first
		want    float64
	}{
		"none":                  {nil, 4},
		"not counted":           {[]session.Prompt{none, none}, 4},
		"the newest":            {[]session.Prompt{three, two}, 2},
		"the one before":        {[]session.Prompt{three, none}, 3},
		"one that is believed":  {[]session.Prompt{three, wild, none}, 3},
		"one that is too old":   {[]session.Prompt{three, wild, none, none}, 4},
		"the only one there is": {[]session.Prompt{two}, 2},
	} {
		s := &session.Session{}
		for i, prompt := range tt.prompts {
			s.Recent = append(s.Recent, stored(t, i+1, "[]", prompt))
		}
		if got := bytesOfToken(s); got != tt.want {
			t.Errorf("%s: %v bytes a token, want %v", name, got, tt.want)
		}
	}
}

// A prompt is measured by the model's own count of it.
func TestWhichCountIsKept(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		source   string
		attempts int
		want     int64 // tokens
	}{
		"counted":            {session.Counted, 1, 7},
		"estimated":          {session.Estimated, 1, 0},
		"of several prompts": {session.Counted, 2, 0},
	} {
		g := newGeneration("model", &run{})
		g.files = &turnFiles{}
		answer := model.Answer{Attempts: tt.attempts}
		answer.Usage.Source, answer.Usage.PromptTokens = tt.source, 7
		if g.measure(g, &model.Request{Instruction: "Be kind."}, &answer); g.prompt.Tokens != tt.want {
			t.Errorf("%s: %+v", name, g.prompt)
		}
	}
}

// A model call that was never sent costs nothing, and what the turn has spent stays known.
func TestWhatACallThatWasNotSentCosts(t *testing.T) {
	t.Parallel()
	g := newGeneration("model", &run{})
	g.usage = session.Usage{TotalTokens: 7, Source: session.Counted, EstimatedCostUSD: new(0.5)}
	if g.count(&model.Answer{}); g.usage.TotalTokens != 7 || g.usage.Source != session.Counted || g.usage.EstimatedCostUSD == nil {
		t.Errorf("%+v", g.usage)
	}
}

// What a Loop has kept of a turn is not that of a turn that was shortened.
func TestWhatIsKeptOfAShortenedTurn(t *testing.T) {
	t.Parallel()
	record, err := session.Turn{ID: "id", Contents: json.RawMessage("[]"), Loop: json.RawMessage(`{"events":1}`)}.Record(1)
	if err != nil {
		t.Fatal(err)
	}
	contents := []json.RawMessage{json.RawMessage("[]"), json.RawMessage("[]")}
	past := pastOf(contents, []chosenTurn{{record, true}, {record, false}})
	if len(past) != 2 || string(past[0].Kept) != `{"events":1}` || past[1].Kept != nil || past[1].ID != "id" {
		t.Errorf("%+v", past)
	}
}

// An end without an id belongs to the call that is open, and to none once that has ended.
func TestEndsOfGeminisOwnTools(t *testing.T) {
	t.Parallel()
	g := newGeneration("model", &run{out: &output{}})
	g.showPart(&genai.Part{ExecutableCode: &genai.ExecutableCode{Code: "1"}})
	for range 2 {
		g.showPart(&genai.Part{CodeExecutionResult: &genai.CodeExecutionResult{Outcome: genai.OutcomeOK, Output: "1"}})
	}
	if parts, _ := g.run.out.shown(); len(parts) != 2 || len(g.calls) != 1 {
		t.Errorf("%+v, %+v", parts, g.calls)
	}
}

func TestAWarningIsGivenOnce(t *testing.T) {
	t.Parallel()
	g := newGeneration("model", &run{})
	g.warn(warnTruncated)
	g.warn(warnHistoryCut)
	if g.warn(warnTruncated); !slices.Equal(g.warnings, []string{warnTruncated, warnHistoryCut}) {
		t.Errorf("%q", g.warnings)
	}
}

// The record of a run has no content of files: that is the bucket's.
func TestARecordHasNoContentOfFiles(t *testing.T) {
	t.Parallel()
	s := &Service{}
	if kept := s.encodeRun(t.Context(), Request{Query: "hello", Files: []FileInput{{Type: "text/plain", Data: "c2VjcmV0"}}}, ""); strings.Contains(string(kept), "c2VjcmV0") {
		t.Errorf("%s", kept)
	}
}

// Text that does not fit ends where it first did not: no later piece comes behind the gap.
func TestWhereTextIsCut(t *testing.T) {
	t.Parallel()
	g := newGeneration("model", &run{out: &output{}})
	g.encoded = make([]byte, maxTurnContents-1-textSpare-10)
	for _, piece := range []struct{ text, want string }{{"abcdef", "abcdef"}, {"<", ""}, {"gh", ""}} { // "<" takes six bytes
		if got := g.fit(piece.text); got != piece.want {
			t.Errorf("%q of %q is shown", got, piece.text)
		}
	}
}

// The text of a turn fits exactly, or is shortened.
func TestATurnThatJustFits(t *testing.T) {
	t.Parallel()
	last := plain(t, 2, 400)
	contents, err := last.Contents()
	if err != nil {
		t.Fatal(err)
	}
	size := promptBytes(contents) // of 402 bytes of text and a comma's place
	for _, tt := range []struct {
		room  int // bytes
		whole bool
	}{{size, true}, {size - 4, false}} {
		s := &session.Session{Meta: session.Meta{Turns: 1}, Recent: []session.Record{stored(t, 1, string(contents), session.Prompt{Bytes: 1, Tokens: 1})}}
		var chosen []chosenTurn
		past, err := history(s, tt.room, func(c chosenTurn) { chosen = append(chosen, c) })
		if err != nil || len(chosen) != 1 || chosen[0].whole != tt.whole || past.cut == tt.whole || past.bytes != size {
			t.Errorf("%d bytes for %d: %+v, %v", tt.room, size, past, err)
		}
	}
	// A file counts with its tokens, beside the text.
	for room, sent := range map[int]bool{size + 500: true, size + 499: false} {
		record, err := session.Turn{
			ID: "id", Prompt: session.Prompt{Bytes: 1, Tokens: 1}, Files: []session.File{{URI: "gs://papers/a.png", Type: "image/png", Tokens: 500}},
			Contents: bytes.Replace(contents, []byte(`"parts":[`), []byte(`"parts":[{"fileData":{"fileUri":"f","mimeType":"image/png"}},`), 1),
		}.Record(1)
		if err != nil {
			t.Fatal(err)
		}
		withFile, _ := record.Contents()
		past, err := history(&session.Session{Meta: session.Meta{Turns: 1}, Recent: []session.Record{record}}, room+promptBytes(withFile)-size, nil)
		if err != nil || len(past.turns) != 1 || (len(past.files) == 1) != sent || past.cut == sent {
			t.Errorf("a file in %d bytes: %+v, %v", room, past, err)
		}
	}
	if past, err := history(&session.Session{}, 63, nil); err != nil || past.cut || len(past.turns) != 0 {
		t.Errorf("no turns: %+v, %v", past, err)
	}
	one := &session.Session{Meta: session.Meta{Turns: 1}, Recent: []session.Record{stored(t, 1, "[]", session.Prompt{Bytes: 1, Tokens: 1})}}
	for room, want := range map[int]int{63: 0, 64: 1} {
		if past, err := history(one, room, nil); err != nil || len(past.turns) != want || past.cut != (want == 0) {
			t.Errorf("in %d bytes %d turns, cut %t, %v", room, len(past.turns), past.cut, err)
		}
	}
}

// The largest parts are cut first; what a small one does not use is the larger ones'.
func TestHowMuchOfLargePartsIsKept(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		sizes []int
		room  int
		want  int
	}{
		"all fit":                      {[]int{10, 20, 30}, 60, math.MaxInt},
		"one byte too few":             {[]int{10, 20, 30}, 59, 29},
		"two are cut":                  {[]int{10, 20, 30}, 40, 15},
		"all are cut":                  {[]int{30, 20, 10}, 27, 9},
		"in any order":                 {[]int{90, 5, 90}, 105, 50},
		"none":                         {nil, 10, math.MaxInt},
		"nothing is left":              {[]int{1, 2}, 0, 0},
		"as large as the room of each": {[]int{10, 10}, 20, math.MaxInt},
	} {
		parts := make([]largePart, len(tt.sizes))
		for i, size := range tt.sizes {
			parts[i].size = size
		}
		if got := cutSize(parts, tt.room); got != tt.want {
			t.Errorf("%s: %d, want %d", name, got, tt.want)
		}
	}
}

// A beginning ends at a character, and takes in JSON what it says.
func TestBeginningsOfTexts(t *testing.T) {
	t.Parallel()
	const text = "aé€𝄞"
	for size, want := range map[int]string{-1: "", 0: "", 1: "a", 2: "a", 3: "aé", 5: "aé", 6: "aé€", 9: "aé€", 10: text, 11: text} {
		if got := prefix(text, size); got != want {
			t.Errorf("%d bytes of it are %q, want %q", size, got, want)
		}
	}
	const special = "a\"\\\n\t\r\b<>&\u2028é\u2029\x1f \x7fz"
	whole, err := json.Marshal(special)
	if err != nil {
		t.Fatal(err)
	}
	for size := range len(whole) {
		n, left := escaped(special, size)
		takes := size - left
		if n < len(special) && !strings.HasPrefix(special[n:], special[n:]) || takes > size || left < 0 {
			t.Fatalf("%d bytes: %d of the text, %d left", size, n, left)
		}
		if kept := prefix(special, n); len(kept) == n { // it ends at a character
			raw, err := json.Marshal(kept)
			// Go writes \b in two bytes, which are counted as six.
			if got := len(raw) - 2 + 4*strings.Count(kept, "\b"); err != nil || got != takes {
				t.Errorf("%q takes %d bytes, counted as %d", kept, got, takes)
			}
		}
	}
	if n, left := escaped(special, 1000); n != len(special) || left != 1000-len(whole)+2-4 {
		t.Errorf("all of it: %d, %d left", n, left)
	}
}

// What is shortened keeps its calls, and says what was there.
func TestAShortenedTurn(t *testing.T) {
	t.Parallel()
	contents := fmt.Sprintf(`[{"role":"user","parts":[{"text":"q"}]},{"role":"model","parts":[{"functionCall":{"name":"f"}}]},
		{"role":"user","parts":[{"functionResponse":{"name":"f","response":{"output":"%s"}}}]},
		{"role":"model","parts":[{"codeExecutionResult":{"outcome":"OK","output":"%s"}},{"text":"thinking","thought":true},{"text":"a"}]},{"role":"user","parts":[{"text":"more"}]},{"role":"model","parts":[{"text":"b"}]}]`,
		strings.Repeat("x", 3000), strings.Repeat("y", 2000))
	for name, tt := range map[string]struct {
		size        int
		holds, less []string
	}{
		"the larger part":       {5000, []string{`"beginning":"{\"output\":\"xxx`, `had 3013 bytes`, `yyyy`, `"thinking"`}, nil},
		"both":                  {1500, []string{`"beginning"`, `[The output of code was here, 2028 bytes.]`, `"functionCall"`}, []string{"yyyy"}},
		"question and answer":   {400, []string{`"q"`, `"a\n\nb"`}, []string{"function", "thinking", "more"}},
		"less than is possible": {0, []string{`"q"`, `"a\n\nb"`}, []string{"function"}},
	} {
		short, err := shorten(json.RawMessage(contents), tt.size)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range tt.holds {
			if !strings.Contains(string(short), text) {
				t.Errorf("%s: it lacks %s in %.300s", name, text, short)
			}
		}
		for _, text := range tt.less {
			if strings.Contains(string(short), text) {
				t.Errorf("%s: it holds %s", name, text)
			}
		}
		if size := promptBytes(short); tt.size > 1000 && size > tt.size {
			t.Errorf("%s: %d bytes", name, size)
		}
	}
	if _, err := shorten(json.RawMessage(`{`), 10); err == nil {
		t.Error("contents that are none are shortened")
	}
	only, err := questionAndAnswer([]model.Content{{Role: "user", Parts: []map[string]any{{"text": "q"}}}})
	if err != nil || string(only) != `[{"role":"user","parts":[{"text":"q"}]}]` && string(only) != `[{"parts":[{"text":"q"}],"role":"user"}]` {
		t.Errorf("%s, %v", only, err)
	}
}
