package api_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/go-cmp/cmp"

	"example.com/gatehouse/internal/api"
)

// body has a field of every kind that a request's body has.
type body struct {
	Query       string   `json:"query" minLength:"1"`
	SessionID   string   `json:"session_id,omitempty" pattern:"^[A-Za-z0-9_-]{16,64}$"`
	AfterTurn   *int     `json:"after_turn,omitempty" minimum:"0"`
	Temperature *float64 `json:"temperature,omitempty" minimum:"0" maximum:"2"`
	MaxTokens   *int     `json:"max_tokens,omitempty" minimum:"1"`
	Stream      bool     `json:"stream,omitempty"`
	Note        string   `json:"note,omitempty" nullable:"true"`
	Replaces    int      `json:"replaces,omitempty" dependentRequired:"session_id,after_turn"`
}

var bodies = api.NewBody[body](func(properties map[string]*huma.Schema) {
	most := 4096.0
	properties["max_tokens"].Maximum = &most
})

func at[T any](v T) *T { return &v }

func TestDecode(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		raw  string
		want body
	}{
		{"the least", `{"query":"hi"}`, body{Query: "hi"}},
		{"everything", `{"query":"hi","session_id":"0123456789abcdef","after_turn":0,"temperature":0.7,"max_tokens":4096,"stream":true}`,
			body{Query: "hi", SessionID: "0123456789abcdef", AfterTurn: at(0), Temperature: at(0.7), MaxTokens: at(4096), Stream: true}},
		{"white space around", " \r\n\t{ \"query\" : \"hi\" } \r\n\t", body{Query: "hi"}},
		{"escapes", `{"\u0071uery":"a\u00e9\ud83d\ude00\n\u0000"}`, body{Query: "aé😀\n\x00"}},
		{"null where it may be", `{"query":"hi","note":null}`, body{Query: "hi"}},
		{"more brackets than levels may be", `{"query":"` + strings.Repeat("[{", 20) + `"}`, body{Query: strings.Repeat("[{", 20)}},
		{"every plane in UTF-8", `{"query":"é漢😀"}`, body{Query: "é漢😀"}},
		{"a whole number with a fraction of none", `{"query":"hi","after_turn":1.0,"max_tokens":7.000}`, body{Query: "hi", AfterTurn: at(1), MaxTokens: at(7)}},
		{"a whole number with an exponent", `{"query":"hi","max_tokens":1e2,"after_turn":20E-1}`, body{Query: "hi", AfterTurn: at(2), MaxTokens: at(100)}},
		{"zero below zero", `{"query":"hi","after_turn":-0}`, body{Query: "hi", AfterTurn: at(0)}},
		{"the largest whole number that floats hold", `{"query":"hi","after_turn":9007199254740992}`, body{Query: "hi", AfterTurn: at(9007199254740992)}},
		{"a number smaller than floats hold", `{"query":"hi","temperature":1e-999}`, body{Query: "hi", Temperature: at(0.0)}},
		{"the bounds themselves", `{"query":"hi","temperature":2,"max_tokens":1}`, body{Query: "hi", Temperature: at(2.0), MaxTokens: at(1)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := bodies.Decode([]byte(tt.raw))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(got, tt.want); diff != "" {
				t.Errorf("(-got +want):\n%s", diff)
			}
		})
	}
}

func nested(levels int) string {
	return `{"query":"hi","x":` + strings.Repeat("[", levels-1) + strings.Repeat("]", levels-1) + "}"
}

