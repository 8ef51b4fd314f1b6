// Package rescue keeps a panic from ending the process where nobody else would
// stop it: in a goroutine of our own.
package rescue

import (
	"fmt"
	"runtime/debug"
)

// A Panic is what a function panicked with.
type Panic struct {
	Value any
	Stack string // in Go's own form, "panic: …" before it, as Error Reporting reads it
}

func (p *Panic) Error() string { return fmt.Sprintf("panic: %v", p.Value) }

// Call calls f and returns its error, a [*Panic] if it panicked.
func Call(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &Panic{Value: p, Stack: fmt.Sprintf("panic: %v\n%s", p, debug.Stack())}
		}
	}()
	return f()
}
