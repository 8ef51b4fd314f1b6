package tool

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"testing"

	"example.com/gatehouse/internal/exactjson"
)

type numbers struct {
	ID      int64            `json:"id,omitempty"`
	Big     uint64           `json:"big,omitempty"`
	Small   int8             `json:"small,omitempty"`
	Rate    float64          `json:"rate,omitempty"`
	Maybe   *int64           `json:"maybe,omitempty"`
	Name    string           `json:"name,omitempty"`
	List    []int64          `json:"list,omitempty"`
	ByName  map[string]int64 `json:"by_name,omitempty"`
	Nested  struct{ N int64 }
	Nesteds []struct{ N int64 } `json:"nesteds,omitempty"`
}

func TestIntegersKeepTheirDigits(t *testing.T) {
	t.Parallel()
	echo := New("echo", "", func(_ context.Context, in numbers) (numbers, error) { return in, nil })
	cases := []struct {
		name, args, want string // want "": refused
	}{
		{"the largest", `{"id":9223372036854775807,"big":18446744073709551615}`, `{"id":9223372036854775807,"big":18446744073709551615}`},
		{"the smallest", `{"id":-9223372036854775808}`, `{"id":-9223372036854775808}`},
		{"2^53 + 1", `{"id":9007199254740993,"maybe":9007199254740993}`, `{"id":9007199254740993,"maybe":9007199254740993}`},
		{"in lists and objects", `{"list":[1234567890123456789],"by_name":{"a":1234567890123456789},"nesteds":[{"N":1234567890123456789}]}`, `{"list":[1234567890123456789],"by_name":{"a":1234567890123456789},"nesteds":[{"N":1234567890123456789}]}`},
		{"a numeric string", `{"id":"1234567890123456789","list":["-7"],"maybe":"1","by_name":{"a":"2"}}`, `{"id":1234567890123456789,"list":[-7],"maybe":1,"by_name":{"a":2}}`},
		{"a numeric string where a text is wanted", `{"name":"5"}`, `{"name":"5"}`},
		{"a string that is no integer", `{"id":"12a"}`, ""},
		{"a string with a fraction", `{"id":"1.5"}`, ""},
		{"a string with white space", `{"id":" 1"}`, ""},
		{"an empty string", `{"id":""}`, ""},
		{"a fraction of nothing", `{"id":5.0,"small":1e2}`, `{"id":5,"small":100}`},
		{"a fraction", `{"id":5.5}`, ""},
		{"more than 64 bits", `{"id":18446744073709551616}`, ""},
		{"more than its type holds", `{"small":128}`, ""},
		{"an exponent that nobody can mean", `{"id":1e999999}`, ""},
		{"a fraction where a number is wanted", `{"rate":0.1}`, `{"rate":0.1}`},
		{"an integer where a number is wanted", `{"rate":3}`, `{"rate":3}`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var args map[string]any
			if err := exactjson.Unmarshal([]byte(c.args), &args); err != nil {
				t.Fatal(err)
			}
			args["Nested"] = map[string]any{"N": json.Number("9007199254740993")}
			before := maps.Clone(args)
			got, err := echo.Call(t.Context(), args)
			if !maps.EqualFunc(before, args, func(a, b any) bool { return text(t, a) == text(t, b) }) {
				t.Errorf("the model's arguments became %v", args)
			}
			if c.want == "" {
				if !errors.Is(err, ErrArguments) {
					t.Errorf("%v, %v, want ErrArguments", got, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if nested := text(t, got["Nested"]); nested != `{"N":9007199254740993}` {
				t.Errorf("nested: %s", nested)
			}
			delete(got, "Nested")
			var want map[string]any
			if err := exactjson.Unmarshal([]byte(c.want), &want); err != nil {
				t.Fatal(err)
			}
			if text(t, got) != text(t, want) {
				t.Errorf("got %s, want %s", text(t, got), text(t, want))
			}
		})
	}
}

func text(t *testing.T, value any) string {
	t.Helper()
	raw, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
