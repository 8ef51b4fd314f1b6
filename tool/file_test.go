package tool_test

import (
	"context"
	"fmt"
	"testing"

	"example.com/gatehouse/tool"
)

type withPlot struct {
	Plot *tool.File `json:"plot,omitempty"`
}

type tree []tree // a list of itself

// The model reads of each file in an output that the user gets it, so each is collected.
func TestFilesOfAnOutput(t *testing.T) {
	t.Parallel()
	file := func(name string) tool.File { return tool.File{Name: name, Type: "text/plain", Data: []byte("x")} }
	a, b := file("a"), file("b")
	many := make([]any, 20)
	many[19] = a
	var deep any = a
	for range 10 {
		deep = struct{ In any }{deep}
	}
	for _, tt := range []struct {
		name string
		out  any
		want string
	}{
		{"itself", a, "a"},
		{"a pointer", &a, "a"},
		{"a list", []tool.File{b, a}, "ba"},
		{"an array", [2]tool.File{b, a}, "ba"},
		{"a struct", withPlot{&a}, "a"},
		{"a struct without one", withPlot{}, ""},
		{"an embedded struct", struct{ withPlot }{withPlot{&a}}, "a"},
		{"a map of anything", map[string]any{"plot": a, "n": 1}, "a"},
		{"a map of files, in the order of JSON", map[string]tool.File{"2": b, "1": a}, "ab"},
		{"a map of lists", map[string][]tool.File{"x": {b, a}}, "ba"},
		{"the end of a long list", many, "a"},
		{"ten levels down", deep, "a"},
		{"lists of lists", [][]withPlot{{{&a}}, {{&b}}}, "ab"},
		{"a list of itself", tree{tree{}, nil}, ""},
		{"nothing", nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			files := tool.NewFiles(1 << 10)
			made := tool.New("make", "", func(context.Context, struct{}) (any, error) { return tt.out, nil })
			if _, err := made.Call(tool.WithFiles(t.Context(), files), nil); err != nil {
				t.Fatal(err)
			}
			got := ""
			for _, f := range files.Take() {
				got += f.Name
			}
			if got != tt.want {
				t.Errorf("collected %q, want %q", got, tt.want)
			}
		})
	}
	tooMany := map[string]any{}
	for i := range 9 {
		tooMany[fmt.Sprint(i)] = file("x")
	}
	made := tool.New("make", "", func(context.Context, struct{}) (any, error) { return tooMany, nil })
	if _, err := made.Call(tool.WithFiles(t.Context(), tool.NewFiles(1<<10)), nil); err == nil {
		t.Error("nine files in a map are taken")
	}
}
