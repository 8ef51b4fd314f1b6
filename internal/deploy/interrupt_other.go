//go:build !unix

package deploy

import (
	"os"
	"os/exec"
)

// interruptOnce has a command interrupted when its context ends.
func interruptOnce(cmd *exec.Cmd) {
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
}
