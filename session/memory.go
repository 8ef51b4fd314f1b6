package session

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// Memory is a [Store] in this process's memory, for development and tests. It loses
// everything when the process ends, and evicts the least recently used sessions when
// it is full. It logs a warning about both.
type Memory struct {
	ttl   time.Duration
	now   func() time.Time
	limit int64 // bytes
	log   *slog.Logger

	mu        sync.Mutex
	sessions  *simplelru.LRU[Key, *memorySession]
	users     *simplelru.LRU[Owner, *User]
	runs      *simplelru.LRU[runKey, *memoryRun]
	runBytes  int64
	bytes     int64
	userBytes int64  // of users
	revision  uint64 // of the last write; makes every stored state distinct
	evicted   bool   // the warning has been logged
	trimmed   bool   // the other warning has been logged
}

// A memorySession is a stored session. bytes is its size as [Memory] counts it.
type memorySession struct {
	state    *Session // as it is loaded: what changes it puts another in its place
	recent   []Record // state.Recent with its room to grow: append-only, since snapshots share its array
	feedback map[int]Feedback
	bytes    int64
}

// MemoryLimit is the default size of a [Memory], in bytes.
const MemoryLimit = 64 << 20

// maxMemorySessions bounds the number of sessions, of any size, and that of users.
const maxMemorySessions = 100_000

// Approximate cost of an empty session and of an idempotency key, in bytes.
const (
	sessionOverhead = 512
	keyOverhead     = 256
)

// NewMemory returns an empty store that keeps a session for ttl after its last turn,
// and at most limit bytes in total. now is the clock.
func NewMemory(ttl time.Duration, limit int64, now func() time.Time, log *slog.Logger) *Memory {
	log.Warn("Sessions are kept in memory: they are lost when the process ends.")
	m := &Memory{ttl: ttl, now: now, limit: limit, log: log}
	// One more than the bound: a session, and the state of a user, is added before the oldest is
	// evicted, with a warning.
	m.sessions = newLRU(maxMemorySessions+1, func(_ Key, s *memorySession) { m.bytes -= s.bytes })
	m.users = newLRU(maxMemorySessions+1, func(_ Owner, u *User) { m.userBytes -= u.bytes() })
	m.runs = newLRU(maxMemoryRuns, func(_ runKey, r *memoryRun) { m.runBytes -= r.bytes })
	return m
}

// newLRU returns an empty cache that calls removed with each entry that leaves it, but not
// with one that another replaces under its key.
func newLRU[K comparable, V any](size int, removed func(K, V)) *simplelru.LRU[K, V] {
	lru, err := simplelru.NewLRU(size, removed)
	if err != nil {
		panic(err) // only for a size below 1
	}
	return lru
}

