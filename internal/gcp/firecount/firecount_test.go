package firecount_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/gatehouse/internal/gcp/emulator"
	"example.com/gatehouse/internal/gcp/firecount"
	"example.com/gatehouse/internal/limit"
)

func TestMain(m *testing.M) { os.Exit(emulator.Main(m)) }

var _ limit.Counters = (*firecount.Counters)(nil)

var (
	start   = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	expires = start.Add(time.Minute)
)

// wire counts the calls of a client and, on demand, loses the answer to the
// next write once it was done.
type wire struct {
	mu    sync.Mutex
	calls []string
	lose  atomic.Bool
}

func (w *wire) options() []option.ClientOption {
	unary := func(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
		w.note(method)
		err := invoke(ctx, method, request, reply, conn, options...)
		if err == nil && strings.HasSuffix(method, "/Commit") && w.lose.CompareAndSwap(true, false) {
			return status.Error(codes.Unavailable, "the answer was lost")
		}
		return err
	}
	stream := func(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, options ...grpc.CallOption) (grpc.ClientStream, error) {
		w.note(method)
		return open(ctx, desc, conn, method, options...)
	}
	return []option.ClientOption{
		option.WithGRPCDialOption(grpc.WithChainUnaryInterceptor(unary)),
		option.WithGRPCDialOption(grpc.WithChainStreamInterceptor(stream)),
	}
}

func (w *wire) note(method string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, method[strings.LastIndex(method, "/")+1:])
}

// take gives the calls since it was called last.
func (w *wire) take() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	calls := strings.Join(w.calls, " ")
	w.calls = nil
	return calls
}

func TestLeaseAndReturn(t *testing.T) {
	t.Parallel()
	host, project := emulator.Host(t), emulator.Project()
	var wa, wb wire
	client := emulator.Connect(t, host, project, wa.options()...)
	a, b := firecount.New(client), firecount.New(emulator.Connect(t, host, project, wb.options()...))
	const read = "BatchGetDocuments"
	for _, step := range []struct {
		name            string
		counters        *firecount.Counters
		want, give      int64
		granted, leased int64
		calls           string
	}{
		{name: "a look at a new counter", counters: a, calls: read},
		{name: "the first lease", counters: a, want: 10, granted: 10, leased: 10, calls: "Commit"},
		{name: "the next one of the same instance", counters: a, want: 20, granted: 20, leased: 30, calls: "Commit"},
		{name: "the first of another", counters: b, want: 40, granted: 40, leased: 70, calls: "Commit " + read + " Commit"},
		{name: "the overtaken instance", counters: a, want: 10, granted: 10, leased: 80, calls: "Commit " + read + " Commit"},
		{name: "less than wanted", counters: a, want: 50, granted: 20, leased: 100, calls: "Commit"},
		{name: "none left", counters: b, want: 50, leased: 100, calls: "Commit " + read},
		{name: "none left, known", counters: a, want: 50, leased: 100, calls: read},
		{name: "a return", counters: b, give: 15, leased: 85, calls: "Commit"},
		{name: "what was returned", counters: a, want: 50, granted: 15, leased: 100, calls: read + " Commit"},
		{name: "a look", counters: b, leased: 100, calls: read},
	} {
		wa.take()
		wb.take()
		if step.give > 0 {
			if err := step.counters.Return(t.Context(), "counter", step.give); err != nil {
				t.Fatalf("%s: %v", step.name, err)
			}
		} else {
			granted, leased, err := step.counters.Lease(t.Context(), "counter", step.want, step.want, 100, expires)
			if err != nil || granted != step.granted || leased != step.leased {
				t.Errorf("%s: %d granted, %d leased, error %v; want %d, %d", step.name, granted, leased, err, step.granted, step.leased)
			}
		}
		if calls := wa.take() + wb.take(); calls != step.calls {
			t.Errorf("%s: calls %q, want %q", step.name, calls, step.calls)
		}
	}
	snapshot, err := client.Collection(firecount.Collection).Doc("counter").Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if at, _ := snapshot.DataAt("expires_at"); at != expires {
		t.Errorf("expires_at %v", at)
	}
	if err := a.Return(t.Context(), "unknown", 1); err != nil {
		t.Errorf("a return to a counter that is gone: %v", err)
	}
}

// A write whose answer is lost is repeated by the client. What it leased is
// lost, what it returned is returned once.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	var w wire
	c := firecount.New(emulator.Client(t, w.options()...))
	lease := func(name string, want, granted, leased int64) {
		t.Helper()
		g, l, err := c.Lease(t.Context(), "counter", want, want, 100, expires)
		if err != nil || g != granted || l != leased {
			t.Errorf("%s: %d granted, %d leased, error %v; want %d, %d", name, g, l, err, granted, leased)
		}
	}
	w.lose.Store(true)
	lease("a first lease whose answer is lost", 10, 10, 20)
	w.lose.Store(true)
	lease("a further one", 10, 10, 40)
	w.lose.Store(true)
	if err := c.Return(t.Context(), "counter", 5); err != nil {
		t.Fatal(err)
	}
	lease("what is leased after a return", 0, 0, 35)
	if got := strings.Count(w.take(), "Commit"); got != 8 {
		t.Errorf("%d commits", got)
	}
}

