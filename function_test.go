package gatehouse_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"example.com/gatehouse/internal/testlog"
)

// agentVariables are what the agent cannot start without, such as "RATES_KEY=test" for
// one that asks for env.Secret("RATES_KEY").
var agentVariables []string

// The first five minutes, from outside: the program for a laptop is built and started
// without any configuration, what it says to try is tried, the session goes on, and
// the program is ended. The rest of the contract is walked in internal/e2e.
func TestTheFirstFiveMinutes(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	program := filepath.Join(t.TempDir(), "local")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", program, "./cmd/local").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	said := &testlog.Buffer{}
	cmd := exec.CommandContext(ctx, program)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = t.TempDir(), append([]string{"PORT=0"}, agentVariables...), said, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	started, end := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait(); end() }()
	try, err := said.Await(started, regexp.MustCompile(`curl -s (\S+) -H 'Content-Type: application/json' -d '(.*)'`))
	if err != nil {
		t.Fatalf("%v: %s", err, said)
	}

	var first struct {
		Data struct {
			Response  string
			SessionID string `json:"session_id"`
			Turn      int
		}
	}
	ask(ctx, t, try[1], try[2], &first)
	// A tool may fail: that of docs/your-agent.md asks a service elsewhere.
	if d := first.Data; d.Response == "" || d.Turn != 1 {
		t.Errorf("what is to be tried has no answer: %+v", d)
	}
	second := first
	ask(ctx, t, try[1], `{"query": "And what did I just ask?", "session_id": "`+first.Data.SessionID+`"}`, &second)
	if second.Data.Turn != 2 || second.Data.SessionID != first.Data.SessionID {
		t.Errorf("the session does not go on: %+v", second.Data)
	}

	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("it ended with %v: %s", err, said)
	}
}

func ask(ctx context.Context, t *testing.T, url, body string, answer any) {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	var text bytes.Buffer
	if _, err := text.ReadFrom(response.Body); err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%d %s: %v", response.StatusCode, &text, err)
	}
	if err := json.Unmarshal(text.Bytes(), answer); err != nil {
		t.Fatal(err)
	}
}
