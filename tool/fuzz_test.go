package tool_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"testing"

	"example.com/gatehouse/internal/exactjson"
	"example.com/gatehouse/tool"
)

// FuzzCall checks that the arguments of a model's call are refused as such, or reach the
// function as they were sent, and that its output is an object.
func FuzzCall(f *testing.F) {
	for _, seed := range []string{
		`{"id":9007199254740993,"name":"a","tags":["x"],"on":true,"rate":1.5}`, `{"id":1e3,"name":""}`, `{"id":"7"}`, `{"id":1.5}`, `{"id":1,"more":2}`,
		`{"id":1,"inner":{"n":-9223372036854775808}}`, `{"id":1e400}`, `{"ID":1}`, `{}`, `{"id":null}`,
	} {
		f.Add([]byte(seed))
	}
	type input struct {
		ID    int64    `json:"id"`
		Name  string   `json:"name,omitempty"`
		Tags  []string `json:"tags,omitempty"`
		On    bool     `json:"on,omitempty"`
		Rate  float64  `json:"rate,omitempty"`
		Inner *struct {
			N int64 `json:"n"`
		} `json:"inner,omitempty"`
	}
	var got input
	echo := tool.New("echo", "Returns its arguments.", func(_ context.Context, in input) (input, error) {
		got = in
		return in, nil
	})
	f.Fuzz(func(t *testing.T, data []byte) {
		var args map[string]any
		if exactjson.Unmarshal(data, &args) != nil {
			return
		}
		out, err := echo.Call(t.Context(), args)
		if err != nil {
			if !errors.Is(err, tool.ErrArguments) {
				t.Errorf("%s: %v", data, err)
			}
			return
		}
		raw, err := json.Marshal(out)
		if err != nil {
			t.Fatal(err)
		}
		var back input
		if err := json.Unmarshal(raw, &back); err != nil {
			t.Fatalf("%s returns %s: %v", data, raw, err)
		}
		want, _ := json.Marshal(got)
		if again, _ := json.Marshal(back); !bytes.Equal(again, want) {
			t.Errorf("%s reached the function as %s and returns %s", data, want, again)
		}
		if n, ok := args["id"].(json.Number); ok {
			if i, err := n.Int64(); err == nil && i != got.ID {
				t.Errorf("%s: the number %d reached the function as %d", data, i, got.ID)
			}
		}
	})
}
