package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"example.com/gatehouse/internal/gcp/tasks/taskstest"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/slowtest"
)

// Nothing relies on CPU after a disconnect: a process that stands still right then is
// taken over by whoever comes, and stores nothing once it goes on.
func TestARunOfAProcessThatIsFrozenAfterTheDisconnect(t *testing.T) {
	slowtest.Skip(t, "a process that stands still after a disconnect")
	t.Parallel()
	const half, whole = "Half of ", "The whole answer."
	type scene struct {
		next  *service
		stand *taskstest.Server
		run   startData
		ask   map[string]any
	}
	// insist repeats a request until the frozen process's lease has lapsed.
	insist := func(ctx context.Context, t *testing.T, s scene, method, path string, body any, want int, headers ...string) answer {
		t.Helper()
		for {
			a, err := s.next.try(ctx, method, path, body, headers...)
			if err != nil {
				t.Fatal(err)
			}
			if a.Status == want {
				return a
			}
			if a.Status != http.StatusConflict {
				t.Fatalf("%s %s: %d %s", method, path, a.Status, a.Body)
			}
			if err := rest(ctx, 200*time.Millisecond); err != nil {
				t.Fatalf("%s %s: still %d %s", method, path, a.Status, a.Body)
			}
		}
	}
	tests := []struct {
		name   string
		comes  func(ctx context.Context, t *testing.T, s scene)
		answer string
		asked  int // how often the model was
	}{
		{"the retry of its key", func(ctx context.Context, t *testing.T, s scene) {
			got := wantTurn(t, insist(ctx, t, s, http.MethodPost, "/invoke", s.ask, http.StatusOK, "Idempotency-Key", "frozen"))
			if got.RunID != s.run.RunID || got.Response != whole {
				t.Errorf("the retry was answered %+v", got)
			}
		}, whole, 2},
		{"the retry of its key as a stream", func(ctx context.Context, t *testing.T, s scene) {
			for { // it attaches to the run while its holder may live
				a, err := s.next.try(ctx, http.MethodPost, "/invoke", s.ask, keyed("frozen", events...)...)
				if err != nil {
					t.Fatal(err)
				}
				if o, err := outcomeOf(a); err == nil && o.turn != nil {
					if o.turn.Response != whole {
						t.Errorf("the retry was answered %+v", o.turn)
					}
					return
				}
				if err := rest(ctx, 200*time.Millisecond); err != nil {
					t.Fatalf("still %d %s", a.Status, a.Body)
				}
			}
		}, whole, 2},
		{"somebody who watches", func(ctx context.Context, t *testing.T, s scene) {
			a := insist(ctx, t, s, http.MethodGet, "/runs/"+s.run.RunID+"/events", nil, http.StatusOK)
			if o, err := outcomeOf(a); err != nil || o.turn == nil || o.turn.Response != whole {
				t.Errorf("the events end with %+v, %v", o, err)
			}
		}, whole, 2},
		{"a stop", func(ctx context.Context, t *testing.T, s scene) {
			eventually(t, "the run is stopped", func() bool { // one that comes before the lease has lapsed is left to the holder
				a := s.next.do(t, http.MethodPost, "/runs/"+s.run.RunID+"/stop", nil)
				if a.Status != http.StatusAccepted && a.Status != http.StatusConflict {
					t.Errorf("a stop: %d %s", a.Status, a.Body)
				}
				return s.next.run(t, s.run.RunID).State == "stopped"
			})
		}, half, 1},
		{"the queue", func(ctx context.Context, t *testing.T, s scene) {
			eventually(t, "the queue has finished it", func() bool {
				for _, task := range s.stand.Waiting() {
					if status := s.stand.Deliver(ctx, task); status != http.StatusNoContent {
						t.Errorf("a task was answered %d", status)
					}
				}
				return len(s.stand.Waiting()) == 0
			})
		}, whole, 2},
	}
	emulatorHost(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			stand, gemini := taskstest.Start(t), geminitest.Start(t)
			env := append(firestore(emulatorHost(t)), "REQUEST_TIMEOUT=40s")
			address := unused(t)
			next := startQueuedAt(t, address, stand, gemini, env...)
			// The queue delivers to the service's one address, which is the living one's.
			slow := startToBeFrozen(t, stand, gemini, append(env, "SERVICE_URL="+next.URL)...)
			makeReady(t, next, gemini)
			ctx := bounded(t)
			gate := make(chan struct{})
			gemini.Enqueue(geminitest.Text(half, "an answer that comes too late.").WithGate(1, gate), geminitest.Text(whole))

			ask := map[string]any{"query": "I leave.", "on_disconnect": "continue"}
			stream := slow.stream(t, ask, keyed("frozen", events...)...)
			s := scene{next: next, stand: stand, ask: ask}
			if err := json.Unmarshal(stream.until(t, "delta")[0].Data, &s.run); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the run has a record, and then its task", func() bool {
				a := next.do(t, http.MethodGet, "/runs/"+s.run.RunID, nil)
				return a.Status == http.StatusOK && len(stand.Waiting()) > 0
			})
			_ = stream.body.Close()
			freeze(ctx, t, slow.cmd.Process)
			close(gate) // the answer is there when it wakes

			test.comes(ctx, t, s)
			stored := func() []string {
				var list []string
				for _, turn := range wantData[sessionPage](t, next.do(t, http.MethodGet, "/sessions/"+s.run.SessionID, nil)).Turns {
					list = append(list, fmt.Sprintf("%d: %s", turn.Turn, turn.Response))
				}
				return list
			}
			want := []string{"1: " + test.answer}
			if got := stored(); !slices.Equal(got, want) {
				t.Fatalf("stored: %q, want %q", got, want)
			}
			if n := len(gemini.Requests()); n != test.asked {
				t.Errorf("the model was asked %d times, want %d", n, test.asked)
			}

			if err := slow.cmd.Process.Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
			// Its request is over, in whatever way, once it has logged it.
			eventually(t, "the thawed process has ended the request", func() bool {
				return strings.Contains(slow.stdout.String(), `"request_id":"`+stream.id+`","route":"POST /invoke"`)
			})
			if got := stored(); !slices.Equal(got, want) {
				t.Errorf("the thawed process stored: %q, want %q", got, want)
			}
			if run := next.run(t, s.run.RunID); run.State != "done" && run.State != "stopped" || run.Turn != 1 {
				t.Errorf("the run in the end: %+v", run)
			}
			again, err := slow.insist(ctx, ask, keyed("frozen")...)
			if err != nil || !again.replayed || again.turn.Response != test.answer {
				t.Errorf("a retry at the thawed process: %+v, %v", again.turn, err)
			}
		})
	}
}

// startToBeFrozen runs the local program with a queue, at an address that is free.
func startToBeFrozen(t *testing.T, stand *taskstest.Server, gemini *geminitest.Server, env ...string) *service {
	t.Helper()
	return startDoomed(t, queued("127.0.0.1:0", stand, gemini, env)...)
}
