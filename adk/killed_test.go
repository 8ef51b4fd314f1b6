package adk_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.com/gatehouse/internal/gcp/emulator"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/slowtest"
	"example.com/gatehouse/internal/testlog"
)

// startProgram starts a local program, and returns its address and what kills it.
func startProgram(ctx context.Context, t *testing.T, program string, env ...string) (address string, kill func()) {
	t.Helper()
	out := &testlog.Buffer{}
	cmd := exec.CommandContext(ctx, program)
	cmd.Dir, cmd.Stdout, cmd.Stderr = t.TempDir(), out, out
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + cmd.Dir, "LOGGING_ENDPOINT=127.0.0.1:1", "TELEMETRY_ENDPOINT=127.0.0.1:1", "PORT=0"}, env...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	running, ended := context.WithCancel(context.Background())
	go func() { defer ended(); _ = cmd.Wait() }() // also when ctx ends, which kills it
	kill = func() { _ = cmd.Process.Kill(); <-running.Done() }
	t.Cleanup(kill)
	found, err := out.Await(running, regexp.MustCompile(`ready at (http://\S+)`))
	if err != nil {
		t.Fatalf("it did not get ready:\n%s", out)
	}
	return found[1], kill
}

// A process dies after a person has approved a call: while the tool runs, or while the model
// answers. Another process goes on, and the tool has run once.
func TestApprovedCallsOfProcessesThatDie(t *testing.T) {
	slowtest.Skip(t, "approved calls of processes that are killed")
	program := filepath.Join(t.TempDir(), "merchant")
	if output, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./internal/merchant").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	for name, test := range map[string]struct {
		during string
		want   []string // of the stored turn
	}{
		"while the tool runs":     {"tool", []string{`"effect_unknown"`, `"FAILED"`}},
		"while the model answers": {"model", []string{`"Charged."`, `"STOP"`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			var charged atomic.Int32
			reached, release := make(chan struct{}, 1), make(chan struct{})
			remote := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				charged.Add(1)
				if test.during == "tool" {
					reached <- struct{}{}
					select {
					case <-release:
					case <-r.Context().Done():
					}
				}
			}))
			defer remote.Close()
			gemini := geminitest.Start(t)
			env := []string{
				"SESSION_STORE=firestore", "FIRESTORE_EMULATOR_HOST=" + emulator.Host(t), "GOOGLE_CLOUD_PROJECT=" + emulator.Project(),
				"GEMINI_API_KEY=k", "GOOGLE_GEMINI_BASE_URL=" + gemini.URL, "MODEL_FALLBACKS=none", "RATE_LIMIT_PER_MINUTE=100000", "CALLER_RATE_LIMIT_PER_MINUTE=100000", "MERCHANT_REMOTE=" + remote.URL,
			}
			first, kill := startProgram(ctx, t, program, env...)
			gemini.Forget()
			gemini.Enqueue(geminitest.Calls(geminitest.FunctionCall{Name: "charge", Args: map[string]any{}}))
			body := call(ctx, t, http.MethodPost, first+"/invoke", `{"query":"Charge."}`)
			var waits struct {
				Data struct {
					RunID     string `json:"run_id"`
					SessionID string `json:"session_id"`
					Pending   []struct {
						CallID string `json:"call_id"`
					} `json:"pending"`
				} `json:"data"`
			}
			if err := json.Unmarshal(body, &waits); err != nil || len(waits.Data.Pending) != 1 {
				t.Fatalf("%v: %s", err, body)
			}
			answers := make(chan struct{})
			defer func() { close(answers) }()
			if test.during == "model" {
				gemini.Enqueue(geminitest.Text("Never.").WithGate(0, answers))
			}
			approve, err := http.NewRequestWithContext(ctx, http.MethodPost, first+"/runs/"+waits.Data.RunID+"/approvals",
				strings.NewReader(`{"call_id":"`+waits.Data.Pending[0].CallID+`","approve":true}`))
			if err != nil {
				t.Fatal(err)
			}
			approve.Header.Set("Content-Type", "application/json")
			go func() {
				if response, err := http.DefaultClient.Do(approve); err == nil {
					_ = response.Body.Close()
				}
			}()
			if test.during == "tool" {
				select {
				case <-reached:
				case <-ctx.Done():
					t.Fatal("the tool was not called")
				}
			} else {
				if _, err := gemini.Await(ctx, 2); err != nil {
					t.Fatal(err)
				}
				// The result of the tool is in the ledger with the record's next write.
				asked := time.Now()
				for updated := (time.Time{}); !updated.After(asked); {
					updated = updatedAt(t, call(ctx, t, http.MethodGet, first+"/runs/"+waits.Data.RunID, ""))
				}
			}
			kill()
			close(release)
			next, _ := startProgram(ctx, t, program, env...)
			gemini.Forget()
			gemini.Enqueue(geminitest.Text("Charged."))
			events := call(ctx, t, http.MethodGet, next+"/runs/"+waits.Data.RunID+"/events", "")
			if !bytes.Contains(events, []byte("event: done")) {
				t.Errorf("the run has not ended: %s", events)
			}
			stored := call(ctx, t, http.MethodGet, next+"/sessions/"+waits.Data.SessionID, "")
			for _, want := range test.want {
				if !bytes.Contains(stored, []byte(want)) {
					t.Errorf("the turn has no %s: %s", want, stored)
				}
			}
			if n := charged.Load(); n != 1 {
				t.Errorf("charged %d times", n)
			}
			if test.during == "model" {
				sent := gemini.Requests()
				if len(sent) != 1 || !bytes.Contains(sent[0].Raw, []byte(`"r-1"`)) {
					t.Errorf("the model was asked %d times", len(sent))
				}
			}
		})
	}
}

// call returns the body of a response.
func call(ctx context.Context, t *testing.T, method, address, body string) []byte {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	read, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return read
}

// updatedAt returns when a run's record was written last.
func updatedAt(t *testing.T, body []byte) time.Time {
	t.Helper()
	var run struct {
		Data struct {
			UpdatedAt time.Time `json:"updated_at"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &run); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return run.Data.UpdatedAt
}
