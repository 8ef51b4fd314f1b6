package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const source = `package sample

import "errors"

var errNegative = errors.New("negative")

// Half is tested at its bound and for its error, not for its result beside that.
func Half(n int) (half int, err error) {
	if n < 0 {
		return 0, errNegative
	}
	half = n / 2
	return half, nil
}

// Largest is tested with one order only.
func Largest(a, b int) int {
	if a > b {
		return a
	}
	return b
}

// Unused is not tested.
func Unused(ok bool) bool {
	return !ok
}

// Sign is tested, and ends with a return that cannot be left out.
func Sign(n int) (sign int) {
	sign = 1
	if n < 0 {
		sign = -1
	}
	return
}
`

const tests = `package sample

import "testing"

func TestHalf(t *testing.T) {
	if n, err := Half(7); n != 3 || err != nil {
		t.Error(n, err)
	}
	if _, err := Half(-1); err == nil {
		t.Error("no error")
	}
	if _, err := Half(0); err != nil {
		t.Error(err)
	}
}

func TestLargest(t *testing.T) {
	if n := Largest(2, 1); n != 2 {
		t.Error(n)
	}
}

func TestSign(t *testing.T) {
	if Sign(-1) != -1 || Sign(0) != 1 || Sign(1) != 1 {
		t.Error("wrong")
	}
}
`

func TestSurvivorsAreNamed(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module example.com/sample\n\ngo 1.26\n", "sample.go": source, "sample_test.go": tests} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	var out strings.Builder
	o := options{seed: 1, budget: time.Minute, at: *regexp.MustCompile(""), longest: time.Minute, parallel: 2}
	if err := run(t.Context(), &out, o, []string{"."}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		if strings.HasPrefix(line, "survived") || strings.HasPrefix(line, "not reached") {
			got = append(got, strings.TrimSpace(line))
		}
	}
	slices.Sort(got)
	want := []string{
		"not reached  sample.go:18  >=: a > b", // no test has the bound
		"not reached  sample.go:26  always false: !ok",
		"not reached  sample.go:26  always true: !ok",
		"survived     sample.go:10  one more: 0", // beside an error
		"survived     sample.go:18  always true: a > b",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s\nwant\n%s\nin\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"), out.String())
	}
	if !strings.Contains(out.String(), "16 killed, 0 timed out, 2 survived; 3 not reached") {
		t.Error(out.String())
	}
}

func TestExplainedMutantsExist(t *testing.T) {
	explained, err := explanations()
	if err != nil {
		t.Fatal(err)
	}
	dirs := map[string]bool{}
	for entry := range explained {
		file, _, _ := strings.Cut(entry, " ")
		dirs[filepath.Dir(file)] = true
	}
	for dir := range dirs {
		p, err := load(t.Context(), "example.com/gatehouse/"+dir)
		if err != nil {
			t.Fatal(err)
		}
		p.find()
		for _, m := range p.mutants {
			delete(explained, p.entry(m))
		}
	}
	for entry := range explained {
		t.Errorf("there is no mutant %s", entry)
	}
}
