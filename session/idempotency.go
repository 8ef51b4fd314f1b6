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

// A KeyEntry is what a session remembers of an idempotency key: a lease on it
// while a call works, the turn that came of it afterwards.
type KeyEntry struct {
	Body  string    `firestore:"b"`           // digest of what was asked
	Lease string    `firestore:"l"`           // the call that holds the key
	Until time.Time `firestore:"u"`           // end of the lease
	Turn  int       `firestore:"t"`           // 0 while there is none
	ID    string    `firestore:"i,omitempty"` // of that turn, whose number another may get
	At    time.Time `firestore:"a"`           // of the claim
}

func (e KeyEntry) fresh(now time.Time) bool { return now.Before(e.At.Add(KeyLife)) }

// An Idempotency says what makes a call the same as an earlier one.
type Idempotency struct {
	Key    string        // as the caller chose it
	Body   string        // what was asked, whole
	Create bool          // the session that is named may be new
	Lease  time.Duration // how long the call may take
}

// A Claim is a call's hold on its key. It does not change.
type Claim struct {
	key   string // its hash
	entry KeyEntry
}

// holds reports whether the key is still the claim's in s.
func (c *Claim) holds(s *Session) bool {
	e, ok := s.Keys[c.key]
	return ok && e.Turn == 0 && e.Lease == c.entry.Lease
}

// done is the key's entry once its turn is stored.
func (c *Claim) done(turn int, id string) *KeyEntry {
	e := c.entry
	e.Lease, e.Turn, e.ID = "", turn, id
	return &e
}

// The errors about idempotency keys.
var (
	// ErrInProgress: another call holds the key; [InProgressError] says until when.
	ErrInProgress = errors.New("a call with this key is being worked on")
	// ErrKeyMismatch: the key was used to ask for something else.
	ErrKeyMismatch = errors.New("this key was used with another request")
	// ErrTakenOver: the call's hold on its key lapsed, and another call took it.
	ErrTakenOver = errors.New("another call took over the key")
)

// InProgressError is an ErrInProgress with the time the hold lasts at most.
type InProgressError struct{ Left time.Duration }

func (e *InProgressError) Error() string { return ErrInProgress.Error() }

// Is makes it an ErrInProgress.
func (e *InProgressError) Is(target error) bool { return target == ErrInProgress }

// Opened is what [Open] found.
type Opened struct {
	Session *Session
	Claim   *Claim  // the call's hold on its key, to be given to Commit or Release
	Replay  *Record // the turn that this key has brought about already
}

// maxGenerations bounds how many sessions one key can begin, a day or more
// apart, while the earlier ones are still kept.
const maxGenerations = 512

// Open takes hold of an idempotency key before the turn is worked on. With id
// the key belongs to that session, which must exist unless idem.Create. Without, it gives a new
// session its id, so that a retry finds the same one: a first call is one write
// and no read.
//
// A key whose turn is stored gives it as Replay; one that another call holds is
// ErrInProgress; a hold that has lapsed is taken over. afterTurn is the
// caller's condition, looked at before the key is taken.
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

// errPastKey: the session was begun by the key more than [KeyLife] ago, so the
// key begins anew.
var errPastKey = errors.New("the key's time is over")

type opening struct {
	store     Store
	now       func() time.Time
	afterTurn *int
	create    bool
	claim     *Claim
}

// existing takes the key in a session that must exist, or may be new.
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

