package session

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"
)

// KeyLife is how long an idempotency key is remembered.
const KeyLife = 24 * time.Hour

// A KeyEntry is what a session stores under the hash of an idempotency key: while a
// call works, its lease on the key; afterwards, the turn that the call stored.
type KeyEntry struct {
	Body  string    // SHA-256 of the request, to recognize a key used for another one
	Lease string    // id of the call that holds the key, "" once its turn is stored
	Until time.Time // end of the lease
	Turn  int       // number of the stored turn, 0 until then
	ID    string    // [Turn.ID]: Turn's number passes to the turn that replaces it
	At    time.Time // when the key was claimed; the entry is valid for [KeyLife]
	Run   string    // id of the turn of the run that works on it, if that has a record
}

func (e KeyEntry) fresh(now time.Time) bool { return now.Before(e.At.Add(KeyLife)) }

// An Idempotency identifies a call: two calls with the same Key and Body are one call
// sent twice.
type Idempotency struct {
	Key    string        // as the caller sent it
	Body   string        // the whole request, in one canonical form
	Create bool          // the named session need not exist yet
	Lease  time.Duration // how long the call may hold the key
}

// A Claim is a call's hold on its key. It is immutable.
type Claim struct {
	key   string // hash of the key
	entry KeyEntry
}

// holds reports whether s still records c as the key's holder.
func (c *Claim) holds(s *Session) bool {
	e, ok := s.Keys[c.key]
	return ok && e.Turn == 0 && e.Lease == c.entry.Lease
}

// done returns the key's entry for the time after its turn is stored.
func (c *Claim) done(turn int, id string) *KeyEntry {
	e := c.entry
	e.Lease, e.Turn, e.ID, e.Run = "", turn, id, ""
	return &e
}

// The errors about idempotency keys.
var (
	// ErrInProgress: another call holds the key; [InProgressError] has the time left.
	ErrInProgress = errors.New("a call with this key is being worked on")
	// ErrKeyMismatch: the key was used with another request.
	ErrKeyMismatch = errors.New("this key was used with another request")
	// ErrTakenOver: the call's lease expired and another call claimed the key.
	ErrTakenOver = errors.New("another call took over the key")
)

// InProgressError is an [ErrInProgress] with the longest time that the key can stay
// held.
type InProgressError struct {
	Left time.Duration
	Key  Key    // of the session
	Run  string // id of the turn of the run that has a record, which then decides; "": none
}

func (e *InProgressError) Error() string { return ErrInProgress.Error() }

// Is reports whether target is [ErrInProgress].
func (e *InProgressError) Is(target error) bool { return target == ErrInProgress }

// Opened is the result of [Open]: either a Claim or a Replay is set.
type Opened struct {
	Session *Session
	Claim   *Claim  // to be passed to [Commit] or [Release]
	Replay  *Record // the turn stored by an earlier call with this key
}

// maxGenerations bounds how many sessions that still exist one key may have created,
// at least [KeyLife] apart.
const maxGenerations = 512

// Open claims an idempotency key before the turn runs.
//
// With an id, the key belongs to that session, which must exist unless idem.Create is
// set. Without one, the id of the new session is derived from the owner and the key,
// so that a retry on any instance finds the same session, and a first call costs one
// write and no read.
//
// If the key's turn is stored already, Open returns it as Replay. If another call
// holds the key, the error is [ErrInProgress]; an expired lease is taken over.
// afterTurn is the caller's condition on the number of turns. It is checked before the
// key is claimed, but after a replay is found.
func Open(ctx context.Context, store Store, owner Owner, id string, idem Idempotency, afterTurn *int, now func() time.Time) (*Opened, error) {
	at := now()
	o := &opening{
		store: store, now: now, afterTurn: afterTurn, create: idem.Create,
		claim: &Claim{key: digest("in session", idem.Key), entry: KeyEntry{
			Body: digest("body", idem.Body), Lease: NewID(), Until: at.Add(idem.Lease), At: at,
		}},
	}
	if id != "" {
		return o.existing(ctx, Key{Owner: owner, ID: id})
	}
	o.claim.key = digest("new session", idem.Key)
	for generation := range maxGenerations {
		key := Key{Owner: owner, ID: digest("session of a key", string(owner), idem.Key, strconv.Itoa(generation))}
		opened, err := o.new(ctx, key)
		if !errors.Is(err, errPastKey) {
			return opened, err
		}
	}
	return nil, fmt.Errorf("%w: too many sessions of one key", ErrKeyMismatch)
}

// errPastKey: the key created this session more than [KeyLife] ago, so the key is free
// to create another.
var errPastKey = errors.New("the key's time is over")

// An opening is one call of [Open].
type opening struct {
	store     Store
	now       func() time.Time
	afterTurn *int
	create    bool
	claim     *Claim
}

