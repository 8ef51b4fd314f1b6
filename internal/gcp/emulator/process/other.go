//go:build !unix

// Package process runs Google's Firestore emulator, as gcloud starts it.
package process

import (
	"context"
	"errors"
	"os"
)

// errUnix is returned on systems without process groups and file locks.
var errUnix = errors.New("the Firestore emulator is started by this program only on Unix systems; start it with gcloud emulators firestore start, and set FIRESTORE_EMULATOR_HOST to its address and SESSION_STORE=firestore")

// A Process is a running emulator; there is none on this system.
type Process struct{ Host string }

// Start returns an error.
func Start(context.Context, ...string) (*Process, error) { return nil, errUnix }

// TryLock returns an error.
func TryLock(string) (*os.File, bool, error) { return nil, false, errUnix }

// Stop does nothing.
func (*Process) Stop() {}
