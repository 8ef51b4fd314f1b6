package session

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// The records of runs in a [Memory]. They have a quarter of its size beside the
// sessions.

type runKey struct {
	session Key
	id      string
}

// A memoryRun is a stored record. bytes is its size as [Memory] counts it.
type memoryRun struct {
	run     Run // its Revision is the store's; of a tombstone, only when it expires
	deleted bool
	written time.Time
	bytes   int64
}

// maxMemoryRuns bounds the number of records.
const maxMemoryRuns = 10_000

// getRun returns a record unless it has expired or was deleted. The caller holds mu.
func (m *Memory) getRun(key runKey) (*memoryRun, error) {
	r, ok := m.runs.Get(key)
	switch {
	case !ok || !m.now().Before(r.run.ExpiresAt):
		return nil, ErrNoRun
	case r.deleted:
		return nil, ErrRunDeleted
	}
	return r, nil
}

// checkRun returns the error of writing r now, nil for none. The caller holds mu.
func (m *Memory) checkRun(r *Run) error {
	if r == nil {
		return nil
	}
	stored, err := m.getRun(runKey{r.Key, r.ID})
	switch {
	case r.Revision == nil && err == nil, errors.Is(err, ErrRunDeleted):
		return fmt.Errorf("writing a run: %w", ErrChanged)
	case r.Revision == nil:
		return nil
	case err != nil:
		return fmt.Errorf("writing a run: %w", err)
	case r.Revision != stored.run.Revision:
		return fmt.Errorf("writing a run: %w", ErrChanged)
	}
	return nil
}

// putRun stores r, nil for none, and evicts other records if needed. The caller holds mu.
func (m *Memory) putRun(r *Run) *Run {
	if r == nil {
		return nil
	}
	now := m.now()
	next := &memoryRun{run: r.Written(now), written: now}
	m.revision++
	next.run.Revision = m.revision
	m.addRun(runKey{r.Key, r.ID}, next)
	stored := next.run
	return &stored
}

// addRun puts r in the place of what is stored at key, and evicts others if needed. The caller
// holds mu.
func (m *Memory) addRun(key runKey, r *memoryRun) {
	r.bytes = sessionOverhead + int64(r.run.size())
	m.runs.Remove(key)
	m.runs.Add(key, r)
	m.runBytes += r.bytes
	for m.runs.Len() > 1 && m.runBytes > m.limit/4 {
		m.runs.RemoveOldest()
	}
}

// deleteRuns replaces the records that match by their tombstones, and reports whether there
// were any, and one that goes on. The caller holds mu.
func (m *Memory) deleteRuns(match func(Key) bool) (found, goesOn bool) {
	for _, r := range m.runs.Values() {
		if !r.deleted && match(r.run.Key) {
			found, goesOn = true, goesOn || !r.run.Over()
			m.addRun(runKey{r.run.Key, r.run.ID}, &memoryRun{deleted: true, run: Run{ExpiresAt: m.now().Add(KeyLife)}})
		}
	}
	return found, goesOn
}

// LoadRun implements [Store].
func (m *Memory) LoadRun(ctx context.Context, key Key, id string) (*Run, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("loading a run: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r, err := m.getRun(runKey{key, id})
	if err != nil {
		return nil, fmt.Errorf("loading a run: %w", err)
	}
	loaded := r.run
	loaded.Silent = m.now().Sub(r.written)
	return &loaded, nil
}

// SaveRun implements [Store].
func (m *Memory) SaveRun(ctx context.Context, r *Run) (*Run, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("writing a run: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.checkRun(r); err != nil {
		return nil, err
	}
	return m.putRun(r), nil
}

// ListRuns implements [Store].
func (m *Memory) ListRuns(ctx context.Context, owner Owner, filter RunFilter, limit int, cursor string) ([]*Run, string, error) {
	if err := ctx.Err(); err != nil {
		return nil, "", fmt.Errorf("listing runs: %w", err)
	}
	m.mu.Lock()
	var all []*Run
	for _, r := range m.runs.Values() {
		if !r.deleted && r.run.Key.Owner == owner && m.now().Before(r.run.ExpiresAt) && filter.matches(&r.run) {
			listed := r.run
			listed.Parts, listed.Checkpoint, listed.Result = nil, nil, nil
			listed.Silent = m.now().Sub(r.written)
			all = append(all, &listed)
		}
	}
	m.mu.Unlock()
	return pageFrom(cursor, limit, all, func(r *Run) place { return place{r.CreatedAt, r.ID} })
}

// matches reports whether r passes the filter, of which "" passes everything.
func (f RunFilter) matches(r *Run) bool {
	return (f.SessionID == "" || f.SessionID == r.Key.ID) && (f.State == "" || f.State == r.State)
}
