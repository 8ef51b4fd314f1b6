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
	// Load gives what is stored under key, with the recent turns: a session, or
	// only claims to its first turn, or the mark of a deleted one
	// ([Session.Exists] tells). It is one read of one document.
	Load(ctx context.Context, key Key) (*Session, error)

	// Apply makes one change, if what is stored still is what s was loaded as
	// (nothing, for [New]), and ErrChanged otherwise. It gives s as it is then.
	// It tries once, and is one write of one document.
	Apply(ctx context.Context, s *Session, c Change) (*Session, error)

	// List gives an owner's sessions, the last updated first, at most limit of
	// them after cursor ("" at the beginning), and the cursor of the next page,
	// "" after the last.
	List(ctx context.Context, owner Owner, limit int, cursor string) ([]Meta, string, error)

	// Turns gives at most limit turns of a session with numbers above after, in
	// order, wherever they are stored.
	Turns(ctx context.Context, key Key, after, limit int) (Meta, []Record, error)

	// SetFeedback keeps f with a turn, in the place of an earlier one.
	SetFeedback(ctx context.Context, key Key, turn int, f Feedback) error

	// Delete removes a session and all that is stored for it. It leaves a mark for
	// [KeyLife], under which a turn that was running is not appended, and which
	// answers for a key that gave the session its id.
	Delete(ctx context.Context, key Key) error

	// DeleteAll removes everything stored for an owner, as Delete does. It works
	// in steps: one that ends early has removed a part, and calling it again
	// goes on.
	DeleteAll(ctx context.Context, owner Owner) error

	// Ping reads from the store, to see that it answers.
	Ping(ctx context.Context) error
}

// A Change is what one conditional write does to a session.
type Change struct {
	Turn    *Turn     // appended, when not nil
	Replace bool      // the turn takes the place and the number of the last one, which there is
	Key     string    // the hash of an idempotency key, when not ""
	Entry   *KeyEntry // what the key becomes; nil forgets it
	Drop    []string  // keys to forget beside
	Remove  bool      // remove everything, and nothing else
}

// Feedback is an opinion on a turn.
type Feedback struct {
	Score   int       `firestore:"score"` // -1, 0 or 1
	Comment string    `firestore:"comment,omitempty"`
	At      time.Time `firestore:"at"`
}

// feedbackOverhead is about what an opinion takes beside its comment, in bytes.
const feedbackOverhead = 64

func (f Feedback) bytes() int64 { return int64(len(f.Comment)) + feedbackOverhead }

// commitTries bounds how often Commit and Open write, however many others write
// to the same session.
const commitTries = 24

// Conditions are what must hold for a turn to be appended.
type Conditions struct {
	AfterTurn *int   // the session has that many turns
	Claim     *Claim // the call still holds its key
	Replace   string // the last turn has this id, and is replaced: nothing is appended then
}

// Commit appends t to the session that s was loaded as, exactly once, and gives
// the session's Meta afterwards; its Turns is t's number. When another turn
// came first it reads again and appends after it. It answers ErrTurnCount,
// ErrReplaced or [ErrTakenOver] when a condition does not hold, and ErrNotFound
// for a session deleted meanwhile, which stays deleted.
//
// t.ID tells a turn that is stored already from one that is not: a write whose
// answer was lost may have happened, and is looked for before it is tried again.
func Commit(ctx context.Context, store Store, s *Session, t Turn, c Conditions) (Meta, error) {
	// This call brings the session into being, also where others' claims to its
	// first turn came before and have gone.
	created := s.Revision == nil || s.Turns == 0 && c.Claim == nil
	key, seen := s.Key, s.Turns
	if c.Replace != "" {
		seen--
	}
	for try := 1; ; try++ {
		if c.AfterTurn != nil && s.Turns != *c.AfterTurn {
			return Meta{}, fmt.Errorf("%w: %d, not %d", ErrTurnCount, s.Turns, *c.AfterTurn)
		}
		change := Change{Turn: &t, Replace: c.Replace != ""}
		number := s.Turns + 1
		if change.Replace {
			if last, ok, err := s.Last(); err != nil || !ok || last.ID != c.Replace {
				return Meta{}, errors.Join(ErrReplaced, err)
			}
			number = s.Turns
		}
		if c.Claim != nil {
			change.Key, change.Entry = c.Claim.key, c.Claim.done(number, t.ID)
		}
		after, err := store.Apply(ctx, s, change)
		switch {
		case err == nil:
			return after.Meta, nil
		case errors.Is(err, ErrNotFound) && created && s.Revision != nil && try < commitTries:
			s = New(key) // what was there was no session, and has gone
			continue
		case !errors.Is(err, ErrChanged) && !errors.Is(err, ErrUnavailable):
			return Meta{}, err
		case try == commitTries:
			return Meta{}, fmt.Errorf("appending a turn, %d times: %w", try, err)
		}
		if ended := pause(ctx, try); ended != nil {
			return Meta{}, fmt.Errorf("appending a turn, %d times: %w", try, errors.Join(ended, err))
		}
		again, err := store.Load(ctx, key)
		switch {
		case errors.Is(err, ErrNotFound) && created:
			s = New(key) // the first write did not happen
			continue
		case errors.Is(err, ErrUnavailable):
			// Still not known whether the write happened; the precondition of the
			// next try holds only if it did not.
			continue
		case err != nil:
			return Meta{}, err
		case again.Deleted, s.Exists() && !again.CreatedAt.Equal(s.CreatedAt):
			return Meta{}, fmt.Errorf("appending a turn: %w", ErrNotFound) // deleted; what is there is another
		}
		if meta, ok, err := again.find(t.ID, seen); err != nil || ok {
			return meta, err
		}
		if c.Claim != nil && !c.Claim.holds(again) {
			return Meta{}, ErrTakenOver
		}
		s, created = again, again.Turns == 0 && c.Claim == nil
	}
}

// find looks for the turn with this id among those after number after, and those
// that were archived or replaced since, and gives the session's Meta as of that turn.
func (s *Session) find(id string, after int) (Meta, bool, error) {
	meta := s.Meta
	for i := len(s.Recent) - 1; i >= 0 && s.Recent[i].Number > after; i-- {
		stored, err := s.Recent[i].ID()
		if err != nil {
			return Meta{}, false, err
		}
		if stored == id {
			meta.Turns = s.Recent[i].Number
			return meta, true, nil
		}
	}
	for _, past := range s.Past {
		if past.ID == id {
			meta.Turns = past.Number
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
