package mcp_test

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"example.com/gatehouse/internal/doortest"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/pythontest"
)

// The client that most Python hosts use, in both generations of the protocol.
func TestPythonClient(t *testing.T) {
	python := filepath.Join(pythontest.Environment(t, "testdata/python/requirements.txt", "PyPI's mcp as a client"), "python")
	for _, mode := range []string{"auto", "legacy"} {
		t.Run(mode, func(t *testing.T) {
			s := start(t, doortest.Keys("ada")...)
			s.Gemini.Enqueue(geminitest.Text("Hello Ada."), geminitest.Text("You are Ada."))
			command := exec.CommandContext(t.Context(), python, "testdata/python/ask.py", s.URL+"/mcp", mode)
			raw, err := command.Output()
			if err != nil {
				if exit, ok := err.(*exec.ExitError); ok {
					t.Logf("%s", exit.Stderr)
				}
				t.Fatal(err)
			}
			var got struct {
				Tools, Progress []string
				First, Text     string
				Turn            int
				Wrong           bool
			}
			if err := json.Unmarshal(raw, &got); err != nil {
				t.Fatalf("%s: %v", raw, err)
			}
			if !slices.Equal(got.Tools, []string{"ask"}) || got.First != "Hello Ada." || got.Text != "Hello Ada." || got.Turn != 2 || !got.Wrong ||
				!slices.Contains(got.Progress, "Started.") {
				t.Errorf("%s", raw)
			}
		})
	}
}

// A tool that asks a person, by the client that most Python hosts use; called again with its
// key, it is not asked about again.
func TestPythonClientApproves(t *testing.T) {
	python := filepath.Join(pythontest.Environment(t, "testdata/python/requirements.txt", "PyPI's mcp as a client"), "python")
	for name, c := range map[string]struct {
		mode, action, paid, want string
		asked                    int
		failed                   bool
	}{
		"accepted":             {"auto", "accept", "[7]", `{"paid":7}`, 1, false},
		"declined":             {"auto", "decline", "[]", "not run: a person has denied it", 1, true},
		"of an older protocol": {"legacy", "accept", "[]", "This waits for a person's approval, which cannot be given here: Pay 7 euros?", 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &till{}
			s := startAgent(t, p.newAgent, append(doortest.Keys("ada"), "MCP_TOOLS=true")...)
			raw, err := exec.CommandContext(t.Context(), python, "testdata/python/approve.py", s.URL+"/mcp", c.mode, c.action).Output()
			if err != nil {
				if exit, ok := err.(*exec.ExitError); ok {
					t.Logf("%s", exit.Stderr)
				}
				t.Fatal(err)
			}
			var got struct {
				Asked, Texts     []string
				Failed, Replayed []bool
			}
			if err := json.Unmarshal(raw, &got); err != nil {
				t.Fatalf("%s: %v", raw, err)
			}
			if len(got.Asked) != c.asked || p.paid() != c.paid || got.Texts[0] != c.want || got.Texts[1] != c.want || got.Failed[1] != c.failed || !got.Replayed[1] {
				t.Errorf("paid %s: %s", p.paid(), raw)
			}
		})
	}
}