// get returns the session at key unless it has expired. The caller holds mu.
func (m *Memory) get(key Key) (*memorySession, error) {
	s, ok := m.sessions.Get(key)
	if !ok || !m.now().Before(s.state.ExpiresAt) {
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
	return s.state, nil
}

// Apply implements [Store].
func (m *Memory) Apply(ctx context.Context, base *Session, c Change) (*Session, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("changing a session: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	stored, err := m.get(base.Key)
	switch {
	case base.Revision == nil && err == nil:
		return nil, fmt.Errorf("starting a session: %w", ErrChanged)
	case base.Revision == nil: // or an expired session is, which is replaced
		stored = &memorySession{}
	case err != nil:
		return nil, fmt.Errorf("changing a session: %w", err)
	case base.Revision != stored.state.Revision:
		return nil, fmt.Errorf("changing a session: %w", ErrChanged)
	}
	if err := m.checkRun(c.Run); err != nil {
		return nil, err
	}
	if m.checkRun(c.Denied) != nil {
		return nil, fmt.Errorf("changing a session whose turn waits: %w", ErrChanged)
	}
	if c.Remove {
		m.sessions.Remove(base.Key)
		return New(base.Key), nil
	}
	after, record, err := base.after(c, m.now(), m.ttl)
	if err != nil {
		return nil, err
	}
	next := &memorySession{state: after, recent: after.Recent, feedback: stored.feedback}
	switch {
	case c.Before != nil:
		next.recent = append(slices.Clip(next.recent), record)
		next.feedback = maps.Clone(stored.feedback)
		maps.DeleteFunc(next.feedback, func(turn int, _ Feedback) bool { return turn >= after.Turns }) // on replaced turns
	case c.Turn != nil:
		next.recent = append(stored.recent, record) // amortized: copying all turns each time would be quadratic
	}
	after.Recent = slices.Clip(next.recent)
	m.trim(next)
	if err := m.put(next); err != nil {
		return nil, err
	}
	m.putRun(c.Run)
	m.putRun(c.Denied)
	return after, nil
}

// trim drops the oldest turns of a session that is larger than the store, until it takes
// half of it: the session goes on, and what is dropped is as evicted sessions are. The
// caller holds mu.
func (m *Memory) trim(next *memorySession) {
	size, all := next.size(), next.state.Recent
	if size <= m.limit {
		return
	}
	n := 0
	for ; n < len(all)-1 && size > m.limit/2; n++ {
		past, _ := all[n].Past() // of a turn that was encoded here
		size -= int64(len(all[n].Data))
		next.state.Past = Remember(next.state.Past, past)
	}
	next.recent = slices.Clone(all[n:]) // the rest of the array is free
	next.state.Recent = slices.Clip(next.recent)
	if size <= m.limit && !m.trimmed {
		m.trimmed = true
		m.log.Warn("A session is larger than the session store in memory: its oldest turns are dropped.", "limit_bytes", m.limit)
	}
}

// size returns about how many bytes s takes.
func (s *memorySession) size() int64 {
	size := sessionOverhead + int64(len(s.state.Keys))*keyOverhead
	for _, record := range s.state.Recent {
		size += int64(len(record.Data))
	}
	for _, f := range s.feedback {
		size += f.bytes()
	}
	for _, value := range s.state.State {
		size += int64(len(value))
	}
	return size
}

// put stores next and evicts other sessions if needed. The caller holds mu.
func (m *Memory) put(next *memorySession) error {
	next.bytes = next.size()
	if next.bytes > m.limit {
		return fmt.Errorf("storing a session: %w", ErrTooLarge)
	}
	if old, ok := m.sessions.Peek(next.state.Key); ok {
		m.bytes -= old.bytes // which it replaces
	}
	m.revision++
	next.state.Revision = m.revision
	m.bytes += next.bytes
	m.sessions.Add(next.state.Key, next)
	for m.bytes > m.limit || m.sessions.Len() > maxMemorySessions { // never next: it is the latest, and fits
		m.sessions.RemoveOldest()
		if !m.evicted {
			m.evicted = true
			m.log.Warn("The session store in memory is full: the least recently used sessions are evicted.", "limit_bytes", m.limit)
		}
	}
	return nil
}

// List implements [Store].
func (m *Memory) List(ctx context.Context, owner Owner, limit int, cursor string) ([]Meta, string, error) {
	if err := ctx.Err(); err != nil {
		return nil, "", fmt.Errorf("listing sessions: %w", err)
	}
	m.mu.Lock()
	var all []Meta
	for _, s := range m.sessions.Values() {
		if s.state.Key.Owner == owner && s.state.Exists() && m.now().Before(s.state.ExpiresAt) {
			all = append(all, s.state.Meta)
		}
	}
	m.mu.Unlock()
	return pageFrom(cursor, limit, all, func(s Meta) place { return place{s.UpdatedAt, s.ID} })
}

// A place is where something is in a list: the newest comes first, and of two with the same
// time the larger id, so that the pages of a list never overlap.
type place struct {
	at time.Time
	id string
}

func (p place) compare(q place) int {
	return cmp.Or(q.at.Compare(p.at), strings.Compare(q.id, p.id))
}

// pageFrom returns at most limit of all that are behind cursor, in order, and the cursor of
// the next page. It changes all.
func pageFrom[T any](cursor string, limit int, all []T, of func(T) place) ([]T, string, error) {
	slices.SortFunc(all, func(a, b T) int { return of(a).compare(of(b)) })
	if cursor != "" {
		last, err := decodeCursor(cursor)
		if err != nil {
			return nil, "", err
		}
		all = slices.DeleteFunc(all, func(v T) bool { return of(v).compare(last) <= 0 })
	}
	if len(all) <= limit {
		return all, "", nil
	}
	return all[:limit], of(all[limit-1]).cursor(), nil
}

// cursor returns the cursor of the page behind p: its time in nanoseconds since 1970, and its
// id.
func (p place) cursor() string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d.%s", p.at.UnixNano(), p.id))
}

// decodeCursor reads a cursor. It comes from a client, so anything may be in it; a time that
// no session has only moves the page.
func decodeCursor(cursor string) (place, error) {
	raw, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return place{}, ErrCursor
	}
	nanos, id, _ := strings.Cut(string(raw), ".")
	n, err := strconv.ParseInt(nanos, 10, 64)
	if err != nil || !ValidID(id) {
		return place{}, ErrCursor
	}
	return place{time.Unix(0, n), id}, nil
}

