package firestore_test

import (
	"bufio"
	"context"
	"crypto/rand"
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

	"example.com/gatehouse/internal/gcp/emulator"
	"example.com/gatehouse/internal/gcp/firestore"
	"example.com/gatehouse/internal/limit"
)

var _ limit.Counters = (*firestore.Counters)(nil)

var (
	start   = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	expires = start.Add(time.Minute)
)

// hold is an update by which an instance would hold so many of 100 tokens.
func hold(instance string, seq, spent, want int64) limit.Update {
	return limit.Update{
		Instance: instance, Seq: seq, At: start, Expires: expires,
		PerDay: 100, Spent: spent, Want: want, Usage: map[string]limit.Spend{"gemini-2.5-flash": {Tokens: spent, CostUSD: 0.5}},
	}
}

func TestAccountUpdates(t *testing.T) {
	t.Parallel()
	host, project := emulator.Host(t), emulator.Project()
	var wa, wb wire
	client := emulator.Connect(t, host, project, wa.options()...)
	a, b := firestore.NewCounters(client), firestore.NewCounters(emulator.Connect(t, host, project, wb.options()...))
	const read = "BatchGetDocuments"
	for _, step := range []struct {
		name          string
		counters      *firestore.Counters
		update        limit.Update
		held, charged int64
		calls         string
	}{
		{"the first of a day", a, hold("a", 1, 0, 10), 10, 10, "Commit"},
		{"the next one of the same instance", a, hold("a", 2, 5, 20), 20, 25, "Commit"},
		{"the first of another", b, hold("b", 1, 0, 40), 40, 65, "Commit " + read + " Commit"},
		{"the overtaken instance", a, hold("a", 3, 5, 30), 30, 75, "Commit " + read + " Commit"},
		{"less than wanted", a, hold("a", 4, 5, 90), 55, 100, read + " Commit"},
		{"none left", b, hold("b", 2, 0, 50), 40, 100, "Commit " + read},
		{"a change of nothing", b, hold("b", 3, 0, 50), 40, 100, read},
		{"a late one", b, hold("b", 1, 0, 10), 40, 100, read},
		{"what is given back", a, hold("a", 5, 6, 0), 0, 46, "Commit"},
	} {
		wa.take()
		wb.take()
		account, err := step.counters.Update(t.Context(), "account", step.update)
		if held := account.Shares[step.update.Instance].Held; err != nil || held != step.held || account.Charged() != step.charged {
			t.Errorf("%s: %d held, %d charged, error %v; want %d, %d", step.name, held, account.Charged(), err, step.held, step.charged)
		}
		if calls := wa.take() + wb.take(); calls != step.calls {
			t.Errorf("%s: calls %q, want %q", step.name, calls, step.calls)
		}
	}
	if account, err := b.Look(t.Context(), "account"); err != nil || account.Charged() != 46 {
		t.Errorf("a look: %+v, %v", account, err)
	}
	if account, err := b.Look(t.Context(), "unknown"); err != nil || len(account.Shares) != 0 {
		t.Errorf("a look at nothing: %+v, %v", account, err)
	}
	snapshot, err := client.Collection(firestore.CountersCollection).Doc("account").Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if at, _ := snapshot.DataAt("expires_at"); at != expires {
		t.Errorf("expires_at %v", at)
	}
}

