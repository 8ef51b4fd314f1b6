package session_test

import (
	"encoding/json"
	"testing"

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