func TestDecodeRefusesWhatIsNotWellFormed(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"nothing":                       "",
		"white space":                   " \n\t ",
		"null":                          "null",
		"a list":                        `[{"query":"hi"}]`,
		"a text":                        `"hi"`,
		"a number":                      `1`,
		"true":                          `true`,
		"no JSON":                       `query=hi`,
		"an object that does not end":   `{"query":"hi"`,
		"a text that does not end":      `{"query":"hi`,
		"a comma too many":              `{"query":"hi",}`,
		"a comma too few":               `{"query":"hi" "stream":true}`,
		"a comment":                     `{"query":"hi"/* there */}`,
		"single quotes":                 `{'query':'hi'}`,
		"a name without quotes":         `{query:"hi"}`,
		"NaN":                           `{"query":"hi","temperature":NaN}`,
		"a leading zero":                `{"query":"hi","max_tokens":01}`,
		"a plus":                        `{"query":"hi","max_tokens":+1}`,
		"hexadecimal":                   `{"query":"hi","max_tokens":0x1}`,
		"a raw line break":              "{\"query\":\"a\nb\"}",
		"a byte order mark":             "\uFEFF{\"query\":\"hi\"}",
		"a field twice":                 `{"query":"a","query":"b"}`,
		"a field twice, once escaped":   `{"query":"a","\u0071uery":"b"}`,
		"a field twice, deep down":      `{"query":"a","x":[{"y":1,"y":2}]}`,
		"an unknown field twice":        `{"query":"a","x":1,"x":1}`,
		"another object after it":       `{"query":"hi"}{"query":"hi"}`,
		"another object on its line":    "{\"query\":\"hi\"}\n{\"query\":\"hi\"}",
		"something after it":            `{"query":"hi"} x`,
		"a bracket after it":            `{"query":"hi"}]`,
		"a NUL after it":                "{\"query\":\"hi\"}\x00",
		"a value that is not UTF-8":     "{\"query\":\"a\xffb\"}",
		"a name that is not UTF-8":      "{\"query\":\"hi\",\"\xff\":1}",
		"UTF-8 that is cut off":         "{\"query\":\"\xe2\x82\"}",
		"UTF-8 that is longer than due": "{\"query\":\"\xc0\x80\"}",
		"a surrogate in UTF-8":          "{\"query\":\"\xed\xa0\x80\"}",
		"half a surrogate pair":         `{"query":"\ud800"}`,
		"the other half":                `{"query":"\udc00"}`,
		"a pair the wrong way round":    `{"query":"\udc00\ud800"}`,
		"UTF-16":                        "\xff\xfe{\x00}\x00",
		"33 levels":                     nested(33),
		"levels without end":            strings.Repeat(`{"a":`, 100_000),
		"lists without end":             `{"query":` + strings.Repeat("[", 100_000),
	}
	for name, raw := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := bodies.Decode([]byte(raw))
			e, ok := errors.AsType[*api.Error](err)
			if !ok || e.Code != api.MalformedRequest {
				t.Fatalf("error %v, want %s", err, api.MalformedRequest)
			}
			if len(e.Details) != 1 || e.Details[0].Issue == "" || len(e.Details[0].Issue) > 200 {
				t.Errorf("details %v", e.Details)
			}
		})
	}
}

func TestDecodeNamesTheFieldsThatBreakARule(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		raw    string
		fields []string
	}{
		{"a field that is missing", `{}`, []string{"query"}},
		{"null for a field that is required", `{"query":null}`, []string{"query"}},
		{"null for a field that is not", `{"query":"hi","session_id":null,"after_turn":null,"temperature":null,"max_tokens":null,"stream":null}`,
			[]string{"after_turn", "max_tokens", "session_id", "stream", "temperature"}},
		{"a field without those that it needs", `{"query":"hi","replaces":1}`, []string{"after_turn", "session_id"}},
		{"null for a field nobody knows", `{"query":"hi","color":null}`, []string{"color"}},
		{"a field nobody knows", `{"query":"hi","color":"blue"}`, []string{"color"}},
		{"a field in capitals", `{"query":"hi","Stream":true}`, []string{"Stream"}},
		{"a required field in capitals", `{"Query":"hi"}`, []string{"Query", "query"}},
		{"a number for a text", `{"query":7}`, []string{"query"}},
		{"an object for a text", `{"query":{"text":"hi"}}`, []string{"query"}},
		{"a list for a text", `{"query":["hi"]}`, []string{"query"}},
		{"a text for a number", `{"query":"hi","max_tokens":"7"}`, []string{"max_tokens"}},
		{"a text for a boolean", `{"query":"hi","stream":"true"}`, []string{"stream"}},
		{"a number for a boolean", `{"query":"hi","stream":1}`, []string{"stream"}},
		{"a boolean for a number", `{"query":"hi","temperature":true}`, []string{"temperature"}},
		{"a fraction for a whole number", `{"query":"hi","max_tokens":1.5}`, []string{"max_tokens"}},
		{"a number no float holds", `{"query":"hi","temperature":1e999}`, []string{"temperature"}},
		{"a number no float holds, below zero", `{"query":"hi","after_turn":-1e999}`, []string{"after_turn"}},
		{"a number no integer holds", `{"query":"hi","after_turn":1e30}`, []string{"after_turn"}},
		{"a number that is too small", `{"query":"hi","max_tokens":0}`, []string{"max_tokens"}},
		{"a number that is too large", `{"query":"hi","temperature":2.0001}`, []string{"temperature"}},
		{"a number beyond what is configured", `{"query":"hi","max_tokens":4097}`, []string{"max_tokens"}},
		{"a number below zero", `{"query":"hi","after_turn":-1}`, []string{"after_turn"}},
		{"a text that is too short", `{"query":""}`, []string{"query"}},
		{"a text of another form", `{"query":"hi","session_id":"../../etc/passwd"}`, []string{"session_id"}},
		{"a form that a line break must not end", `{"query":"hi","session_id":"0123456789abcdef\n"}`, []string{"session_id"}},
		{"several", `{"session_id":"x","max_tokens":"x","color":1}`, []string{"color", "max_tokens", "query", "session_id"}},
		{"32 levels, of a field nobody knows", nested(32), []string{"x"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := bodies.Decode([]byte(tt.raw))
			e, ok := errors.AsType[*api.Error](err)
			if !ok || e.Code != api.ValidationFailed {
				t.Fatalf("error %v, want %s", err, api.ValidationFailed)
			}
			got := map[string]bool{}
			for _, d := range e.Details {
				if got[d.Field] {
					t.Errorf("%s twice", d.Field)
				}
				got[d.Field] = true
				if d.Issue == "" {
					t.Errorf("%s: no issue", d.Field)
				}
			}
			want := map[string]bool{}
			for _, field := range tt.fields {
				want[field] = true
			}
			if diff := cmp.Diff(got, want); diff != "" {
				t.Errorf("the fields of %+v (-got +want):\n%s", e.Details, diff)
			}
		})
	}
}

