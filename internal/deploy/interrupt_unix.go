//go:build unix

package deploy

import (
	"os/exec"
	"syscall"
)

// interruptOnce has a command interrupted, with all that it started, when its
// context ends and not before.
func interruptOnce(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
}
