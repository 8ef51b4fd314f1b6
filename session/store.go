package session

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// A Store keeps sessions. Its methods are safe for concurrent use, including by
// several processes if the data outlives one, and return when their context ends.
// Errors are those of this package, wrapped with what was being done.
type Store interface {
	// Load returns what is stored under key, including the recent turns. That may be a
	// session, only claims of keys to its first turn, or a tombstone; see
	// [Session.Exists]. Load must be one read.
	Load(ctx context.Context, key Key) (*Session, error)

	// Apply makes one change if what is stored has not changed since s was loaded (for
	// a session from [New]: if nothing is stored), and returns the session after it.
	// Otherwise the error is [ErrChanged]. It does not retry, and must be one
	// conditional write.
	Apply(ctx context.Context, s *Session, c Change) (*Session, error)

	// List returns at most limit sessions of an owner, the most recently updated
	// first, and the cursor of the next page, "" after the last one. The cursor of the
	// first page is "".
	List(ctx context.Context, owner Owner, limit int, cursor string) ([]Meta, string, error)

	// Turns returns at most limit turns with numbers above after, in order, including
	// archived ones, with the feedback on them.
	Turns(ctx context.Context, key Key, after, limit int) (Meta, []Record, error)

	// SetFeedback stores f with a turn and overwrites earlier feedback.
	SetFeedback(ctx context.Context, key Key, turn int, f Feedback) error

	// Delete removes a session and everything stored for it, the records of its runs too. It
	// leaves a tombstone for [KeyLife]: a turn that is running then is not appended, and a
	// retry of a key that created the session finds it deleted. Each record leaves one, too,
	// so that a write of it which its caller gave up, or did not hear of, does not bring it
	// back. A session whose first run goes on may have records only: they are removed, and
	// the run makes no session. The error is [ErrNotFound] if there are none either.
	Delete(ctx context.Context, key Key) error

	// DeleteAll removes everything stored for an owner, as Delete does, and the owner's
	// state, of which it leaves a mark first. It works in steps: if it returns early, a part
	// is removed and the next call continues. A run of which nothing is stored yet, neither a
	// session nor a record, is not there to be removed: its turn makes its session.
	DeleteAll(ctx context.Context, owner Owner) error

	// LoadUser returns an owner's state, empty if there is none.
	LoadUser(ctx context.Context, owner Owner) (*User, error)

	// ApplyUser makes one change if the state has not changed since u was loaded.
	// Otherwise the error is [ErrChanged]. It must be one conditional write.
	ApplyUser(ctx context.Context, u *User, c UserChange) error

	// LoadRun returns the record of a run, by the id of its turn, with its Silent. The
	// error is [ErrNoRun] if there is none, [ErrRunDeleted] for its tombstone. One that
	// somebody has edited so that it cannot be read has no holder and a Request that is no
	// object, and its next write makes it whole. Who shows a run or goes on with it calls the
	// function [LoadRun] instead.
	LoadRun(ctx context.Context, key Key, id string) (*Run, error)

	// SaveRun writes a record if it has not changed since r was loaded or saved (with a
	// nil Revision: if there is none, nor a tombstone), and returns r as it is stored. Otherwise
	// the error is [ErrChanged]; if the record is gone, it may be [ErrNoRun]. It must be one
	// conditional write, which should carry only what has changed.
	SaveRun(ctx context.Context, r *Run) (*Run, error)

	// ListRuns returns at most limit records of an owner, the newest first, and the
	// cursor of the next page. They lack what grows: Parts, Checkpoint and Result.
	ListRuns(ctx context.Context, owner Owner, filter RunFilter, limit int, cursor string) ([]*Run, string, error)

	// Ping reads from the store to check that it responds.
	Ping(ctx context.Context) error
}

// A Change is the content of one conditional write.
type Change struct {
	Turn   *Turn                      // to append; nil: none
	Before *Session                   // the session without the turns that Turn, which is set then, replaces; see [Before]; nil: none
	State  map[string]json.RawMessage // what Turn changes in the session's state; nil removes a name
	Key    string                     // hash of the idempotency key to change; "": none
	Entry  *KeyEntry                  // new entry of Key; nil removes it
	Drop   []string                   // other keys to remove
	Remove bool                       // remove the document; no other field may be set
	Title  string                     // new title of the session; "": it keeps its own

	// Run, unless nil, is written in the same step, under the precondition that it has
	// not changed since it was loaded: both writes happen or neither.
	Run *Run

	// Denied, unless nil, is written in the same step, too: the record of a run that has
	// waited for a person, until Turn followed. If that record has changed or is gone, the
	// error is [ErrChanged].
	Denied *Run
}

