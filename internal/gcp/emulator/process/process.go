//go:build unix

// Package process runs Google's Firestore emulator, as gcloud starts it.
package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// startTime bounds the start of the emulator, which takes seconds, or many on a busy
// machine.
const startTime = 90 * time.Second

// guard kills the emulator when this program ends. Its input is a pipe from this
// program, which first sends the emulator's process group. If the pipe closes before a
// second line, the program has ended for any reason, and the guard kills the group.
// The guard is not in that group, because gcloud leads a separate one.
const guard = `read -r group && { read -r _ || kill -s KILL -- "-$group"; }`

// begin starts the emulator once a line comes on its input, which this program sends when
// the guard has the group: if the program is killed in between, nothing was started that
// the guard does not know.
const begin = `read -r _ && exec gcloud "$@" </dev/null`

// A Process is a running emulator.
type Process struct {
	Host string // host:port, on loopback

	// Group is the emulator's process group. It is a separate one, so that a signal to
	// this program, such as Ctrl-C's, does not reach the emulator.
	Group int

	guard  *exec.Cmd
	alive  io.WriteCloser // the guard's input
	exited chan struct{}  // closed when the emulator has ended
	output *os.File       // its output, shown if it does not start
}

// Start runs an emulator on a free port and waits until it writes and reads, for at most
// 90 s.
// The arguments are added to gcloud's. The emulator keeps running when ctx ends.
// [Process.Stop] ends it, and so does the end of this program, even by SIGKILL, unless
// [Process.Outlive] was called.
func Start(ctx context.Context, args ...string) (*Process, error) {
	host, err := freeHost()
	if err != nil {
		return nil, err
	}
	p := &Process{Host: host, guard: exec.Command("sh", "-c", guard), exited: make(chan struct{})}
	if p.output, err = os.CreateTemp("", "firestore-emulator-*.log"); err != nil {
		return nil, err
	}
	_ = os.Remove(p.output.Name()) // the open file remains usable
	if err := p.start(args); err != nil {
		_ = p.output.Close()
		return nil, fmt.Errorf("starting the Firestore emulator: %w", err)
	}
	if err := p.await(ctx); err != nil {
		p.Stop()
		return nil, err
	}
	return p, nil
}

// start starts the guard and the emulator.
func (p *Process) start(args []string) (err error) {
	if p.alive, err = p.guard.StdinPipe(); err != nil {
		return err
	}
	p.guard.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // shield it from Ctrl-C
	if err := p.guard.Start(); err != nil {
		return err
	}
	cmd := exec.Command("sh", append([]string{"-c", begin, "sh", "emulators", "firestore", "start", "--host-port=" + p.Host, "--quiet"}, args...)...)
	cmd.Stdout, cmd.Stderr = p.output, p.output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	start, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err == nil {
		p.Group = cmd.Process.Pid
		_, err = fmt.Fprintln(p.alive, p.Group)
	}
	if err == nil {
		_, err = fmt.Fprintln(start)
	}
	go func() {
		defer close(p.exited)
		if p.Group != 0 {
			_ = cmd.Wait()
			p.kill()
		}
		_ = p.guard.Process.Kill() // before the group's number can be reused
		_ = p.guard.Wait()
	}()
	if err != nil {
		p.kill()
		<-p.exited
	}
	return err
}

// Outlive keeps the emulator running when this program ends. A signal to its group
// ends it then.
func (p *Process) Outlive() error {
	_, err := fmt.Fprintln(p.alive)
	return err
}

// kill kills every process of the emulator.
func (p *Process) kill() {
	if p.Group != 0 {
		_ = syscall.Kill(-p.Group, syscall.SIGKILL)
	}
}

// await waits until the emulator responds.
func (p *Process) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for {
		if p.answers(ctx, client) {
			return nil
		}
		select {
		case <-poll.C:
		case <-p.exited:
			text := make([]byte, 4096)
			n, _ := p.output.ReadAt(text, 0)
			return fmt.Errorf("the Firestore emulator did not start:\n%s", text[:n])
		case <-ctx.Done():
			return fmt.Errorf("the Firestore emulator did not answer: %w", ctx.Err())
		}
	}
}

// document is written and read to check whether the emulator is ready, in a project
// that nothing else uses.
const document = "projects/gatehouse-ready/databases/(default)/documents/ready/ready"

// answers reports whether the emulator writes and reads a document. It listens and
// answers GET / some seconds earlier, because its first write loads code.
func (p *Process) answers(ctx context.Context, client *http.Client) bool {
	documents, _, _ := strings.Cut(document, "/ready/ready")
	for _, request := range []struct{ method, path, body string }{
		{http.MethodGet, "", ""},
		{http.MethodPost, "v1/" + documents + ":commit", `{"writes": [{"update": {"name": "` + document + `"}}]}`},
		{http.MethodGet, "v1/" + document, ""},
	} {
		req, err := http.NewRequestWithContext(ctx, request.method, "http://"+p.Host+"/"+request.path, strings.NewReader(request.body))
		if err != nil {
			return false
		}
		req.Header.Set("Authorization", "Bearer owner") // no security rules
		req.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(req)
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return false
		}
	}
	return true
}

// Stop kills the emulator and all its child processes.
func (p *Process) Stop() {
	p.kill()
	<-p.exited
	_ = p.output.Close()
}

// freeHost returns a loopback address with a free port.
func freeHost() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String(), nil
}

// Lock opens or creates the file at path and locks it with [syscall.Flock], until the
// file is closed or this program ends.
func Lock(path string, how int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), how); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	return f, nil
}

// TryLock is like [Lock] with an exclusive lock, but does not wait; held is false,
// without an error, if another process holds the lock.
func TryLock(path string) (lock *os.File, held bool, err error) {
	lock, err = Lock(path, syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, false, nil
	}
	return lock, err == nil, err
}
