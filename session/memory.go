package session

import (
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// Memory is a [Store] in this process's memory, for development and tests: it
// forgets everything when the process ends, and when its bound is reached the
// sessions that were used least recently. It says both in the log.
type Memory struct {
	ttl   time.Duration
	now   func() time.Time
	limit int64 // bytes
	log   *slog.Logger

	mu       sync.Mutex
	sessions *simplelru.LRU[Key, *memorySession]
	bytes    int64
	revision uint64 // of the last write
	forgot   bool   // said in the log
}

type memorySession struct {
	meta     Meta
	records  []Record // only ever appended to: what was loaded shares it
	bytes    int64
	revision uint64
}

// MemoryLimit is how many bytes of sessions a [Memory] keeps by default.
const MemoryLimit = 64 << 20

// maxMemorySessions bounds the number of sessions, whatever their size.
const maxMemorySessions = 100_000

// sessionOverhead is about what an empty session costs beside its turns.
const sessionOverhead = 512

// NewMemory makes an empty store that keeps a session for ttl after its last
// turn and at most limit bytes in all. now is the clock.
func NewMemory(ttl time.Duration, limit int64, now func() time.Time, log *slog.Logger) *Memory {
	sessions, err := simplelru.NewLRU[Key, *memorySession](maxMemorySessions, nil)
	if err != nil {
		panic(err) // only for a size below 1
	}
	log.Warn("Sessions are kept in memory: they are forgotten when the process ends.")
	return &Memory{ttl: ttl, now: now, limit: limit, log: log, sessions: sessions}
}

// get finds what is there and has not expired. The caller holds mu.
func (m *Memory) get(key Key) (*memorySession, error) {
	s, ok := m.sessions.Get(key)
	if !ok || !m.now().Before(s.meta.ExpiresAt) {
		return nil, ErrNotFound
	}
	return s, nil
}

// Load implements [Store].
func (m *Memory) Load(ctx context.Context, key Key) (*Session, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("loading a session: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s, err := m.get(key)
	if err != nil {
		return nil, fmt.Errorf("loading a session: %w", err)
	}
	return &Session{Meta: s.meta, Key: key, Recent: slices.Clip(s.records), Revision: s.revision}, nil
}

// Append implements [Store].
func (m *Memory) Append(ctx context.Context, base *Session, t Turn) (Meta, error) {
	if err := ctx.Err(); err != nil {
		return Meta{}, fmt.Errorf("appending a turn: %w", err)
	}
	record, err := t.Record(base.Turns + 1)
	if err != nil {
		return Meta{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	stored, err := m.get(base.Key)
	switch {
	case base.Revision == nil && err == nil:
		return Meta{}, fmt.Errorf("starting a session: %w", ErrChanged)
	case base.Revision == nil:
		m.remove(base.Key) // an expired one of the same name
		stored = &memorySession{bytes: sessionOverhead}
	case err != nil:
		return Meta{}, fmt.Errorf("appending a turn: %w", err)
	case base.Revision != stored.revision:
		return Meta{}, fmt.Errorf("appending a turn: %w", ErrChanged)
	}
	more := int64(len(record.Data))
	if stored.bytes+more > m.limit {
		return Meta{}, fmt.Errorf("appending a turn: %w", ErrTooLarge)
	}
	if base.Revision == nil {
		more += stored.bytes
	}
	m.makeRoom(base.Key, more)
	m.revision++
	next := &memorySession{
		meta:     base.Next(t, m.now(), m.ttl),
		records:  append(stored.records, record),
		bytes:    stored.bytes + int64(len(record.Data)),
		revision: m.revision,
	}
	m.bytes += more
	m.sessions.Add(base.Key, next)
	return next.meta, nil
}

// makeRoom forgets the sessions that were used least recently, other than keep,
// until more bytes fit. The caller holds mu.
func (m *Memory) makeRoom(keep Key, more int64) {
	for m.bytes+more > m.limit || m.sessions.Len() >= maxMemorySessions {
		oldest, _, ok := m.sessions.GetOldest()
		if !ok || oldest == keep {
			return
		}
		m.remove(oldest)
		if !m.forgot {
			m.forgot = true
			m.log.Warn("The session store in memory is full: the sessions used least recently are forgotten.", "limit_bytes", m.limit)
		}
	}
}

// remove takes a session out. The caller holds mu.
func (m *Memory) remove(key Key) {
	if s, ok := m.sessions.Peek(key); ok {
		m.bytes -= s.bytes
		m.sessions.Remove(key)
	}
}

// List implements [Store].
func (m *Memory) List(ctx context.Context, owner Owner, limit int, cursor string) ([]Meta, string, error) {
	if err := ctx.Err(); err != nil {
		return nil, "", fmt.Errorf("listing sessions: %w", err)
	}
	m.mu.Lock()
	var all []Meta
	for _, key := range m.sessions.Keys() {
		if s, ok := m.sessions.Peek(key); ok && key.Owner == owner && m.now().Before(s.meta.ExpiresAt) {
			all = append(all, s.meta)
		}
	}
	m.mu.Unlock()
	slices.SortFunc(all, newestFirst)
	if cursor != "" {
		after, err := decodeCursor(cursor)
		if err != nil {
			return nil, "", err
		}
		all = slices.DeleteFunc(all, func(s Meta) bool { return newestFirst(s, after) <= 0 })
	}
	if len(all) <= limit {
		return all, "", nil
	}
	page := all[:limit]
	return page, encodeCursor(page[limit-1]), nil
}

func newestFirst(a, b Meta) int {
	return cmp.Or(b.UpdatedAt.Compare(a.UpdatedAt), strings.Compare(b.ID, a.ID))
}

// A cursor names the last session of a page: the time it was updated, in
// nanoseconds since 1970, and its id.
func encodeCursor(last Meta) string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d.%s", last.UpdatedAt.UnixNano(), last.ID))
}

func decodeCursor(cursor string) (Meta, error) {
	raw, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return Meta{}, ErrCursor
	}
	nanos, id, ok := strings.Cut(string(raw), ".")
	n, err := strconv.ParseInt(nanos, 10, 64)
	if !ok || err != nil || !ValidID(id) {
		return Meta{}, ErrCursor
	}
	return Meta{UpdatedAt: time.Unix(0, n), ID: id}, nil
}

// Turns implements [Store].
func (m *Memory) Turns(ctx context.Context, key Key, after, limit int) (Meta, []Record, error) {
	s, err := m.Load(ctx, key)
	if err != nil {
		return Meta{}, nil, err
	}
	after = min(max(after, 0), len(s.Recent))
	return s.Meta, s.Recent[after:min(after+limit, len(s.Recent))], nil
}

// Delete implements [Store].
func (m *Memory) Delete(ctx context.Context, key Key) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("deleting a session: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.get(key); err != nil {
		return fmt.Errorf("deleting a session: %w", err)
	}
	m.remove(key)
	return nil
}

// DeleteAll implements [Store].
func (m *Memory) DeleteAll(ctx context.Context, owner Owner) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("deleting sessions: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, key := range m.sessions.Keys() {
		if key.Owner == owner {
			m.remove(key)
		}
	}
	return nil
}

// Ping implements [Store].
func (m *Memory) Ping(ctx context.Context) error { return ctx.Err() }