// Feedback is an end user's opinion on a turn.
type Feedback struct {
	Score   int // -1, 0 or 1
	Comment string
	At      time.Time
}

// feedbackOverhead is the approximate size of feedback without its comment, in bytes.
const feedbackOverhead = 64

func (f Feedback) bytes() int64 { return int64(len(f.Comment)) + feedbackOverhead }

// commitTries bounds the writes of one Commit or Open, so that contention on a session
// ends in an error instead of a loop.
const commitTries = 24

// Conditions must hold for a turn to be appended.
type Conditions struct {
	AfterTurn *int   // the session has this many turns; nil: any number
	Claim     *Claim // the call still holds its key; nil: it has none
	Replace   string // id of the last turn, which is replaced unless an effect began in it; "": append
	First     int    // the turns from this number on are replaced, too; 0: only the last

	// Onto, unless nil, is called with the session before each write to it, the last
	// time with the session that t is appended to.
	Onto func(*Session)

	// State, unless nil, returns what the turn changes in the state of the session that
	// it is appended to. It is called before each write, with another session if another
	// turn came first. An error ends the commit.
	State func(*Session) (map[string]json.RawMessage, error)

	// Run, unless nil, is the run's record at its end, which is written with the turn. It is
	// changed to have what was to be delivered by then, and to be stopped if it was to wait
	// and a stop came first.
	Run *Run

	// Deny, unless nil, returns the record of the run that the last turn of the session
	// waits with, as it is once another turn follows; nil if none waits. It is called
	// before each write, and what it returns is written with the turn.
	Deny func(context.Context, *Session) (*Run, error)
}

// Commit appends t to the session that was loaded as s, exactly once, and returns the
// session's Meta at that turn, whose Turns is t's number. If another turn came first,
// it reads the session again and appends t after that one.
//
// The error is [ErrTurnCount], [ErrReplaced] or [ErrTakenOver] if a condition does not
// hold, that of c.State if it has one, and [ErrNotFound] if the session was deleted since it was loaded: a commit
// never recreates it.
//
// A write that returned [ErrUnavailable] may have happened. Before it is repeated, the
// session is read and searched for t.ID.
func Commit(ctx context.Context, store Store, s *Session, t Turn, c Conditions) (Meta, error) {
	// created: this call creates the session. That includes a document with nothing
	// but claims of other calls, which may be removed when these are released.
	created := s.Revision == nil || s.Turns == 0 && c.Claim == nil
	key, seen := s.Key, s.Turns
	for try := 1; ; try++ {
		if c.AfterTurn != nil && s.Turns != *c.AfterTurn {
			return Meta{}, fmt.Errorf("%w: %d, not %d", ErrTurnCount, s.Turns, *c.AfterTurn)
		}
		base, change := s, Change{Turn: &t}
		if c.Replace != "" {
			if last, ok, err := s.Last(); !ok || last.ID != c.Replace {
				return Meta{}, errors.Join(ErrReplaced, err)
			}
			before, effects, err := Before(ctx, store, s, cmp.Or(c.First, s.Turns))
			if err != nil {
				return Meta{}, fmt.Errorf("appending a turn: %w", err)
			}
			// A turn that waits keeps its id when its run goes on, so one without an effect may
			// have one by now. Only its own run replaces it then.
			if effects && t.ID != c.Replace {
				return Meta{}, fmt.Errorf("appending a turn: an effect began in what it replaces: %w", ErrReplaced)
			}
			base, change.Before = before, before
		}
		seen = min(seen, base.Turns) // an edit may have left fewer since the last try
		number := base.Turns + 1
		change.Run = c.Run.ended(number)
		if c.State != nil {
			var err error
			if change.State, err = c.State(base); err != nil {
				return Meta{}, fmt.Errorf("appending a turn: %w", err)
			}
		}
		if c.Claim != nil {
			change.Key, change.Entry = c.Claim.key, c.Claim.done(number, t.ID)
		}
		if c.Onto != nil {
			c.Onto(s)
		}
		var after *Session
		var err error
		if c.Deny != nil {
			change.Denied, err = c.Deny(ctx, s)
		}
		if err == nil {
			after, err = store.Apply(ctx, s, change)
		}
		switch {
		case err == nil:
			return after.Meta, nil
		case errors.Is(err, ErrNotFound) && created && s.Revision != nil && try < commitTries:
			s = New(key) // only claims were there, and they were released
			if c.Run != nil {
				if c.Run, err = c.Run.renew(ctx, store); err != nil {
					return Meta{}, err
				}
			}
			continue
		case !errors.Is(err, ErrChanged) && !errors.Is(err, ErrUnavailable):
			return Meta{}, err
		case try == commitTries:
			return Meta{}, fmt.Errorf("appending a turn, %d times: %w", try, err)
		}
		if ended := pause(ctx, try); ended != nil {
			return Meta{}, fmt.Errorf("appending a turn, %d times: %w", try, errors.Join(ended, err))
		}
		var over error
		if c.Run != nil {
			// Before the search: who has taken the run over stores a turn with its id.
			c.Run, err = c.Run.renew(ctx, store)
			if over = err; err != nil && !errors.Is(err, errOver) {
				return Meta{}, err
			}
		}
		// The write lost against another one, or may have happened without a response.
		// A read distinguishes the two; s stays the base of the next try if even
		// that is unavailable.
		again, err := store.Load(ctx, key)
		switch {
		case errors.Is(err, ErrNotFound) && created:
			s = New(key) // the first write did not happen
			continue
		case errors.Is(err, ErrUnavailable):
			// Whether the write happened is still unknown. Repeating it is safe: its
			// precondition holds only if it did not.
			continue
		case err != nil:
			return Meta{}, err
		case again.Deleted, s.Exists() && !again.CreatedAt.Equal(s.CreatedAt):
			return Meta{}, fmt.Errorf("appending a turn: %w", ErrNotFound) // deleted, and another session may be there now
		}
		// seen bounds the search: no try has written the turn up to it.
		if meta, ok, err := again.find(&t, seen); err != nil || ok {
			return meta, err
		}
		if over != nil {
			return Meta{}, over
		}
		// Checked after the search: a stored turn has ended the claim by itself.
		if c.Claim != nil && !c.Claim.holds(again) {
			return Meta{}, ErrTakenOver
		}
		s, created = again, again.Turns == 0 && c.Claim == nil
	}
}