// new takes the key in the session that it gives its id to.
func (o *opening) new(ctx context.Context, key Key) (*Opened, error) {
	s := New(key)
	s.KeyedAt = o.claim.entry.At
	for try := 1; ; try++ {
		opened, err := o.take(ctx, s)
		// What is not found any more was given back meanwhile, or deleted: reading
		// again tells.
		if !again(err) && !errors.Is(err, ErrNotFound) || try == commitTries {
			return opened, err
		}
		if err := pause(ctx, try-1); err != nil {
			return nil, errors.Join(err, ErrUnavailable)
		}
		s, err = o.store.Load(ctx, key)
		switch {
		case errors.Is(err, ErrNotFound), errors.Is(err, ErrUnavailable):
			// Given back meanwhile, or not written, or not known: the precondition
			// of the next try tells.
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

func again(err error) bool { return errors.Is(err, ErrChanged) || errors.Is(err, ErrUnavailable) }

// take looks at the key in s and takes it if it is free.
func (o *opening) take(ctx context.Context, s *Session) (*Opened, error) {
	now := o.now()
	if e, ok := s.Keys[o.claim.key]; ok && e.fresh(now) {
		switch {
		case e.Lease == o.claim.entry.Lease && e.Turn == 0:
			// A write of ours whose answer was lost.
			return &Opened{Session: s, Claim: o.claim}, nil
		case e.Body != o.claim.entry.Body:
			return nil, ErrKeyMismatch
		case e.Turn > 0:
			record, err := recordOf(ctx, o.store, s, e)
			return &Opened{Session: s, Replay: record}, err
		case now.Before(e.Until):
			return nil, &InProgressError{Left: e.Until.Sub(now)}
		}
	}
	if o.afterTurn != nil && s.Turns != *o.afterTurn {
		return nil, fmt.Errorf("%w: %d, not %d", ErrTurnCount, s.Turns, *o.afterTurn)
	}
	taken, err := o.store.Apply(ctx, s, Change{Key: o.claim.key, Entry: &o.claim.entry, Drop: s.stale(now, o.claim.key)})
	if err != nil {
		return nil, err
	}
	return &Opened{Session: taken, Claim: o.claim}, nil
}

// recordOf finds a key's turn among the recent ones, or where it is archived. It
// is ErrReplaced when another has come in its place.
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
	if e.ID != "" && e.ID != id { // an entry of an earlier release has none
		return nil, fmt.Errorf("turn %d of a key: %w", e.Turn, ErrReplaced)
	}
	return &records[i], nil
}

const (
	// maxKeys bounds the keys that a session remembers, whatever their age.
	maxKeys = 2000
	// maxDrop bounds how many are forgotten in one write.
	maxDrop = 100
)

// stale lists keys to forget: those past their time, and the oldest ones of a
// session that has too many.
func (s *Session) stale(now time.Time, keep string) []string {
	var old []string
	for key, e := range s.Keys {
		if key != keep && !e.fresh(now) {
			old = append(old, key)
		}
	}
	if len(old) == 0 && len(s.Keys) >= maxKeys {
		old = slices.SortedFunc(maps.Keys(s.Keys), func(a, b string) int { return s.Keys[a].At.Compare(s.Keys[b].At) })
		old = slices.DeleteFunc(old, func(key string) bool { return key == keep || now.Before(s.Keys[key].Until) })
	}
	return old[:min(len(old), maxDrop)]
}

// Release gives a key back after a call that failed, so that it can be used
// again at once. What it cannot give back lapses by itself.
func Release(ctx context.Context, store Store, s *Session, c *Claim) error {
	for try := 1; ; try++ {
		change := Change{Key: c.key}
		if s.Turns == 0 && !s.Deleted && len(s.Keys) <= 1 {
			change = Change{Remove: true} // nothing but our claim
		}
		_, err := store.Apply(ctx, s, change)
		if err == nil || !again(err) || try == commitTries {
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
			return nil // it is somebody else's now, or the turn's after all
		}
		s = next
	}
}

// Mark is what s leaves behind when it is deleted at now.
func (s *Session) Mark(now time.Time) *Session {
	mark := New(s.Key)
	mark.Deleted, mark.UpdatedAt, mark.ExpiresAt = true, now, now.Add(KeyLife)
	if now.Before(s.KeyedAt.Add(KeyLife)) {
		mark.KeyedAt = s.KeyedAt
	}
	return mark
}

// keysAfter are s's keys once c is made.
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