// A write whose answer is lost is repeated by the client, or replaced by the next
// update: what it leased is neither lost nor leased twice.
func TestALostAnswerOfAnAccount(t *testing.T) {
	t.Parallel()
	var w wire
	c := firestore.NewCounters(emulator.Client(t, w.options()...))
	for i, step := range []struct {
		name string
		lose bool
		want int64
	}{
		{"a first one whose answer is lost", true, 10},
		{"a further one", true, 30},
		{"one after it", false, 40},
		{"what is given back", true, 5},
	} {
		if step.lose {
			w.loseAnswers(1)
		}
		account, err := c.Update(t.Context(), "account", hold("a", int64(i+1), 0, step.want))
		if err != nil || account.Shares["a"].Held != step.want || account.Charged() != step.want {
			t.Errorf("%s: %+v, error %v; want %d held", step.name, account, err, step.want)
		}
	}
	// The process does not wait for an answer; the instance says again how things are.
	w.loseAnswers(1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _ = c.Update(ctx, "account", hold("a", 5, 7, 50))
	w.loseAnswers(0)
	account, err := c.Update(t.Context(), "account", hold("a", 6, 7, 20))
	if err != nil || account.Shares["a"].Held != 20 || account.Charged() != 27 {
		t.Errorf("after an unknown outcome: %+v, %v", account, err)
	}
}

// With Firestore away an instance goes on with its share, and only the first
// call waits.
func TestCountersAway(t *testing.T) {
	t.Parallel()
	l := limit.New(limit.Config{
		Counters:     firestore.NewCounters(emulator.Connect(t, "127.0.0.1:1", emulator.Project())),
		MaxInstances: 6, Now: func() time.Time { return start }, Log: slog.New(slog.DiscardHandler),
	})
	begun, through := time.Now(), 0
	for {
		_, err := l.Take(t.Context(), []limit.Rule{{Name: "end_user", Who: "p", PerMinute: 60}}, limit.Turn)
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
func TestContendedAccount(t *testing.T) {
	t.Parallel()
	host := emulator.Host(t)
	for _, clients := range []int{1, 2, 4} {
		t.Run(fmt.Sprintf("%d clients", clients), func(t *testing.T) {
			t.Parallel()
			project := emulator.Project()
			const limited = 30
			var granted, failed atomic.Int64
			var group sync.WaitGroup
			for range clients {
				c := firestore.NewCounters(emulator.Connect(t, host, project))
				group.Go(func() {
					instance, held, seq := rand.Text(), int64(0), int64(0)
					for {
						seq++
						u := limit.Update{Instance: instance, Seq: seq, At: start, Expires: expires, PerDay: limited, Want: held + 1}
						account, err := c.Update(t.Context(), "account", u)
						if err != nil {
							failed.Add(1)
							continue
						}
						if charged := account.Charged(); charged > limited {
							t.Errorf("%d charged", charged)
						}
						if account.Shares[instance].Held == held {
							granted.Add(held)
							return
						}
						held = account.Shares[instance].Held
					}
				})
			}
			group.Wait()
			t.Logf("%d clients: %d of %d granted, %d leases failed", clients, granted.Load(), limited, failed.Load())
			if got := granted.Load(); got != limited {
				t.Errorf("%d of %d granted", got, limited)
			}
		})
	}
}

// The variables that make a test process an instance of TestLimitsAcrossProcesses.
const (
	projectVariable = "FIRESTORE_TEST_PROJECT"
	hostVariable    = "FIRESTORE_TEST_HOST"
	processVariable = "FIRESTORE_TEST_PROCESSES"
)

const (
	perMinute = 600
	readyLine = "instance ready"
	slowLine  = "the counters were away"
	report    = "instance let through "
)

// However many processes hammer one limit, no more than it comes through. The
// clock stands, so that it is one minute.
func TestLimitsAcrossProcesses(t *testing.T) {
	if project := os.Getenv(projectVariable); project != "" {
		instance(t, os.Getenv(hostVariable), project)
		return
	}
	host := emulator.Host(t)
	for _, processes := range []int{1, 2, 4} {
		t.Run(fmt.Sprintf("%d processes", processes), func(t *testing.T) {
			for try := 1; !hammer(t, host, processes); try++ {
				if try == 5 {
					t.Fatal("the emulator never answered in time")
				}
				t.Log("the emulator took longer to answer than a limiter waits: once more")
			}
		})
	}
}

// hammer has processes hammer one limit. It is false when the emulator did not keep
// up, so that they went on with their shares.
func hammer(t *testing.T, host string, processes int) bool {
	t.Helper()
	project := emulator.Project()
	outputs, failures := make([][]byte, processes), make([]error, processes)
	var group, ready sync.WaitGroup
	start := make(chan struct{})
	for i := range processes {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestLimitsAcrossProcesses$", "-test.count=1", "-test.v")
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
		if strings.Contains(string(output), slowLine) {
			return false
		}
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
	return true
}

// run runs an instance: it calls ready when that prints its first line and ends
// its input at start. It returns the rest of what was printed.
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
		Counters:     firestore.NewCounters(emulator.Connect(t, host, project, w.options()...)),
		MaxInstances: processes, Now: func() time.Time { return start }, Log: slog.New(slog.DiscardHandler),
	})
	rules := []limit.Rule{{Name: "end_user", Who: "p", PerMinute: perMinute}}
	// The emulator is a local process that starts cold: the first answer may take
	// longer than a limiter waits.
	if report, err := l.Report(t.Context(), rules, nil); err != nil {
		t.Fatalf("no answer: %v, %v", report, err)
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
		fmt.Println(slowLine)
	}
	l.Close(t.Context())
	fmt.Printf("%s%d, calls %d\n", report, through.Load(), len(strings.Fields(w.take())))
}
