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

// startTime bounds the start: the emulator takes seconds, on a busy machine many.
const startTime = 90 * time.Second

// guard is what ends the emulator with the program that starts it. Its input is a
// pipe from that program, which says the emulator's process group. A pipe that
// breaks before another line has come means that the program is gone, in whatever
// way, and so is the group then. The guard is no member: gcloud leads its own.
const guard = `read -r group && { read -r _ || kill -s KILL -- "-$group"; }`

// A Process is an emulator that answers.
type Process struct {
	Host string // host:port, on loopback

	// Group is the emulator's process group, which is its own: a signal to the
	// program that started it, such as Ctrl-C's, does not reach it.
	Group int

	guard  *exec.Cmd
	alive  io.WriteCloser // the guard's input
	exited chan struct{}  // closed once the emulator has ended
	output *os.File       // what it says, shown when it does not start
}

// Start runs an emulator on a free port and waits until it writes and reads, for at most
// 90 s. Arguments are gcloud's own, beside the port. It goes on when ctx ends;
// [Process.Stop] ends it, and so does the end of this program, a kill included,
// unless [Process.Outlive] has been called.
func Start(ctx context.Context, args ...string) (*Process, error) {
	host, err := freeHost()
	if err != nil {
		return nil, err
	}
	p := &Process{Host: host, guard: exec.Command("sh", "-c", guard), exited: make(chan struct{})}
	if p.output, err = os.CreateTemp("", "firestore-emulator-*.log"); err != nil {
		return nil, err
	}
	_ = os.Remove(p.output.Name()) // it lives as long as it is open
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

// start runs the guard and the emulator.
func (p *Process) start(args []string) (err error) {
	if p.alive, err = p.guard.StdinPipe(); err != nil {
		return err
	}
	p.guard.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is not for it
	if err := p.guard.Start(); err != nil {
		return err
	}
	cmd := exec.Command("gcloud", append([]string{"emulators", "firestore", "start", "--host-port=" + p.Host, "--quiet"}, args...)...)
	cmd.Stdout, cmd.Stderr = p.output, p.output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err = cmd.Start(); err == nil {
		p.Group = cmd.Process.Pid
		_, err = fmt.Fprintln(p.alive, p.Group)
	}
	go func() {
		defer close(p.exited)
		if p.Group != 0 {
			_ = cmd.Wait()
			p.kill()
		}
		_ = p.guard.Process.Kill() // before the group's number can be another's
		_ = p.guard.Wait()
	}()
	if err != nil {
		p.kill()
		<-p.exited
	}
	return err
}

// Outlive lets the emulator go on when this program ends; a signal to its group
// ends it then.
func (p *Process) Outlive() error {
	_, err := fmt.Fprintln(p.alive)
	return err
}

// kill ends all of the emulator that has been started.
func (p *Process) kill() {
	if p.Group != 0 {
		_ = syscall.Kill(-p.Group, syscall.SIGKILL)
	}
}

// await returns once the emulator answers.
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

// document is written and read to find out whether the emulator answers, in a project
// that nothing else uses.
const document = "projects/gatehouse-ready/databases/(default)/documents/ready/ready"

// answers reports whether the emulator writes and reads a document. It listens, and
// answers GET /, some seconds before it does: its first write loads its code.
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

// Stop ends the emulator at once, with all that it has started.
func (p *Process) Stop() {
	p.kill()
	<-p.exited
	_ = p.output.Close()
}

// freeHost is an address of this machine's on which nothing listens.
func freeHost() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String(), nil
}

// Lock opens the file at path, made if need be, and locks it as [syscall.Flock]
// does, until it is closed or this program ends in whatever way.
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

// TryLock is [Lock] for this program alone; held is false, without an error,
// while another has it.
func TryLock(path string) (lock *os.File, held bool, err error) {
	lock, err = Lock(path, syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, false, nil
	}
	return lock, err == nil, err
}
