// Package process runs Google's Firestore emulator, as gcloud starts it.
package process

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// startTime bounds the start: the emulator takes seconds, on a busy machine many.
const startTime = 90 * time.Second

// A Process is an emulator that answers.
type Process struct {
	Host string // host:port, on loopback

	// Group is the emulator's process group, which is its own: a signal to the
	// program that started it, such as Ctrl-C's, does not reach it.
	Group int

	exited chan struct{} // closed once it has ended
	output *os.File      // what it says, shown when it does not start
}

// Start runs an emulator on a free port and waits until it answers, for at most
// 90 s. Arguments are gcloud's own, beside the port. It goes on when ctx ends;
// [Process.Stop], or a signal to its group, ends it.
func Start(ctx context.Context, args ...string) (*Process, error) {
	host, err := freeHost()
	if err != nil {
		return nil, err
	}
	p := &Process{Host: host, exited: make(chan struct{})}
	if p.output, err = os.CreateTemp("", "firestore-emulator-*.log"); err != nil {
		return nil, err
	}
	_ = os.Remove(p.output.Name()) // it lives as long as it is open
	cmd := exec.Command("gcloud", append([]string{"emulators", "firestore", "start", "--host-port=" + host, "--quiet"}, args...)...)
	cmd.Stdout, cmd.Stderr = p.output, p.output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		_ = p.output.Close()
		return nil, fmt.Errorf("starting the Firestore emulator: %w", err)
	}
	p.Group = cmd.Process.Pid
	go func() {
		_ = cmd.Wait()
		close(p.exited)
	}()
	if err := p.await(ctx); err != nil {
		p.Stop()
		return nil, err
	}
	return p, nil
}

// await returns once the emulator answers.
func (p *Process) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for {
		if req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.Host+"/", nil); err == nil {
			if resp, err := client.Do(req); err == nil {
				_ = resp.Body.Close()
				if resp.StatusCode == http.StatusOK {
					return nil
				}
			}
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

// Stop ends the emulator at once, with all that it has started.
func (p *Process) Stop() {
	_ = syscall.Kill(-p.Group, syscall.SIGKILL)
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
