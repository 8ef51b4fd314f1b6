// Package emulator gives tests Google's own Firestore emulator.
//
// The test processes of all packages that run at the same time share one: the
// first to need it starts it with gcloud, the last to end stops it. Where
// FIRESTORE_EMULATOR_HOST is set, that one is used and left alone. Each test
// has a project of its own, so nothing that one writes is seen by another.
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

// Main runs a package's tests, gives up the share in the emulator, and looks for
// goroutines that the tests have left. It is what TestMain passes to os.Exit.
func Main(m *testing.M) int {
	code := m.Run()
	shared.release()
	if code != 0 {
		return code
	}
	// What waits for the emulator stays as long as other packages use it.
	if err := goleak.Find(goleak.IgnoreAnyFunction("os.(*Process).Wait")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// Client connects to a project of t's own in the emulator. Without an emulator
// the test is skipped, saying what was not tested and how to get it; in CI that
// is a failure.
func Client(t testing.TB, options ...option.ClientOption) *firestore.Client {
	t.Helper()
	return Connect(t, Host(t), Project(), options...)
}

// Project makes the name of a project that nobody else uses.
func Project() string {
	return "test-" + strings.ToLower(strings.Map(func(r rune) rune {
		if r == '_' || r == '-' {
			return 'x'
		}
		return r
	}, session.NewID()))
}

// Connect makes a client of a project at host, closed when t ends.
func Connect(t testing.TB, host, project string, more ...option.ClientOption) *firestore.Client {
	t.Helper()
	client, err := Dial(context.Background(), host, project, more...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// Dial is [Connect] for a program that is no test.
func Dial(ctx context.Context, host, project string, more ...option.ClientOption) (*firestore.Client, error) {
	return firestore.NewClient(ctx, project, append(options(host), more...)...)
}

// Host is the emulator's host:port, started if need be.
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

// Start gives a program that is no test the emulator's host:port, and what gives
// up its share in it.
func Start() (host string, stop func(), err error) {
	host, err = shared.acquire()
	return host, shared.release, err
}

// shared is this process's share in the emulator.
var shared share

// A share keeps the emulator alive. Two files in the temporary directory
// coordinate the processes: "users", locked shared by each that uses the
// emulator and so lockable exclusively by nobody until the last has ended, and
// "state", locked exclusively while one starts, stops or looks, which holds the
// address and the process group. Locks end with their process, however it ends.
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
		return host, nil
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
	// The last to need it may be another process.
	if err := errors.Join(warm(p.Host), write(state, p.Host, p.Group), p.Outlive()); err != nil {
		p.Stop()
		return "", err
	}
	return p.Host, nil
}

// release stops the emulator if nobody else uses it.
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

// warm waits for a first write: a virtual machine that has just begun takes
// seconds for it, which would count against the first test.
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

// options make a client speak to host, in plaintext and without credentials.
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
