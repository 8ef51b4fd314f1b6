//go:build !unix

// Package process runs Google's Firestore emulator, as gcloud starts it.
package process

import (
	"context"
	"errors"
	"os"
)

// errUnix is why there is no emulator: process groups and file locks are Unix's.
var errUnix = errors.New("the Firestore emulator is started by this program on Unix systems alone; start it with gcloud emulators firestore start, and set FIRESTORE_EMULATOR_HOST to its address and SESSION_STORE=firestore")

// A Process is an emulator that answers; here there is none.
type Process struct{ Host string }

// Start fails.
func Start(context.Context, ...string) (*Process, error) { return nil, errUnix }

// TryLock fails.
func TryLock(string) (*os.File, bool, error) { return nil, false, errUnix }

// Stop has nothing to end.
func (*Process) Stop() {}
