package session

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// A Store keeps sessions. Its methods are safe for concurrent use, by any
// number of processes where its data outlives one, and end with their context.
// Errors are those of this package, wrapped with what was being done.
type Store interface {
	// Load gives a session with its recent turns. It is one read of one document.
	Load(ctx context.Context, key Key) (*Session, error)

	// Append writes t after the last turn of s, if the stored session still is
	// what s was loaded as (for [New], if there is none), and ErrChanged
	// otherwise; ErrNotFound when it has been deleted. It tries once.
	Append(ctx context.Context, s *Session, t Turn) (Meta, error)

	// List gives an owner's sessions, the last updated first, at most limit of
	// them after cursor ("" at the beginning), and the cursor of the next page,
	// "" after the last.
	List(ctx context.Context, owner Owner, limit int, cursor string) ([]Meta, string, error)

	// Turns gives at most limit turns of a session with numbers above after, in
	// order, wherever they are stored.
	Turns(ctx context.Context, key Key, after, limit int) (Meta, []Record, error)

	// Delete removes a session and all that is stored for it.
	Delete(ctx context.Context, key Key) error

	// DeleteAll removes everything stored for an owner. It works in steps: one
	// that ends early has removed a part, and calling it again goes on.
	DeleteAll(ctx context.Context, owner Owner) error

	// Ping reads from the store, to see that it answers.
	Ping(ctx context.Context) error
}

// commitTries bounds how often Commit writes, however many others append to
// the same session.
const commitTries = 24

// Commit appends t to the session that s was loaded as, exactly once, and gives
// the session's Meta afterwards; its Turns is t's number. When another turn
// came first it reads again and appends after it. With afterTurn it appends
// only while the session has that many turns, and answers ErrTurnCount
// otherwise. A session deleted meanwhile stays deleted: ErrNotFound.
//
// t.ID tells a turn that is stored already from one that is not: a write whose
// answer was lost may have happened, and is looked for before it is tried again.
func Commit(ctx context.Context, store Store, s *Session, t Turn, afterTurn *int) (Meta, error) {
	created := s.Revision == nil // this call brings the session into being
	key, seen := s.Key, s.Turns
	for try := 1; ; try++ {
		var err error
		if afterTurn != nil && s.Turns != *afterTurn {
			return Meta{}, fmt.Errorf("%w: %d, not %d", ErrTurnCount, s.Turns, *afterTurn)
		}
		meta, err := store.Append(ctx, s, t)
		switch {
		case err == nil:
			return meta, nil
		case !errors.Is(err, ErrChanged) && !errors.Is(err, ErrUnavailable):
			return Meta{}, err
		case try == commitTries:
			return Meta{}, fmt.Errorf("appending a turn, %d times: %w", try, err)
		}
		if err := pause(ctx, try); err != nil {
			return Meta{}, fmt.Errorf("appending a turn, %d times: %w", try, errors.Join(err, ErrUnavailable))
		}
		again, err := store.Load(ctx, key)
		switch {
		case errors.Is(err, ErrNotFound) && created:
			s = New(key) // the first write did not happen
		case errors.Is(err, ErrUnavailable):
			// Still not known whether the write happened; the precondition of the
			// next try holds only if it did not.
		case err != nil:
			return Meta{}, err
		default:
			if meta, ok, err := again.find(t.ID, seen); err != nil || ok {
				return meta, err
			}
			s, created = again, false
		}
	}
}

// find looks for the turn with this id among those after number after, and
// gives the session's Meta as of that turn.
func (s *Session) find(id string, after int) (Meta, bool, error) {
	for i := len(s.Recent) - 1; i >= 0 && s.Recent[i].Number > after; i-- {
		t, err := s.Recent[i].Turn()
		if err != nil {
			return Meta{}, false, err
		}
		if t.ID == id {
			meta := s.Meta
			meta.Turns = t.Number
			return meta, true, nil
		}
	}
	return Meta{}, false, nil
}

// pause waits before the next try: longer each time, at random, so that those
// who met do not meet again.
func pause(ctx context.Context, try int) error {
	const shortest, longest = 5 * time.Millisecond, 400 * time.Millisecond
	bound := min(shortest<<min(try, 8), longest)
	timer := time.NewTimer(rand.N(bound))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
