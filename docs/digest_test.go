package docs

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// The page's command, with a gcloud that has three turns by two agents.
func TestTurnsAreComparedByDigest(t *testing.T) {
	if _, err := exec.LookPath("jq"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("NOT TESTED: the comparison of turns by agent_digest needs jq")
	}
	found := regexp.MustCompile("(?s)```sh\n(gcloud logging read [^`]*agent_digest.*?)```").FindStringSubmatch(read(t, "your-agent.md"))
	if found == nil {
		t.Fatal("your-agent.md has no command that groups the log by agent_digest")
	}
	const lines = `[
		{"httpRequest": {"status": 200}, "jsonPayload": {"agent_digest": "new", "tokens": 900, "model_ms": 1200}},
		{"httpRequest": {"status": 200}, "jsonPayload": {"agent_digest": "old", "tokens": 400, "model_ms": 700}},
		{"httpRequest": {"status": 502}, "jsonPayload": {"agent_digest": "new", "tokens": 0, "model_ms": 300}}]`
	cmd := exec.CommandContext(t.Context(), "bash", "-c", "gcloud() { printf %s \"$LINES_OF_LOG\"; }\n"+found[1])
	cmd.Env = append(os.Environ(), "LINES_OF_LOG="+lines)
	out, err := cmd.CombinedOutput()
	if want := "new\t2\t1\t450\t750\nold\t1\t0\t400\t700\n"; err != nil || string(out) != want {
		t.Errorf("got %v:\n%s\nwant:\n%s", err, out, strings.TrimSpace(want))
	}
}
