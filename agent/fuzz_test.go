package agent

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzOutput checks that an answer of a model is refused in words for it, or is JSON on one line
// that fits the type, and the same once more.
func FuzzOutput(f *testing.F) {
	type answer struct {
		Name  string         `json:"name"`
		Count int64          `json:"count,omitempty"`
		More  map[string]any `json:"more,omitempty"`
		List  []string       `json:"list"`
	}
	for _, seed := range []string{
		`{"name":"n","count":9007199254740993,"list":[]}`, "```json\n{\"name\":\"n\",\"list\":[\"\\u2028\"]}\n```", `{"name":"n","name":"m","list":[]}`, `{"name":"\ud800","list":[]}`,
		`{"name":"n","count":1e400,"list":[]}`, `{"name":"n","count":1.0,"list":null}`, `{"Name":"n","list":[]}`, `null`, `[]`, ``, `{"name":"n","list":[]} {}`, "{\"name\":\"\xff\",\"list\":[]}",
		`{"name":"n","list":[],"more":{"a":` + strings.Repeat(`[`, 200) + strings.Repeat(`]`, 200) + `}}`,
	} {
		f.Add(seed)
	}
	o := OutputOf[answer]()
	f.Fuzz(func(t *testing.T, text string) {
		value, err := o.Check(text)
		if err != nil {
			if value != nil || err.Error() == "" {
				t.Errorf("%s, %v", value, err)
			}
			return
		}
		if strings.ContainsAny(string(value), "\r\n") || !utf8.Valid(value) {
			t.Errorf("%q", value)
		}
		var decoded answer
		if err := json.Unmarshal(value, &decoded); err != nil {
			t.Fatalf("%s: %v", value, err)
		}
		if again, err := o.Check(string(value)); err != nil || string(again) != string(value) {
			t.Errorf("%s became %s: %v", value, again, err)
		}
	})
}

// FuzzRedactValue checks that nothing of what is redacted is left in any JSON value, that what
// holds none of it stays, and that value itself is unchanged.
func FuzzRedactValue(f *testing.F) {
	for _, seed := range []string{`{"secret":"secret","a":[1,"xsecret",{"b secret":null,"b [x]":true}]}`, `{"n":12345678901234567890}`, `"secret"`, `null`, `[[["secret"]]]`, `{"secret":1,"[x]":2,"[x] (2)":3}`} {
		f.Add(seed)
	}
	replace := func(text string) string { return strings.ReplaceAll(text, "secret", "[x]") }
	f.Fuzz(func(t *testing.T, text string) {
		var value, before any
		if json.Unmarshal([]byte(text), &value) != nil {
			return
		}
		_ = json.Unmarshal([]byte(text), &before)
		redacted, err := json.Marshal(redactValue(value, replace))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(redacted), "secret") {
			t.Errorf("%s became %s", text, redacted)
		}
		if !reflect.DeepEqual(value, before) {
			t.Errorf("%v was changed to %v", before, value)
		}
		whole, _ := json.Marshal(value)
		if !strings.Contains(string(whole), "secret") && string(whole) != string(redacted) {
			t.Errorf("%s became %s", whole, redacted)
		}
		if strings.Count(string(whole), ":") > 0 && len(members(value)) != len(members(redactValue(value, replace))) {
			t.Errorf("members of %s are missing in %s", whole, redacted)
		}
	})
}

// members returns the names in a JSON value, each as often as it is there.
func members(value any) (names []string) {
	switch v := value.(type) {
	case []any:
		for _, element := range v {
			names = append(names, members(element)...)
		}
	case map[string]any:
		for name, member := range v {
			names = append(append(names, name), members(member)...)
		}
	}
	return names
}