// existing claims the key in the session at key.
func (o *opening) existing(ctx context.Context, key Key) (*Opened, error) {
	for try := 1; ; try++ {
		s, err := o.store.Load(ctx, key)
		if errors.Is(err, ErrNotFound) && o.create {
			s, err = New(key), nil
		}
		if err != nil {
			return nil, err
		}
		if s.Deleted && !s.Reusable() || !s.Exists() && !o.create {
			return nil, fmt.Errorf("taking a key: %w", ErrNotFound)
		}
		opened, err := o.take(ctx, s)
		if !again(err) || try == commitTries {
			return opened, err
		}
		if err := pause(ctx, try); err != nil {
			return nil, errors.Join(err, ErrUnavailable)
		}
	}
}

// new claims the key in the session whose id is derived from it. It writes first and
// reads only when that write fails.
func (o *opening) new(ctx context.Context, key Key) (*Opened, error) {
	s := New(key)
	s.KeyedAt = o.claim.entry.At
	for try := 1; ; try++ {
		opened, err := o.take(ctx, s)
		// ErrNotFound: the session was released or deleted between read and write.
		// Read it again.
		if !again(err) && !errors.Is(err, ErrNotFound) || try == commitTries {
			return opened, err
		}
		if err := pause(ctx, try-1); err != nil {
			return nil, errors.Join(err, ErrUnavailable)
		}
		s, err = o.store.Load(ctx, key)
		switch {
		case errors.Is(err, ErrNotFound), errors.Is(err, ErrUnavailable):
			// Either the session was released, or no write happened, or that is not
			// known. The next write's precondition decides.
			s = New(key)
			s.KeyedAt = o.claim.entry.At
		case err != nil:
			return nil, err
		case !o.now().Before(s.KeyedAt.Add(KeyLife)):
			return nil, errPastKey
		case s.Deleted:
			return nil, fmt.Errorf("taking a key: %w", ErrNotFound)
		}
	}
}

// again reports whether a step of an opening is tried again: the session was changed in
// between, or the answer of the store did not come.
func again(err error) bool { return errors.Is(err, ErrChanged) || errors.Is(err, ErrUnavailable) }

// take claims the key in s if it is free.
func (o *opening) take(ctx context.Context, s *Session) (*Opened, error) {
	now := o.now()
	e, ok, err := entryOf(ctx, o.store, s, o.claim.key, now)
	if err != nil {
		return nil, err
	}
	if ok {
		switch {
		case e.Lease == o.claim.entry.Lease && e.Turn == 0:
			// An earlier try of this call wrote it; its response was lost.
			return &Opened{Session: s, Claim: o.claim}, nil
		case e.Body != o.claim.entry.Body:
			return nil, ErrKeyMismatch
		case e.Turn > 0:
			record, err := recordOf(ctx, o.store, s, e)
			return &Opened{Session: s, Replay: record}, err
		case now.Before(e.Until):
			return nil, &InProgressError{Left: e.Until.Sub(now), Key: s.Key, Run: e.Run}
		}
	}
	if o.afterTurn != nil && s.Turns != *o.afterTurn {
		return nil, fmt.Errorf("%w: %d, not %d", ErrTurnCount, s.Turns, *o.afterTurn)
	}
	drop, err := makeRoom(ctx, o.store, s, now, o.claim.key)
	if err != nil {
		return nil, err
	}
	taken, err := o.store.Apply(ctx, s, Change{Key: o.claim.key, Entry: &o.claim.entry, Drop: drop})
	if err != nil {
		return nil, err
	}
	return &Opened{Session: taken, Claim: o.claim}, nil
}

// HasKey reports whether a call with an idempotency key has been made in s in the last
// [KeyLife] and has not released it: its turn is stored, or it holds the key, or its lease has
// ended. [Open] decides what becomes of another call with it.
func HasKey(ctx context.Context, store Store, s *Session, key string, now time.Time) (bool, error) {
	_, ok, err := entryOf(ctx, store, s, digest("in session", key), now)
	return ok, err
}

// entryOf returns the entry of a key in s or in its page, and false for one that is not
// there or is over.
func entryOf(ctx context.Context, store Store, s *Session, key string, now time.Time) (KeyEntry, bool, error) {
	e, ok := s.Keys[key]
	if !ok && len(s.Keys) >= manyKeys {
		page, err := pageOf(ctx, store, s, key)
		if err != nil {
			return KeyEntry{}, false, err
		}
		e = page.Keys[key]
	}
	return e, e.fresh(now), nil // one that is not there is of no time
}

// recordOf returns the turn of a key, from the recent turns or the archive. The error
// is [ErrReplaced] if another turn has taken its place.
func recordOf(ctx context.Context, store Store, s *Session, e KeyEntry) (*Record, error) {
	i := slices.IndexFunc(s.Recent, func(r Record) bool { return r.Number == e.Turn })
	records := s.Recent
	if i < 0 {
		var err error
		if _, records, err = store.Turns(ctx, s.Key, e.Turn-1, 1); err != nil {
			return nil, err
		}
		if i = 0; len(records) == 0 || records[0].Number != e.Turn {
			return nil, fmt.Errorf("turn %d of a key is not there: %w", e.Turn, ErrReplaced)
		}
	}
	id, err := records[i].ID()
	if err != nil {
		return nil, err
	}
	if e.ID != "" && e.ID != id { // entries of earlier releases have none
		return nil, fmt.Errorf("turn %d of a key: %w", e.Turn, ErrReplaced)
	}
	return &records[i], nil
}

