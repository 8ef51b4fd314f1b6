//go:build unix

package deploy

import (
	"os/exec"
	"syscall"
)

// interruptOnce makes the end of a command's context interrupt the command and its
// children. Nothing else interrupts them.
func interruptOnce(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
}
