// Package emulator provides Google's Firestore emulator to tests.
//
// The test processes of packages that run at the same time share one emulator: the
// first process starts it with gcloud, and the last one stops it. If
// FIRESTORE_EMULATOR_HOST is set, that emulator is used and never stopped. Each test
// has a separate project, so that tests do not see each other's data.
package emulator

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cloud.google.com/go/firestore"
	"go.uber.org/goleak"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"example.com/gatehouse/internal/gcp/emulator/process"
	"example.com/gatehouse/session"
)

// Main runs a package's tests, releases the emulator, and checks for leaked
// goroutines. TestMain passes its result to os.Exit.
func Main(m *testing.M) int {
	code := m.Run()
	shared.release()
	if code != 0 {
		return code
	}
	// The goroutine that waits for the emulator lives as long as other packages use
	// it.
	if err := goleak.Find(goleak.IgnoreAnyFunction("os.(*Process).Wait")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// Client returns a client of a new project in the emulator. Without an emulator the
// test is skipped, with instructions in its message; in CI it fails.
func Client(t testing.TB, options ...option.ClientOption) *firestore.Client {
	t.Helper()
	return Connect(t, Host(t), Project(), options...)
}

// Project returns an unused project name.
func Project() string {
	return "test-" + strings.ToLower(strings.Map(func(r rune) rune {
		if r == '_' || r == '-' {
			return 'x'
		}
		return r
	}, session.NewID()))
}

// Connect returns a client of a project at host. It is closed when t ends.
func Connect(t testing.TB, host, project string, more ...option.ClientOption) *firestore.Client {
	t.Helper()
	client, err := Dial(context.Background(), host, project, more...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// Dial is like [Connect], for programs that are not tests: bench has some.
func Dial(ctx context.Context, host, project string, more ...option.ClientOption) (*firestore.Client, error) {
	return firestore.NewClient(ctx, project, append(options(host), more...)...)
}

// Host returns the emulator's host:port. It starts the emulator if needed.
func Host(t testing.TB) string {
	t.Helper()
	host, err := shared.acquire()
	if err == nil {
		return host
	}
	const how = "install gcloud and its component cloud-firestore-emulator (needs Java 11 or later), or set FIRESTORE_EMULATOR_HOST"
	if os.Getenv("CI") != "" {
		t.Fatalf("The Firestore emulator is needed in CI: %v; %s", err, how)
	}
	t.Skipf("NOT TESTED: what needs the Firestore emulator (%v). To test it, %s.", err, how)
	return ""
}

// Start returns the emulator's host:port, and a function that releases it, for
// programs that are not tests: bench has some.
func Start() (host string, stop func(), err error) {
	host, err = shared.acquire()
	return host, shared.release, err
}

// shared is this process's share of the emulator.
var shared share

// A share keeps the emulator running. Two files in the temporary directory coordinate
// the processes. Every user holds a shared lock on "users", so that only the last one
// can lock it exclusively. "state" holds the address and the process group; it is
// locked exclusively while a process starts, stops or looks up the emulator. The
// kernel releases the locks when a process ends, for any reason.
type share struct {
	mu    sync.Mutex
	host  string
	err   error
	users *os.File
}

func (s *share) acquire() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.host == "" && s.err == nil {
		s.host, s.err = s.attach()
	}
	return s.host, s.err
}

func (s *share) attach() (string, error) {
	if host := os.Getenv("FIRESTORE_EMULATOR_HOST"); host != "" {
		// The client library prefers the variable to its options, among them the
		// address of a relay and the interceptors that count.
		return host, os.Unsetenv("FIRESTORE_EMULATOR_HOST")
	}
	if _, err := exec.LookPath("gcloud"); err != nil {
		return "", errors.New("gcloud is not installed")
	}
	state, err := lock("state", syscall.LOCK_EX)
	if err != nil {
		return "", err
	}
	defer func() { _ = state.Close() }()
	if s.users, err = lock("users", syscall.LOCK_SH); err != nil {
		return "", err
	}
	if host, _, ok := read(state); ok && answers(host) {
		return host, nil
	}
	p, err := process.Start(context.Background())
	if err != nil {
		return "", err
	}
	// The last process to use the emulator may be another one.
	if err := errors.Join(warm(p.Host), write(state, p.Host, p.Group), p.Outlive()); err != nil {
		p.Stop()
		return "", err
	}
	return p.Host, nil
}

// release stops the emulator if no other process uses it.
func (s *share) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users == nil {
		return
	}
	state, err := lock("state", syscall.LOCK_EX)
	if err != nil {
		return
	}
	defer func() { _ = state.Close() }()
	if syscall.Flock(int(s.users.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
		if _, group, ok := read(state); ok {
			_ = syscall.Kill(-group, syscall.SIGKILL)
		}
		_ = state.Truncate(0)
	}
	_ = s.users.Close()
	s.users, s.host = nil, ""
}

// warm makes a first write, which takes seconds on a new virtual machine, and would
// count against the timeout of the first test.
func warm(host string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client, err := Dial(ctx, host, Project())
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	if _, err := client.Collection("warm").Doc("up").Set(ctx, map[string]any{"up": true}); err != nil {
		return fmt.Errorf("the emulator's first write: %w", err)
	}
	return nil
}

// options returns client options for host, in plaintext and without credentials.
func options(host string) []option.ClientOption {
	return []option.ClientOption{
		option.WithEndpoint(host), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
	}
}

func answers(host string) bool {
	conn, err := net.DialTimeout("tcp", host, time.Second)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

func lock(name string, how int) (*os.File, error) {
	return process.Lock(filepath.Join(os.TempDir(), fmt.Sprintf("gatehouse-emulator-%d-%s", os.Getuid(), name)), how)
}

func read(state *os.File) (host string, group int, ok bool) {
	text := make([]byte, 256)
	n, _ := state.ReadAt(text, 0)
	if _, err := fmt.Sscanf(string(text[:n]), "%s %d", &host, &group); err != nil {
		return "", 0, false
	}
	return host, group, true
}

func write(state *os.File, host string, group int) error {
	if err := state.Truncate(0); err != nil {
		return err
	}
	_, err := state.WriteAt(fmt.Appendf(nil, "%s %d\n", host, group), 0)
	return err
}
