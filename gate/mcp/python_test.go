package mcp_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/pythontest"
)

// The client that most Python hosts use, in both generations of the protocol.
func TestPythonClient(t *testing.T) {
	python := filepath.Join(pythontest.Environment(t, "testdata/python/requirements.txt", "PyPI's mcp as a client"), "python")
	sum := sha256.Sum256([]byte("key-of-ada-0123456789"))
	for _, mode := range []string{"auto", "legacy"} {
		t.Run(mode, func(t *testing.T) {
			s := start(t, "AUTH=api_key", `API_KEYS=[{"name":"ada","sha256":"`+hex.EncodeToString(sum[:])+`"}]`)
			s.gemini.Enqueue(geminitest.Text("Hello Ada."), geminitest.Text("You are Ada."))
			command := exec.CommandContext(t.Context(), python, "testdata/python/ask.py", s.url+"/mcp", mode)
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
