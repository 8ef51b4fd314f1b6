package audit_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/gatehouse/internal/gcp/audit"
	"example.com/gatehouse/internal/gcp/audit/loggingtest"
	"example.com/gatehouse/internal/slowtest"
)

// childEnv makes the test binary the process that is frozen, and passes it the
// address of the API.
const childEnv = "GCPAUDIT_TEST_CHILD"

// childLimit is the child's bound of one Write; it is frozen for longer.
const childLimit = time.Second

func child(address string) {
	ctx := context.Background()
	l, err := audit.New(ctx, "p-1", "agent-audit", address, os.Stdout)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	l.SetLimit(childLimit)
	l.Write(ctx, audit.Entry{ID: "e-1", Action: "session.turn", Outcome: audit.OK})
	_ = l.Close()
	fmt.Println("end")
}

// Cloud Run takes an instance's CPU away between requests; SIGSTOP does the same
// to a process.
func TestFrozenInTheMiddle(t *testing.T) {
	t.Parallel()
	slowtest.Skip(t, "the audit log of a process that is frozen")
	tests := []struct {
		name   string
		during func(server *loggingtest.Server, release func())
	}{
		{"answered while frozen", func(_ *loggingtest.Server, release func()) { release() }},
		{"the connection broken while frozen", func(s *loggingtest.Server, release func()) {
			s.Stop()
			release()
			s.Restart()
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := loggingtest.Start(t)
			release := server.Hold()
			defer release()
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), childEnv+"="+server.Addr)
			cmd.Stderr = os.Stderr
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			<-server.Arrived()
			signal := func(sig syscall.Signal) {
				if err := cmd.Process.Signal(sig); err != nil {
					t.Error(err)
				}
			}
			signal(syscall.SIGSTOP)
			<-time.After(childLimit + childLimit/2) // no clock but the machine's runs for a frozen process
			tt.during(server, release)
			signal(syscall.SIGCONT)

			var printed []string
			for lines := bufio.NewScanner(stdout); lines.Scan(); {
				printed = append(printed, lines.Text())
			}
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
			if got := strings.Join(printed, "\n"); got != "end" {
				t.Errorf("printed %s", got)
			}
			if got := strings.Join(taken(server), " "); got != "e-1" {
				t.Errorf("in the API: %q", got)
			}
		})
	}
}
