package session_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/gatehouse/session"
)

func TestContentsOfARecord(t *testing.T) {
	t.Parallel()
	turn, err := session.Turn{
		ID: "contents", Contents: json.RawMessage(`[{"parts":[{"text":"\"contents\":[1]"}],"role":"user"}]`), Model: "contents",
	}.Record(3)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		data, want string // want is "" for an error
	}{
		"a turn":                 {string(turn.Data), `[{"parts":[{"text":"\"contents\":[1]"}],"role":"user"}]`},
		"contents last":          {`{"id": "a", "usage": {"contents": 1}, "warnings": ["contents"], "contents": [ {} ]}`, `[ {} ]`},
		"white space":            {" {\n\"contents\" : [1] } ", `[1]`},
		"an escaped name":        {`{"\u0063ontents": [1]}`, `[1]`},
		"what follows is broken": {`{"contents": [1], `, `[1]`}, // decoding stops before it
		"text that is no UTF-8":  {"{\"id\": \"\xff\", \"contents\": [\"\xff\"]}", "[\"\xff\"]"},
		"none":                   {`{"id": "contents"}`, ""},
		"no object":              {`["contents", [1]]`, ""},
		"nothing":                {``, ""},
		"broken before":          {`{"id": }`, ""},
		"broken":                 {`{"contents": [1}`, ""},
		"cut":                    {`{"contents": [1`, ""},
		"cut before a name":      {`{"id": "a", `, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			record := session.Record{Number: 3, Data: []byte(tt.data)}
			got, err := record.Contents()
			if string(got) != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
			_ = append(got, "overwritten, if it were possible"...)
			if string(record.Data) != tt.data {
				t.Errorf("the record is now %q", record.Data)
			}
		})
	}
}

func TestExactContentsOfARecord(t *testing.T) {
	t.Parallel()
	const contents = `[{"parts":[{"text":"\"contents\":[1]"}],"role":"user"}]`
	turn := session.Turn{
		ID: "a", QuestionID: `},"span":{"bytes":2,"prompt":1},"contents":[]`, Prompt: session.Prompt{Bytes: 1, Tokens: 1},
		Span: session.Span{Bytes: len(contents), Prompt: 7}, Contents: json.RawMessage(contents),
	}
	encoded := func(change func(*session.Turn)) string {
		t.Helper()
		changed := turn
		change(&changed)
		record, err := changed.Record(3)
		if err != nil {
			t.Fatal(err)
		}
		return string(record.Data)
	}
	for name, tt := range map[string]struct {
		data, want string // want is "" for no span
		files      bool
	}{
		"a turn":                {encoded(func(*session.Turn) {}), contents, false},
		"a turn with files":     {encoded(func(t *session.Turn) { t.Files = []session.File{{Name: `"files":[`, Type: "text/plain"}} }), contents, true},
		"contents have changed": {encoded(func(t *session.Turn) { t.Contents = json.RawMessage(`[]`) }), "", false},
		"contents have changed, and a part has the size": {encoded(func(t *session.Turn) { t.Contents, t.Span.Bytes = json.RawMessage(`[[],{}]`), 3 }), "", false},
		"no span":     {encoded(func(t *session.Turn) { t.Span = session.Span{} }), "", false},
		"no contents": {encoded(func(t *session.Turn) { t.Contents = nil }), "", false},
		"a span in the contents of an earlier release": {
			`{"id":"a","contents":[{"parts":[{"functionCall":{"args":{"x":1,"span":{"bytes":2,"prompt":1},"contents":[]}}}]}]}`, "", false},
		"a turn of a framework":            {encoded(func(t *session.Turn) { t.Loop = json.RawMessage(`{"x":1,"span":{"bytes":2,"prompt":1},"contents":[]}`) }), "", false},
		"a span in what a framework keeps": {`{"id":"a","loop":{"x":1,"span":{"bytes":2,"prompt":1},"contents":[]},"contents":[{}]}`, "", false},
		"a span beyond the end":            {`{"id":"a","span":{"bytes":200,"prompt":1},"contents":[]}`, "", false},
		"a span that ends too soon":        {`{"id":"a","span":{"bytes":3,"prompt":1},"contents":[{}]}`, "", false},
		"a span of nothing":                {`{"id":"a","span":{"bytes":0,"prompt":1},"contents":[]}`, "", false},
		"a number that overflows":          {`{"id":"a","span":{"bytes":18446744073709551618,"prompt":1},"contents":[]}`, "", false},
		"nothing":                          {``, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, ok := session.Record{Number: 3, Data: []byte(tt.data)}.Exact()
			if ok != (tt.want != "") || string(got.Contents) != tt.want || got.Files != tt.files || ok && got.Prompt != 7 {
				t.Errorf("got %q, %+v, %v, want %q of %s", got.Contents, got, ok, tt.want, tt.data)
			}
		})
	}
	record := session.Record{Number: 3, Data: []byte(encoded(func(*session.Turn) {}))}
	decoded, err := record.Turn()
	if err != nil {
		t.Fatal(err)
	}
	decoded.Number = 0
	if diff := cmp.Diff(turn, decoded); diff != "" {
		t.Error(diff)
	}
}
