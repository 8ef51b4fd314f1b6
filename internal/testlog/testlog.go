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

// Changed returns a channel that is closed at the next write.
func (b *Buffer) Changed() <-chan struct{} {
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

// Await waits for the first match of pattern and returns it with its groups.
func (b *Buffer) Await(ctx context.Context, pattern *regexp.Regexp) ([]string, error) {
	for {
		changed := b.Changed()
		if match := pattern.FindStringSubmatch(b.String()); match != nil {
			return match, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for %q: %w", pattern, ctx.Err())
		}
	}
}
