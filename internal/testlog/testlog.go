// Package testlog captures the log of a program or a service under test.
package testlog

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"strings"
	"sync"
)

// A Buffer is a log that can be read while it is written. The zero Buffer is empty.
type Buffer struct {
	mu      sync.Mutex
	written bytes.Buffer
	changed chan struct{} // nil if nobody waits
}

// Write appends p.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
	return b.written.Write(p)
}

// String returns what was written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.written.String()
}

// next returns a channel that is closed at the next write.
func (b *Buffer) next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.changed == nil {
		b.changed = make(chan struct{})
	}
	return b.changed
}

// Lines returns the lines that contain text.
func (b *Buffer) Lines(text string) []string {
	var found []string
	for line := range strings.Lines(b.String()) {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

// Await waits for the first match of pattern and returns it with its groups. It looks once
// more when ctx ends, so that ctx may be that of the program which writes.
func (b *Buffer) Await(ctx context.Context, pattern *regexp.Regexp) ([]string, error) {
	var match []string
	err := b.AwaitFunc(ctx, func() bool {
		match = pattern.FindStringSubmatch(b.String())
		return match != nil
	})
	if err != nil {
		return nil, fmt.Errorf("waiting for %q: %w", pattern, err)
	}
	return match, nil
}

// AwaitFunc waits until holds, which it calls again after each write and when ctx ends. The
// error is that of ctx.
func (b *Buffer) AwaitFunc(ctx context.Context, holds func() bool) error {
	for {
		next := b.next()
		ended := ctx.Err()
		if holds() {
			return nil
		}
		if ended != nil {
			return ended
		}
		select {
		case <-next:
		case <-ctx.Done():
		}
	}
}
