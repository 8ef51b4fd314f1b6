package tasks_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/gatehouse/internal/access"
	"example.com/gatehouse/internal/auth"
	"example.com/gatehouse/internal/gcp/tasks"
	"example.com/gatehouse/internal/gcp/tasks/taskstest"
	"example.com/gatehouse/internal/queue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var run = queue.Task{Kind: queue.Run, Owner: "owner-1", Run: "session-1.turn-1"}

func newQueue(t testing.TB, server *taskstest.Server, url string) *tasks.Queue {
	t.Helper()
	q, err := tasks.New(tasks.Config{Queue: taskstest.Queue, Account: taskstest.Account, URL: url, Endpoint: server.Addr, Deadline: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return q
}

// A receiver keeps what was delivered, and answers with a status of its test's.
type receiver struct {
	*httptest.Server
	mu      sync.Mutex
	bodies  []string
	callers []string
}

func receive(t testing.TB, server *taskstest.Server, answer func(n int) int) *receiver {
	t.Helper()
	r := &receiver{}
	var verify auth.Method
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		p, _, err := verify.Authenticate(req)
		if err != nil || req.URL.Path != queue.Path || req.Method != http.MethodPost || req.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s %v: %v", req.Method, req.URL, req.Header, err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.bodies, r.callers = append(r.bodies, string(body)), append(r.callers, p.Email)
		w.WriteHeader(answer(len(r.bodies)))
	}))
	t.Cleanup(r.Close)
	verify = auth.NewOIDC([]access.Issuer{{URL: server.Issuer.URL, Audiences: []string{r.URL}}}, auth.OIDCOptions{})[0]
	return r
}

func TestATaskIsDeliveredWithATokenOfItsAccount(t *testing.T) {
	t.Parallel()
	server := taskstest.Start(t)
	to := receive(t, server, func(int) int { return http.StatusOK })
	q := newQueue(t, server, to.URL)
	if err := q.Enqueue(t.Context(), run, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	waiting := server.Waiting()
	if len(waiting) != 1 || time.Until(waiting[0].ScheduleTime.AsTime()) < 59*time.Minute {
		t.Fatalf("waiting: %v", waiting)
	}
	if status := server.Deliver(t.Context(), waiting[0]); status != http.StatusOK || len(server.Waiting()) != 0 {
		t.Errorf("status %d, and %d tasks wait", status, len(server.Waiting()))
	}
	got, err := queue.Parse([]byte(to.bodies[0]))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(run, got); diff != "" {
		t.Errorf("the task (-want +got):\n%s", diff)
	}
	if to.callers[0] != taskstest.Account {
		t.Errorf("delivered by %q", to.callers[0])
	}
}

func TestWhatIsAddedTwiceIsOneTask(t *testing.T) {
	t.Parallel()
	server := taskstest.Start(t)
	to := receive(t, server, func(int) int { return http.StatusOK })
	q := newQueue(t, server, to.URL)
	second := run
	second.Attempt = 1
	for _, task := range []queue.Task{run, run, second, run} {
		if err := q.Enqueue(t.Context(), task, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	for _, waits := range server.Waiting() {
		server.Deliver(t.Context(), waits)
	}
	if err := q.Enqueue(t.Context(), run, time.Now()); err != nil { // done by now, and known
		t.Fatal(err)
	}
	if len(to.bodies) != 2 || len(server.Waiting()) != 0 {
		t.Errorf("%d deliveries, and %d tasks wait; want 2 and 0", len(to.bodies), len(server.Waiting()))
	}
}

func TestTheStandInDeliversAsItIsAsked(t *testing.T) {
	t.Parallel()
	server := taskstest.Start(t)
	done := make(chan struct{})
	to := receive(t, server, func(n int) int {
		if n < 7 { // two rounds of three copies fail
			return http.StatusServiceUnavailable
		}
		if n == 9 {
			close(done)
		}
		return http.StatusOK
	})
	server.Run(taskstest.Behavior{Copies: 3, Early: true, Delay: func() time.Duration { return time.Millisecond }})
	if err := newQueue(t, server, to.URL).Enqueue(t.Context(), run, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatalf("the deliveries: %v", server.Results())
	}
}

func TestEnqueueFails(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		task  queue.Task
		fail  codes.Code
		times int
		want  codes.Code // Unknown: an error that was not sent
		calls int
	}{
		{name: "unavailable, then fine", task: run, fail: codes.Unavailable, times: 2, calls: 3},
		{name: "no permission", task: run, fail: codes.PermissionDenied, times: 9, want: codes.PermissionDenied, calls: 1},
		{name: "the quota is used up", task: run, fail: codes.ResourceExhausted, times: 9, want: codes.ResourceExhausted, calls: 1},
		{name: "no task", want: codes.Unknown},
		{name: "a name too long", task: queue.Task{Kind: queue.Run, Owner: "o", Run: strings.Repeat("x", 200)}, want: codes.Unknown},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := taskstest.Start(t)
			server.FailNext(tt.fail, tt.times)
			err := newQueue(t, server, "https://service.example").Enqueue(t.Context(), tt.task, time.Now())
			if status.Code(err) != tt.want || server.Calls() != tt.calls {
				t.Errorf("%v after %d calls, want %v after %d", err, server.Calls(), tt.want, tt.calls)
			}
		})
	}
}

func TestNewReachesNothing(t *testing.T) {
	t.Parallel()
	q, err := tasks.New(tasks.Config{Queue: taskstest.Queue, Account: taskstest.Account, URL: "https://service.example", Endpoint: "127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := q.Enqueue(ctx, run, time.Now()); err == nil {
		t.Error("added where nothing listens")
	}
	if err := q.Close(); err != nil {
		t.Error(err)
	}
	if _, err := tasks.New(tasks.Config{Endpoint: "nonsense"}); err == nil {
		t.Error("an endpoint that is none was taken")
	}
}

func TestATaskHoldsNamesOnly(t *testing.T) {
	t.Parallel()
	body, err := run.Encode()
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]any
	if err := json.Unmarshal(body, &members); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]any{"kind": "run", "owner": "owner-1", "run": "session-1.turn-1"}, members); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
