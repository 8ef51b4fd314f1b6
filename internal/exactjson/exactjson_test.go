package exactjson_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/gatehouse/internal/exactjson"
)

func TestUnmarshal(t *testing.T) {
	t.Parallel()
	var got struct {
		ID   int64
		More any
	}
	if err := exactjson.Unmarshal([]byte(` {"id": 7, "more": [9007199254740993, 1.50, "x"]} `), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]any{json.Number("9007199254740993"), json.Number("1.50"), "x"}, got.More); diff != "" || got.ID != 7 {
		t.Errorf("%+v %s", got, diff)
	}
	for _, data := range []string{"", "{", "{}}", "{} {}", "1 x"} {
		if err := exactjson.Unmarshal([]byte(data), new(any)); err == nil {
			t.Errorf("%q is decoded", data)
		}
	}
}
