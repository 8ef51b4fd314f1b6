package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"example.com/gatehouse/bench/internal/control"
	"example.com/gatehouse/bench/internal/program"
)

// A server is a separate process, so that its cost can be distinguished from what
// calling it costs.
type server struct {
	address string
	begun   time.Time // just before the process was started

	cmd      *exec.Cmd
	obeys    bool // commands
	commands io.WriteCloser
	pipe     *os.File
	answers  *json.Decoder
	stderr   tail
	exited   chan struct{}
}

// A command is how a server is started.
type command struct {
	binary string
	args   []string // $PORT is the port to listen at
	env    map[string]string
	dir    string
	obeys  bool // commands of the control
}

// start runs a command on a free port of this machine, with its environment and nothing
// of our own. It does not wait until the server listens.
func start(ctx context.Context, how command) (*server, error) {
	port, err := program.FreePort()
	if err != nil {
		return nil, err
	}
	s := &server{address: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), obeys: how.obeys, exited: make(chan struct{})}
	s.cmd = exec.CommandContext(ctx, how.binary)
	for _, arg := range how.args {
		s.cmd.Args = append(s.cmd.Args, strings.ReplaceAll(arg, "$PORT", strconv.Itoa(port)))
	}
	s.cmd.Dir = how.dir
	s.cmd.Env = []string{control.Variable + "=1", "PORT=" + strconv.Itoa(port)}
	for name, value := range how.env {
		s.cmd.Env = append(s.cmd.Env, name+"="+value)
	}
	s.cmd.Stderr = &s.stderr
	s.cmd.WaitDelay = time.Second
	if s.commands, err = s.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	answers, theirs, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	s.cmd.ExtraFiles = []*os.File{theirs}
	s.pipe, s.answers = answers, json.NewDecoder(bufio.NewReader(answers))
	s.begun = time.Now()
	err = s.cmd.Start()
	_ = theirs.Close()
	if err != nil {
		_ = answers.Close()
		return nil, err
	}
	go func() {
		_ = s.cmd.Wait()
		close(s.exited)
	}()
	return s, nil
}

// errPortTaken means that another program took the free port before the server.
var errPortTaken = errors.New("the port was taken")

// startTimeout is how long a server may take to listen.
const startTimeout = 3 * time.Minute

// first asks as soon as the server listens, for a turn or whether it lives, and returns
// the time from the start of the process to the end of the answer.
func (s *server) first(ctx context.Context, t target, turn bool) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		c, err := connect(ctx, s.address, t)
		if err == nil {
			defer c.close()
			if turn {
				err = c.turn()
			} else {
				_, err = c.call(t.alive(), "")
			}
			return time.Since(s.begun), err
		}
		select {
		case <-s.exited:
			if strings.Contains(s.stderr.String(), "address already in use") {
				return 0, errPortTaken
			}
			return 0, fmt.Errorf("the server ended: %s", &s.stderr)
		case <-ctx.Done():
			return 0, fmt.Errorf("the server did not listen: %w", err)
		case <-time.After(500 * time.Microsecond):
		}
	}
}

// stop ends the process and waits for that.
func (s *server) stop() {
	_ = s.commands.Close()
	if !s.obeys {
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
	}
	select {
	case <-s.exited:
	case <-time.After(5 * time.Second):
		_ = s.cmd.Process.Kill()
		<-s.exited
	}
	_ = s.pipe.Close()
}

// command has the server obey one of the control's commands.
func (s *server) command(command string) (control.Answer, error) {
	if _, err := io.WriteString(s.commands, command+"\n"); err != nil {
		return control.Answer{}, err
	}
	var answer control.Answer
	if err := s.pipe.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return control.Answer{}, err
	}
	if err := s.answers.Decode(&answer); err != nil {
		return control.Answer{}, fmt.Errorf("%s: %w", command, err)
	}
	if answer.Error != "" {
		return control.Answer{}, errors.New(command + ": " + answer.Error)
	}
	return answer, nil
}

// A tail keeps the last that was written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	t.text = t.text[max(0, len(t.text)-2000):]
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}
