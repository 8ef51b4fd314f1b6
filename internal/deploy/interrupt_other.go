//go:build !unix

package deploy

import (
	"os"
	"os/exec"
)

// interruptOnce makes the end of a command's context interrupt it.
func interruptOnce(cmd *exec.Cmd) {
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
}