// ended returns r as it is written with its turn.
func (r *Run) ended(turn int) *Run {
	if r == nil {
		return nil
	}
	ended := *r
	ended.Turn = turn
	return &ended
}

// errOver means that a run has come to another end, as by a denial of what it waited for.
// Unless its turn is found, that was another holder's.
var errOver = fmt.Errorf("appending a turn to a run that is over: %w", ErrFenced)

// renew puts r under the precondition of what is stored now, if its holder is still the same,
// and returns it. What is to be delivered is then what is stored: a webhook may be set until
// the end. The caller's record has it, too, to deliver to.
func (r *Run) renew(ctx context.Context, store Store) (*Run, error) {
	stored, err := store.LoadRun(ctx, r.Key, r.ID)
	switch {
	case errors.Is(err, ErrUnavailable):
		return r, nil
	case errors.Is(err, ErrNotFound) && r.Revision == nil && !errors.Is(err, ErrRunDeleted):
		return r, nil
	case err != nil:
		return r, fmt.Errorf("appending a turn: %w", err)
	case !stored.HeldBy(r.Holder, r.Epoch):
		return r, ErrFenced
	case stored.Request != nil && stored.State != Working && stored.State != r.State:
		return r, errOver
	}
	r.Revision, r.Deliveries = stored.Revision, stored.Deliveries
	if stored.Stop && r.State == Waiting { // nobody may answer what was stopped
		r.State, r.Pending = Stopped, nil
	}
	return r, nil
}

// find looks for a turn among the turns above number after and among the past ones, and
// returns the session's Meta at that turn. The error is [ErrFenced] if another holder of
// t's run has stored it.
func (s *Session) find(t *Turn, after int) (Meta, bool, error) {
	meta := s.Meta
	for i := len(s.Recent) - 1; i >= 0 && s.Recent[i].Number > after; i-- {
		stored, err := s.Recent[i].ID()
		if err != nil {
			return Meta{}, false, err
		}
		if stored != t.ID {
			continue
		}
		found, err := s.Recent[i].Past()
		switch {
		case err != nil || found.Epoch < t.Epoch: // it waited
			return Meta{}, false, err
		case found.Epoch > t.Epoch:
			return Meta{}, false, fmt.Errorf("appending a turn: %w", ErrFenced)
		}
		meta.Turns = found.Number
		return meta, true, nil
	}
	for _, past := range s.Past {
		switch {
		case past.ID != t.ID || past.Epoch < t.Epoch: // another, or it waited
		case past.Epoch > t.Epoch:
			return Meta{}, false, fmt.Errorf("appending a turn: %w", ErrFenced)
		default:
			meta.Turns = past.Number
			return meta, true, nil
		}
	}
	return Meta{}, false, nil
}

// pause waits before the next try: a random time below a bound that doubles, so that
// calls which collided do not collide again.
func pause(ctx context.Context, try int) error {
	const shortest, longest = 5 * time.Millisecond, 400 * time.Millisecond
	bound := min(shortest<<try, longest) // try is at most commitTries
	timer := time.NewTimer(rand.N(bound))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
