package telemetry

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/gatehouse/internal/telemetry/telemetrytest"
	"example.com/gatehouse/internal/testclock"
)

const childVariable = "TELEMETRY_TEST_CHILD"

// child is an instance that answers a request for each line on its standard
// input, the line being the seconds since the last one. It ends on SIGTERM.
func child() {
	s, err := Parse(os.LookupEnv)
	if err != nil {
		panic(err)
	}
	c := testclock.New(start)
	config := all()
	config.Now = c.Now
	o, err := New(s, config)
	if err != nil {
		panic(err)
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	lines := make(chan string)
	go func() {
		in := bufio.NewScanner(os.Stdin)
		for in.Scan() {
			lines <- in.Text()
		}
	}()
	for {
		select {
		case line := <-lines:
			seconds, _ := strconv.Atoi(line)
			c.Advance(time.Duration(seconds) * time.Second)
			turn(o)
			fmt.Println("answered")
			begin := time.Now()
			o.Flush(context.Background())
			fmt.Println("flushed", time.Since(begin).Milliseconds())
		case <-term:
			if err := o.Shutdown(context.Background()); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		}
	}
}

// An instance is a child under the test's hand.
type instance struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.Writer
	out *bufio.Scanner
}

func startInstance(t *testing.T, endpoint, protocol string) *instance {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"=1", "OTEL_TRACES_EXPORTER=otlp", "OTEL_METRICS_EXPORTER=otlp",
		"OTEL_EXPORTER_OTLP_ENDPOINT="+endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL="+protocol)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return &instance{t, cmd, in, bufio.NewScanner(out)}
}

// request sends one, seconds after the last, and waits until it is answered.
func (i *instance) request(seconds int) {
	i.t.Helper()
	fmt.Fprintln(i.in, seconds)
	i.await("answered")
}

// flushed waits until the flush is over, and returns how long it took.
func (i *instance) flushed() time.Duration {
	i.t.Helper()
	ms, _ := strconv.Atoi(strings.TrimPrefix(i.await("flushed"), "flushed "))
	return time.Duration(ms) * time.Millisecond
}

func (i *instance) await(word string) string {
	i.t.Helper()
	if !i.out.Scan() || !strings.HasPrefix(i.out.Text(), word) {
		i.t.Fatalf("said %q instead of %s", i.out.Text(), word)
	}
	return i.out.Text()
}

// freeze stops the process, and returns when it stands.
func (i *instance) freeze() {
	i.t.Helper()
	pid := i.cmd.Process.Pid
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		i.t.Fatal(err)
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		i.t.Fatalf("not stopped: %v, %v", status, err)
	}
}

func (i *instance) thaw() {
	i.t.Helper()
	if err := syscall.Kill(i.cmd.Process.Pid, syscall.SIGCONT); err != nil {
		i.t.Fatal(err)
	}
}

func (i *instance) terminate() {
	i.t.Helper()
	if err := i.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		i.t.Fatal(err)
	}
	if err := i.cmd.Wait(); err != nil {
		i.t.Errorf("ended with %v", err)
	}
}

// An instance that has CPU only until each flush is over is at most 10 s late,
// and after SIGTERM nothing is missing or there twice.
func TestFrozenBetweenRequests(t *testing.T) {
	for _, protocol := range []string{protocolHTTP, protocolGRPC} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			collector := telemetrytest.New(t)
			child := startInstance(t, collector.Endpoint(protocol), protocol)
			now := 0
			var times []int // of the requests
			for _, seconds := range []int{0, 1, 3, 3, 3, 30, 9, 1, 5, 600, 2} {
				child.thaw()
				child.request(seconds)
				now += seconds
				times = append(times, now)
				child.flushed()
				child.freeze()
				due := 0 // what is older than 10 s must have arrived
				for _, at := range times {
					if at < now-10 {
						due++
					}
				}
				if got := len(collector.Spans()) / spansOfATurn; got < due {
					t.Errorf("at %d s %d turns have arrived, %d are older than 10 s", now, got, due)
				}
			}
			child.thaw()
			child.terminate()
			if doubles := checkDistinct(t, collector, len(times)*spansOfATurn); doubles != 0 {
				t.Errorf("%d spans came twice", doubles)
			}
			exports := collector.Metrics()
			checkMetrics(t, exports[len(exports)-1:], uint64(len(times)))
		})
	}
}

// Frozen with an export on its way, whose answer comes during the freeze: the time is
// not counted, and nothing is sent again.
func TestFrozenDuringAFlush(t *testing.T) {
	for _, protocol := range []string{protocolHTTP, protocolGRPC} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			collector := telemetrytest.New(t)
			collector.SetMode(telemetrytest.Gate)
			child := startInstance(t, collector.Endpoint(protocol), protocol)
			child.request(0)
			collector.AwaitCalls(2) // traces and metrics
			child.freeze()
			collector.Open()
			collector.SetMode(telemetrytest.Take)
			<-time.After(flushBound + 16*tick) // the time it is frozen for is what is tested
			child.thaw()
			child.flushed()
			child.request(10)
			child.flushed()
			child.terminate()
			if doubles := checkDistinct(t, collector, 2*spansOfATurn); doubles != 0 {
				t.Errorf("%d spans came twice", doubles)
			}
		})
	}
}

// Frozen with an export on its way, whose connection breaks during the freeze: it is
// sent again.
func TestFrozenWhileTheConnectionBreaks(t *testing.T) {
	for _, protocol := range []string{protocolHTTP, protocolGRPC} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			collector := telemetrytest.New(t)
			collector.SetMode(telemetrytest.Hang)
			child := startInstance(t, collector.Endpoint(protocol), protocol)
			child.request(0)
			collector.AwaitCalls(2)
			child.freeze()
			collector.SetMode(telemetrytest.Take)
			collector.Break()
			child.thaw()
			child.flushed()
			child.request(10)
			child.flushed()
			if got := len(collector.Spans()); got < 2*spansOfATurn {
				t.Errorf("%d spans after the next request", got)
			}
			child.terminate()
			checkDistinct(t, collector, 2*spansOfATurn)
		})
	}
}