func TestDecodesErrorsAreBounded(t *testing.T) {
	t.Parallel()
	var many strings.Builder
	many.WriteString(`{"query":"hi"`)
	for i := range 1000 {
		fmt.Fprintf(&many, `,"field%d":1`, i)
	}
	many.WriteString("}")
	_, err := bodies.Decode([]byte(many.String()))
	e, ok := errors.AsType[*api.Error](err)
	if !ok || len(e.Details) != 20 {
		t.Errorf("%d details, want 20", len(e.Details))
	}
	for _, name := range []string{strings.Repeat("x", 10_000), strings.Repeat("語", 10_000), strings.Repeat(`\u0000`, 1000)} {
		for _, raw := range []string{`{"query":"hi","` + name + `":1}`, `{"query":"hi","` + name + `":1e999}`} {
			_, err := bodies.Decode([]byte(raw))
			e, ok := errors.AsType[*api.Error](err)
			if !ok || len(e.Details) == 0 {
				t.Fatalf("error %v", err)
			}
			for _, d := range e.Details {
				if len(d.Field) > 70 || len(d.Issue) > 200 || !utf8.ValidString(d.Field) {
					t.Errorf("a field of %d bytes, an issue of %d", len(d.Field), len(d.Issue))
				}
			}
		}
	}
}

func TestDecodeNeverRepeatsAValue(t *testing.T) {
	t.Parallel()
	const secret = "hunter2-secret"
	for _, raw := range []string{
		`{"query":"hi","session_id":"` + secret + `!"}`,
		`{"query":"hi","max_tokens":"` + secret + `"}`,
		`{"query":"hi","color":"` + secret + `"}`,
		`{"query":["` + secret + `"]}`,
		`{"query":{"a":"` + secret + `"}}`,
		`{"query":"` + secret,
		`{"query":"` + secret + `"} ` + secret,
		`{"query":"` + secret + `","query":"` + secret + `"}`,
		`"` + secret + `"`,
		secret,
		`{"query":"` + secret + "\xff\"}",
		`{"query":"` + secret + `","stream":"` + secret + `"}`,
		`{"query":"` + secret + `","temperature":1e999}`,
	} {
		_, err := bodies.Decode([]byte(raw))
		e, ok := errors.AsType[*api.Error](err)
		if !ok {
			t.Errorf("%s: error %v", raw, err)
			continue
		}
		answer, err := json.Marshal(api.Failure(t.Context(), e))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(answer, []byte(secret)) {
			t.Errorf("%s: the answer repeats the value: %s", raw, answer)
		}
		if strings.Contains(e.Error(), secret) {
			t.Errorf("%s: the log repeats the value: %s", raw, e)
		}
	}
}

func TestDecodeChangesNothingOfWhatItReads(t *testing.T) {
	t.Parallel()
	raw := []byte(` {"query":"a\u00e9","max_tokens":1.0} `)
	before := bytes.Clone(raw)
	if _, err := bodies.Decode(raw); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(raw, before) {
		t.Errorf("%s became %s", before, raw)
	}
}

// A whole number is one wherever it stands.
func TestDecodeNumbersWithinAField(t *testing.T) {
	t.Parallel()
	type item struct {
		Number int `json:"number"`
	}
	type nested struct {
		Item item   `json:"item"`
		List []item `json:"list,omitempty"`
	}
	items := api.NewBody[nested](nil)
	for raw, want := range map[string]nested{
		`{"item":{"number":1.0}}`:                       {Item: item{1}},
		`{"item":{"number":0},"list":[{"number":2e0}]}`: {List: []item{{2}}},
	} {
		if got, err := items.Decode([]byte(raw)); err != nil || !cmp.Equal(got, want) {
			t.Errorf("%s: %+v, %v", raw, got, err)
		}
	}
	lists := api.NewBody[struct {
		List []int `json:"list"`
	}](nil)
	if got, err := lists.Decode([]byte(`{"list":[3.0]}`)); err != nil || len(got.List) != 1 || got.List[0] != 3 {
		t.Errorf("%+v, %v", got, err)
	}
}

