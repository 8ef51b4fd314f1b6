package main

import (
	"bytes"
	"strings"
	"testing"
)

// TestSize is the check itself, on the tree as it is.
func TestSize(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the service")
	}
	var out bytes.Buffer
	if err := run(false, false, false, &out); err != nil {
		t.Errorf("%v\n%s", err, &out)
	}
}

func TestCompare(t *testing.T) {
	t.Parallel()
	before, err := read([]byte("lines\t1000\ta\nmodule\t10000\tm\nbinary\t2000\tx\nstart\t50000\tp\nstart\t1000\tq\n"))
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		change map[weight]int64
		want   string // what is named; "" for nothing
	}{
		"nothing":               {nil, ""},
		"within the bound":      {map[weight]int64{{ours, "a"}: 1050}, ""},
		"a package":             {map[weight]int64{{ours, "a"}: 1051}, "a: +51, from 1000"},
		"a new package":         {map[weight]int64{{ours, "b"}: 60}, "b: +60, from nothing"},
		"a new module":          {map[weight]int64{{theirs, "n"}: 400}, "n: +400, from nothing"},
		"a part of the program": {map[weight]int64{{binary, "x"}: 2100}, "x: +100, from 2000"},
		"an init":               {map[weight]int64{{start, "q"}: 7000}, "q: +6000, from 1000"},
		"less":                  {map[weight]int64{{ours, "a"}: 1, {binary, "x"}: 1}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			now := weights{}
			for k, n := range before {
				now[k] = n
			}
			for k, n := range tt.change {
				now[k] = n
			}
			again, err := read(now.text())
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			grown, err := compare(before, again, &out)
			if err != nil || grown != (tt.want != "") || !strings.Contains(out.String(), tt.want) {
				t.Errorf("grown %v, %v:\n%s\nwant %q", grown, err, &out, tt.want)
			}
			if named := strings.Count(out.String(), "\t"); tt.want != "" && named != 1 {
				t.Errorf("%d are named:\n%s", named, &out)
			}
		})
	}
	if _, err := compare(before, weights{}, &strings.Builder{}); err == nil {
		t.Error("nothing is compared, without an error")
	}
}
