package invoke

import (
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/session"
)

// What a page has put under a tool's input may be of any length. Only what an answer can be
// compared with is kept, and what follows is read.
func TestTheInputOfAnAnswerIsBounded(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		`"1234567"`:                `"1234567"`,
		`"12345678"`:               "",
		`{"a":[1]}`:                `{"a":[1]}`,
		` { "a" : [ 1 ] } `:        `{"a":[1]}`,
		`{"a":[1,2]}`:              "",
		`[[[[[[]]]]]]`:             "",
		`{"a":"1234567890","b":1}`: "",
	} {
		d := jsontext.NewDecoder(strings.NewReader(value + ` "next"`))
		got, err := readBounded(d, 10)
		next, after := text(d)
		if string(got) != want || err != nil || next != "next" || after != nil {
			t.Errorf("%s is read as %s, %v, and then %q, %v", value, got, err, next, after)
		}
	}
}

// A page sends all of its messages. In a service without files a file is passed over in an
// earlier one, and named as what is wrong in the last.
func TestAFileForAnAgentWithoutFiles(t *testing.T) {
	t.Parallel()
	file := func(bytes int) string {
		return `{"role":"user","parts":[{"type":"file","mediaType":"image/png","url":"data:image/png;base64,` + strings.Repeat("A", bytes) + `"},{"type":"text","text":"see"}]}`
	}
	const question = `{"role":"user","parts":[{"type":"text","text":"and now?"}]}`
	for name, test := range map[string]struct {
		messages string
		status   int // 200: it is read
	}{
		"in an earlier message":       {file(2<<20) + "," + question, 200},
		"in the last":                 {file(2 << 20), 422},
		"in both":                     {file(2<<20) + "," + file(2<<20), 422},
		"larger than any file may be": {file(12<<20) + "," + question, 413},
	} {
		s := New(Config{MaxBodyBytes: 128 << 10, Timeout: api.BodyTimeout})
		r := httptest.NewRequest(http.MethodPost, "/chat", strings.NewReader(`{"id":"0123456789abcdef","messages":[`+test.messages+`]}`))
		r.Header.Set("Content-Type", "application/json")
		held := 0
		_, _, err := s.decodeChat(httptest.NewRecorder(), r, func() error { held++; return nil })
		status := 200
		if err != nil {
			status = api.AsError(err).Status()
		}
		if status != test.status {
			t.Errorf("%s: %d, %v, want %d", name, status, err, test.status)
		}
		if held == 0 {
			t.Errorf("%s: no memory was claimed", name)
		}
	}
}

// White space around a question does not count, but takes no memory beyond a bound, also in
// several parts.
func TestTheTextOfAMessageIsBounded(t *testing.T) {
	t.Parallel()
	space := `,{"type":"text","text":"` + strings.Repeat(" ", maxQueryBytes-100) + `"}`
	for spaces, refused := range map[int]bool{0: false, 1: false, 2: true} {
		s := New(Config{MaxBodyBytes: 1 << 20, Timeout: api.BodyTimeout})
		r := httptest.NewRequest(http.MethodPost, "/chat", strings.NewReader(`{"id":"0123456789abcdef","messages":[{"role":"user","parts":[`+
			`{"type":"text","text":"and?"}`+strings.Repeat(space, spaces)+`]}]}`))
		r.Header.Set("Content-Type", "application/json")
		req, _, err := s.decodeChat(httptest.NewRecorder(), r, func() error { return nil })
		if refused != (err != nil) || !refused && req.Query != "and?" || refused && api.AsError(err).Code != api.ValidationFailed {
			t.Errorf("%d parts of white space: %q, %v", spaces, req.Query, err)
		}
	}
}

// Ids are the page's own: what can be none of a message or of a run is passed over, and the rest
// is read.
func TestTheIDsOfAPage(t *testing.T) {
	t.Parallel()
	run := session.RunID(session.NewID(), session.NewID())
	const id = `"messageId":"m-1",`
	for name, tt := range map[string]struct {
		id, metadata string
		want         Page
	}{
		"ids":                          {id, `{"model":{"name":"m"},"run_id":"` + run + `"}`, Page{MessageID: "m-1", Runs: []string{run}}},
		"none":                         {"", "{}", Page{}},
		"an id that is no text":        {`"messageId":{"id":["m"]},`, "{}", Page{}},
		"an id that cannot be printed": {`"messageId":"m\n",`, "{}", Page{}},
		"an id that is too long":       {`"messageId":"` + strings.Repeat("m", maxMessageID+1) + `",`, "{}", Page{}},
		"metadata that is a text":      {id, `"text"`, Page{MessageID: "m-1"}},
		"metadata that is null":        {id, `null`, Page{MessageID: "m-1"}},
		"metadata that is a list":      {id, `[{"run_id":"` + run + `"}]`, Page{MessageID: "m-1"}},
		"a run that is a number":       {id, `{"run_id":5}`, Page{MessageID: "m-1"}},
		"a run that is an object":      {id, `{"run_id":{"id":"m"}}`, Page{MessageID: "m-1"}},
		"a run by another name":        {id, `{"run":"` + run + `"}`, Page{MessageID: "m-1"}},
		"a run that is null":           {id, `{"run_id":null}`, Page{MessageID: "m-1"}},
		"a run that is none":           {id, `{"run_id":"m"}`, Page{MessageID: "m-1"}},
	} {
		s := New(Config{MaxBodyBytes: 1 << 20, Timeout: api.BodyTimeout})
		r := httptest.NewRequest(http.MethodPost, "/chat", strings.NewReader(`{"id":"0123456789abcdef",`+tt.id+`"messages":[
			{"role":"assistant","metadata":`+tt.metadata+`,"parts":[]},{"role":"user","parts":[{"type":"text","text":"and?"}]}]}`))
		r.Header.Set("Content-Type", "application/json")
		req, _, err := s.decodeChat(httptest.NewRecorder(), r, func() error { return nil })
		if err != nil || req.Query != "and?" || !reflect.DeepEqual(req.Options.Page, &tt.want) {
			t.Errorf("%s: %+v, %v", name, req.Options.Page, err)
		}
	}
}
