package advisor

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"example.com/gatehouse/agenttest"
)

// Nothing outside this directory names the sample, its tools or what to ask it, so that
// it can be taken out; but the README, with its first answer.
func TestNothingElseNamesTheSample(t *testing.T) {
	t.Parallel()
	a := shippedAgent(t)
	names := append([]string{a.Name}, a.Examples...)
	for _, tl := range a.Tools {
		names = append(names, tl.Name())
	}
	pattern := regexp.MustCompile(`\b(` + strings.Join(quoteAll(names), "|") + `)`)
	files := 0
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			switch entry.Name() {
			case "advisor", ".git", "node_modules", "build", ".terraform", ".gatehouse", "__pycache__":
				return filepath.SkipDir
			}
			return nil
		}
		if !entry.Type().IsRegular() || path == filepath.Join("..", "README.md") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		for _, found := range pattern.FindAllString(string(text), -1) {
			t.Errorf("%s names %q", strings.TrimPrefix(path, ".."+string(filepath.Separator)), found)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 300 {
		t.Errorf("%d files were looked at", files)
	}
}

func quoteAll(texts []string) []string {
	quoted := make([]string, len(texts))
	for i, text := range texts {
		quoted[i] = regexp.QuoteMeta(text)
	}
	return quoted
}

// The README's first answer is what a newcomer gets.
func TestTheReadmesFirstAnswer(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	question := regexp.MustCompile(`(?m)^  -d '\{"query": "(.*?)"\}'$`).FindSubmatch(raw)
	shown := regexp.MustCompile(`"response": "(.*)",\n`).FindSubmatch(raw)
	if question == nil || shown == nil {
		t.Fatal("the README has no first question, or no answer")
	}
	got := agenttest.Start(t, New).Ask(string(question[1]))
	var called []string
	for _, call := range got.Tools {
		called = append(called, call.Name)
	}
	named := regexp.MustCompile(`"tool_calls": \[\{"name": "(\w+)"`).FindSubmatch(raw)
	if named == nil || !slices.Equal(called, []string{string(named[1])}) {
		t.Errorf("the tools called are %v, the README has %q", called, named)
	}
	// But for what depends on the moment.
	moment := regexp.MustCompile(`\d+`)
	if want := strings.ReplaceAll(string(shown[1]), `\n`, "\n"); moment.ReplaceAllString(want, "0") != moment.ReplaceAllString(got.Text, "0") {
		t.Errorf("the answer is\n%s\nwant, as the README has it,\n%s", got.Text, want)
	}
}
