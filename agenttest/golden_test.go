package agenttest_test

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"example.com/gatehouse/agenttest"
)

var (
	update = flag.Bool("update", false, "write the golden conversations")
	file   = flag.String("golden", "", "the conversation that TestOneFile runs")
)

func TestGolden(t *testing.T) {
	agenttest.Golden(t, newAgent, "testdata/*.yaml", *update, "RATES_KEY=k")
}

// TestOneFile is run by [TestAGoldenFile] in another process, to fail there.
func TestOneFile(t *testing.T) {
	if *file != "" {
		agenttest.Golden(t, newAgent, *file, *update, "RATES_KEY=k")
	}
}

func TestAGoldenFile(t *testing.T) {
	golden, err := os.ReadFile("testdata/rates.yaml")
	if err != nil {
		t.Fatal(err)
	}
	run := func(t *testing.T, path string, args ...string) (bool, string) {
		cmd := exec.CommandContext(t.Context(), os.Args[0], append([]string{"-test.run=^TestOneFile$", "-golden=" + path}, args...)...)
		out, err := cmd.CombinedOutput()
		return err == nil, string(out)
	}
	for _, c := range []struct{ name, text, says string }{
		{"as observed", string(golden), ""},
		{"another answer", strings.Replace(string(golden), "answer: Both are", "answer: All are", 1), "is not what happens"},
		{"another argument", strings.Replace(string(golden), "output:\n        from: GBP", "output:\n        from: CHF", 1), "is not what happens"},
		{"a reply too many", strings.Replace(string(golden), "    - fail: 400", "    - fail: 400\n    - say: Yes.", 1), "turn 1: the model was not asked for the last 1 of its replies"},
		{"a reply too few", "- user: Who am I?\n  model: [{call: who}]\n", "turn 1: the model was asked 1 times more than it has replies"},
		{"an unknown field", "- user: Hello\n  anser: Hi\n", "line 2: field anser not found"},
		{"not YAML", "- user: [", "did not find expected"},
		{"no turns", "# none\n", "has no turns"},
		{"two documents", "- user: Hello\n---\n- user: Hello\n", "more than one document"},
		{"sources without a search", "- user: Hello\n  model: [{say: Hi, sources: [{uri: https://a.example}]}]\n", "sources with search"},
		{"an error that thinks", "- user: Hello\n  model: [{fail: 400, think: Hm}]\n", "go with say, call or calls"},
		{"what a reply can have", "- user: Hello\n  model:\n    - say: Hi\n      think: Hm\n      search: rates\n      sources:\n        - title: A\n          uri: https://a.example\n          text: Hi\n      finish: MAX_TOKENS\n  answer: Hi\n  sources:\n    - https://a.example\n  warnings: [response_truncated]\n", ""},
		{"a reply of two kinds", "- user: Hello\n  model: [{say: Hi, call: who}]\n", "needs one of say, call, calls and fail"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "conversation.yaml")
			if err := os.WriteFile(path, []byte(c.text), 0o644); err != nil {
				t.Fatal(err)
			}
			if ok, out := run(t, path); ok != (c.says == "") || !strings.Contains(out, c.says) {
				t.Errorf("passes %v, want it to say %q:\n%s", ok, c.says, out)
			}
		})
	}
	t.Run("no file", func(t *testing.T) {
		if ok, out := run(t, "testdata/none/*.yaml"); ok || !strings.Contains(out, "no file matches") {
			t.Errorf("passes %v:\n%s", ok, out)
		}
	})
	t.Run("updated", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "conversation.yaml")
		changed := strings.Replace(string(golden), "answer: Both are", "answer: All are", 1)
		if err := os.WriteFile(path, []byte(changed), 0o644); err != nil {
			t.Fatal(err)
		}
		if ok, out := run(t, path, "-update"); !ok {
			t.Fatal(out)
		}
		if text, err := os.ReadFile(path); err != nil || string(text) != string(golden) {
			t.Errorf("%v\n%s", err, text)
		}
	})
}