// A session's document has room for the keys of some thousand calls. Of a session that is
// asked more often within [KeyLife], the oldest entries move on to pages: documents of the
// same owner that have keys and no turns, and so are neither listed nor found as sessions.
// Each key has its page, which is read only while the session has many keys: the entries
// of its pages are older than its own, and so are over before those get fewer. An entry is
// in its page before it leaves the session, so a reader finds it in one of them. Pages hold
// hashes and numbers of turns, and expire with their keys.

const (
	// maxKeys bounds the keys that a session or a page of it stores, of any age. A
	// document has 1 MiB.
	maxKeys = 2000
	// manyKeys is how many keys a session has at least while its pages matter. Some of
	// maxKeys may have been released since one moved.
	manyKeys = maxKeys * 3 / 4
	// maxDrop bounds the keys removed in one write.
	maxDrop = 100
)

// ErrTooManyKeys: a session was asked with more keys within [KeyLife] than can be kept, far
// above what a store takes in writes to one session.
var ErrTooManyKeys = errors.New("the session was asked with too many keys in a day")

// pageOf returns the page of s for a key, one of 64.
func pageOf(ctx context.Context, store Store, s *Session, key string) (*Session, error) {
	at := Key{Owner: s.Key.Owner, ID: digest("keys of a session", s.Key.ID, key[:1])}
	page, err := store.Load(ctx, at)
	if errors.Is(err, ErrNotFound) {
		return New(at), nil
	}
	return page, err
}

// expired returns keys to remove from s, in which keep stays.
func (s *Session) expired(now time.Time, keep string) (old []string) {
	for key, e := range s.Keys {
		if key != keep && !e.fresh(now) && len(old) < maxDrop {
			old = append(old, key)
		}
	}
	return old
}

// makeRoom returns keys to remove from s before another is added: expired ones, else, if
// there are too many, the oldest without a lease, which it has moved to its page.
func makeRoom(ctx context.Context, store Store, s *Session, now time.Time, keep string) ([]string, error) {
	drop := s.expired(now, keep)
	if len(drop) > 0 || len(s.Keys) < maxKeys {
		return drop, nil
	}
	oldest := ""
	for key, e := range s.Keys {
		if key == keep || e.Turn == 0 && now.Before(e.Until) {
			continue
		}
		if oldest == "" || e.At.Before(s.Keys[oldest].At) {
			oldest = key
		}
	}
	if oldest == "" {
		return nil, nil // all are being worked on
	}
	page, err := pageOf(ctx, store, s, oldest)
	if err != nil {
		return nil, err
	}
	entry := s.Keys[oldest]
	old := page.expired(now, oldest)
	if _, there := page.Keys[oldest]; !there && len(old) == 0 && len(page.Keys) >= maxKeys {
		return nil, ErrTooManyKeys
	}
	if _, err := store.Apply(ctx, page, Change{Key: oldest, Entry: &entry, Drop: old}); err != nil {
		return nil, err
	}
	return []string{oldest}, nil
}

// Release returns the key of a call that failed, so that a retry need not wait for the
// lease to end. If it cannot, the lease expires by itself.
func Release(ctx context.Context, store Store, s *Session, c *Claim) error {
	for try := 1; ; try++ {
		change := Change{Key: c.key}
		if s.Turns == 0 && !s.Deleted && len(s.Keys) <= 1 {
			change = Change{Remove: true} // the document holds only this claim
		}
		_, err := store.Apply(ctx, s, change)
		if !again(err) || try == commitTries {
			return err
		}
		if err := pause(ctx, try); err != nil {
			return err
		}
		next, err := store.Load(ctx, s.Key)
		switch {
		case errors.Is(err, ErrUnavailable):
			continue
		case err != nil:
			return err
		case !c.holds(next):
			return nil // claimed by another call, or the turn was stored after all
		}
		s = next
	}
}

// Mark returns the tombstone that s leaves when it is deleted at now.
func (s *Session) Mark(now time.Time) *Session {
	mark := New(s.Key)
	mark.Deleted, mark.UpdatedAt, mark.ExpiresAt = true, now, now.Add(KeyLife)
	if now.Before(s.KeyedAt.Add(KeyLife)) {
		mark.KeyedAt = s.KeyedAt
	}
	return mark
}

// keysAfter returns s's keys after c.
func (s *Session) keysAfter(c Change) map[string]KeyEntry {
	if c.Key == "" && len(c.Drop) == 0 {
		return s.Keys
	}
	keys := maps.Clone(s.Keys)
	if keys == nil {
		keys = map[string]KeyEntry{}
	}
	for _, key := range c.Drop {
		delete(keys, key)
	}
	switch {
	case c.Key != "" && c.Entry != nil:
		keys[c.Key] = *c.Entry
	case c.Key != "":
		delete(keys, c.Key)
	}
	return keys
}