// The answer tells what is wrong, whichever reader of the body finds it.
func TestDecodeTellsWhatIsWrongWithTheForm(t *testing.T) {
	t.Parallel()
	many := strings.Repeat("[", 40) // in a text, where they nest nothing
	for raw, want := range map[string]string{
		`{"query":"hi"} x`:             "must be one JSON object, and nothing after it",
		`{"query":"` + many + `"} x`:   "must be one JSON object, and nothing after it",
		`{"query":"hi","query":"ho"}`:  "must not name a field twice",
		`null`:                         "must be one JSON object",
		`{"query":`:                    "must be well-formed JSON in UTF-8",
		`{"query":1e999,"query":"hi"}`: "must not name a field twice",
		nested(33):                     "must not nest more than 32 levels",
	} {
		_, err := bodies.Decode([]byte(raw))
		if e, ok := errors.AsType[*api.Error](err); !ok || len(e.Details) != 1 || e.Details[0].Issue != want {
			t.Errorf("%s: %v", raw, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{"query":"hi"}`, `{"query":"hi","max_tokens":1.0}`, `{"query":"hi","temperature":1e999}`, `{"query":"hi","query":"ho"}`,
		`{"query":"\ud800"}`, "{\"query\":\"\xff\"}", nested(32), nested(33), `{}`, ``, `{"query":null,"x":1}`, `{"query":"hi","after_turn":-0.0}`,
		`{"query":"hi","session_id":"0123456789abcdef","stream":false}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := bodies.Decode(raw)
		if err != nil {
			e, ok := errors.AsType[*api.Error](err)
			if !ok {
				t.Fatalf("error %T %v", err, err)
			}
			if e.Status() != 400 && e.Status() != 422 {
				t.Fatalf("status %d: %v", e.Status(), err)
			}
			if e.Status() == 422 && (len(e.Details) == 0 || len(e.Details) > 20) {
				t.Fatalf("%d details", len(e.Details))
			}
			if e.Status() == 422 && !json.Valid(raw) {
				t.Fatalf("not JSON, and yet %v", err)
			}
			return
		}
		if got.Query == "" || got.AfterTurn != nil && *got.AfterTurn < 0 || got.Temperature != nil && !(*got.Temperature >= 0 && *got.Temperature <= 2) ||
			got.MaxTokens != nil && (*got.MaxTokens < 1 || *got.MaxTokens > 4096) || !utf8.ValidString(got.Query) {
			t.Fatalf("%+v breaks a rule", got)
		}
		// The standard library must read the same, where it reads at all: it
		// takes no 1.0 for an integer.
		var std body
		if err := json.Unmarshal(raw, &std); err != nil {
			if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && strings.HasPrefix(wrong.Value, "number") {
				return
			}
			t.Fatalf("encoding/json refuses it: %v", err)
		}
		if diff := cmp.Diff(got, std); diff != "" && !hugeInteger(std) {
			t.Fatalf("encoding/json reads it otherwise (-got +std):\n%s", diff)
		}
	})
}

// hugeInteger: integers beyond 2^53 may be rounded as floats are.
func hugeInteger(b body) bool { return b.AfterTurn != nil && *b.AfterTurn > 1<<53 }

// The log has no name and no value that the client has made up.
func TestTheLogOfANumberThatNoFloatHolds(t *testing.T) {
	t.Parallel()
	type nested struct {
		Known float64        `json:"known,omitempty"`
		Any   map[string]any `json:"any,omitempty"`
	}
	body := api.NewBody[nested](nil)
	for _, raw := range []string{`{"my number is 4711":1e999}`, `{"any":{"my number is 4711":1e999}}`, `{"known":471147114711e999}`, `{"known":"4711"}`, `{"my number is 4711":1}`, `{"any":"4711"}`} {
		_, err := body.Decode([]byte(raw))
		failed, ok := errors.AsType[*api.Error](err)
		if !ok || failed.Status() != 422 {
			t.Errorf("%s: %v", raw, err)
			continue
		}
		if logged := fmt.Sprint(failed.Cause, failed.Faults()); strings.Contains(logged, "4711") {
			t.Errorf("%s: the log has %q", raw, logged)
		}
	}
}