// With Firestore away an instance goes on with its share, and only the first
// call waits.
func TestAway(t *testing.T) {
	t.Parallel()
	l := limit.New(limit.Config{
		Counters:     firecount.New(emulator.Connect(t, "127.0.0.1:1", emulator.Project())),
		MaxInstances: 6, Now: func() time.Time { return start }, Log: slog.New(slog.DiscardHandler),
	})
	begun, through := time.Now(), 0
	for {
		_, err := l.Take(t.Context(), []limit.Rule{{Name: "person", Who: "p", PerMinute: 60}}, limit.Turn)
		if errors.As(err, new(*limit.Refusal)) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		through++
	}
	if took := time.Since(begun); through != 10 || !l.Degraded() || took > 5*time.Second {
		t.Errorf("%d let through in %v, degraded %t", through, took, l.Degraded())
	}
}

// However many clients lease from one counter at once, all of it is granted and
// no more.
func TestContention(t *testing.T) {
	t.Parallel()
	host := emulator.Host(t)
	for _, clients := range []int{1, 2, 4} {
		t.Run(fmt.Sprintf("%d clients", clients), func(t *testing.T) {
			t.Parallel()
			project := emulator.Project()
			const limit = 30
			var granted, failed atomic.Int64
			var group sync.WaitGroup
			for range clients {
				c := firecount.New(emulator.Connect(t, host, project))
				group.Go(func() {
					for {
						n, leased, err := c.Lease(t.Context(), "counter", 1, 1, limit, expires)
						switch {
						case err != nil:
							failed.Add(1)
						case n == 0:
							return
						}
						granted.Add(n)
						if leased > limit {
							t.Errorf("%d leased", leased)
						}
					}
				})
			}
			group.Wait()
			t.Logf("%d clients: %d of %d granted, %d leases gave up", clients, granted.Load(), limit, failed.Load())
			if got := granted.Load(); got != limit {
				t.Errorf("%d of %d granted", got, limit)
			}
		})
	}
}

// The variables that make a test process an instance of TestProcesses.
const (
	projectVariable = "FIRECOUNT_TEST_PROJECT"
	hostVariable    = "FIRECOUNT_TEST_HOST"
	processVariable = "FIRECOUNT_TEST_PROCESSES"
)

const (
	perMinute = 600
	readyLine = "instance ready"
	report    = "instance let through "
)

// However many processes hammer one limit, no more than it comes through. The
// clock stands, so that it is one minute.
func TestProcesses(t *testing.T) {
	if project := os.Getenv(projectVariable); project != "" {
		instance(t, os.Getenv(hostVariable), project)
		return
	}
	host := emulator.Host(t)
	for _, processes := range []int{1, 2, 4} {
		t.Run(fmt.Sprintf("%d processes", processes), func(t *testing.T) {
			project := emulator.Project()
			outputs, failures := make([][]byte, processes), make([]error, processes)
			var group, ready sync.WaitGroup
			start := make(chan struct{})
			for i := range processes {
				cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProcesses$", "-test.count=1", "-test.v")
				cmd.Env = append(os.Environ(), projectVariable+"="+project, hostVariable+"="+host, processVariable+"="+strconv.Itoa(processes))
				ready.Add(1)
				group.Go(func() { outputs[i], failures[i] = run(cmd, ready.Done, start) })
			}
			ready.Wait()
			begun := time.Now()
			close(start)
			group.Wait()
			through := 0
			var each []string
			for i, output := range outputs {
				_, after, ok := strings.Cut(string(output), report)
				var n, calls int
				if _, err := fmt.Sscanf(after, "%d, calls %d", &n, &calls); failures[i] != nil || !ok || err != nil {
					t.Fatalf("process %d: %v\n%s", i, errors.Join(failures[i], err), output)
				}
				through += n
				each = append(each, fmt.Sprintf("%d (%d calls of Firestore)", n, calls))
			}
			t.Logf("%d processes: %d of %d let through in %v: %s", processes, through, perMinute, time.Since(begun).Round(time.Millisecond), strings.Join(each, ", "))
			if through > perMinute || through < perMinute*9/10 {
				t.Errorf("%d of %d let through", through, perMinute)
			}
		})
	}
}

// run runs an instance: it calls ready when that prints its first line and ends
// its input at start. It gives the rest of what was printed.
func run(cmd *exec.Cmd, ready func(), start <-chan struct{}) ([]byte, error) {
	isReady := sync.OnceFunc(ready)
	defer isReady()
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(out)
	var output []byte
	for lines.Scan() {
		if lines.Text() == readyLine {
			isReady()
			<-start
			_ = in.Close()
		}
		output = append(append(output, lines.Bytes()...), '\n')
	}
	return output, cmd.Wait()
}

// instance hammers the limit from eight goroutines until each is refused.
func instance(t *testing.T, host, project string) {
	processes, err := strconv.Atoi(os.Getenv(processVariable))
	if err != nil {
		t.Fatal(err)
	}
	var w wire
	l := limit.New(limit.Config{
		Counters:     firecount.New(emulator.Connect(t, host, project, w.options()...)),
		MaxInstances: processes, Now: func() time.Time { return start }, Log: slog.New(slog.DiscardHandler),
	})
	rules := []limit.Rule{{Name: "person", Who: "p", PerMinute: perMinute}}
	// The emulator is a local process that starts cold: the first answer may take
	// longer than a limiter waits.
	if states := l.Left(t.Context(), rules, nil); l.Degraded() {
		t.Fatalf("no answer: %v", states)
	}
	fmt.Printf("\n%s\n", readyLine)
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		t.Fatal(err)
	}
	var through atomic.Int64
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for {
				_, err := l.Take(t.Context(), rules, limit.Turn)
				if errors.As(err, new(*limit.Refusal)) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				through.Add(1)
			}
		})
	}
	group.Wait()
	if l.Degraded() {
		t.Error("the counters were away")
	}
	l.Close(t.Context())
	fmt.Printf("%s%d, calls %d\n", report, through.Load(), len(strings.Fields(w.take())))
}