// Turns implements [Store].
func (m *Memory) Turns(ctx context.Context, key Key, after, limit int) (Meta, []Record, error) {
	if err := ctx.Err(); err != nil {
		return Meta{}, nil, fmt.Errorf("reading turns: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	stored, err := m.get(key)
	if err == nil && !stored.state.Exists() {
		err = ErrNotFound
	}
	if err != nil {
		return Meta{}, nil, fmt.Errorf("reading turns: %w", err)
	}
	after, limit = max(after, 0), max(limit, 0)
	recent := stored.state.Recent
	gone := stored.state.Turns - len(recent) // see trim
	first := min(max(after-gone, 0), len(recent))
	records := slices.Clone(recent[first:min(max(after+limit-gone, first), len(recent))])
	for i := range records {
		if f, ok := stored.feedback[records[i].Number]; ok {
			records[i].Feedback = &f
		}
	}
	return stored.state.Meta, records, nil
}

// Delete implements [Store].
func (m *Memory) Delete(ctx context.Context, key Key) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("deleting a session: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	found, goesOn := m.deleteRuns(func(of Key) bool { return of == key })
	s, err := m.get(key)
	if err == nil && !s.state.Exists() && (s.state.Deleted || !found) { // what is left is the claim of a key
		err = ErrNotFound
	}
	if goesOn && errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("deleting a session: %w", err)
	}
	m.markDeleted(s)
	return nil
}

// markDeleted replaces a session with its tombstone. The caller holds mu, and has deleted the
// session's runs.
func (m *Memory) markDeleted(s *memorySession) {
	_ = m.put(&memorySession{state: s.state.Mark(m.now())}) // no session is smaller: it fits where s did
}

// DeleteAll implements [Store].
func (m *Memory) DeleteAll(ctx context.Context, owner Owner) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("deleting sessions: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.putUser((&User{Owner: owner}).Mark(m.now()))
	m.deleteRuns(func(of Key) bool { return of.Owner == owner })
	for _, s := range m.sessions.Values() {
		if s.state.Key.Owner == owner && !s.state.Deleted {
			m.markDeleted(s)
		}
	}
	return nil
}

// SetFeedback implements [Store].
func (m *Memory) SetFeedback(ctx context.Context, key Key, turn int, f Feedback) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("keeping feedback: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s, err := m.get(key)
	if err == nil && (turn < 1 || turn > s.state.Turns) {
		err = ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("keeping feedback: %w", err)
	}
	state := *s.state
	next := &memorySession{state: &state, recent: s.recent, feedback: maps.Clone(s.feedback)}
	if next.feedback == nil {
		next.feedback = map[int]Feedback{}
	}
	next.feedback[turn] = f
	return m.put(next)
}

// LoadUser implements [Store].
func (m *Memory) LoadUser(ctx context.Context, owner Owner) (*User, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("loading a user's state: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	u, ok := m.users.Get(owner)
	switch {
	case !ok:
		return &User{Owner: owner}, nil
	case !m.now().Before(u.ExpiresAt):
		return &User{Owner: owner, Revision: u.Revision}, nil
	}
	return u, nil
}

// ApplyUser implements [Store].
func (m *Memory) ApplyUser(ctx context.Context, u *User, c UserChange) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("changing a user's state: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var revision any
	if stored, ok := m.users.Peek(u.Owner); ok {
		revision = stored.Revision
	}
	if u.Revision != revision {
		return fmt.Errorf("changing a user's state: %w", ErrChanged)
	}
	after, err := u.After(c, m.now())
	if err != nil {
		return fmt.Errorf("changing a user's state: %w", err)
	}
	m.putUser(after)
	return nil
}

// putUser stores u and evicts the state of other users if needed: it has a quarter of
// the room of sessions. The caller holds mu.
func (m *Memory) putUser(u *User) {
	m.users.Remove(u.Owner)
	m.revision++
	u.Revision = m.revision
	m.users.Add(u.Owner, u)
	m.userBytes += u.bytes()
	for m.users.Len() > 1 && (m.userBytes > m.limit/4 || m.users.Len() > maxMemorySessions) {
		m.users.RemoveOldest()
		if !m.evicted {
			m.evicted = true
			m.log.Warn("The session store in memory is full: the state of users is evicted.", "limit_bytes", m.limit/4)
		}
	}
}

// Ping implements [Store].
func (m *Memory) Ping(ctx context.Context) error { return ctx.Err() }
